"""Open the page of `rubro serve` in a browser."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from support.serving import Server


def failed(request: Any) -> list[str]:
    """Return the address of a failed request, unless it ended because the page was left."""
    return [] if request.failure == "net::ERR_ABORTED" else [request.url]


@contextmanager
def opened(browser: Any, server: Server, **settings: Any) -> Iterator[Any]:
    """Open the page in a new profile; errors, warnings and requests to other servers fail the test."""
    origin = f"http://127.0.0.1:{server.port}"
    messages: list[str] = []
    requested: list[str] = []
    with browser.new_context(**{"locale": "en-GB", **settings}) as context:
        page = context.new_page()
        page.on("console", lambda message: messages.append(message.text))
        page.on("pageerror", lambda error: messages.append(str(error)))
        page.on("requestfailed", lambda request: messages.extend(failed(request)))
        page.on("request", lambda request: requested.append(request.url))
        page.goto(origin)
        yield page
    assert messages == []
    assert all(url.startswith((origin, "data:", "blob:")) for url in requested)


@contextmanager
def two_tabs(page: Any) -> Iterator[Any]:
    """Open the page in a second tab."""
    other = page.context.new_page()
    other.goto(page.url)
    yield other
    other.close()
