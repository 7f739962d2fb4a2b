"""Fixture with a browser, and a check of the page that it shows.

A test file loads it with `pytest_plugins = ["support.chromium"]` and has the mark NEEDS_CHROMIUM.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from support.serving import SECONDS

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
NEEDS_CHROMIUM = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
# Narrow and wide windows, light and dark.
LAYOUTS = pytest.mark.parametrize(
    "layout",
    [
        {"viewport": {"width": width, "height": 844}, "color_scheme": scheme}
        for width in (390, 1280)
        for scheme in ("light", "dark")
    ],
    ids=lambda layout: f"{layout['viewport']['width']}-{layout['color_scheme']}",
)
OPTIONS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium without requests of its own."""
    playwright = pytest.importorskip("playwright.sync_api")
    playwright.expect.set_options(timeout=1000 * SECONDS)  # a busy machine may need long
    with playwright.sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        yield found
        found.close()


def assert_accessible(page: Any) -> None:
    """Assert that a page fits the width of the window, and that axe finds no violation in it."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    found = axe.Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    assert page.evaluate("document.documentElement.scrollWidth") == page.viewport_size["width"]
