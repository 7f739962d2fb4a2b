"""Test that the page escapes names, loads nothing and is accessible."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

from rubro.report.charts import charts_of
from rubro.report.content import read_content
from rubro.report.page import render
from support.report_metrics import HOSTILE, HOSTILE_NAMES, write_metrics

pytest_plugins = ["support.report_metrics"]

EMPTY = {"meta", "link", "input", "br", "wbr"}


class Page(HTMLParser):
    """Parsed page: its tags with their attributes, its open tags and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html = html
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def page_of(metrics: Path, split: str = "test") -> Page:
    content = read_content(metrics, split)
    return Page(render(content, charts_of(content)))


@pytest.fixture(scope="module")
def page(original_metrics: Path) -> Page:
    return page_of(original_metrics)


def test_every_tag_is_closed_and_every_id_is_unique(page: Page) -> None:
    assert page.open == []
    ids = Counter(attributes["id"] for _, attributes in page.tags if "id" in attributes)
    assert set(ids.values()) == {1}
    for _, attributes in page.tags:
        for name in ("aria-labelledby", "aria-controls", "aria-describedby", "for"):
            assert attributes.get(name, "search") in ids
    links = [link["href"] or "" for link in page.all("a")]
    assert len(links) == 10
    assert all(link.startswith("#") and link[1:] in ids for link in links)


def test_names_and_titles_are_escaped(page: Page) -> None:
    assert len(page.all("script")) == 1
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert page.html.count("alert(1)") > 20
    for name in HOSTILE_NAMES:
        assert name in page.text
    assert f"{HOSTILE} {HOSTILE} " in page.text


def test_the_page_loads_nothing_and_allows_only_its_own_script(page: Page) -> None:
    [policy] = [meta["content"] or "" for meta in page.all("meta") if "http-equiv" in meta]
    assert policy.startswith("default-src 'none'; ")
    assert "script-src 'sha256-" in policy
    for tag, attributes in page.tags:
        for name in ("src", "href", "xlink:href", "data", "poster", "srcset", "action"):
            assert (attributes.get(name) or "#").startswith(("#", "data:,")), tag
    assert "url(http" not in page.html and "@import" not in page.html


def test_tables_headings_charts_and_scrolling_regions_are_accessible(page: Page) -> None:
    assert len(page.all("caption")) == len(page.all("table")) >= 10
    assert {header.get("scope") for header in page.all("th")} == {"row", "col"}
    levels = [int(tag[1]) for tag, _ in page.tags if tag in ("h1", "h2", "h3", "h4")]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    charts = page.all("svg")
    assert len(charts) == 17
    assert all(chart["role"] == "img" and chart["aria-label"] for chart in charts)
    regions = [region for region in page.all("div") if "scroll" in (region.get("class") or "")]
    assert regions
    assert all(region["tabindex"] == "0" and region["aria-label"] for region in regions)


def test_the_page_shows_the_metrics(page: Page, original_metrics: Path) -> None:
    content = read_content(original_metrics, "test")
    best = content.models["ensemble"]
    for value in (best.balanced_accuracy, best.balanced_accuracy_low, best.ece, best.loss):
        assert f"{value:.4f}" in page.text
    assert f"{100 * content.automation[-1].coverage:.1f} %" in page.text
    assert "coverage of 90.0 %" in page.text
    assert "optimistic" not in page.text
    assert "optimistic" in page_of(original_metrics, "validation").text


def test_the_page_shows_how_many_categories_were_measured(metrics: Path) -> None:
    assert "no titles" not in page_of(metrics).text
    path = metrics / "subset.json"
    subset = json.loads(path.read_text())
    path.write_text(json.dumps({**subset, "classes": 1200}))
    names = ["BOATS", HOSTILE, *(f"CARS {number}" for number in range(1190))]
    rows = "".join(f"{name},{5000 - number}\n" for number, name in enumerate(names))
    path = metrics / "evaluation/test/unmeasured.csv"
    path.write_text(f"category,train_titles\n{rows}", encoding="utf-8")
    text = page_of(metrics).text
    assert "1,192 of the 1,200 categories have no titles" in text
    assert f"BOATS, {HOSTILE}, CARS 0 and 1,189 more" in text


def test_missing_files_are_named_in_their_section(metrics: Path) -> None:
    shutil.rmtree(metrics / "curves")
    (metrics / "evaluation/test/ensemble/classes.csv").unlink()
    page = page_of(metrics)
    assert "Missing: " in page.text
    curves, classes = page.text.split("Missing: ")[1:]
    assert "curves/mlp/plots" in curves
    assert "and 9 more. " in curves and "dvc pull" in curves and "dvc repro" in curves
    assert classes.partition(" ")[0].endswith("classes.csv.")
    assert page.all("svg")


@pytest.mark.slow
@pytest.mark.parametrize(
    "file", ["evaluate.json", "subset.json", "featurize.json", "evaluation/description.json"]
)
def test_a_page_is_rendered_without_a_summary_file(metrics: Path, file: str) -> None:
    (metrics / file).unlink()
    page = page_of(metrics)
    assert f"{file}. " in page.text
    assert page.open == []


@pytest.mark.slow
def test_the_page_of_632_categories_is_small_and_complete(tmp_path: Path) -> None:
    names = [f"A_LONG_NAME_OF_A_CATEGORY_OF_A_SHOP_{n:03}" for n in range(632)]
    write_metrics(tmp_path, names, titles=5_000)
    page = page_of(tmp_path)
    assert len(page.html.encode()) < 3_000_000
    assert all(name in page.text for name in names)
