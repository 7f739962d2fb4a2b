"""Test the page in a browser: answers, words, corrections, languages, keyboard and accessibility."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rubro.base.params import Params
from rubro.data.raw_titles import CORRECTIONS, read_titles
from rubro.features.subwords import Subwords
from rubro.prediction.folder import Model, ModelColumn
from rubro.prediction.nearest import title_tensors
from support.chromium import LAYOUTS, NEEDS_CHROMIUM, assert_accessible
from support.keyword_model import PATHS, write_model, write_thresholds
from support.service_page import (
    HOSTILE,
    downloaded,
    fill_storage,
    free_storage,
    opened,
    read_csv,
    two_tabs,
)
from support.serving import Server, running

playwright = pytest.importorskip("playwright.sync_api")
pytest_plugins = ["support.chromium", "support.keyword_model", "support.serving"]
pytestmark = [pytest.mark.slow, NEEDS_CHROMIUM]
SHOWN_PATH = "Luz \u203a Techo \u203a Lámparas"


@pytest.fixture(scope="module")
def titled_model(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model that contains five training titles, one of them with a wrong label."""
    folder = tmp_path_factory.mktemp("models") / "titled"
    found = Model.load(model)
    subwords = Subwords(found.vocabulary, found.description.subwords)
    titles = ["mesa blanca", "mesa de luz", "silla alta", "silla", "silla que es mesa"]
    categories = np.array([0, 0, 1, 1, 2])
    replace(found, titles=title_tensors(titles, categories, subwords)).save(folder)
    return folder


def type_title(page: Any, title: str, category: str) -> None:
    """Type a title and wait for an answer with this first category."""
    page.get_by_role("textbox").first.fill(title)
    playwright.expect(page.locator("#words")).to_have_text(title)
    playwright.expect(page.locator("#first .answer")).to_contain_text(category)


def choose(page: Any, category: str) -> None:
    """Choose a candidate, and wait until the page shows that it is saved."""
    page.locator(".candidate", has_text=category).click()
    playwright.expect(page.locator("#result .undo")).to_be_visible()


def test_a_title_is_answered_as_it_is_typed(browser: Any, server: Server) -> None:
    with opened(browser, server) as page:
        page.keyboard.type("Taza para mesa")  # the field has the focus
        playwright.expect(page.locator("#words")).to_have_text("Taza para mesa")
        playwright.expect(page.locator("#answers li")).to_have_count(3)
        playwright.expect(page.locator("#first .answer")).to_have_text("TABLES")
        marks = page.locator("#words mark")
        playwright.expect(marks).to_have_text(["Taza", "mesa"])
        assert "against" in marks.nth(0).get_attribute("class")
        playwright.expect(page.locator("#reasons")).to_contain_text("For: mesa. Against: Taza.")
        widths = [float(bar.get_attribute("style")[7:-2]) for bar in page.locator(".bar").all()]
        assert widths == sorted(widths, reverse=True)
        playwright.expect(page.get_by_role("status")).to_contain_text("TABLES, ")
        page.get_by_role("textbox").first.fill("nada de nada")
        playwright.expect(page.locator("#doubt")).to_contain_text("most words")
        page.get_by_role("textbox").first.fill("")
        playwright.expect(page.locator("#result")).to_be_hidden()
        playwright.expect(page.locator("#empty")).to_be_visible()


def test_the_answer_of_the_last_title_is_shown(browser: Any, server: Server) -> None:
    with opened(browser, server) as page:
        for title in ("mesa", "silla", "lampara", "taza"):
            page.get_by_role("textbox").first.fill(title)
        playwright.expect(page.locator("#words")).to_have_text("taza")
        playwright.expect(page.locator("#first .answer")).to_have_text("MUGS")


