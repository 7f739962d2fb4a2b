"""Charts of the report, drawn by matplotlib as SVG and PNG."""

from __future__ import annotations

import re
import textwrap
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from html import escape
from io import BytesIO, StringIO
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from rubro.report.content import Category, Content
from rubro.report.intervals import wilson_interval

# Colours of the SVG, each of which the page replaces by a variable of its style sheet.
INK, MUTED, GRID, PAPER = "#1f2329", "#5d6670", "#d5dae1", "#fefefe"
SERIES = ("#0b62a8", "#b84a00", "#11785c", "#8a3d8f")
COLOURS = {
    INK: "ink",
    MUTED: "muted",
    GRID: "grid",
    PAPER: "paper",
    **{colour: f"series-{number}" for number, colour in enumerate(SERIES, start=1)},
}
_MARKERS = ("o", "s", "D", "^")
_DASHES = ("-", "--", "-.", ":")
_WORST, _BEST = 30, 10
_LONGEST_NAME = 30
_TITLE_HEIGHT = 0.25  # inches
_WIDTH = 4.6  # inches: on a telephone about as wide as the screen, so that text keeps its size

_STYLE: Any = {
    "axes.axisbelow": True,
    "axes.edgecolor": MUTED,
    "axes.facecolor": PAPER,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "figure.facecolor": PAPER,
    "figure.constrained_layout.use": True,
    "font.family": ["DejaVu Sans"],
    "font.size": 9,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "legend.edgecolor": GRID,
    "legend.facecolor": PAPER,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "lines.linewidth": 1.6,
    "savefig.facecolor": PAPER,
    "svg.fonttype": "none",
    "text.color": INK,
    "text.parse_math": False,  # a $ in the name of a category is a $
    "xtick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.color": MUTED,
    "ytick.labelcolor": INK,
}


@dataclass(frozen=True)
class Chart:
    """A chart.

    Attributes:
        name: Name of its files.
        title: Heading.
        alternative: What it shows, in words, for those who cannot see it.
        draw: Function that draws it on an empty figure.
        size: Width and height without the title, in inches.
    """

    name: str
    title: str
    alternative: str
    draw: Callable[[Figure], None]
    size: tuple[float, float]

    @cached_property
    def svg(self) -> str:
        """SVG with text as text; the same content gives the same bytes."""
        file = StringIO()
        with _styled(self.name):
            nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
            self._figure().savefig(file, format="svg", metadata=nothing)
        return file.getvalue()

    def inline_svg(self) -> str:
        """Return the chart as an element of a web page whose style sheet sets its colours."""
        _, _, svg = self.svg.partition("<svg ")
        for colour, name in COLOURS.items():
            svg = svg.replace(colour, f"var(--{name})")
        # Names of parts, which are the same in every chart; those that are referred to are hashes.
        svg = re.sub(r' id="[\w.]+_\d+"', "", svg)
        label = escape(f"{self.title}: {self.alternative}")
        return f'<svg role="img" aria-label="{label}" {svg}'

    def png(self) -> bytes:
        """Return the chart as PNG, 200 pixels an inch."""
        file = BytesIO()
        with _styled(self.name):
            self._figure().savefig(file, format="png", dpi=200, metadata={"Software": None})
        return file.getvalue()

    def _figure(self) -> Figure:
        width, height = self.size
        figure = Figure(figsize=(width, height + _TITLE_HEIGHT))
        figure.suptitle(self.title, x=0.01, ha="left", fontsize=10, fontweight="bold")
        self.draw(figure)
        return figure


@contextmanager
def _styled(salt: str) -> Iterator[None]:
    with mpl.rc_context(_STYLE | {"svg.hashsalt": salt}), warnings.catch_warnings():
        # A browser has other fonts for the characters that matplotlib's lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def charts_of(content: Content) -> dict[str, Chart]:
    """Return the charts that the content suffices for, by name."""
    charts = [
        *_models(content),
        *_differences(content),
        *_curves(content),
        *_reliability(content),
        *_coverage(content),
        *_slices(content),
        *_categories(content),
        *_confusions(content),
    ]
    return {chart.name: chart for chart in charts}


