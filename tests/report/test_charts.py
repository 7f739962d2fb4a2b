"""Test that all charts are drawn with text as text, and that equal content gives equal bytes."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from rubro.base.files import write_json
from rubro.report.charts import (
    COLOURS,
    INK,
    SERIES,
    Chart,
    charts_of,
    most_errors_first,
    share_interval,
)
from rubro.report.content import NETWORKS, CategoryMetrics, read_content
from support.report_metrics import HOSTILE, MODELS, write_metrics

pytest_plugins = ["support.report_metrics"]

CURVES = ("accuracy", "balanced_accuracy", "loss")  # of the objective accuracy
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def charts(original_metrics: Path) -> dict[str, Chart]:
    return charts_of(read_content(original_metrics, "test"))


def text_of(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def test_every_table_has_a_chart(charts: dict[str, Chart]) -> None:
    assert set(charts) == {
        *(f"curve_{model}_{metric}" for model in NETWORKS for metric in CURVES),
        *(f"reliability_{model}" for model in MODELS),
        *("models", "differences", "coverage", "slices", "worst_categories"),
    }


def x_of(line: Line2D) -> list[float]:
    x: list[float] = np.asarray(line.get_xdata()).tolist()
    return x


def drawn(chart: Chart) -> list[Axes]:
    figure = Figure()
    chart.draw(figure)
    return figure.axes


def test_all_charts_have_one_width_and_one_type_size(charts: dict[str, Chart]) -> None:
    # 3/4 of a point is a pixel, and the page does not enlarge the charts.
    assert {
        re.findall(r'<svg [^>]*width="([\d.]+)pt"', chart.svg)[0] for chart in charts.values()
    } == {"268.56"}
    for chart in charts.values():
        assert set(re.findall(r"font(?:-size: |: 700 )([\d.]+px)", chart.svg)) == {"9px"}, (
            chart.name
        )


def test_long_names_do_not_make_the_plot_narrow(tmp_path: Path) -> None:
    widths = []
    for length in (1, 60):
        write_metrics(tmp_path / str(length), [f"{n}".zfill(length) for n in range(9)], titles=300)
        chart = charts_of(read_content(tmp_path / str(length), "test"))["worst_categories"]
        figure = Figure(figsize=(3.73, 4), layout="constrained")
        chart.draw(figure)
        figure.draw_without_rendering()
        widths.append(figure.axes[0].get_position().width)
    assert widths[0] == widths[1]


def test_curves_show_where_validation_moves_and_mark_the_chosen_epoch(metrics: Path) -> None:
    rows = "".join(f"{step}\t{value}\n" for step, value in enumerate([0.1, 0.7, 0.8, 0.78, 0.76]))
    for split in ("train", "validation"):
        path = metrics / f"curves/mlp/plots/metrics/{split}/accuracy.tsv"
        path.write_text(f"step\taccuracy\n{rows}")
    write_json(metrics / "train_mlp.json", {"best": {"epoch": 2}})
    chart = charts_of(read_content(metrics, "test"))["curve_mlp_accuracy"]
    [axes] = drawn(chart)
    low, high = axes.get_ylim()
    assert 0.7 < low < 0.76 and 0.8 < high < 0.82
    assert x_of(axes.lines[0]) == [1, 2, 3, 4, 5]
    [line] = [line for line in axes.lines if line.get_label() == "chosen epoch 3"]
    assert set(x_of(line)) == {3}
    assert "chosen epoch 3 0.800 on train, 0.800 on validation" in chart.alternative


def test_a_curve_without_a_chosen_epoch_is_drawn(metrics: Path) -> None:
    (metrics / "train_mlp.json").unlink()
    chart = charts_of(read_content(metrics, "test"))["curve_mlp_loss"]
    assert drawn(chart) and "chosen" not in chart.svg


def test_reliability_shows_an_interval_and_the_number_of_titles_of_each_point(
    charts: dict[str, Chart], original_metrics: Path
) -> None:
    content = read_content(original_metrics, "test")
    before, after, *histograms = drawn(charts["reliability_svm"])
    for axes, below, bins in (
        (before, histograms[0], content.reliability_before["svm"]),
        (after, histograms[1], content.reliability["svm"]),
    ):
        lines = [each for each in axes.collections if isinstance(each, LineCollection)]
        bars = [bar for bar in below.patches if isinstance(bar, Rectangle)]
        ends = [tuple(each.get_segments()[0][:, 1]) for each in lines]
        assert ends == [pytest.approx(share_interval(b.accuracy, b.titles)) for b in bins]
        assert [bar.get_height() for bar in bars] == [b.titles for b in bins]
        assert max(len(x_of(line)) for line in axes.lines[1:]) == 1  # no line joins points


def test_models_are_shown_on_validation_and_test(charts: dict[str, Chart]) -> None:
    texts = text_of(charts["models"].svg)
    for model in MODELS:
        assert f"{model}, test" in texts and f"{model}, validation" in texts


def test_names_are_drawn_as_text(charts: dict[str, Chart]) -> None:
    texts = text_of(charts["worst_categories"].svg)
    assert "recall" in texts
    for name in (HOSTILE, "A & B", "$x_1$", 'a"onmouseover="b', "漢字"):
        assert any(text.startswith(name) for text in texts), name
    assert "<script" not in charts["worst_categories"].svg


def test_names_of_categories_change_neither_colours_nor_ids(tmp_path: Path) -> None:
    names = [
        INK,
        f"fill: {SERIES[0]}",
        ' id="a_1"',
        "\x1b[31m=1+1",
        "\x07\x9b\u202ebell",
        "$\\frac{$",
    ]
    write_metrics(tmp_path, names, titles=600)
    chart = charts_of(read_content(tmp_path, "test"))["worst_categories"]
    for svg in (chart.svg, chart.inline_svg()):
        shown = {text.rpartition(" (")[0] for text in text_of(svg)}
        assert shown >= {INK, f"fill: {SERIES[0]}", ' id="a_1"', "·[31m=1+1", "$\\frac{$"}
        assert "\x1b" not in svg
    styles = "".join(re.findall(r' style="([^"]*)"', chart.inline_svg()))
    assert "var(--ink)" in styles and "#" not in styles.replace("url(#", "")


def test_inline_charts_have_unique_ids_themed_colours_and_a_text_alternative(
    charts: dict[str, Chart],
) -> None:
    ids = []
    for chart in charts.values():
        svg = chart.inline_svg()
        ids += re.findall(r' id="([^"]+)"', svg)
        assert set(re.findall(r"var\(--([\w-]+)\)", svg)) <= set(COLOURS.values())
        assert re.findall(r"#[0-9a-f]{6}\b", svg) == []
        assert re.search(r"\d", chart.alternative), chart.name
        element = ElementTree.fromstring(svg)
        assert element.get("role") == "img"
        assert element.get("aria-label") == f"{chart.title}: {chart.alternative}"
    assert len(ids) == len(set(ids)) > 0


@pytest.mark.slow
def test_another_process_draws_the_same_bytes(
    charts: dict[str, Chart], original_metrics: Path
) -> None:
    script = (
        "import sys; from pathlib import Path\n"
        "from rubro.report.charts import charts_of\n"
        "from rubro.report.content import read_content\n"
        "charts = charts_of(read_content(Path(sys.argv[1]), 'test'))\n"
        "sys.stdout.buffer.write(charts['coverage'].svg.encode() + charts['coverage'].png())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, original_metrics], capture_output=True, check=True
    )
    assert done.stdout == charts["coverage"].svg.encode() + charts["coverage"].png()


def test_missing_tables_have_no_chart(metrics: Path) -> None:
    (metrics / "evaluate.json").unlink()
    (metrics / "evaluation/test/ensemble/classes.csv").unlink()
    names = set(charts_of(read_content(metrics, "test")))
    assert "slices" in names
    assert not names & {"models", "differences", "worst_categories"}


def test_at_most_twenty_categories_with_errors_are_drawn(tmp_path: Path) -> None:
    write_metrics(tmp_path, [f"CATEGORY_{n:03}" for n in range(632)], titles=700)
    charts = charts_of(read_content(tmp_path, "test"))
    rows = [text for text in text_of(charts["worst_categories"].svg) if text.startswith("CATEGORY")]
    assert len(rows) == 20 and not any("(0 of" in row for row in rows)


def test_categories_are_ranked_by_the_number_of_errors() -> None:
    rows = [
        CategoryMetrics(name, titles, 1, 1.0, recall, 1.0)
        for name, titles, recall in (("a", 1, 0.0), ("b", 90, 0.9), ("c", 9, 1.0), ("d", 10, 0.9))
    ]
    ranked = most_errors_first(rows)
    assert [row.category for row in ranked] == ["b", "a", "d", "c"]
    assert [row.errors for row in ranked] == [9, 1, 1, 0]