def test_corrections_are_stored_downloaded_and_read_by_the_pipeline(
    browser: Any, server: Server, tmp_path: Path, make_params: Any
) -> None:
    titles = ['mesa "ratona", roble', "=silla+1", "mesa ñandú 🍵", HOSTILE]
    with opened(browser, server) as page:
        for title in titles:
            type_title(page, title, "CHAIRS" if "silla" in title else "TABLES")
            choose(page, "MUGS")
        type_title(page, titles[0], "TABLES")
        page.locator("#category").fill("Something, else")
        page.get_by_role("button", name="Save", exact=True).click()
        page.get_by_role("button", name="Save as a new category").click()
        page.reload()
        playwright.expect(page.locator("#corrections li")).to_have_count(4)
        file = downloaded(page, tmp_path)
        assert page.locator("img").count() == 0  # a title is never interpreted as markup
        assert page.title() == "rubro"
        page.get_by_role("button", name="Remove the correction of =silla+1").click()
        playwright.expect(page.locator("#corrections li")).to_have_count(3)
        page.once("dialog", lambda dialog: dialog.dismiss())
        page.get_by_role("button", name="Remove all").click()
        playwright.expect(page.locator("#corrections li")).to_have_count(3)
        remove_all(page)
        assert page.locator("#download").is_disabled()
        page.get_by_role("button", name="Undo the removal").click()
        playwright.expect(page.locator("#corrections li")).to_have_count(3)
    assert file.name == "corrections.csv"
    params: Params = make_params({"data.corrections": str(file)})
    table = read_titles(params.data, "spanish").table
    corrections = table[table["split"] == CORRECTIONS]
    expected = [[title, "MUGS"] for title in titles[1:]] + [[titles[0], "Something, else"]]
    assert corrections[["title", "category"]].to_numpy().tolist() == expected


def stored_titles(page: Any) -> list[str]:
    """Return the titles of the stored corrections, oldest first."""
    found = page.evaluate(
        """() => Object.entries(localStorage).filter(([key]) => key.startsWith("rubro.correction."))
            .map(([, value]) => JSON.parse(value))"""
    )
    return [each["title"] for each in sorted(found, key=lambda each: each["changed"])]


def remove_all(page: Any) -> None:
    """Remove all corrections, and confirm it."""
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Remove all").click()
    playwright.expect(page.locator("#corrections li")).to_have_count(0)


def test_two_tabs_keep_the_corrections_of_each_other(browser: Any, server: Server) -> None:
    with opened(browser, server) as one, two_tabs(one) as two:
        for page, title in ((one, "mesa a"), (one, "mesa b"), (two, "mesa c"), (one, "mesa d")):
            type_title(page, title, "TABLES")
            choose(page, "MUGS")
            playwright.expect(page.get_by_text(f"{title}MUGS")).to_be_visible()
        assert stored_titles(one) == ["mesa a", "mesa b", "mesa c", "mesa d"]
        for page in (one, two):
            playwright.expect(page.locator("#corrections li")).to_have_count(4)
        two.get_by_role("button", name="Remove the correction of mesa b").click()
        playwright.expect(one.locator("#corrections li")).to_have_count(3)
        remove_all(two)
        playwright.expect(one.locator("#corrections li")).to_have_count(0)
        choose(one, "LAMPS")
        playwright.expect(two.locator("#corrections li")).to_have_count(1)
        # The other titles are restored, and the new correction stays.
        two.get_by_role("button", name="Undo the removal").click()
        for page in (one, two):
            playwright.expect(page.locator("#corrections li")).to_have_count(3)
            page.reload()
            playwright.expect(page.locator("#corrections li")).to_have_count(3)
        assert stored_titles(two) == ["mesa a", "mesa c", "mesa d"]
        playwright.expect(one.get_by_text("mesa dLAMPS")).to_be_visible()


def test_further_columns_are_folded_away_and_change_the_answer(browser: Any, shop: Server) -> None:
    with opened(browser, shop) as page:
        brand = page.get_by_label("marca")
        playwright.expect(page.get_by_text("More about the product")).to_be_visible()
        playwright.expect(brand).to_be_hidden()
        type_title(page, "mesa", "Mesas")
        page.get_by_text("More about the product").click()
        brand.fill("Silla\n& Cía")
        playwright.expect(page.locator("#first .answer")).to_contain_text("Lámparas")
        playwright.expect(page.locator("#column-words mark")).to_have_text("Silla")
        playwright.expect(page.locator("#column-words dt")).to_have_text("marca")
        playwright.expect(page.locator("#words mark")).to_have_text("mesa")
        playwright.expect(page.locator("#reasons")).to_contain_text("For: Silla. Against: mesa.")
        brand.fill(" ")
        playwright.expect(page.locator("#first .answer")).to_contain_text("Mesas")
        playwright.expect(page.locator("#column-words")).to_be_empty()


