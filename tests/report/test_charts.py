"""Test that all charts are drawn with text as text, and that equal content gives equal bytes."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from rubro.report.charts import COLOURS, INK, SERIES, Chart, charts_of, sorted_by_recall
from rubro.report.content import CURVE_METRICS, NETWORKS, CategoryMetrics, read_content
from support.report_metrics import HOSTILE, MODELS, write_metrics

pytest_plugins = ["support.report_metrics"]

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def charts(original_metrics: Path) -> dict[str, Chart]:
    return charts_of(read_content(original_metrics, "test"))


def text_of(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def test_every_table_has_a_chart(charts: dict[str, Chart]) -> None:
    assert set(charts) == {
        *(f"curve_{model}_{metric}" for model in NETWORKS for metric in CURVE_METRICS),
        *(f"reliability_{model}" for model in MODELS),
        *("models", "differences", "coverage", "slices"),
        *("worst_categories", "best_categories", "confusions"),
    }


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
    write_metrics(tmp_path, names, titles=60)
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
    assert not names & {"models", "differences", "worst_categories", "best_categories"}


def test_at_most_thirty_worst_and_ten_best_categories_are_drawn(tmp_path: Path) -> None:
    write_metrics(tmp_path, [f"CATEGORY_{n:03}" for n in range(632)], titles=700)
    charts = charts_of(read_content(tmp_path, "test"))
    for name, count in (("worst_categories", 30), ("best_categories", 10)):
        drawn = [text for text in text_of(charts[name].svg) if text.startswith("CATEGORY")]
        assert len(drawn) == count


def test_categories_with_equal_recall_are_sorted_by_titles() -> None:
    rows = [
        CategoryMetrics(name, titles, 1, 1.0, recall, 1.0)
        for name, titles, recall in (("a", 3, 1.0), ("b", 9, 1.0), ("c", 2, 0.5), ("d", 4, 0.5))
    ]
    assert [row.category for row in sorted_by_recall(rows)] == ["d", "c", "b", "a"]
    assert [row.category for row in sorted_by_recall(rows, best_first=True)] == ["b", "a", "d", "c"]
