"""Test the view of files of titles in a browser: decisions, keys, storage, downloads and accessibility."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from rubro.data.raw_titles import CORRECTIONS, read_titles
from rubro.prediction.folder import Model
from support.chromium import LAYOUTS, NEEDS_CHROMIUM, assert_accessible
from support.keyword_model import PATHS, assert_refused, called, write_model
from support.service_page import (
    HOSTILE,
    downloaded,
    drop,
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

AUDIT = [
    *("file", "line", "title", "marca", "label", "suggested_category", "confidence"),
    *("label_confidence", "words", "accept"),
]
SUGGESTIONS = [f"suggestion_{place}" for place in range(1, 6)]
NEXT = ["title", "marca", "category", *SUGGESTIONS, "confidence"]
Row = Sequence[str]


def write_csv(file: Path, rows: Sequence[Row]) -> Path:
    with file.open("w", encoding="utf-8", newline="") as output:
        csv.writer(output).writerows(rows)
    return file


def suspects(count: int, label: str = "CHAIRS", suggested: str = "TABLES") -> list[Row]:
    """Return an audit file whose titles are numbered."""
    shares = ["0.93", "0.021", "mesa", ""]
    rows = [
        ["shop.csv", str(number + 2), f"Mesa ratona {number}", "Acme", label, suggested, *shares]
        for number in range(count)
    ]
    return [AUDIT, *rows]


def titles(count: int, suggestions: Row = ("TABLES", "MUGS", "LAMPS", "CHAIRS", "")) -> list[Row]:
    """Return a labelling file whose titles are numbered."""
    rows = [[f"Mesa {number}", "Acme", "", *suggestions, "0.4"] for number in range(count)]
    return [NEXT, *rows]


def open_file(page: Any, file: Path, title: str | None) -> None:
    """Open a file in the view of files, and wait for the title that is shown first; None = no title."""
    if not page.url.endswith("#queue"):
        page.get_by_role("link", name="Queue of titles").click()
        playwright.expect(page.locator("#queue")).to_be_focused()
    page.locator("#queue-file").set_input_files(file)
    if title is not None:
        playwright.expect(page.locator("#card-title")).to_have_text(title)


def press(page: Any, keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def search(page: Any, typed: str) -> None:
    """Type into the field for another category."""
    page.keyboard.press("/")
    page.keyboard.type(typed)


def expect_progress(page: Any, text: str) -> None:
    playwright.expect(page.locator("#queue-progress")).to_have_text(text)


def test_suspects_are_kept_and_changed_with_keys(
    browser: Any, server: Server, tmp_path: Path
) -> None:
    rows = suspects(200)
    file = write_csv(tmp_path / "suspects.csv", rows)
    with opened(browser, server) as page:
        open_file(page, file, "Mesa ratona 0")
        expect_progress(page, "0 of 200")
        playwright.expect(page.locator("#card-title mark")).to_have_text(["Mesa"])
        for text in ("CHAIRS", "TABLES", "93%", "2.1%", "Words for the suggestion: mesa"):
            playwright.expect(page.locator("#card").get_by_text(text)).to_be_visible()
        keep, change = (page.locator(f"#{name}").bounding_box() for name in ("keep", "change"))
        assert keep["x"] + keep["width"] < change["x"]
        assert keep["y"] == change["y"]
        playwright.expect(page.get_by_text("Acme")).to_be_hidden()
        page.get_by_text("Further columns").click()
        playwright.expect(page.get_by_text("Acme")).to_be_visible()
        press(page, "kcsC")
        search(page, "mugs\n")  # keys do not decide while the user types
        expect_progress(page, "4 of 200, 1 skipped")
        press(page, "kk")
        page.keyboard.press("Control+z")
        press(page, "u")
        playwright.expect(page.locator("#card-title")).to_have_text("Mesa ratona 5")
        expect_progress(page, "4 of 200, 1 skipped")
        found = read_csv(written := downloaded(page, tmp_path))
    assert written.name == "corrections-suspects.csv"
    assert written.read_bytes().count(b"\r\n") == 201
    expected = ["no", "yes", "", "yes", "MUGS", *[""] * 195]
    assert found == [
        AUDIT,
        *([*row[:-1], value] for row, value in zip(rows[1:], expected, strict=True)),
    ]


def test_titles_are_labelled_with_keys(browser: Any, server: Server, tmp_path: Path) -> None:
    file = write_csv(tmp_path / "next.csv", rows := titles(9))
    with opened(browser, server) as page:
        open_file(page, file, "Mesa 0")
        playwright.expect(page.locator("#card-choices button")).to_have_count(4)
        playwright.expect(page.locator("#card-choices button").first).to_contain_text("40%")
        press(page, "12s5")  # there are only four suggestions
        playwright.expect(page.locator("#card-title")).to_have_text("Mesa 3")
        search(page, "Desks\n")
        playwright.expect(page.get_by_role("alert")).to_contain_text("Desks is a new category")
        expect_progress(page, "2 of 9, 1 skipped")
        page.keyboard.press("Enter")
        search(page, "desks\n")  # now it is a known category
        playwright.expect(page.get_by_role("alert")).to_have_text("")
        press(page, "34")
        page.locator("#card-choices button").nth(3).click()
        press(page, "1")
        playwright.expect(page.locator("#queue-done")).to_contain_text("1 skipped")
        page.get_by_role("button", name="Show the skipped titles again").click()
        playwright.expect(page.locator("#card-title")).to_have_text("Mesa 2")
        press(page, "1")
        playwright.expect(page.locator("#queue-done")).to_be_visible()
        expect_progress(page, "9 of 9")
        found = read_csv(downloaded(page, tmp_path))
    labels = ["TABLES", "MUGS", "TABLES", "Desks", "Desks", "LAMPS", "CHAIRS", "CHAIRS", "TABLES"]
    assert found == [
        NEXT,
        *([*row[:2], label, *row[3:]] for row, label in zip(rows[1:], labels, strict=True)),
    ]


def test_downloads_are_read_by_the_pipeline(
    browser: Any, server: Server, tmp_path: Path, make_params: Any
) -> None:
    shares = ["0.9", "0.1", "Mesa, bt", ""]
    names = ["mesa X250Bt", '=1+1 "x", y', "mesa c", "mesa d", "mesa e"]
    rows = [["shop.csv", "2", name, "Acme", "CHAIRS", "TABLES", *shares] for name in names]
    labelled = [NEXT, ["Mesa f", "", "", "MUGS", *[""] * 5], ["Mesa g", "", "", "MUGS", *[""] * 5]]
    (folder := tmp_path / "corrections").mkdir()
    with opened(browser, server) as page:
        open_file(page, write_csv(tmp_path / "suspects.csv", [AUDIT, *rows]), names[0])
        playwright.expect(page.locator("#card-title mark")).to_have_text(["mesa", "Bt"])
        press(page, "kcs")
        search(page, "lamps\n")
        downloaded(page, folder)
        open_file(page, write_csv(tmp_path / "next.csv", labelled), "Mesa f")
        press(page, "1s")
        downloaded(page, folder)
    table = read_titles(make_params({"data.corrections": str(folder)}).data, "spanish").table
    corrections = table[table["split"] == CORRECTIONS]
    assert corrections[["title", "category"]].to_numpy().tolist() == [
        ["Mesa f", "MUGS"],
        [names[0], "CHAIRS"],
        [names[1], "TABLES"],
        [names[3], "LAMPS"],
    ]


def test_decisions_are_stored_for_the_content_of_the_file(
    browser: Any, server: Server, tmp_path: Path
) -> None:
    file = write_csv(tmp_path / "suspects.csv", suspects(5))
    other = write_csv(tmp_path / "other.csv", suspects(6))
    with opened(browser, server) as page:
        open_file(page, file, "Mesa ratona 0")
        press(page, "kcs")
        page.reload()
        playwright.expect(page.locator("#card-title")).to_have_text("Mesa ratona 3")
        expect_progress(page, "2 of 5, 1 skipped")
        press(page, "u")  # also a decision before the reload can be undone
        expect_progress(page, "2 of 5")
        page.get_by_role("button", name="Close the file").click()
        assert page.evaluate("document.activeElement.id") == "queue-file"
        open_file(page, other, "Mesa ratona 0")
        expect_progress(page, "0 of 6")
        page.get_by_role("button", name="Close the file").click()
        open_file(page, file.rename(tmp_path / "renamed.csv"), "Mesa ratona 2")
        expect_progress(page, "2 of 5")
        page.once("dialog", lambda dialog: dialog.accept())
        page.get_by_role("button", name="Remove my decisions").click()
        expect_progress(page, "0 of 5")
        assert page.evaluate("Object.keys(localStorage).length") == 0


def test_decisions_in_the_file_are_kept(browser: Any, server: Server, tmp_path: Path) -> None:
    rows = [*suspects(5)]
    for row, value in zip(rows[1:], ["Sí", "", "0", "MUGS", ""], strict=True):
        row[-1] = value  # type: ignore[index]
    file = write_csv(tmp_path / "suspects.csv", rows)
    with opened(browser, server) as page:
        open_file(page, file, "Mesa ratona 1")
        expect_progress(page, "3 of 5")
        press(page, "c")
        playwright.expect(page.locator("#card-title")).to_have_text("Mesa ratona 4")
        found = read_csv(downloaded(page, tmp_path))
    assert [row[-1] for row in found[1:]] == ["Sí", "yes", "0", "MUGS", ""]


def test_two_tabs_keep_the_decisions_of_each_other(
    browser: Any, server: Server, tmp_path: Path
) -> None:
    file = write_csv(tmp_path / "next.csv", titles(9))
    with opened(browser, server) as one, two_tabs(one) as two:
        for page in (one, two):
            open_file(page, file, "Mesa 0")
        press(one, "12")
        expect_progress(two, "2 of 9")
        playwright.expect(two.get_by_text("Decided before: TABLES")).to_be_visible()
        press(two, "s")  # the second tab now shows the third title
        press(two, "3")
        expect_progress(one, "2 of 9, 1 skipped")
        press(one, "u")  # its own last decision
        expect_progress(two, "1 of 9, 1 skipped")
        playwright.expect(one.locator("#card-title")).to_have_text("Mesa 1")
        press(one, "u")  # the other tab has changed the decision before it
        playwright.expect(one.locator("#undo")).to_be_disabled()
        for page in (one, two):
            expect_progress(page, "1 of 9, 1 skipped")
        rows = read_csv(downloaded(two, tmp_path))
        assert rows == read_csv(downloaded(one, tmp_path))
    assert [row[2] for row in rows[1:]] == ["", "", "LAMPS", *[""] * 6]


def test_a_decision_that_another_tab_takes_back_is_open_again(
    browser: Any, server: Server, tmp_path: Path
) -> None:
    file = write_csv(tmp_path / "next.csv", titles(1))
    with opened(browser, server) as one, two_tabs(one) as two:
        open_file(one, file, "Mesa 0")
        press(one, "1")
        playwright.expect(one.locator("#queue-done")).to_be_visible()
        open_file(two, file, None)
        playwright.expect(two.locator("#queue-done")).to_be_visible()
        press(one, "u")
        playwright.expect(two.locator("#card-title")).to_have_text("Mesa 0")


def test_the_model_suggests_categories_if_the_file_does_not(
    browser: Any, shop: Server, tmp_path: Path
) -> None:
    rows = [["marca", "nombre"], ["Silla", "mesa"], ["", "mesa"], ["", ""], ["", "taza"]]
    with opened(browser, shop) as page:
        open_file(page, write_csv(tmp_path / "new.csv", rows), "mesa")
        choices = page.locator("#card-choices button")
        playwright.expect(choices.first).to_contain_text("Lámparas")  # because of the brand
        press(page, "1")
        playwright.expect(choices.first).to_contain_text("Mesas")
        playwright.expect(page.get_by_role("status")).to_contain_text("1 Muebles \u203a Mesas")
        press(page, "1")
        playwright.expect(page.get_by_role("alert")).to_contain_text("empty")
        press(page, "s")
        playwright.expect(choices.first).to_contain_text("Vajilla")
        playwright.expect(page.get_by_role("alert")).to_have_text("")
        search(page, "lamparas\n")  # the last name of the path, without its accent
        expect_progress(page, "3 of 4, 1 skipped")
        found = read_csv(downloaded(page, tmp_path))
    labels = ["category", PATHS[2], PATHS[0], "", PATHS[2]]
    assert found == [[*row, label] for row, label in zip(rows, labels, strict=True)]


def test_a_service_that_does_not_answer_does_not_stop_the_labelling(
    browser: Any, server: Server, tmp_path: Path
) -> None:
    file = write_csv(tmp_path / "new.csv", [["title"], ["mesa"], ["silla"]])
    with opened(browser, server, can_fail=True) as page:
        playwright.expect(page.locator("#categories option")).to_have_count(4)
        page.context.set_offline(True)
        open_file(page, file, "mesa")
        playwright.expect(page.get_by_role("alert")).to_have_text("The service does not answer.")
        search(page, "tables\n")
        expect_progress(page, "1 of 2")
        page.context.set_offline(False)
        press(page, "u")
        playwright.expect(page.locator("#card-choices button").first).to_contain_text("TABLES")


def test_a_large_file_is_stored_as_it_is_decided(
    browser: Any, server: Server, tmp_path: Path
) -> None:
    file = write_csv(tmp_path / "suspects.csv", suspects(10_000))
    with opened(browser, server) as page:
        open_file(page, file, "Mesa ratona 0")
        page.evaluate(
            """() => {
                for (let row = 0; row < 9990; row++) document.querySelector("#change").click();
            }"""
        )
        press(page, "ks")
        expect_progress(page, "9991 of 10000, 1 skipped")
        page.reload()
        expect_progress(page, "9991 of 10000, 1 skipped")
        accepted = [row[-1] for row in read_csv(downloaded(page, tmp_path))[1:]]
        with two_tabs(page) as other:
            open_file(other, file, "Mesa ratona 9992")
            page.once("dialog", lambda dialog: dialog.accept())
            page.get_by_role("button", name="Remove my decisions").click()
            expect_progress(other, "0 of 10000")
    assert accepted == ["yes"] * 9990 + ["no"] + [""] * 9


def test_decisions_that_cannot_be_stored_are_kept_and_stored_later(
    browser: Any, server: Server, tmp_path: Path
) -> None:
    file = write_csv(tmp_path / "suspects.csv", suspects(4))
    with opened(browser, server) as page:
        open_file(page, file, "Mesa ratona 0")
        fill_storage(page)
        press(page, "kc")
        playwright.expect(page.get_by_role("alert")).to_contain_text("cannot store")
        expect_progress(page, "2 of 4")
        free_storage(page)
        press(page, "c")
        playwright.expect(page.get_by_role("alert")).to_have_text("")
        page.reload()
        expect_progress(page, "3 of 4")


@pytest.mark.parametrize(
    ("content", "facts"),
    [
        (b"", ["empty"]),
        (b"\r\n \r\n", ["empty"]),
        (b"title,category\r\n", ["title, category"]),
        (b"name,price\nmesa,5\n", ["column title", "name, price"]),
        (b"title,label,accept\nmesa,TABLES,\n", ["column suggested_category", "label, accept"]),
        ("title\nlámpara\n".encode("latin-1"), ["UTF-8"]),
        ("title\nlámpara\n".encode("utf-16"), ["UTF-8"]),
        (b"PK\x03\x04\x14\x00\x06\x00\x9c\xff", ["UTF-8"]),
        (b'title,category\nmesa,\n"silla,\n', ["Line 3", "never closed"]),
        (b'title,category\n"mesa" ratona,\n', ["Line 2", "closing quote"]),
        (b"title,category\nmesa, ratona, de pino\n", ["Row 2", "3 fields", "2 columns"]),
        (b"title\n" + b"x" * 2**26, ["64 MiB"]),
    ],
)
def test_files_that_cannot_be_used_are_reported(
    browser: Any, server: Server, tmp_path: Path, content: bytes, facts: list[str]
) -> None:
    (file := tmp_path / "bad.csv").write_bytes(content)
    with opened(browser, server) as page:
        open_file(page, file, None)
        for fact in ("bad.csv", *facts):
            playwright.expect(page.get_by_role("alert")).to_contain_text(fact)
        playwright.expect(page.locator("#card")).to_be_hidden()
        open_file(page, write_csv(file, suspects(1)), "Mesa ratona 0")
        playwright.expect(page.get_by_role("alert")).to_have_text("")


def test_files_of_spreadsheets_are_read(browser: Any, server: Server, tmp_path: Path) -> None:
    content = '\ufefftitle ;category;note\r"a ""b"";\r\nc";;x\r\r\n=1+1\r'
    (file := tmp_path / "next.csv").write_bytes(content.encode())
    with opened(browser, server) as page:
        open_file(page, file, None)
        playwright.expect(page.locator("#card-choices button")).to_have_count(4)
        press(page, "1")
        playwright.expect(page.locator("#card-title")).to_have_text("=1+1")
        found = read_csv(downloaded(page, tmp_path))
    assert found[1:] == [['a "b";\r\nc', "TABLES", "x"], ["=1+1", "", ""]]


def test_titles_and_categories_are_text(browser: Any, server: Server, tmp_path: Path) -> None:
    rows = [NEXT, [HOSTILE, HOSTILE, "", HOSTILE, *[""] * 5]]
    with opened(browser, server) as page:
        open_file(page, write_csv(tmp_path / "next.csv", rows), HOSTILE)
        press(page, "1")
        expect_progress(page, "1 of 1")
        assert page.locator("img").count() == 0
        assert page.title() == "rubro"
        assert read_csv(downloaded(page, tmp_path))[1][2] == HOSTILE


def test_categories_that_the_model_does_not_know_are_reported(
    browser: Any, server: Server, tmp_path: Path
) -> None:
    file = write_csv(tmp_path / "suspects.csv", suspects(2, label="No"))
    with opened(browser, server) as page:
        open_file(page, file, "Mesa ratona 0")
        playwright.expect(page.get_by_text("does not know these categories: No.")).to_be_visible()
        search(page, "nowhere")
        for _ in range(2):  # a suspect gets a category that exists
            page.keyboard.press("Enter")
        playwright.expect(page.get_by_role("alert")).to_contain_text("nowhere is not a known")
        expect_progress(page, "0 of 2")


def test_a_category_that_means_yes_or_no_is_chosen(
    browser: Any, server: Server, tmp_path: Path
) -> None:
    rows = suspects(2)
    rows[2][4] = "No"  # type: ignore[index]
    with opened(browser, server) as page:
        open_file(page, write_csv(tmp_path / "suspects.csv", rows), "Mesa ratona 0")
        for _ in range(2):
            search(page, "No\n")
        expect_progress(page, "2 of 2")
        found = read_csv(downloaded(page, tmp_path))
    assert [(row[4], row[5], row[-1]) for row in found[1:]] == [
        ("CHAIRS", "No", "yes"),
        ("No", "TABLES", "no"),
    ]


def test_the_view_can_be_used_with_the_keyboard(
    browser: Any, server: Server, tmp_path: Path
) -> None:
    file = write_csv(tmp_path / "suspects.csv", suspects(60))
    with opened(browser, server) as page:
        open_file(page, file, "Mesa ratona 0")
        focused = "document.activeElement.id"
        assert page.evaluate(focused) == "queue"
        outline = "getComputedStyle(document.activeElement).outlineStyle"
        press(page, "k")
        assert page.evaluate(outline) == "solid"
        page.keyboard.press("Tab")  # the further columns
        page.keyboard.press("Tab")
        assert page.evaluate(focused) == "keep"
        page.keyboard.press("Enter")
        page.keyboard.press("Space")
        assert page.evaluate(focused) == "keep"
        expect_progress(page, "3 of 60")
        page.keyboard.down("c")
        page.keyboard.down("c")  # a key that is held down decides only once
        page.keyboard.up("c")
        expect_progress(page, "4 of 60")
        page.keyboard.press("Control+c")
        search(page, "ksu")
        page.keyboard.press("Escape")
        assert page.evaluate(focused) == "queue"
        status = page.get_by_role("status")
        for text in ("Mesa ratona 4", "Current label: CHAIRS", "4 of 60", "TABLES"):
            playwright.expect(status).to_contain_text(text)
        assert max(status.bounding_box()[side] for side in ("width", "height")) <= 1
        page.get_by_role("link", name="One title").click()
        playwright.expect(page.locator("#title")).to_be_focused()
        press(page, "c")  # the title is typed
        playwright.expect(page.locator("#title")).to_have_value("c")
        page.go_back()
        playwright.expect(page.locator("#queue")).to_be_focused()
        press(page, "c")
        expect_progress(page, "5 of 60")


def test_the_view_is_available_in_spanish(browser: Any, server: Server, tmp_path: Path) -> None:
    file = write_csv(tmp_path / "suspects.csv", suspects(3))
    with opened(browser, server, locale="es-AR") as page:
        page.get_by_role("link", name="Lista de títulos").click()
        open_file(page, file, "Mesa ratona 0")
        press(page, "ks")
        expect_progress(page, "1 de 3, 1 saltado")
        playwright.expect(page.get_by_text("Categoría actual", exact=True)).to_be_visible()
        page.get_by_label("Idioma").select_option("en")
        expect_progress(page, "1 of 3, 1 skipped")


def test_a_file_can_be_dropped(browser: Any, server: Server) -> None:
    with opened(browser, server) as page:
        page.get_by_role("link", name="Queue of titles").click()
        drop(page, "dropped.csv", "title\nmesa\n")
        playwright.expect(page.locator("#card-title")).to_have_text("mesa")
        playwright.expect(page.locator("#card-choices button").first).to_contain_text("TABLES")


def test_the_service_can_open_a_file(browser: Any, model: Path, tmp_path: Path) -> None:
    file = write_csv(tmp_path / "año 1.csv", suspects(2))
    with running(model, "--queue", str(file)) as server, opened(browser, server) as page:
        playwright.expect(page.locator("#card-title")).to_have_text("Mesa ratona 0")
        press(page, "k")
        assert downloaded(page, tmp_path).name == "corrections-año 1.csv"
        with two_tabs(page) as other:
            expect_progress(other, "1 of 2")


def test_a_file_that_does_not_exist_is_refused(model: Path, tmp_path: Path) -> None:
    done = called(tmp_path, "serve", "--model", str(model), "--port", "0", "--queue", "absent.csv")
    assert_refused(done, "absent.csv")


@pytest.mark.parametrize("kind", ["suspects", "next"])
@LAYOUTS
def test_axe_finds_no_violation(
    browser: Any, shop: Server, tmp_path: Path, layout: dict[str, Any], kind: str
) -> None:
    rows = suspects(2, *PATHS[1:3]) if kind == "suspects" else titles(2, [*PATHS, "x" * 300])
    rows = [*rows, *rows[1:]]
    file = write_csv(tmp_path / f"{kind}.csv", rows)
    locale = "es-AR" if layout["viewport"]["width"] == 390 else "en-GB"
    with opened(browser, shop, locale=locale, **layout) as page:
        page.goto(f"{page.url}#queue")
        for keys in ("", "1ck", "12sk/Desks\n"):
            if keys == "1ck":
                open_file(page, file, rows[1][2 if kind == "suspects" else 0])
                page.locator("#card-more summary").click()
            for key in keys:
                page.keyboard.press("Enter" if key == "\n" else key)
            assert_accessible(page)


def test_a_file_with_a_column_for_each_level_of_the_paths_is_filled_in(
    browser: Any, shop_model: Path, tmp_path: Path
) -> None:
    model = Model.load(shop_model)
    levels = ["rubro", "familia", "tipo"]
    text = model.description.text.model_copy(update={"category_column": levels})
    folder = tmp_path / "model"
    description = model.description.model_copy(update={"text": text})
    Model(description, model.vocabulary, model.tensors).save(folder)
    rows = [["nombre", *levels, "label"], *(["mesa", "", "", "", "x"] for _ in range(3))]
    rows.append(["taza", "Vajilla", "", "", "x"])
    file = write_csv(tmp_path / "next.csv", rows)
    with running(folder) as server, opened(browser, server) as page:
        open_file(page, file, "mesa")
        playwright.expect(page.locator("#card-choices button").first).to_contain_text("Mesas")
        expect_progress(page, "1 of 4")
        assert page.locator("#card-columns dt").all_text_contents() == ["label"]
        press(page, "1")
        search(page, "Lámparas\n")
        search(page, "Muebles > Camas\n\n")
        expect_progress(page, "4 of 4")
        found = read_csv(downloaded(page, tmp_path))
    assert [row[1:4] for row in found[1:]] == [
        ["Muebles", "Mesas", ""],
        ["Luz", "Techo", "Lámparas"],
        ["Muebles", "Camas", ""],
        ["Vajilla", "", ""],
    ]


def test_skipped_titles_are_shown_once_more(browser: Any, server: Server, tmp_path: Path) -> None:
    file = write_csv(tmp_path / "next.csv", titles(4))
    with opened(browser, server) as page:
        open_file(page, file, "Mesa 0")
        press(page, "s1ss")
        page.get_by_role("button", name="Show the skipped titles again").click()
        for key, title in (("1", 0), ("s", 2), ("2", 3)):
            playwright.expect(page.locator("#card-title")).to_have_text(f"Mesa {title}")
            press(page, key)
        playwright.expect(page.locator("#queue-done")).to_contain_text("1 skipped")
        assert page.evaluate("document.activeElement.id") == "queue"
        press(page, "u")
        playwright.expect(page.locator("#card-title")).to_have_text("Mesa 3")
        press(page, "3")
        expect_progress(page, "3 of 4, 1 skipped")


def test_a_title_column_with_another_name_is_found(browser: Any, tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", title_column="nombre")
    file = write_csv(tmp_path / "next.csv", [["nombre", "category"], ["mesa", ""]])
    with running(folder) as server, opened(browser, server) as page:
        open_file(page, file, "mesa")
