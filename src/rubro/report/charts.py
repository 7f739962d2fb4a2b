"""Draw the charts of the report with matplotlib, as SVG and PNG."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from io import BytesIO
from statistics import median
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter
from scipy.stats import binomtest

from rubro.base.console import printable, visible
from rubro.base.metric_names import CAPTIONS, captions_for, lower_is_better
from rubro.report.content import (
    CategoryMetrics,
    Content,
    CurvePoint,
    Difference,
    ModelMetrics,
    ReliabilityBin,
)

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
_WORST = 20
_MAX_NAME_LENGTH = 30
_TITLE_HEIGHT = 0.25  # inches
_WIDTH = 3.73  # inches; 358 pixels of a web page, so that charts and text keep their size on phones

_STYLE: Any = {
    "axes.axisbelow": True,
    "axes.edgecolor": MUTED,
    "axes.facecolor": PAPER,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": "medium",
    "figure.facecolor": PAPER,
    "figure.constrained_layout.use": True,
    "font.family": ["DejaVu Sans"],
    "figure.titlesize": "medium",
    "font.size": 9,  # points, which are 12 pixels
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "legend.fontsize": "medium",
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "lines.markersize": 5,
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
        height: Height without the title, in inches; all charts have the same width.
    """

    name: str
    title: str
    alternative: str
    draw: Callable[[Figure], None]
    height: float

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
        with mpl.rc_context(_STYLE | {"svg.hashsalt": self.name}), warnings.catch_warnings():
            # A browser has other fonts for characters that are missing from matplotlib's font.
            warnings.filterwarnings("ignore", message="Glyph .* missing from font")
            figure = Figure(figsize=(_WIDTH, self.height + _TITLE_HEIGHT))
            figure.suptitle(self.title, x=0.01, ha="left", fontweight="bold")
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
    parts = (_models, _curves, _reliability, _coverage, _slices, _categories)
    return {chart.name: chart for part in parts for chart in part(content)}


class _Interval(NamedTuple):
    """A labelled row of a chart that shows a value and its confidence interval.

    `series` is the number of the row's colour.
    """

    label: str
    value: float
    low: float
    high: float
    series: int = 0


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
    adjust: Callable[[Axes], object] = lambda axes: None,
) -> Chart:
    """Return a chart of values and their confidence intervals, with the first row on top.

    Each label is above its interval, so that long labels do not make the plot narrow.
    """

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot(xlabel=x_label)
        adjust(axes)
        for place, row in enumerate(rows):
            colour, marker = SERIES[row.series], _MARKERS[row.series]
            axes.hlines(place, row.low, row.high, color=colour, linewidth=2.5, alpha=0.45)
            axes.plot(row.value, place, marker, color=colour)
            left = axes.get_yaxis_transform()
            axes.text(0.01, place - 0.22, row.label, transform=left, va="bottom", in_layout=False)
        axes.set_yticks([])
        axes.set_ylim(len(rows) - 0.6, -0.85)
        axes.spines["left"].set_visible(False)

    return Chart(name, title, alternative, draw, 0.65 + 0.4 * len(rows))


def _models(content: Content) -> Iterator[Chart]:
    metric = content.objective
    caption = CAPTIONS[metric]

    def ends(values: ModelMetrics | Difference) -> tuple[float, float, float]:
        value, low, high = (getattr(values, f"{metric}{end}") for end in ("", "_low", "_high"))
        return value, low, high

    rows = [
        _Interval(f"{model}, {split}", *ends(models[model]), number)
        for model in content.models
        for number, (split, models) in enumerate(content.splits.items())
        if model in models
    ]
    if rows:
        title = f"{caption[0].upper()}{caption[1:]} of each model"
        yield _interval_chart("models", title, caption, rows, _in_words(rows, ".3f"))
    pairs = content.differences.items()
    rows = [_Interval(f"{one} - {other}", *ends(values)) for (one, other), values in pairs]

    def adjust(axes: Axes) -> None:
        axes.axvline(0, color=MUTED, linewidth=1)
        axes.xaxis.set_major_locator(MaxNLocator(5))  # signed numbers are wide

    if rows:
        words = _in_words(rows, "+.3f")
        title = f"Differences between models on {content.split}"
        yield _interval_chart("differences", title, f"difference in {caption}", rows, words, adjust)


def _curves(content: Content) -> Iterator[Chart]:
    """Yield the curves of the objective, another metric and the loss for each network."""
    for model, metrics in content.curves.items():
        chosen = content.chosen_epochs.get(model)
        *others, loss = filter(metrics.__contains__, captions_for(content.objective))
        for metric in [*others[:2], loss]:
            yield _curve(model, metric, metrics[metric], chosen)


def _curve(
    model: str, metric: str, splits: Mapping[str, Sequence[CurvePoint]], chosen: int | None
) -> Chart:
    """Return a learning curve that shows the range in which the metric on validation moves.

    Args:
        model: Name of the model.
        metric: Name of the metric.
        splits: Points of each split.
        chosen: Step of the chosen epoch, from 0, or None if it is unknown.
    """
    caption = CAPTIONS[metric]
    values = {
        split: point.value
        for split, points in splits.items()
        for point in points
        if point.step == chosen
    }

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot(xlabel="epoch")
        for number, (split, points) in enumerate(splits.items()):
            x, y = [point.step + 1 for point in points], [point.value for point in points]
            value = values.get(split)
            _line(axes, number, x, y, split if value is None else f"{split} {value:.3f}")
            if chosen is not None and value is not None:
                axes.plot(chosen + 1, value, _MARKERS[number], color=SERIES[number])
        if chosen is not None:
            axes.axvline(chosen + 1, color=MUTED, linewidth=1, label=f"chosen epoch {chosen + 1}")
        if validation := splits.get("validation"):
            moves = [point.value for point in validation]
            axes.set_ylim(_range_after_climb(moves, lower_is_better(metric)))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        _legend(figure)

    ends = [f"{points[-1].value:.3f} on {split}" for split, points in splits.items()]
    words = f"{caption} by epoch; in the last epoch {', '.join(ends)}"
    if chosen is not None:
        at = [f"{value:.3f} on {split}" for split, value in values.items()]
        words += f"; in the chosen epoch {chosen + 1} {', '.join(at)}"
    return Chart(f"curve_{model}_{metric}", f"{model.upper()}: {caption}", words, draw, 2.6)