def _models(content: Content) -> Iterator[Chart]:
    if not content.models:
        return
    names = list(content.models)
    metrics = list(content.models.values())

    def draw(figure: Figure) -> None:
        ends = [(m.balanced_accuracy_low, m.balanced_accuracy_high) for m in metrics]
        axes = _axes(figure, "balanced accuracy")
        _dots(axes, names, [m.balanced_accuracy for m in metrics], ends)

    yield Chart(
        "models",
        f"Balanced accuracy on {content.split}",
        "; ".join(
            f"{name} {m.balanced_accuracy:.3f}, interval {m.balanced_accuracy_low:.3f} to "
            f"{m.balanced_accuracy_high:.3f}"
            for name, m in content.models.items()
        ),
        draw,
        (_WIDTH, 0.9 + 0.35 * len(names)),
    )


def _differences(content: Content) -> Iterator[Chart]:
    if not content.differences:
        return
    names = [f"{one} - {other}" for one, other in content.differences]
    values = list(content.differences.values())

    def draw(figure: Figure) -> None:
        axes = _axes(figure, "difference of balanced accuracies")
        axes.axvline(0, color=MUTED, linewidth=1)
        axes.xaxis.set_major_locator(MaxNLocator(5))  # signed numbers are wide
        _dots(axes, names, [v.balanced_accuracy for v in values], [(v.low, v.high) for v in values])

    yield Chart(
        "differences",
        f"Differences between models on {content.split}",
        "; ".join(
            f"{name} {v.balanced_accuracy:+.3f}, interval {v.low:+.3f} to {v.high:+.3f}"
            for name, v in zip(names, values, strict=True)
        ),
        draw,
        (_WIDTH, 0.9 + 0.35 * len(names)),
    )


def _curves(content: Content) -> Iterator[Chart]:
    words = {
        "balanced_accuracy": "balanced accuracy",
        "accuracy": "accuracy",
        "loss": "loss (cross-entropy)",
    }
    for model, metrics in content.curves.items():
        for metric, splits in metrics.items():

            def draw(figure: Figure, splits: dict[str, Any] = splits, metric: str = metric) -> None:
                axes = _axes(figure, "epoch")
                for number, (split, points) in enumerate(splits.items()):
                    steps = [point.step for point in points]
                    values = [point.value for point in points]
                    _line(axes, number, steps, values, split, marked=len(points) == 1)
                axes.set_ylabel(words[metric])
                axes.xaxis.set_major_locator(MaxNLocator(integer=True))
                axes.legend()

            last = ", ".join(f"{points[-1].value:.3f} on {of}" for of, points in splits.items())
            yield Chart(
                f"curve_{model}_{metric}",
                f"{model.upper()}: {words[metric]}",
                f"{words[metric]} by epoch; at the end {last}",
                draw,
                (_WIDTH, 2.7),
            )


def _reliability(content: Content) -> Iterator[Chart]:
    for model in content.models:
        series = {
            "before calibration": content.reliability_before.get(model, []),
            "after": content.reliability.get(model, []),
        }
        series = {name: bins for name, bins in series.items() if bins}
        if not series:
            continue

        def draw(figure: Figure, series: dict[str, Any] = series) -> None:
            axes = _axes(figure, "confidence")
            axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, label="ideal")
            for name, bins in series.items():
                number = 1 if name.startswith("before") else 0
                x, y = [b.confidence for b in bins], [b.accuracy for b in bins]
                most = max(b.titles for b in bins)
                sizes = [6 + 60 * b.titles / most for b in bins]
                axes.scatter(x, y, sizes, color=SERIES[number], marker=_MARKERS[number])
                _line(axes, number, x, y, name, marked=False)
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
        axes = _axes(figure, "coverage: share of the titles, surest first")
        for number, (model, points) in enumerate(curves.items()):
            x, y = [p.coverage for p in points], [p.precision for p in points]
            _line(axes, number, x, y, model, marked=False)
        axes.set(xlim=(0, 1.02), ylabel="precision: share of right ones")
        axes.legend()

    steps = [f"{row.coverage:.0%} at precision {row.goal:.0%}" for row in content.automation]
    yield Chart(
        "coverage",
        f"Coverage against precision on {content.split}",
        "precision falls as coverage grows" + "".join(f"; {step}" for step in steps),
        draw,
        (_WIDTH, 3.3),
    )


