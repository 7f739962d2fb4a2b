"""Open and use the page of `rubro serve` in a browser."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.serving import Server

HOSTILE = '<img src=x onerror="document.title=1"> mesa, "ratona"'
_DROP = """([name, content]) => {
    const dataTransfer = new DataTransfer();
    dataTransfer.items.add(new File([content], name));
    for (const kind of ["dragover", "drop"]) {
        const event = new DragEvent(kind, {dataTransfer, bubbles: true, cancelable: true});
        document.body.dispatchEvent(event);
    }
}"""
_FILL = """() => {
    for (let size = 2 ** 22; size; size = Math.floor(size / 2)) {
        try {
            localStorage.setItem(`fill ${size}`, "x".repeat(size));
        } catch {}
    }
}"""
_FREE = """Object.keys(localStorage).filter((key) => key.startsWith("fill"))
    .forEach((key) => localStorage.removeItem(key))"""


def _failed(request: Any) -> list[str]:
    """Return the address of a failed request, unless it ended because the page was left."""
    return [] if request.failure == "net::ERR_ABORTED" else [request.url]


@contextmanager
def opened(browser: Any, server: Server, can_fail: bool = False, **settings: Any) -> Iterator[Any]:
    """Open the page in a new profile; requests to other servers fail the test.

    Args:
        browser: Browser.
        server: Running service.
        can_fail: Whether errors, warnings and failed requests are accepted.
        settings: Options of the profile, such as its locale.
    """
    origin = f"http://127.0.0.1:{server.port}"
    messages: list[str] = []
    requested: list[str] = []
    with browser.new_context(**{"locale": "en-GB", **settings}) as context:
        page = context.new_page()
        page.on("console", lambda message: messages.append(message.text))
        page.on("pageerror", lambda error: messages.append(str(error)))
        page.on("requestfailed", lambda request: messages.extend(_failed(request)))
        page.on("request", lambda request: requested.append(request.url))
        page.goto(origin)
        yield page
    assert can_fail or messages == []
    assert all(url.startswith((origin, "data:", "blob:")) for url in requested)


@contextmanager
def two_tabs(page: Any) -> Iterator[Any]:
    """Open the page in a second tab."""
    other = page.context.new_page()
    other.goto(page.url)
    yield other
    other.close()


def downloaded(page: Any, folder: Path) -> Path:
    """Download the file of the shown view, and return its path."""
    with page.expect_download() as download:
        page.locator("[id$=download]").locator("visible=true").click()
    file: Path = folder / download.value.suggested_filename
    download.value.save_as(file)
    return file


def read_csv(file: Path) -> list[list[str]]:
    """Return the rows of a csv file."""
    with file.open(encoding="utf-8", newline="") as content:
        return [*csv.reader(content, strict=True)]


def drop(page: Any, name: str, content: str) -> None:
    """Drop a file on the page."""
    page.evaluate(_DROP, [name, content])


def fill_storage(page: Any) -> None:
    """Leave no space in the storage of the browser."""
    page.evaluate(_FILL)


def free_storage(page: Any) -> None:
    """Remove what `fill_storage` has stored."""
    page.evaluate(_FREE)
