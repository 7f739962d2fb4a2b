"""Draw the charts of the report with matplotlib, as SVG and PNG."""

from __future__ import annotations

import re
import textwrap
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from io import BytesIO
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from scipy.stats import binomtest

from rubro.base.console import printable, visible
from rubro.base.metric_names import CAPTIONS, captions_for
from rubro.report.content import CategoryMetrics, Content, Difference, ModelMetrics

# Colours in the SVG. The page replaces each of them by a variable of its style sheet.
INK, MUTED, GRID, PAPER = "#1f2329", "#5d6670", "#d5dae1", "#fefefe"
SERIES = ("#0b62a8", "#b84a00", "#11785c", "#8a3d8f")
COLOURS = {
    INK: "ink",
    MUTED: "muted",
    GRID: "grid",
    PAPER: "paper",
    **{colour: f"series-{number}" for number, colour in enumerate(SERIES, start=1)},
}
_TAG = re.compile(r"<[^<>]*>")
_MARKERS = ("o", "s", "D", "^")
_DASHES = ("-", "--", "-.", ":")
_WORST, _BEST = 30, 10
_MAX_NAME_LENGTH = 30
_TITLE_HEIGHT = 0.25  # inches
_WIDTH = 4.6  # inches; about as wide as the screen of a phone, so that text keeps its size

_STYLE: Any = {
    "axes.axisbelow": True,
    "axes.edgecolor": MUTED,
    "axes.facecolor": PAPER,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.facecolor": PAPER,
    "figure.constrained_layout.use": True,
    "font.family": ["DejaVu Sans"],
    "font.size": 9,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "svg.fonttype": "none",
    "text.color": INK,
    "text.parse_math": False,  # category names may contain a $
    "xtick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.color": MUTED,
    "ytick.labelcolor": INK,
}


@dataclass(frozen=True)
class Chart:
    """A chart of the report, which can be drawn as SVG or PNG.

    Attributes:
        name: Name of the chart's files, without suffix.
        title: Heading above the chart.
        alternative: Text that describes the chart to readers who cannot see it.
        draw: Function that draws the chart on an empty figure.
        size: Width and height without the title, in inches.
    """

    name: str
    title: str
    alternative: str
    draw: Callable[[Figure], None]
    size: tuple[float, float]

    @cached_property
    def svg(self) -> str:
        """The chart as SVG with selectable text; equal charts give identical text."""
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        # XML does not allow control characters.
        return visible(self._saved(format="svg", metadata=nothing).decode())

    def inline_svg(self) -> str:
        """Return the chart as an SVG element whose colours the style sheet of the web page sets."""
        _, _, svg = self.svg.partition("<svg ")
        svg = _TAG.sub(_in_page, svg)  # names are outside the tags, and stay as they are
        label = escape(f"{self.title}: {self.alternative}")
        return f'<svg role="img" aria-label="{label}" {svg}'

    def png(self) -> bytes:
        """Return the chart as PNG with 200 pixels per inch."""
        return self._saved(format="png", dpi=200, metadata={"Software": None})

    def _saved(self, **options: Any) -> bytes:
        file = BytesIO()
        width, height = self.size
        with mpl.rc_context(_STYLE | {"svg.hashsalt": self.name}), warnings.catch_warnings():
            # A browser has other fonts for characters that are missing from matplotlib's font.
            warnings.filterwarnings("ignore", message="Glyph .* missing from font")
            figure = Figure(figsize=(width, height + _TITLE_HEIGHT))
            figure.suptitle(self.title, x=0.01, ha="left", fontsize=10, fontweight="bold")
            self.draw(figure)
            figure.savefig(file, **options)
        return file.getvalue()


def _in_page(tag: re.Match[str]) -> str:
    """Replace the colours in an SVG tag with variables of the style sheet, and remove its id."""
    shown = tag[0]
    for colour, name in COLOURS.items():
        shown = shown.replace(colour, f"var(--{name})")
    # Remove the ids that all charts have; ids that are referred to contain a hash of the chart.
    return re.sub(r' id="[\w.]+_\d+"', "", shown)


def charts_of(content: Content) -> dict[str, Chart]:
    """Return the charts of all metric tables that exist, by chart name."""
    parts = (_models, _curves, _reliability, _coverage, _slices, _categories, _confusions)
    return {chart.name: chart for part in parts for chart in part(content)}


class _Interval(NamedTuple):
    """A labelled row of a chart that shows values and their confidence intervals."""

    label: str
    value: float
    low: float
    high: float