def test_a_model_that_reads_only_titles_has_no_further_fields(browser: Any, server: Server) -> None:
    with opened(browser, server) as page:
        type_title(page, "mesa", "TABLES")
        playwright.expect(page.locator("#more")).to_be_hidden()
        playwright.expect(page.locator("#result .leaf")).to_have_count(0)


def test_a_category_is_shown_as_a_path(browser: Any, shop: Server) -> None:
    with opened(browser, shop) as page:
        type_title(page, "lampara", "Lámparas")
        first = page.locator("#first .answer")
        playwright.expect(first).to_contain_text(SHOWN_PATH)
        weights = (
            "element => [element, element.parentElement].map((each) => getComputedStyle(each))"
        )
        weights += ".map((style) => Number(style.fontWeight))"
        leaf, name = first.locator(".leaf").evaluate(weights)
        assert leaf > name
        leaf, name = page.locator("#answers .leaf").first.evaluate(weights)
        assert leaf > name
        playwright.expect(page.locator("#sure")).to_be_hidden()
        # No leaf reaches a probability of 0.5, but one root does.
        type_title(page, "lampara silla mesa", "Mesas")
        playwright.expect(page.locator("#sure")).to_contain_text("Only certain about Muebles: ")
        playwright.expect(page.locator("#doubt")).to_be_hidden()


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
            choose(page, "Sillas")
        page.locator("#category").fill("lámparas")  # the last name of a path is enough
        page.get_by_role("button", name="Save", exact=True).click()
        playwright.expect(page.locator("#corrections li")).to_have_count(3)
        playwright.expect(page.locator("#corrections li").first).to_contain_text(
            f"mesaA, B{SHOWN_PATH}"
        )
        options = page.locator("#categories option").evaluate_all("all => all.map((o) => o.value)")
        assert options == [PATHS[2], PATHS[0], PATHS[1], PATHS[3]]  # sorted by their paths
        file = downloaded(page, tmp_path)
        page.get_by_role("button", name="Remove the correction of mesa").first.click()
        playwright.expect(page.locator("#corrections li")).to_have_count(2)
    rows = read_csv(file)
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
                document.querySelector("#answers .candidate").click();
            }
        }, 100) && undefined"""
        for page, name in ((one, "one"), (two, "two")):
            page.evaluate(start, name)
        for page in (one, two):
            playwright.expect(page.locator("#corrections li")).to_have_count(40)
        expected = {f"{name} {number}" for name in ("one", "two") for number in range(20)}
        assert set(stored_titles(one)) == expected


def test_a_correction_is_stored_if_the_page_is_left_at_once(browser: Any, server: Server) -> None:
    with opened(browser, server) as page:
        type_title(page, "mesa", "TABLES")
        page.evaluate("document.querySelector('#answers .candidate').click(); location.reload()")
        playwright.expect(page.locator("#corrections li")).to_have_count(1)


def test_corrections_that_cannot_be_stored_are_kept_and_stored_later(
    browser: Any, server: Server
) -> None:
    with opened(browser, server) as page, two_tabs(page) as other:
        fill_storage(page)
        for title in ("mesa a", "mesa b"):
            type_title(page, title, "TABLES")
            choose(page, "MUGS")
            playwright.expect(page.locator("#unstored")).to_contain_text("cannot store")
        playwright.expect(page.locator("#corrections li")).to_have_count(2)
        free_storage(page)
        type_title(other, "mesa c", "TABLES")
        choose(other, "MUGS")
        playwright.expect(page.locator("#corrections li")).to_have_count(3)
        type_title(page, "mesa d", "TABLES")
        choose(page, "MUGS")
        playwright.expect(page.locator("#unstored")).to_have_text("")
        playwright.expect(other.locator("#corrections li")).to_have_count(4)


def collected(folder: Path) -> list[list[str]]:
    """Return the titles and categories that the service `collecting` has collected."""
    files = (folder / "corrections").glob("*.csv")
    return [row[:2] for file in files for row in read_csv(file)[1:]]


def test_the_service_collects_corrections_and_forgets_the_undone_ones(
    browser: Any, collecting: Server, tmp_path: Path
) -> None:
    with opened(browser, collecting) as page:
        sent = page.locator("#collected")
        for title in ("mesa a", "mesa b"):
            type_title(page, title, "TABLES")
            choose(page, "MUGS")
        playwright.expect(sent).to_contain_text("All are sent")
        assert collected(tmp_path) == [["mesa a", "MUGS"], ["mesa b", "MUGS"]]
        page.locator("#result .undo").click()
        playwright.expect(page.locator("#corrections li")).to_have_count(1)
        playwright.expect(sent).to_contain_text("All are sent")
        assert collected(tmp_path) == [["mesa a", "MUGS"]]
        page.reload()  # collected corrections are not sent again
        playwright.expect(sent).to_contain_text("All are sent")
        assert collected(tmp_path) == [["mesa a", "MUGS"]]
        remove_all(page)
        page.get_by_role("button", name="Undo the removal").click()
        playwright.expect(sent).to_contain_text("All are sent")
        assert collected(tmp_path) == [["mesa a", "MUGS"]]


def test_a_correction_that_is_undone_while_it_is_sent_is_withdrawn(
    browser: Any, collecting: Server, tmp_path: Path
) -> None:
    with opened(browser, collecting) as page:
        waiting: list[Any] = []
        type_title(page, "mesa", "TABLES")
        page.route("**/corrections", lambda route: waiting.append(route), times=1)
        choose(page, "MUGS")
        page.locator("#result .undo").click()
        playwright.expect(page.locator("#count")).to_have_text("0")
        with page.expect_response(lambda response: response.request.method == "DELETE"):
            waiting[0].continue_()
        assert collected(tmp_path) == []


def test_a_long_list_shows_the_last_corrections(browser: Any, server: Server) -> None:
    with opened(browser, server) as page:
        page.evaluate(
            """() => localStorage.setItem("rubro.corrections", JSON.stringify(
                Array.from({ length: 60 }, (_, number) => ({ title: `mesa ${number}`, category: "TABLES" }))))"""
        )
        page.reload()
        playwright.expect(page.locator("#count")).to_have_text("60")
        playwright.expect(page.locator("#corrections li")).to_have_count(50)
        playwright.expect(page.locator("#corrections li").first).to_contain_text("mesa 59")
        page.get_by_role("button", name="Show all 60").click()
        playwright.expect(page.locator("#corrections li")).to_have_count(60)


def test_corrections_wait_until_the_service_answers(
    browser: Any, collecting: Server, tmp_path: Path
) -> None:
    with opened(browser, collecting, can_fail=True) as page:
        type_title(page, "mesa", "TABLES")
        page.route("**/corrections", lambda route: route.abort())
        choose(page, "MUGS")
        playwright.expect(page.locator("#unsent")).to_have_text("The service does not answer.")
        playwright.expect(page.locator("#collected")).to_contain_text("1 not sent")
        page.unroute("**/corrections")
        page.reload()
        playwright.expect(page.locator("#collected")).to_contain_text("All are sent")
        playwright.expect(page.locator("#send")).to_be_hidden()
        assert collected(tmp_path) == [["mesa", "MUGS"]]


def test_a_refused_correction_does_not_hold_back_the_others(
    browser: Any, model: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "corrections"
    changes = [
        {"title": "old", "columns": {"color": "rojo"}, "category": "MUGS"},
        {"title": "undone", "columns": {"color": "rojo"}, "category": None, "sent": "MUGS"},
        {"title": "mesa", "category": "MUGS"},
    ]
    with running(model, "--corrections", str(folder)) as server, browser.new_context() as context:
        page = context.new_page()
        page.goto(f"http://127.0.0.1:{server.port}")
        page.evaluate(
            """changes => changes.forEach(({ category, sent, ...product }, changed) => localStorage.setItem(
                `rubro.correction.${JSON.stringify(product)}`, JSON.stringify({ ...product, category, sent, changed })))""",
            changes,
        )
        page.reload()
        playwright.expect(page.locator("#unsent")).to_contain_text("color")
        playwright.expect(page.locator("#collected")).to_contain_text("1 not sent")
        assert collected(tmp_path) == [["mesa", "MUGS"]]
        page.get_by_role("button", name="Remove the correction of old").click()
        playwright.expect(page.locator("#collected")).to_contain_text("All are sent")
        playwright.expect(page.locator("#unsent")).to_be_empty()


def test_two_tabs_send_each_correction_once(browser: Any, model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "corrections"
    with running(model, "--corrections", str(folder)) as server, opened(browser, server) as page:
        with two_tabs(page) as other:
            page.evaluate(
                """() => { for (let number = 0; number < 20; number++) localStorage.setItem(
                    `rubro.correction.{"title":"mesa ${number}"}`,
                    JSON.stringify({ title: `mesa ${number}`, category: "MUGS", changed: number }));
                    dispatchEvent(new StorageEvent("storage")); }"""
            )
            tabs = (page, other)
            for tab in tabs:
                playwright.expect(tab.locator("#count")).to_have_text("20")
            for tab in tabs:
                tab.evaluate("() => setTimeout(() => dispatchEvent(new Event('online')), 100)")
            for tab in tabs:
                playwright.expect(tab.locator("#collected")).to_contain_text("All are sent")
        assert collected(tmp_path) == [[f"mesa {number}", "MUGS"] for number in range(20)]


def test_a_column_may_have_the_name_title(browser: Any, tmp_path: Path) -> None:
    columns = [ModelColumn(name="title", max_tokens=10)]
    model = write_model(tmp_path / "model", "nombre", columns=columns)
    folder = tmp_path / "corrections"
    with running(model, "--corrections", str(folder)) as server, opened(browser, server) as page:
        type_title(page, "mesa", "TABLES")
        page.get_by_text("More about the product").click()
        page.get_by_label("title", exact=True).fill("hogar")
        choose(page, "MUGS")
        playwright.expect(page.locator("#collected")).to_contain_text("All are sent")
    (file,) = folder.glob("*.csv")
    assert file.read_text() == "nombre,title,category\nmesa,hogar,MUGS\n"


def test_the_page_is_available_in_spanish(browser: Any, server: Server) -> None:
    with opened(browser, server, locale="es-AR") as page:
        assert page.locator("html").get_attribute("lang") == "es"
        type_title(page, "mesa", "TABLES")
        playwright.expect(page.get_by_label("Título de un producto")).to_be_visible()
        playwright.expect(page.locator("#reasons")).to_contain_text("A favor: mesa.")
        page.get_by_label("Idioma").select_option("en")
        playwright.expect(page.get_by_label("Product title")).to_be_visible()
        page.reload()
        assert page.locator("html").get_attribute("lang") == "en"


def test_the_page_can_be_used_with_the_keyboard(browser: Any, server: Server) -> None:
    focused = "document.activeElement.id"
    with opened(browser, server) as page:
        page.keyboard.type("mesa")
        playwright.expect(page.locator("#words")).to_have_text("mesa")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        playwright.expect(page.locator("#count")).to_have_text("1")
        assert page.evaluate(focused) == "title"
        for _ in range(5):  # undo, three candidates
            page.keyboard.press("Tab")
        page.keyboard.type("mugs")
        page.keyboard.press("Enter")
        playwright.expect(page.locator("#corrections li")).to_contain_text("MUGS")
        page.get_by_role("button", name="Remove the correction of mesa").focus()
        page.keyboard.press("Space")
        playwright.expect(page.locator("#count")).to_have_text("0")
        page.keyboard.press("Enter")  # the button that restores it has the focus
        playwright.expect(page.locator("#count")).to_have_text("1")
        assert page.evaluate(focused) == "corrections-heading"


def test_keys_confirm_choose_undo_and_clear(browser: Any, server: Server) -> None:
    with opened(browser, server) as page:
        title, saved = page.locator("#title"), page.locator("#corrections .corrected")
        type_title(page, "mesa 1", "TABLES")  # digits are typed into the title
        page.keyboard.press("Enter")
        playwright.expect(saved).to_have_text(["TABLES"])
        playwright.expect(page.locator("#first .saved")).to_be_visible()
        page.keyboard.type("silla")  # the title was selected
        playwright.expect(title).to_have_value("silla")
        playwright.expect(page.locator("#first .answer")).to_have_text("CHAIRS")
        for key in ("ArrowDown", "ArrowDown", "ArrowUp", "3"):
            page.keyboard.press(key)
        third = page.locator("#answers li").nth(1)
        playwright.expect(third.locator(".saved")).to_be_visible()
        chosen = third.locator(".candidate > span:not(.bar)").first.inner_text()
        playwright.expect(saved).to_have_text([chosen, "TABLES"])
        playwright.expect(title).to_be_focused()
        page.keyboard.press("Enter")
        playwright.expect(saved).to_have_text(["CHAIRS", "TABLES"])
        page.keyboard.press("ArrowDown")
        page.keyboard.press("u")  # the choice before it is restored
        playwright.expect(saved).to_have_text([chosen, "TABLES"])
        page.keyboard.press("ArrowDown")
        page.keyboard.press("u")
        playwright.expect(saved).to_have_text(["TABLES"])
        page.keyboard.press("Enter")
        playwright.expect(saved).to_have_text(["CHAIRS", "TABLES"])
        page.keyboard.press("Control+z")  # the title is still selected
        playwright.expect(saved).to_have_text(["TABLES"])
        playwright.expect(title).to_have_value("silla")
        page.keyboard.press("Escape")
        playwright.expect(title).to_have_value("")
        playwright.expect(page.locator("#empty")).to_be_visible()


def test_the_list_of_keys_is_shown_and_closed(browser: Any, server: Server) -> None:
    with opened(browser, server) as page:
        type_title(page, "mesa", "TABLES")
        page.locator("#show-keys").click()
        playwright.expect(page.locator("#keys")).to_be_visible()
        page.keyboard.press("1")  # the keys of the page rest
        page.keyboard.press("Escape")
        playwright.expect(page.locator("#keys")).to_be_hidden()
        playwright.expect(page.locator("#title")).to_have_value("mesa")
        playwright.expect(page.locator("#count")).to_have_text("0")
        page.locator("#title").press("ArrowDown")
        page.keyboard.press("?")
        page.locator("#hide-keys").click()
        playwright.expect(page.locator("#keys")).to_be_hidden()
        page.get_by_role("link", name="Queue of titles").click()
        page.keyboard.press("?")
        playwright.expect(page.locator("#keys")).to_be_visible()


def test_a_new_category_is_confirmed_and_similar_names_are_offered(
    browser: Any, server: Server
) -> None:
    with opened(browser, server) as page:
        category, saved = page.locator("#category"), page.locator("#corrections .corrected")
        type_title(page, "mesa", "TABLES")
        category.fill("lampz")
        category.press("Enter")
        playwright.expect(page.locator("#near button")).to_have_text(["LAMPS"])
        playwright.expect(saved).to_have_count(0)
        page.locator("#near button").click()
        playwright.expect(saved).to_have_text(["LAMPS"])
        category.fill("Sofas")
        category.press("Enter")
        playwright.expect(page.locator("#proposal")).to_be_visible()
        playwright.expect(page.locator("#near button")).to_have_count(0)
        playwright.expect(saved).to_have_text(["LAMPS"])
        category.press("Enter")
        playwright.expect(saved).to_have_text(["Sofas"])
        playwright.expect(page.locator("#further .undo")).to_be_visible()
        page.reload()
        type_title(page, "mesa", "TABLES")  # the page shows what was chosen before
        playwright.expect(page.locator("#further")).to_contain_text("Sofas")


def test_the_old_answer_is_dimmed_until_the_new_one_arrives(browser: Any, server: Server) -> None:
    with opened(browser, server) as page:
        type_title(page, "mesa", "TABLES")
        waiting: list[Any] = []
        page.route("**/explain", lambda route: waiting.append(route), times=1)
        page.locator("#title").fill("silla")
        playwright.expect(page.locator("#result")).to_have_css("opacity", "0.5")
        playwright.expect(page.locator("#first .answer")).to_have_text("TABLES")
        page.keyboard.press("Enter")  # it does not save the answer of the old title
        waiting[0].continue_()
        playwright.expect(page.locator("#first .answer")).to_have_text("CHAIRS")
        playwright.expect(page.locator("#result")).to_have_css("opacity", "1")
        playwright.expect(page.locator("#count")).to_have_text("0")


def test_small_probabilities_are_not_shown_as_zero(browser: Any, server: Server) -> None:
    with opened(browser, server) as page:
        shares = page.evaluate(
            """import("/language.js").then(({ percent }) =>
                [0, 0.0004, 0.0006, 0.5, 0.9994, 0.9996, 1].map(percent))"""
        )
    assert shares == ["<0.1%", "<0.1%", "0.1%", "50%", "99.9%", ">99.9%", "100%"]


def test_an_answer_below_the_threshold_names_the_threshold(browser: Any, server: Server) -> None:
    with opened(browser, server) as page:
        type_title(page, "silla taza lampara", "CHAIRS")
        playwright.expect(page.locator("#doubt")).to_contain_text("50% threshold")
        type_title(page, "mesa", "TABLES")
        playwright.expect(page.locator("#doubt")).to_be_hidden()


def test_the_thresholds_of_the_service_decide_which_answers_are_accepted(
    browser: Any, model: Path, tmp_path: Path
) -> None:
    write_thresholds(tmp_path / "thresholds.json", model, [0.2, 0.99, None, 0.2])
    options = ["--thresholds", str(tmp_path / "thresholds.json")]
    with running(model, *options) as server, opened(browser, server) as page:
        doubt = page.locator("#doubt")
        playwright.expect(page.locator("#model")).to_contain_text("precision 90%")
        type_title(page, "silla", "CHAIRS")
        playwright.expect(doubt).to_contain_text("99% threshold")
        type_title(page, "lampara", "LAMPS")
        playwright.expect(doubt).to_contain_text("No confidence")
        type_title(page, "taza de otras cosas", "MUGS")
        playwright.expect(doubt).to_contain_text("most words")
        type_title(page, "mesa silla lampara", "TABLES")  # less than half, but more than 20 %
        playwright.expect(doubt).to_be_hidden()


def test_the_empty_page_describes_the_model_and_offers_its_titles(
    browser: Any, server: Server, titled_model: Path
) -> None:
    with opened(browser, server) as page:
        playwright.expect(page.locator("#model")).to_contain_text("4 categories")
        playwright.expect(page.locator("#model")).to_contain_text(str(date.today().year))
        playwright.expect(page.locator("#try")).to_be_hidden()
        playwright.expect(page.locator("#list")).to_be_hidden()
        assert page.request.get(page.locator("footer a").evaluate("a => a.href")).ok
    with running(titled_model) as titled, opened(browser, titled) as page:
        offered = page.locator("#examples button")
        playwright.expect(offered).to_have_text(["mesa blanca", "silla alta"])
        page.get_by_role("button", name="silla alta").click()
        playwright.expect(page.locator("#first .answer")).to_have_text("CHAIRS")
        playwright.expect(page.locator("#empty")).to_be_hidden()


def test_a_failed_request_can_be_retried(browser: Any, server: Server) -> None:
    with opened(browser, server, can_fail=True) as page:
        page.context.set_offline(True)
        page.keyboard.type("mesa")
        playwright.expect(page.locator("#failure")).to_have_text("The service does not answer.")
        playwright.expect(page.locator("#result")).to_be_hidden()
        page.context.set_offline(False)
        page.locator("#retry").click()
        playwright.expect(page.locator("#first .answer")).to_have_text("TABLES")
        playwright.expect(page.locator("#failure")).to_have_text("")
        playwright.expect(page.locator("#retry")).to_be_hidden()


@LAYOUTS
def test_axe_finds_no_violation(browser: Any, server: Server, layout: dict[str, Any]) -> None:
    with opened(browser, server, **layout) as page:
        assert_accessible(page)
        type_title(page, "Taza para mesa " + "x" * 300, "TABLES")
        choose(page, "CHAIRS")
        page.locator("#category").fill("x" * 100)
        page.locator("#category").press("Enter")
        assert_accessible(page)


@pytest.mark.parametrize("locale", ["en-GB", "es-AR"])
@LAYOUTS
def test_axe_finds_no_violation_with_columns_and_paths(
    browser: Any, shop: Server, layout: dict[str, Any], locale: str
) -> None:
    with opened(browser, shop, locale=locale, **layout) as page:
        type_title(page, "Lampara silla mesa", "Mesas")
        page.locator("#more summary").click()
        page.get_by_label("marca").fill("Silla " + "x" * 300)
        playwright.expect(page.locator("#column-words mark")).to_have_text("Silla")
        page.locator("#answers button").first.click()
        page.locator("#show-keys").click()
        assert_accessible(page)
