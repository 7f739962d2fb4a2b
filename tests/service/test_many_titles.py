"""Test the view of many titles in a browser: files, answers, corrections, refused requests and accessibility."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from support.chromium import LAYOUTS, NEEDS_CHROMIUM, assert_accessible
from support.keyword_model import called
from support.service_page import HOSTILE, downloaded, drop, opened, read_csv, two_tabs
from support.serving import Server

playwright = pytest.importorskip("playwright.sync_api")
pytest_plugins = ["support.chromium", "support.keyword_model", "support.serving"]
pytestmark = [pytest.mark.slow, NEEDS_CHROMIUM]
KEYWORDS = {"mesa": "TABLES", "silla": "CHAIRS", "lampara": "LAMPS", "taza": "MUGS"}
PASTE = """([id, content]) => {
    const clipboardData = new DataTransfer();
    clipboardData.setData("text/plain", content);
    const event = new ClipboardEvent("paste", {clipboardData, bubbles: true, cancelable: true});
    document.getElementById(id).dispatchEvent(event);
}"""


def paste(page: Any, content: str, field: str = "title") -> None:
    page.evaluate(PASTE, [field, content])


def wait_until_answered(page: Any) -> None:
    playwright.expect(page.locator("#batch-work")).to_be_visible()
    playwright.expect(page.locator("#batch-bar")).to_be_hidden()


def shown_rows(page: Any) -> list[str]:
    """Return the numbers of the rows in the document, in its order."""
    numbers: list[str] = page.locator("#batch-rows .number").all_inner_texts()
    return numbers


def row(page: Any, title: str) -> Any:
    return page.locator("#batch-rows tr").filter(has_text=title)


def answers_in(file: Path) -> list[dict[str, str]]:
    """Return the rows of a csv file by the names of their columns."""
    header, *rows = read_csv(file)
    return [dict(zip(header, row, strict=True)) for row in rows]


def assert_same_answers(found: list[dict[str, str]], expected: list[dict[str, str]]) -> None:
    assert [*found[0]] == [*expected[0]]
    for each in (*found, *expected):
        each["confidence"] = each["confidence"] and f"{float(each['confidence']):.6f}"
    assert found == expected


def test_pasted_lines_are_answered_as_rubro_predict_answers_them(
    browser: Any, server: Server, model: Path, tmp_path: Path
) -> None:
    lines = ["Mesa ratona", "silla", "", "nada de nada", HOSTILE, "=taza+1", "lampara mesa"]
    with opened(browser, server) as page:
        paste(page, "\r\n".join(lines) + "\r\n\r\n")
        wait_until_answered(page)
        assert shown_rows(page) == [str(number + 1) for number in range(len(lines))]
        playwright.expect(row(page, "Mesa ratona")).to_contain_text("TABLES")
        playwright.expect(row(page, "nada de nada")).to_contain_text("elow the 50% threshold")
        playwright.expect(page.locator("#batch-errors")).to_contain_text("1")
        page.reload()  # the rows are answered again
        wait_until_answered(page)
        assert page.locator("img").count() == 0
        file = downloaded(page, tmp_path)
    (tmp_path / "lines.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    arguments = ["--model", str(model), "--min-confidence", "0.5", "-o", "expected.csv"]
    called(tmp_path, "predict", *arguments, "lines.txt")
    assert_same_answers(answers_in(file), answers_in(tmp_path / "expected.csv"))


def test_bad_titles_are_counted_and_kept(browser: Any, server: Server, tmp_path: Path) -> None:
    lines = ["mesa", " ", "x" * 1001, "silla"]
    with opened(browser, server) as page:
        page.get_by_role("link", name="Many titles").click()
        playwright.expect(page.locator("#batch-text")).to_be_focused()
        page.get_by_role("button", name="Find the categories").click()
        playwright.expect(page.get_by_role("alert")).to_contain_text("no title")
        page.locator("#batch-text").fill("\n".join(lines))
        page.get_by_role("button", name="Find the categories").click()
        wait_until_answered(page)
        playwright.expect(page.get_by_role("alert")).to_have_text("")
        playwright.expect(page.locator("#batch-progress")).to_contain_text("2 answered")
        page.get_by_label("Without an answer (2)").check()
        assert shown_rows(page) == ["2", "3"]
        found = answers_in(downloaded(page, tmp_path))
        page.get_by_role("button", name="Close").click()
        playwright.expect(page.locator("#batch-text")).to_be_focused()
    assert [each["title"] for each in found] == lines
    assert [each["predicted_category"] for each in found] == ["TABLES", "", "", "CHAIRS"]
    assert [bool(each["error"]) for each in found] == [False, True, True, False]


def test_rows_are_sorted_and_filtered(browser: Any, server: Server) -> None:
    titles = ["silla", "mesa silla", "mesa", "", "nada"]
    with opened(browser, server) as page:
        paste(page, "\n".join(titles))
        wait_until_answered(page)
        header = page.get_by_role("columnheader", name="Confidence")
        page.get_by_role("button", name="Confidence").click()
        assert header.get_attribute("aria-sort") == "ascending"
        shares = [text for text in page.locator("#batch-rows .share").all_inner_texts() if text]
        numbers = [float(share.rstrip("%")) for share in shares]
        assert numbers == sorted(numbers)
        assert shown_rows(page)[0] == "4"  # a row without an answer needs attention
        up = shown_rows(page)
        page.get_by_role("button", name="Confidence").click()
        assert header.get_attribute("aria-sort") == "descending"
        assert shown_rows(page) == up[::-1]
        page.get_by_label("Below the threshold").check()
        assert shown_rows(page) == ["5"]
        page.get_by_label("All").check()
        page.get_by_role("button", name="Row").click()
        assert shown_rows(page) == ["1", "2", "3", "4", "5"]


def test_answers_are_confirmed_and_changed(browser: Any, server: Server, tmp_path: Path) -> None:
    titles = ["mesa a", "mesa b", "mesa c", "mesa d"]
    with opened(browser, server) as page:
        paste(page, "\n".join(titles))
        wait_until_answered(page)
        row(page, "mesa a").get_by_role("button", name="Correct").click()
        playwright.expect(row(page, "mesa a")).to_contain_text("Saved")
        # The focus stays on the button, and the arrow keys move it to other rows.
        for key in ("ArrowDown", "Enter", "ArrowDown", "Enter"):
            page.keyboard.press(key)
        playwright.expect(row(page, "mesa c")).to_contain_text("Saved")
        row(page, "mesa c").get_by_role("button", name="Undo").click()
        playwright.expect(row(page, "mesa c")).not_to_contain_text("Saved")
        row(page, "mesa b").get_by_role("button", name="Change").click()
        page.get_by_role("button", name="MUGS").click()
        playwright.expect(row(page, "mesa b")).to_contain_text("Saved instead of TABLES")
        row(page, "mesa d").get_by_role("button", name="Change").click()
        dialog = page.get_by_role("dialog")
        playwright.expect(dialog).to_contain_text("mesa d")
        dialog.get_by_role("textbox").or_(dialog.get_by_role("combobox")).fill("Desks")
        dialog.get_by_role("button", name="Save").click()
        playwright.expect(dialog.get_by_role("alert")).to_contain_text("Desks")
        dialog.get_by_role("button", name="Save").click()
        playwright.expect(row(page, "mesa d")).to_contain_text("Desks")
        with two_tabs(page) as other:  # both show the stored corrections
            other.goto(page.url.replace("#batch", "#single"))
            playwright.expect(other.locator("#corrections li")).to_have_count(3)
            other.get_by_role("button", name="Remove the correction of mesa a").click()
            playwright.expect(row(page, "mesa a")).not_to_contain_text("Saved")
        found = answers_in(downloaded(page, tmp_path))
    assert [each["corrected_category"] for each in found] == ["", "MUGS", "", "Desks"]
    assert [each["predicted_category"] for each in found] == ["TABLES"] * 4


def test_columns_are_found_by_the_names_that_the_model_reads(
    browser: Any, shop: Server, shop_model: Path, tmp_path: Path
) -> None:
    file = tmp_path / "shop.csv"
    content = "sku,marca,nombre,precio\n1,,mesa,5\n2,Silla,mesa,\n3,,lampara silla mesa,\n"
    file.write_text(content)
    with opened(browser, shop) as page:
        page.get_by_role("link", name="Many titles").click()
        page.locator("#batch-file").set_input_files(file)
        wait_until_answered(page)
        playwright.expect(page.locator("#batch-read")).to_contain_text("marca, precio")
        playwright.expect(page.locator("#batch-rows tr").first).to_contain_text("Mesas")
        playwright.expect(page.locator("#batch-rows tr").nth(1)).to_contain_text("Lámparas")
        playwright.expect(page.locator("#batch-rows tr").nth(2)).to_contain_text("Muebles: ")
        page.locator("#batch-rows tr").nth(1).get_by_role("button", name="Correct").click()
        playwright.expect(page.locator("#batch-rows tr").nth(1)).to_contain_text("Saved")
        stored = page.evaluate(
            "Object.values(localStorage).filter((each) => each.includes('Silla'))"
        )
        found = downloaded(page, tmp_path)
        assert found.name == "shop-predictions.csv"
        rows = answers_in(found)
    assert [json.loads(each)["columns"] for each in stored] == [{"marca": "Silla"}]
    assert rows[1].pop("corrected_category") == rows[1]["predicted_category"]
    for each in (rows[0], rows[2]):
        assert each.pop("corrected_category") == ""
    arguments = ["--model", str(shop_model), "--min-confidence", "0.5", "-o", "expected.csv"]
    called(tmp_path, "predict", *arguments, "shop.csv")
    assert_same_answers(rows, answers_in(tmp_path / "expected.csv"))


def test_the_user_chooses_the_title_column(browser: Any, server: Server, tmp_path: Path) -> None:
    with opened(browser, server) as page:
        drop(page, "shop.csv", "sku,producto\n1,mesa\n2,silla\n")
        playwright.expect(page.locator("#batch-column")).to_be_focused()
        options = page.locator("#batch-column option").all_inner_texts()
        assert [("mesa" in each, "producto" in each) for each in options] == [
            (False, False),
            (True, True),
        ]
        playwright.expect(page.locator("#batch-column")).to_have_value("1")  # sku has no words
        page.get_by_role("button", name="Find the categories").click()
        wait_until_answered(page)
        assert shown_rows(page) == ["1", "2"]
        page.get_by_role("button", name="Close").click()
        # Cells of a spreadsheet without names of columns.
        paste(page, "A1\tmesa\nA2\ttaza\n", "batch-text")
        page.locator("#batch-column").select_option(index=1)
        playwright.expect(page.get_by_label("The first row")).not_to_be_checked()
        page.get_by_role("button", name="Find the categories").click()
        wait_until_answered(page)
        playwright.expect(row(page, "taza")).to_contain_text("MUGS")
        found = answers_in(downloaded(page, tmp_path))
        page.get_by_role("button", name="Close").click()
        # Cells with names of columns; the model knows one of them.
        paste(page, "sku\ttitle\nA1\tmesa\n", "batch-text")
        wait_until_answered(page)
        assert shown_rows(page) == ["1"]
        page.get_by_role("button", name="Close").click()
        paste(page, "title\ttitle\nA1\tmesa\n", "batch-text")  # two columns with this name
        playwright.expect(page.get_by_label("The first row")).to_be_checked()
        page.locator("#batch-column").select_option(index=1)
        page.get_by_role("button", name="Find the categories").click()
        wait_until_answered(page)
        playwright.expect(row(page, "mesa")).to_contain_text("TABLES")
    assert [[*each.values()][:2] for each in found] == [["A1", "mesa"], ["A2", "taza"]]


@pytest.mark.parametrize(
    ("name", "content", "fact"),
    [
        ("a.csv", 'title\n"mesa', "line 2"),
        ("a.txt", " \n", "title"),
        ("many.txt", "mesa\n" * 100_001, "100000"),
    ],
)
def test_a_file_that_cannot_be_read_is_reported(
    browser: Any, server: Server, name: str, content: str, fact: str
) -> None:
    with opened(browser, server) as page:
        drop(page, name, content)
        playwright.expect(page.get_by_role("alert")).to_contain_text(name)
        assert fact in page.get_by_role("alert").inner_text().lower()


def test_dropped_files_open_in_the_view_that_shows_them(browser: Any, server: Server) -> None:
    with opened(browser, server) as page:
        drop(page, "titles.txt", "mesa\nsilla\n")
        wait_until_answered(page)
        assert shown_rows(page) == ["1", "2"]
        audit = "file,line,title,label,suggested_category,accept\na,1,mesa,MUGS,TABLES,\n"
        drop(page, "suspects.csv", audit)
        playwright.expect(page.locator("#card-title")).to_have_text("mesa")
        page.get_by_role("link", name="Many titles").click()
        assert shown_rows(page) == ["1", "2"]


def test_only_the_rows_in_sight_are_in_the_document(browser: Any, server: Server) -> None:
    count = 10_000
    with opened(browser, server) as page:
        paste(page, "\n".join(f"{[*KEYWORDS][n % 4]} {n}" for n in range(count)))
        wait_until_answered(page)
        table = page.get_by_role("table")
        assert table.get_attribute("aria-rowcount") == str(count + 1)
        assert page.locator("#batch-rows tr").count() < 60
        scroller = page.locator("#batch-scroller")
        for share in (0.5, 1.0):
            scroller.evaluate("(box, share) => (box.scrollTop = share * box.scrollHeight)", share)
            middle = row(page, f"{[*KEYWORDS][(n := int(share * count) - 1) % 4]} {n}")
            playwright.expect(middle).to_be_visible()
            playwright.expect(middle).to_contain_text([*KEYWORDS.values()][n % 4])
        # After scrolling, the keyboard reaches the rows in their order.
        last = page.locator("#batch-rows tr").last
        playwright.expect(last).to_have_attribute("aria-rowindex", str(count + 1))
        places = page.locator("#batch-rows tr").evaluate_all(
            "rows => rows.map((row) => Number(row.ariaRowIndex))"
        )
        assert places == sorted(places)
        row(page, f"taza {count - 1}").get_by_role("button", name="Correct").focus()
        for _ in range(30):
            page.keyboard.press("ArrowUp")
        focused = page.evaluate("document.activeElement.getAttribute('aria-label')")
        assert focused.startswith(f"Correct: {[*KEYWORDS][(count - 31) % 4]} {count - 31},")


class Proxy(ThreadingHTTPServer):
    """Proxy that refuses bodies above a limit, and answers as many requests as it is allowed to."""

    daemon_threads = True
    limit = 10**9
    allowed = 10**9
    refusal = 503
    delay = 0.0

    def __init__(self, server: Server) -> None:
        self.server = server
        super().__init__(("127.0.0.1", 0), _Forward)


class _Forward(BaseHTTPRequestHandler):
    server: Proxy

    def do_GET(self) -> None:
        self._send(self.server.server.ask(self.path))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        time.sleep(self.server.delay)
        if len(body) > self.server.limit:
            return self._refuse(413)
        if self.server.allowed <= 0:
            return self._refuse(self.server.refusal)
        self.server.allowed -= 1
        return self._send(self.server.server.ask(self.path, body))

    def _send(self, answer: Any) -> None:
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.headers["Content-Type"] or "text/plain")
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    def _refuse(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Retry-After", "0.1")
        self.send_header("Content-Length", "11")
        self.end_headers()
        self.wfile.write(b"<h1>No</h1>")

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


@contextmanager
def through_proxy(browser: Any, server: Server) -> Iterator[tuple[Any, Proxy]]:
    """Open the page through a proxy; the browser reports refused requests on its console."""
    with Proxy(server) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        with opened(browser, Server(server.process, proxy.server_port), can_fail=True) as page:
            yield page, proxy
        proxy.shutdown()


def test_requests_become_smaller_if_they_are_too_large(browser: Any, server: Server) -> None:
    with through_proxy(browser, server) as (page, proxy):
        proxy.limit = 300
        paste(page, "\n".join([*(f"mesa {n}" for n in range(150)), "mesa " * 100, "taza"]))
        wait_until_answered(page)
        playwright.expect(page.locator("#batch-progress")).to_contain_text("151 answered")
        page.get_by_label("Without an answer (1)").check()
        playwright.expect(page.locator("#batch-rows tr")).to_contain_text("too large")


@pytest.mark.parametrize("refusal", [503, 429, 500])
def test_answered_rows_are_kept_if_the_service_refuses_others(
    browser: Any, server: Server, tmp_path: Path, refusal: int
) -> None:
    with through_proxy(browser, server) as (page, proxy):
        proxy.allowed, proxy.refusal = 1, refusal
        paste(page, "\n".join(f"mesa {n}" for n in range(300)))
        retry = page.get_by_role("button", name="Retry")
        playwright.expect(retry).to_be_visible()
        playwright.expect(page.get_by_role("alert")).to_contain_text(str(refusal))
        playwright.expect(page.locator("#batch-progress")).to_contain_text("100 of 300")
        assert sum(not each["error"] for each in answers_in(downloaded(page, tmp_path))) == 100
        proxy.allowed = 10
        retry.click()
        wait_until_answered(page)
        playwright.expect(page.get_by_role("alert")).to_have_text("")
        assert not any(each["error"] for each in answers_in(downloaded(page, tmp_path)))


def test_the_user_can_cancel_and_continue(browser: Any, server: Server) -> None:
    with through_proxy(browser, server) as (page, proxy):
        proxy.delay = 0.3
        paste(page, "\n".join(f"mesa {n}" for n in range(3000)))
        playwright.expect(page.locator("#batch-progress")).to_contain_text("100 of 3,000")
        page.get_by_role("button", name="Cancel").click()
        playwright.expect(page.locator("#batch-progress")).to_contain_text("Stopped")
        proxy.delay = 0.0
        page.get_by_role("button", name="Continue").click()
        wait_until_answered(page)
        playwright.expect(page.locator("#batch-progress")).to_contain_text("3,000 answered")


def test_the_answer_of_a_proxy_is_reported_with_its_status(browser: Any, server: Server) -> None:
    with through_proxy(browser, server) as (page, proxy):
        proxy.allowed, proxy.refusal = 0, 502
        page.locator("#title").fill("mesa")
        playwright.expect(page.locator("#failure")).to_contain_text("502")


def test_a_service_that_does_not_answer_is_reported(browser: Any, server: Server) -> None:
    with through_proxy(browser, server) as (page, _):
        page.context.set_offline(True)
        paste(page, "mesa\nsilla")
        playwright.expect(page.get_by_role("alert")).to_have_text("The service does not answer.")
        page.context.set_offline(False)
        page.get_by_role("button", name="Retry").click()
        wait_until_answered(page)
        playwright.expect(row(page, "silla")).to_contain_text("CHAIRS")


@pytest.mark.parametrize("locale", ["en-GB", "es-AR"])
@LAYOUTS
def test_axe_finds_no_violation(
    browser: Any, shop: Server, layout: dict[str, Any], locale: str
) -> None:
    with opened(browser, shop, locale=locale, **layout) as page:
        page.locator("nav a").nth(1).click()
        assert_accessible(page)
        paste(page, "sku\tproducto\n1\tmesa\n", "batch-text")
        assert_accessible(page)
        page.locator("#batch-choose .batch-close").click()
        titles = ["nombre\tmarca", "mesa\tAcme", "\t", f"lampara silla mesa {'x' * 300}\t", "taza"]
        paste(page, "\n".join(titles), "batch-text")
        wait_until_answered(page)
        page.locator("#batch-rows button").first.click()
        playwright.expect(page.locator("#batch-rows .marked")).to_have_count(1)
        assert_accessible(page)
        page.locator("#batch-rows button").nth(1).click()
        playwright.expect(page.locator("#change-choices button")).to_have_count(4)
        assert_accessible(page)
