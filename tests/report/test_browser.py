"""Test the page of a category tree in a browser: keyboard, narrow screens and accessibility."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from rubro.report.charts import charts_of
from rubro.report.content import read_content
from rubro.report.page import render
from support.chromium import LAYOUTS, NEEDS_CHROMIUM, assert_accessible
from support.report_metrics import write_metrics

playwright = pytest.importorskip("playwright.sync_api")
pytest_plugins = ["support.chromium", "support.report_metrics"]
pytestmark = [pytest.mark.slow, NEEDS_CHROMIUM]


# Sizes of all text in pixels, with the scale of the chart that contains it.
TYPE_SIZES = """[...document.querySelectorAll("body *")]
  .filter((each) => [...each.childNodes].some((node) => node.nodeType === 3 && node.data.trim()))
  .filter((each) => each.getClientRects().length && !each.closest("style, script"))
  .map((each) => {
    const { a, b } = each.getScreenCTM?.() ?? { a: 1, b: 0 };
    return parseFloat(getComputedStyle(each).fontSize) * Math.hypot(a, b);
  })
"""


@pytest.fixture(scope="module")
def report(original_tree_metrics: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    content = read_content(original_tree_metrics, "test")
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(render(content, charts_of(content)), encoding="utf-8")
    return path


@contextmanager
def opened(browser: Any, report: Path, **settings: Any) -> Iterator[Any]:
    """Open a report in a new profile; messages of the page fail the test."""
    messages: list[str] = []
    with browser.new_context(**settings) as context:
        page = context.new_page()
        page.on("console", lambda message: messages.append(message.text))
        page.on("pageerror", lambda error: messages.append(str(error)))
        page.goto(report.as_uri())
        yield page
    assert messages == []


def test_the_tree_opens_with_the_keyboard_and_without_scripts(browser: Any, report: Path) -> None:
    with opened(browser, report, java_script_enabled=False) as page:
        tree = page.locator(".tree")
        water = tree.get_by_text("Water", exact=True).first
        playwright.expect(water).to_be_hidden()
        tree.locator("summary").first.press("Enter")
        playwright.expect(water).to_be_visible()
        page.keyboard.press("Tab")
        page.keyboard.press("Space")
        playwright.expect(tree.get_by_text("NA", exact=True)).to_be_visible()


@LAYOUTS
def test_the_page_fits_and_axe_finds_no_violation(
    browser: Any, report: Path, layout: dict[str, Any]
) -> None:
    with opened(browser, report, **layout) as page:
        for summary in page.locator(".tree summary, #categories-table summary").all():
            summary.click()
        edges = page.locator(".tree .row > :last-child").evaluate_all(
            "cells => cells.map(cell => Math.round(cell.getBoundingClientRect().right))"
        )
        assert len(set(edges)) == 1  # the numbers of all levels are in the same columns
        sizes = page.evaluate(TYPE_SIZES)
        assert min(sizes) >= 11
        assert_accessible(page)


def test_columns_sort_in_both_directions_and_missing_values_come_last(
    browser: Any, metrics: Path, tmp_path: Path
) -> None:
    path = metrics / "evaluation/test/unmeasured.csv"
    path.write_text("category,train_titles\nBOATS,1234\n", encoding="utf-8")
    content = read_content(metrics, "test")
    report = tmp_path / "report.html"
    report.write_text(render(content, charts_of(content)), encoding="utf-8")
    recall = {row.category: row.recall for row in content.categories}
    with opened(browser, report) as page:
        table = page.locator("#categories-table")
        header = table.locator("th", has_text="recall")
        for direction, is_reversed in (("descending", True), ("ascending", False)):
            header.get_by_role("button").click()
            playwright.expect(header).to_have_attribute("aria-sort", direction)
            cells = table.locator("tbody tr > :nth-child(4)").all_inner_texts()
            ordered = sorted(recall.values(), reverse=is_reversed)
            assert cells == [*(f"{value:.3f}" for value in ordered), "-"]
        page.get_by_label("Search for a category").fill("boa")
        playwright.expect(table.locator("tbody tr:visible")).to_have_count(1)


@pytest.mark.parametrize("has_scripts", [True, False])
def test_a_category_shows_its_mistakes(browser: Any, report: Path, has_scripts: bool) -> None:
    with opened(browser, report, java_script_enabled=has_scripts) as page:
        table = page.locator("#categories-table")
        mistakes = table.locator("q")
        playwright.expect(mistakes.first).to_be_hidden()
        table.locator("summary").first.press("Enter")
        playwright.expect(mistakes.first).to_be_visible()
        link = page.locator("#confusions ~ div a").last
        target = page.locator(link.get_attribute("href"))
        playwright.expect(target).to_be_hidden()
        link.click()
        playwright.expect(target).to_be_visible()


def test_the_page_of_2000_nodes_is_complete(browser: Any, tmp_path: Path) -> None:
    names = [f"ROOT {n // 200} > CHILD {n // 20} > LEAF {n}" for n in range(1900)]
    write_metrics(tmp_path, names, titles=4_000, separator=" > ")
    content = read_content(tmp_path, "test")
    assert len(content.nodes) == 1900 + 95 + 10
    html = render(content, charts_of(content))
    assert len(html.encode()) < 4_000_000
    path = tmp_path / "report.html"
    path.write_text(html, encoding="utf-8")
    with opened(browser, path) as page:
        rows = page.locator(".tree > ul > li")
        playwright.expect(rows).to_have_count(10)
        assert sum(row.is_visible() for row in page.locator(".tree li").all()[:50]) <= 10