def share_interval(share: float, titles: int) -> tuple[float, float]:
    """Return Wilson's 95 % confidence interval of a share, measured on `titles` titles."""
    interval = binomtest(round(share * titles), titles).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def _in_words(rows: Sequence[_Interval], number: str) -> str:
    """Describe chart rows as text; `number` is a format such as ".1%"."""
    return "; ".join(
        f"{row.label} {row.value:{number}}, interval {row.low:{number}} to {row.high:{number}}"
        for row in rows
    )


def _interval_chart(
    name: str,
    title: str,
    x_label: str,
    rows: Sequence[_Interval],
    alternative: str,
    row_height: float,
    adjust: Callable[[Axes], object] = lambda axes: None,
) -> Chart:
    """Return a chart of values and their confidence intervals, with the first row on top."""

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot(xlabel=x_label)
        adjust(axes)
        places = range(len(rows))
        labels, values, low, high = zip(*rows, strict=True)
        axes.hlines(places, low, high, color=SERIES[0], linewidth=2.5, alpha=0.45)
        axes.plot(values, places, "o", color=SERIES[0], markersize=5)
        axes.set_yticks(places, labels)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)

    return Chart(name, title, alternative, draw, (_WIDTH, 0.9 + row_height * len(rows)))


def _models(content: Content) -> Iterator[Chart]:
    metric = content.objective
    caption = CAPTIONS[metric]

    def ends(values: ModelMetrics | Difference) -> tuple[float, ...]:
        return tuple(getattr(values, f"{metric}{end}") for end in ("", "_low", "_high"))

    rows = [_Interval(name, *ends(values)) for name, values in content.models.items()]
    if rows:
        words = _in_words(rows, ".3f")
        title = f"{caption[0].upper()}{caption[1:]} on {content.split}"
        yield _interval_chart("models", title, caption, rows, words, 0.35)
    pairs = content.differences.items()
    rows = [_Interval(f"{one} - {other}", *ends(values)) for (one, other), values in pairs]

    def adjust(axes: Axes) -> None:
        axes.axvline(0, color=MUTED, linewidth=1)
        axes.xaxis.set_major_locator(MaxNLocator(5))  # signed numbers are wide

    if rows:
        words = _in_words(rows, "+.3f")
        title = f"Differences between models on {content.split}"
        x_label = f"difference in {caption}"
        yield _interval_chart("differences", title, x_label, rows, words, 0.35, adjust)


def _curves(content: Content) -> Iterator[Chart]:
    for model, metrics in content.curves.items():
        for metric in filter(metrics.__contains__, captions_for(content.objective)):
            splits = metrics[metric]
            label = CAPTIONS[metric]

            def draw(figure: Figure, splits: dict[str, Any] = splits, label: str = label) -> None:
                axes = figure.add_subplot(xlabel="epoch", ylabel=label)
                for number, (split, points) in enumerate(splits.items()):
                    _line(axes, number, [p.step for p in points], [p.value for p in points], split)
                axes.xaxis.set_major_locator(MaxNLocator(integer=True))
                axes.legend()

            last = ", ".join(
                f"{points[-1].value:.3f} on {split}" for split, points in splits.items()
            )
            yield Chart(
                f"curve_{model}_{metric}",
                f"{model.upper()}: {label}",
                f"{label} by epoch; in the last epoch {last}",
                draw,
                (_WIDTH, 2.7),
            )


def _reliability(content: Content) -> Iterator[Chart]:
    for model in content.models:
        before, after = content.reliability_before.get(model), content.reliability.get(model)
        series = {"before calibration": before, "after": after}
        series = {name: bins for name, bins in series.items() if bins}
        if not series:
            continue

        def draw(figure: Figure, series: dict[str, Any] = series) -> None:
            axes = figure.add_subplot(xlabel="confidence")
            axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, label="ideal")
            for name, bins in series.items():
                number = 1 if name.startswith("before") else 0
                x, y = [b.confidence for b in bins], [b.accuracy for b in bins]
                largest = max(b.titles for b in bins)
                sizes = [6 + 60 * b.titles / largest for b in bins]
                axes.scatter(x, y, sizes, color=SERIES[number], marker=_MARKERS[number])
                _line(axes, number, x, y, name)
            axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), ylabel="accuracy")
            axes.legend()

        metrics = content.models[model]
        yield Chart(
            f"reliability_{model}",
            f"{model}: reliability on {content.split}",
            f"accuracy by confidence; expected calibration error {metrics.ece_before_calibration:.3f} "
            f"before calibration, {metrics.ece:.3f} after",
            draw,
            (_WIDTH, 3.3),
        )


