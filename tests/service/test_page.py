"""Test the page in a browser: answers, words, corrections, languages, keyboard and accessibility."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from rubro.base.params import Params
from rubro.data.sources import CORRECTIONS, read_titles
from support.chromium import NEEDS_CHROMIUM
from support.keyword_model import PATHS
from support.service_page import opened, two_tabs
from support.serving import Server

playwright = pytest.importorskip("playwright.sync_api")
axe = pytest.importorskip("axe_playwright_python.sync_playwright")
pytest_plugins = ["support.chromium", "support.keyword_model", "support.serving"]
pytestmark = [pytest.mark.slow, NEEDS_CHROMIUM]
SHOWN_PATH = "Luz \u203a Techo \u203a Lámparas"
HOSTILE = '<img src=x onerror="document.title=1"> mesa'


def type_title(page: Any, title: str, category: str) -> None:
    """Type a title and wait for an answer with this first category."""
    page.get_by_role("textbox").first.fill(title)
    playwright.expect(page.locator("#words")).to_have_text(title)
    playwright.expect(page.locator("#answers li").first).to_contain_text(category)


def test_a_title_is_answered_as_it_is_typed(browser: Any, server: Server) -> None:
    with opened(browser, server) as page:
        page.keyboard.type("Taza para mesa")  # the field has the focus
        playwright.expect(page.locator("#words")).to_have_text("Taza para mesa")
        rows = page.locator("#answers li")
        playwright.expect(rows).to_have_count(4)
        playwright.expect(rows.first).to_contain_text("TABLES")
        marks = page.locator("#words mark")
        assert [mark.inner_text() for mark in marks.all()] == ["Taza", "mesa"]
        assert "against" in marks.nth(0).get_attribute("class")
        assert "For: mesa. Against: Taza." in page.locator("#reasons").inner_text()
        widths = [bar.bounding_box()["width"] for bar in page.locator(".bar").all()]
        assert widths == sorted(widths, reverse=True)
        playwright.expect(page.get_by_role("status")).to_contain_text("TABLES, ")
        page.get_by_role("textbox").first.fill("nada de nada")
        playwright.expect(page.get_by_text("Not sure")).to_be_visible()
        page.get_by_role("textbox").first.fill("")
        playwright.expect(page.locator("#result")).to_be_hidden()


def test_the_answer_of_the_last_title_is_shown(browser: Any, server: Server) -> None:
    with opened(browser, server) as page:
        for title in ("mesa", "silla", "lampara", "taza"):
            page.get_by_role("textbox").first.fill(title)
        playwright.expect(page.locator("#words")).to_have_text("taza")
        playwright.expect(page.locator("#answers li").first).to_contain_text("MUGS")


def test_corrections_are_stored_downloaded_and_read_by_the_pipeline(
    browser: Any, server: Server, tmp_path: Path, make_params: Any
) -> None:
    titles = ['mesa "ratona", roble', "=silla+1", "mesa ñandú 🍵", HOSTILE]
    with opened(browser, server) as page:
        for title in titles:
            type_title(page, title, "CHAIRS" if "silla" in title else "TABLES")
            page.get_by_role("button", name="Right: MUGS").click()
        type_title(page, titles[0], "TABLES")
        page.get_by_label("None of these?").fill("Something, else")
        page.get_by_role("button", name="Save").click()
        page.reload()
        playwright.expect(page.locator("#corrections li")).to_have_count(4)
        file = downloaded(page, tmp_path)
        assert page.locator("img").count() == 0  # a title is never interpreted as markup
        assert page.title() == "rubro"
        page.get_by_role("button", name="Remove the correction of =silla+1").click()
        playwright.expect(page.locator("#corrections li")).to_have_count(3)
        page.get_by_role("button", name="Remove all").click()
        playwright.expect(page.locator("#corrections li")).to_have_count(0)
        assert page.locator("#download").is_disabled()
    assert file.name == "corrections.csv"
    params: Params = make_params({"data.corrections": str(file)})
    table = read_titles(params.data, "spanish").table
    corrections = table[table["split"] == CORRECTIONS]
    expected = [[title, "MUGS"] for title in titles[1:]] + [[titles[0], "Something, else"]]
    assert corrections[["title", "category"]].to_numpy().tolist() == expected


def stored_titles(page: Any) -> list[str]:
    found = page.evaluate("JSON.parse(localStorage.getItem('rubro.corrections'))")
    return [each["title"] for each in found]


@pytest.mark.parametrize("has_locks", [True, False])
def test_two_tabs_keep_the_corrections_of_each_other(
    browser: Any, server: Server, has_locks: bool
) -> None:
    with opened(browser, server) as one, two_tabs(one, has_locks) as two:
        for page, title in ((one, "mesa a"), (one, "mesa b"), (two, "mesa c"), (one, "mesa d")):
            type_title(page, title, "TABLES")
            page.get_by_role("button", name="Right: MUGS").click()
            playwright.expect(page.get_by_text(f"{title}MUGS")).to_be_visible()
        assert stored_titles(one) == ["mesa a", "mesa b", "mesa c", "mesa d"]
        for page in (one, two):
            playwright.expect(page.locator("#corrections li")).to_have_count(4)
        two.get_by_role("button", name="Remove the correction of mesa b").click()
        playwright.expect(one.locator("#corrections li")).to_have_count(3)
        two.get_by_role("button", name="Remove all").click()
        playwright.expect(one.locator("#corrections li")).to_have_count(0)
        one.get_by_role("button", name="Right: LAMPS").click()
        playwright.expect(two.locator("#corrections li")).to_have_count(1)
        assert stored_titles(two) == ["mesa d"]


def downloaded(page: Any, folder: Path) -> Path:
    """Download the corrections, and return the path of the file."""
    with page.expect_download() as download:
        page.locator("#download").click()
    file: Path = folder / download.value.suggested_filename
    download.value.save_as(file)
    return file


def test_further_columns_are_folded_away_and_change_the_answer(browser: Any, shop: Server) -> None:
    with opened(browser, shop) as page:
        brand = page.get_by_label("marca")
        playwright.expect(page.get_by_text("More about the product")).to_be_visible()
        playwright.expect(brand).to_be_hidden()
        type_title(page, "mesa", "Mesas")
        page.get_by_text("More about the product").click()
        brand.fill("Silla\n& Cía")
        playwright.expect(page.locator("#answers li").first).to_contain_text("Lámparas")
        playwright.expect(page.locator("#column-words mark")).to_have_text("Silla")
        playwright.expect(page.locator("#column-words dt")).to_have_text("marca")
        playwright.expect(page.locator("#words mark")).to_have_text("mesa")
        assert "For: Silla. Against: mesa." in page.locator("#reasons").inner_text()
        brand.fill(" ")
        playwright.expect(page.locator("#answers li").first).to_contain_text("Mesas")
        playwright.expect(page.locator("#column-words")).to_be_empty()


def test_a_model_that_reads_only_titles_has_no_further_fields(browser: Any, server: Server) -> None:
    with opened(browser, server) as page:
        type_title(page, "mesa", "TABLES")
        playwright.expect(page.locator("#more")).to_be_hidden()
        playwright.expect(page.locator("#answers .leaf")).to_have_count(0)


def test_a_category_is_shown_as_a_path(browser: Any, shop: Server) -> None:
    with opened(browser, shop) as page:
        type_title(page, "lampara", "Lámparas")
        first = page.locator("#answers li").first
        playwright.expect(first).to_contain_text(SHOWN_PATH)
        weights = (
            "element => [element, element.parentElement].map((each) => getComputedStyle(each))"
        )
        weights += ".map((style) => Number(style.fontWeight))"
        leaf, name = first.locator(".leaf").evaluate(weights)
        assert leaf > name
        playwright.expect(page.locator("#sure")).to_be_hidden()
        # No leaf reaches a probability of 0.5, but one root does.
        type_title(page, "lampara silla mesa", "Mesas")
        playwright.expect(page.locator("#sure")).to_contain_text("Only certain about Muebles: ")
        playwright.expect(page.get_by_text("Not sure")).to_be_hidden()


def test_corrections_keep_columns_and_paths(
    browser: Any, shop: Server, tmp_path: Path, make_params: Any
) -> None:
    with opened(browser, shop) as page:
        # A correction of a model that reads only titles.
        stored = '[{"title": "old", "category": "Vajilla"}]'
        page.evaluate("stored => localStorage.setItem('rubro.corrections', stored)", stored)
        page.reload()
        page.get_by_text("More about the product").click()
        for title, brand in (("mesa", "A, B"), ("mesa", ""), ("mesa", "A, B")):
            page.get_by_label("marca").fill(brand)
            type_title(page, title, "Mesas")
            page.get_by_role("button", name="Sillas").first.click()
        page.get_by_label("None of these?").fill("lámparas")  # the last name of a path is enough
        page.get_by_role("button", name="Save").click()
        playwright.expect(page.locator("#corrections li")).to_have_count(3)
        playwright.expect(page.locator("#corrections li").last).to_contain_text(
            f"mesaA, B{SHOWN_PATH}"
        )
        options = page.locator("#categories option").evaluate_all("all => all.map((o) => o.value)")
        assert options == [PATHS[2], PATHS[0], PATHS[1], PATHS[3]]  # sorted by their paths
        file = downloaded(page, tmp_path)
        page.get_by_role("button", name="Remove the correction of mesa").first.click()
        playwright.expect(page.locator("#corrections li")).to_have_count(2)
    rows = [*csv.reader(file.read_text().splitlines())]
    assert rows[0] == ["title", "category", "marca", "precio"]
    assert rows[1:] == [
        ["old", "Vajilla", "", ""],
        ["mesa", PATHS[1], "", ""],
        ["mesa", PATHS[2], "A, B", ""],
    ]
    source = tmp_path / "shop.csv"
    source.write_text("title,category,marca,precio\nmesa,Vajilla,x,5\n")
    settings = {"data.path": str(source), "data.text_columns": ["marca", "precio"]}
    params: Params = make_params({**settings, "data.corrections": str(file)})
    table = read_titles(params.data, None).table
    columns = ["title", "category", "text.marca", "text.precio"]
    assert table[table["split"] == CORRECTIONS][columns].to_numpy().tolist() == rows[1:]


def test_two_tabs_can_change_corrections_at_the_same_time(browser: Any, server: Server) -> None:
    with opened(browser, server) as one, two_tabs(one) as two:
        for page, name in ((one, "mesa one"), (two, "mesa two")):
            type_title(page, name, "TABLES")
        start = """name => setTimeout(async () => {
            const title = document.querySelector("#title");
            for (let number = 0; number < 20; number++) {
                title.value = `${name} ${number}`;
                title.dispatchEvent(new Event("input"));
                while (document.querySelector("#words").textContent !== title.value) {
                    await new Promise((resume) => setTimeout(resume));
                }
                document.querySelector("#answers button").click();
            }
        }, 100) && undefined"""
        for page, name in ((one, "one"), (two, "two")):
            page.evaluate(start, name)
        for page in (one, two):
            playwright.expect(page.locator("#corrections li")).to_have_count(40)
        expected = {f"{name} {number}" for name in ("one", "two") for number in range(20)}
        assert set(stored_titles(one)) == expected


def test_a_correction_is_stored_if_the_page_is_left_at_once(browser: Any, server: Server) -> None:
    with opened(browser, server) as page, two_tabs(page) as other:
        type_title(page, "mesa", "TABLES")
        # A tab that the browser has suspended may keep the lock.
        other.evaluate(
            "navigator.locks.request('rubro.corrections', () => new Promise(() => {})) && null"
        )
        page.get_by_role("button", name="Right: MUGS").click()
        page.reload()
        playwright.expect(page.locator("#corrections li")).to_have_count(1)


def test_corrections_that_cannot_be_stored_are_kept_and_stored_later(
    browser: Any, server: Server
) -> None:
    with opened(browser, server) as page, two_tabs(page) as other:
        page.evaluate(
            """() => {
                localStorage.setItem("rubro.corrections", "[]");
                for (let size = 2 ** 22; size; size = Math.floor(size / 2)) {
                    try {
                        localStorage.setItem(`fill ${size}`, "x".repeat(size));
                    } catch {}
                }
            }"""
        )
        for title in ("mesa a", "mesa b"):
            type_title(page, title, "TABLES")
            page.get_by_role("button", name="Right: MUGS").click()
            playwright.expect(page.get_by_role("alert")).to_contain_text("cannot store")
        playwright.expect(page.locator("#corrections li")).to_have_count(2)
        page.evaluate(
            "Object.keys(localStorage).filter((key) => key.startsWith('fill'))"
            ".forEach((key) => localStorage.removeItem(key))"
        )
        type_title(other, "mesa c", "TABLES")
        other.get_by_role("button", name="Right: MUGS").click()
        playwright.expect(page.locator("#corrections li")).to_have_count(3)
        type_title(page, "mesa d", "TABLES")
        page.get_by_role("button", name="Right: MUGS").click()
        playwright.expect(page.get_by_role("alert")).to_have_text("")
        playwright.expect(other.locator("#corrections li")).to_have_count(4)


def test_the_page_is_available_in_spanish(browser: Any, server: Server) -> None:
    with opened(browser, server, locale="es-AR") as page:
        assert page.locator("html").get_attribute("lang") == "es"
        type_title(page, "mesa", "TABLES")
        playwright.expect(page.get_by_label("Título de un producto")).to_be_visible()
        assert "A favor: mesa." in page.locator("#reasons").inner_text()
        page.get_by_label("Idioma").select_option("en")
        playwright.expect(page.get_by_label("Product title")).to_be_visible()
        page.reload()
        assert page.locator("html").get_attribute("lang") == "en"


def test_the_page_can_be_used_with_the_keyboard(browser: Any, server: Server) -> None:
    with opened(browser, server) as page:
        page.keyboard.type("mesa")
        playwright.expect(page.locator("#words")).to_have_text("mesa")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        playwright.expect(page.locator("#count")).to_have_text("1")
        for _ in range(4):
            page.keyboard.press("Tab")
        page.keyboard.type("MUGS")
        page.keyboard.press("Enter")
        playwright.expect(page.locator("#corrections li")).to_contain_text("MUGS")
        for _ in range(2):
            page.keyboard.press("Tab")
        page.keyboard.press("Space")
        playwright.expect(page.locator("#count")).to_have_text("0")
        assert page.evaluate("document.activeElement.id") == "corrections-heading"


def test_a_service_that_does_not_answer_is_reported(browser: Any, server: Server) -> None:
    with browser.new_context(locale="en-GB") as context:
        page = context.new_page()
        page.goto(f"http://127.0.0.1:{server.port}")
        context.set_offline(True)
        page.keyboard.type("mesa")
        playwright.expect(page.get_by_role("alert")).to_have_text("The service does not answer.")
        context.set_offline(False)
        page.keyboard.type("s")
        page.keyboard.press("Backspace")
        playwright.expect(page.locator("#answers li").first).to_contain_text("TABLES")
        playwright.expect(page.get_by_role("alert")).to_have_text("")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_axe_finds_no_violation(browser: Any, server: Server, width: int, scheme: str) -> None:
    size = {"width": width, "height": 844}
    with opened(browser, server, viewport=size, color_scheme=scheme) as page:
        checked = axe.Axe()
        for title, category in (("", ""), ("Taza para mesa " + "x" * 300, "TABLES")):
            if title:
                type_title(page, title, category)
                page.locator("#answers button").first.click()
            found = checked.run(page)
            assert found.violations_count == 0, found.generate_report()
            assert page.evaluate("document.documentElement.scrollWidth") == width


@pytest.mark.parametrize("locale", ["en-GB", "es-AR"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_axe_finds_no_violation_with_columns_and_paths(
    browser: Any, shop: Server, width: int, scheme: str, locale: str
) -> None:
    settings = {"viewport": {"width": width, "height": 844}, "color_scheme": scheme}
    with opened(browser, shop, locale=locale, **settings) as page:
        type_title(page, "Lampara silla mesa", "Mesas")
        page.locator("#more summary").click()
        page.get_by_label("marca").fill("Silla " + "x" * 300)
        playwright.expect(page.locator("#column-words mark")).to_have_text("Silla")
        page.locator("#answers button").first.click()
        found = axe.Axe().run(page)
        assert found.violations_count == 0, found.generate_report()
        assert page.evaluate("document.documentElement.scrollWidth") == width