def _range_after_climb(values: Sequence[float], is_loss: bool) -> tuple[float, float]:
    """Return the range of the values from the first one that is at least as good as the median."""
    middle = median(values)
    start = next(
        place
        for place, value in enumerate(values)
        if (value <= middle if is_loss else value >= middle)
    )
    low, high = min(values[start:]), max(values[start:])
    margin = 0.15 * (high - low) or 0.01
    return low - margin, high + margin


def _reliability(content: Content) -> Iterator[Chart]:
    for model, metrics in content.models.items():
        before, after = content.reliability_before.get(model), content.reliability.get(model)
        columns = {"before calibration": before, "after calibration": after}
        if not (before or after):
            continue

        def draw(
            figure: Figure, columns: Mapping[str, Sequence[ReliabilityBin] | None] = columns
        ) -> None:
            grid = figure.subplots(
                2, 2, sharex=True, sharey="row", height_ratios=[5, 2], squeeze=False
            )
            for axes, below, (name, bins) in zip(*grid, columns.items(), strict=True):
                axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1)
                for b in bins or ():
                    axes.vlines(
                        b.confidence,
                        *share_interval(b.accuracy, b.titles),
                        color=SERIES[0],
                        linewidth=2.5,
                        alpha=0.45,
                    )
                    axes.plot(b.confidence, b.accuracy, "o", color=SERIES[0], markersize=4)
                    below.bar(b.confidence, b.titles, 0.05, color=SERIES[0])
                axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), title=name)
                below.set(xlabel="confidence", yscale="log", ylim=(0.7, None))
                below.minorticks_off()
                below.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
            grid[0, 0].set_ylabel("accuracy")
            grid[1, 0].set_ylabel("titles")

        yield Chart(
            f"reliability_{model}",
            f"{model}: reliability on {content.split}",
            f"accuracy by confidence; expected calibration error {metrics.ece_before_calibration:.3f} "
            f"before calibration, {metrics.ece:.3f} after",
            draw,
            3.4,
        )


def _coverage(content: Content) -> Iterator[Chart]:
    curves = {model: points for model, points in content.coverage.items() if points}
    if not curves:
        return

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot(xlabel="coverage, highest confidence first", ylabel="precision")
        for number, (model, points) in enumerate(curves.items()):
            x, y = [p.coverage for p in points], [p.precision for p in points]
            _line(axes, number, x, y, model)
        axes.set(xlim=(0, 1.02))
        _legend(figure)

    steps = [
        f"{row.coverage:.0%} at a promised precision of {100 * row.goal:.4g}%"
        for row in content.automation
    ]
    yield Chart(
        "coverage",
        f"Coverage against precision on {content.split}",
        "precision falls as coverage grows" + "".join(f"; {step}" for step in steps),
        draw,
        3.3,
    )


def _slices(content: Content) -> Iterator[Chart]:
    rows = [
        _Interval(
            f"{part.slice} ({part.titles:,})",
            part.accuracy,
            *share_interval(part.accuracy, part.titles),
        )
        for part in content.slices
    ]
    if rows:
        title = f"Accuracy by group on {content.split} (titles)"
        words = "; ".join(
            f"{part.slice} ({part.titles:,}) {part.accuracy:.3f}" for part in content.slices
        )
        yield _interval_chart("slices", title, "accuracy", rows, words)


def most_errors_first(categories: Iterable[CategoryMetrics]) -> list[CategoryMetrics]:
    """Return categories sorted by decreasing number of errors, then by recall."""
    return sorted(categories, key=lambda row: (-row.errors, row.recall, row.category))


def _categories(content: Content) -> Iterator[Chart]:
    worst = [row for row in most_errors_first(content.categories) if row.errors][:_WORST]
    rows = [
        _Interval(
            f"{_short(content, row.category)} ({row.errors:,} of {row.titles:,})",
            row.recall,
            *share_interval(row.recall, row.titles),
        )
        for row in worst
    ]
    if rows:
        yield _interval_chart(
            "worst_categories",
            f"Categories with most errors on {content.split}",
            "recall",
            rows,
            "; ".join(
                f"{printable(row.category)} {row.errors:,} of {row.titles:,}" for row in worst
            ),
            lambda axes: axes.set_xlim(-0.02, 1.02),
        )


def _line(axes: Axes, number: int, x: Sequence[float], y: Sequence[float], label: str) -> None:
    axes.plot(
        x,
        y,
        color=SERIES[number % len(SERIES)],
        linestyle=_DASHES[number % len(_DASHES)],
        marker=_MARKERS[number % len(_MARKERS)] if len(x) == 1 else "",
        label=label,
    )


def _legend(figure: Figure) -> None:
    """Draw the legend below the plot, so that it hides no line."""
    figure.legend(
        loc="outside lower left", ncols=4, handlelength=1.1, columnspacing=0.7, handletextpad=0.4
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