def _coverage(content: Content) -> Iterator[Chart]:
    curves = {model: points for model, points in content.coverage.items() if points}
    if not curves:
        return

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot(xlabel="coverage: share of the titles, highest confidence first")
        for number, (model, points) in enumerate(curves.items()):
            x, y = [p.coverage for p in points], [p.precision for p in points]
            _line(axes, number, x, y, model)
        axes.set(xlim=(0, 1.02), ylabel="precision: share of right predictions")
        axes.legend()

    steps = [
        f"{row.coverage:.0%} at a promised precision of {100 * row.goal:.4g}%"
        for row in content.automation
    ]
    yield Chart(
        "coverage",
        f"Coverage against precision on {content.split}",
        "precision falls as coverage grows" + "".join(f"; {step}" for step in steps),
        draw,
        (_WIDTH, 3.3),
    )


def _slices(content: Content) -> Iterator[Chart]:
    rows = [
        _Interval(
            textwrap.fill(f"{part.slice} ({part.titles:,})", 26),
            part.accuracy,
            *share_interval(part.accuracy, part.titles),
        )
        for part in content.slices
    ]
    if rows:
        title = f"Accuracy of groups of titles on {content.split} (titles)"
        words = "; ".join(
            f"{part.slice} ({part.titles:,}) {part.accuracy:.3f}" for part in content.slices
        )
        yield _interval_chart("slices", title, "accuracy", rows, words, 0.45)


def sorted_by_recall(
    categories: Iterable[CategoryMetrics], best_first: bool = False
) -> list[CategoryMetrics]:
    """Return categories sorted by recall, then by decreasing number of titles."""
    sign = -1 if best_first else 1
    return sorted(categories, key=lambda row: (sign * row.recall, -row.titles, row.category))


def _categories(content: Content) -> Iterator[Chart]:
    for name, adjective, categories in (
        ("worst_categories", "lowest", sorted_by_recall(content.categories)[:_WORST]),
        ("best_categories", "highest", sorted_by_recall(content.categories, True)[:_BEST]),
    ):
        rows = [
            _Interval(
                f"{_short(content, row.category)} ({row.titles:,})",
                row.recall,
                *share_interval(row.recall, row.titles),
            )
            for row in categories
        ]
        if rows:
            yield _interval_chart(
                name,
                f"Categories of {adjective} recall on {content.split} (titles)",
                "recall",
                rows,
                "; ".join(f"{printable(row.category)} {row.recall:.2f}" for row in categories),
                0.22,
                lambda axes: axes.set_xlim(-0.02, 1.02),
            )


def _confusions(content: Content) -> Iterator[Chart]:
    names = list(dict.fromkeys(cell.category for cell in content.confusions))
    if not names:
        return
    place = {name: number for number, name in enumerate(names, start=1)}

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot(xlabel="predicted category, by the number of its row")
        axes.xaxis.set_label_position("top")
        axes.set(xlim=(0.5, len(names) + 0.5), ylim=(len(names) + 0.5, 0.5))
        axes.set_xticks(range(1, len(names) + 1))
        labels = [f"{_short(content, name)}  {number}" for name, number in place.items()]
        axes.set_yticks(range(1, len(names) + 1), labels)
        axes.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
        axes.grid(visible=False)
        totals = dict.fromkeys(names, 0)
        for cell in content.confusions:
            totals[cell.category] += cell.titles
        for cell in content.confusions:
            if cell.titles:
                x, y = place[cell.predicted], place[cell.category]
                share = cell.titles / totals[cell.category]
                colour = SERIES[0] if x == y else SERIES[1]
                axes.add_patch(
                    Rectangle((x - 0.5, y - 0.5), 1, 1, color=colour, alpha=0.1 + 0.4 * share, lw=0)
                )
                axes.text(x, y, f"{cell.titles}", ha="center", va="center", fontsize=8)

    yield Chart(
        "confusions",
        f"Titles of the most confused categories on {content.split}",
        "; ".join(
            f"{cell.titles} of {printable(cell.category)} predicted as {printable(cell.predicted)}"
            for cell in content.confusions
            if cell.titles and cell.category != cell.predicted
        ),
        draw,
        (2.6 + 0.27 * len(names), 0.7 + 0.25 * len(names)),
    )


def _line(axes: Axes, number: int, x: Sequence[float], y: Sequence[float], label: str) -> None:
    axes.plot(
        x,
        y,
        color=SERIES[number % len(SERIES)],
        linestyle=_DASHES[number % len(_DASHES)],
        marker=_MARKERS[number % len(_MARKERS)] if len(x) == 1 else "",
        markersize=4,
        label=label,
    )


def _short(content: Content, category: str) -> str:
    """Return the name of a category, or its part with the last name of the path if it is long."""
    text, length = printable(category), _MAX_NAME_LENGTH
    if len(text) <= length:
        return text
    names, last = content.split_path(category)
    if 0 < last < len(names) - 1:
        text = f"… {printable(names[last])} …"
    elif last:
        return f"…{text[1 - length :]}"
    return text if len(text) <= length else f"{text[: length - 1]}…"