def _slices(content: Content) -> Iterator[Chart]:
    if not content.slices:
        return
    names = [f"{part.slice} ({part.titles:,})" for part in content.slices]
    values = [part.accuracy for part in content.slices]

    def draw(figure: Figure) -> None:
        axes = _axes(figure, "accuracy")
        ends = [wilson_interval(part.accuracy, part.titles) for part in content.slices]
        _dots(axes, ["\n".join(textwrap.wrap(name, 26)) for name in names], values, ends)

    yield Chart(
        "slices",
        f"Accuracy of parts of {content.split} (titles)",
        "; ".join(f"{name} {value:.3f}" for name, value in zip(names, values, strict=True)),
        draw,
        (_WIDTH, 0.9 + 0.45 * len(names)),
    )


def worst_first(categories: Sequence[Category]) -> list[Category]:
    """Return categories by recall; of equal ones, that with more titles first."""
    return sorted(categories, key=lambda row: (row.recall, -row.titles, row.category))


def best_first(categories: Sequence[Category]) -> list[Category]:
    """Return categories by recall, highest first; of equal ones, that with more titles first."""
    return sorted(categories, key=lambda row: (-row.recall, -row.titles, row.category))


def _categories(content: Content) -> Iterator[Chart]:
    if not content.categories:
        return
    for name, words, rows in (
        ("worst_categories", "lowest", worst_first(content.categories)[:_WORST]),
        ("best_categories", "highest", best_first(content.categories)[:_BEST]),
    ):

        def draw(figure: Figure, rows: list[Category] = rows) -> None:
            axes = _axes(figure, "recall")
            ends = [wilson_interval(row.recall, row.titles) for row in rows]
            labels = [f"{_short(row.category)} ({row.titles:,})" for row in rows]
            _dots(axes, labels, [row.recall for row in rows], ends)
            axes.set_xlim(-0.02, 1.02)

        yield Chart(
            name,
            f"Categories of {words} recall on {content.split} (titles)",
            "; ".join(f"{row.category} {row.recall:.2f}" for row in rows),
            draw,
            (_WIDTH, 0.9 + 0.22 * len(rows)),
        )


def _confusions(content: Content) -> Iterator[Chart]:
    names = list(dict.fromkeys(cell.category for cell in content.confusions))
    if not names:
        return

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.set_xlabel("predicted, by the number of its row")
        axes.xaxis.set_label_position("top")
        axes.set(xlim=(0.5, len(names) + 0.5), ylim=(len(names) + 0.5, 0.5))
        axes.set_xticks(range(1, len(names) + 1))
        labels = [f"{_short(name)}  {number}" for number, name in enumerate(names, start=1)]
        axes.set_yticks(range(1, len(names) + 1), labels)
        axes.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
        axes.grid(visible=False)
        place = {name: number for number, name in enumerate(names, start=1)}
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
            f"{cell.titles} of {cell.category} taken for {cell.predicted}"
            for cell in content.confusions
            if cell.titles and cell.category != cell.predicted
        ),
        draw,
        (2.6 + 0.27 * len(names), 0.7 + 0.25 * len(names)),
    )


def _axes(figure: Figure, x_label: str) -> Axes:
    axes = figure.add_subplot()
    axes.set_xlabel(x_label)
    return axes


def _line(
    axes: Axes, number: int, x: Sequence[float], y: Sequence[float], label: str, marked: bool
) -> None:
    axes.plot(
        x,
        y,
        color=SERIES[number % len(SERIES)],
        linestyle=_DASHES[number % len(_DASHES)],
        marker=_MARKERS[number % len(_MARKERS)] if marked else "",
        markersize=4,
        label=label,
    )


def _dots(
    axes: Axes,
    names: Sequence[str],
    values: Sequence[float],
    ends: Sequence[tuple[float, float]],
) -> None:
    """Draw values with their intervals, the first one on top."""
    places = range(len(names))
    low, high = zip(*ends, strict=True)
    axes.hlines(places, low, high, color=SERIES[0], linewidth=2.5, alpha=0.45)
    axes.plot(values, places, "o", color=SERIES[0], markersize=5)
    axes.set_yticks(places, names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)


def _short(name: str) -> str:
    text = "".join(c if c.isprintable() else "\ufffd" for c in name)
    return text if len(text) <= _LONGEST_NAME else text[: _LONGEST_NAME - 1] + "…"
