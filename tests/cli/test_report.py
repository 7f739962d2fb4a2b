"""`rubro report` as its users call it, and its page in a browser without a network."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.keyword_model import assert_refused, called
from support.report_metrics import HOSTILE
from support.tiny_project import run_in

pytest_plugins = ["support.keyword_model", "support.report_metrics", "support.tiny_project"]

Report = Callable[..., subprocess.CompletedProcess[str]]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def report(tmp_path: Path) -> Report:
    return lambda *arguments: called(tmp_path, "report", *arguments)


@pytest.mark.slow
def test_the_page_and_the_images_are_reproducible(
    metrics: Path, tmp_path: Path, report: Report
) -> None:
    done = report("--images", "new/pictures")
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert "report.html: " in done.stderr and "19 charts" in done.stderr
    first = {path: path.read_bytes() for path in [*tmp_path.glob("new/pictures/*")]}
    page = (tmp_path / "report.html").read_bytes()
    assert len(first) == 2 * 19
    assert all(content.startswith((PNG, b"<?xml")) for content in first.values())
    assert report("--images", "new/pictures", "--output", "again.html").returncode == 0
    assert (tmp_path / "again.html").read_bytes() == page
    assert {path: path.read_bytes() for path in first} == first


@pytest.mark.slow
def test_the_split_can_be_chosen(metrics: Path, tmp_path: Path, report: Report) -> None:
    assert report("--split", "validation").returncode == 0
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<title>Rubro: report on validation</title>" in page


@pytest.mark.slow
def test_missing_metrics_are_reported_and_the_page_is_written(
    metrics: Path, tmp_path: Path, report: Report
) -> None:
    shutil.rmtree(metrics / "curves")
    done = report()
    assert done.returncode == 0
    assert "metrics/curves/mlp/plots/metrics/train/balanced_accuracy.tsv and 15 more" in done.stderr
    assert "`dvc pull`" in done.stderr and "`dvc repro`" in done.stderr
    assert (tmp_path / "report.html").is_file()


@pytest.mark.parametrize(
    ("arguments", "fact"),
    [
        ([], "metrics"),
        (["--output", "nowhere/report.html"], "nowhere"),
        (["--output", "metrics"], "metrics: "),
        (["--split", "train"], "'test', 'validation'"),
        (["--images", "evaluate.json"], "evaluate.json"),
    ],
)
def test_wrong_input_gives_one_message(
    request: pytest.FixtureRequest, tmp_path: Path, report: Report, arguments: list[str], fact: str
) -> None:
    if arguments:
        shutil.copy(request.getfixturevalue("metrics") / "evaluate.json", tmp_path)
    assert_refused(report(*arguments), fact)


@pytest.mark.slow
def test_a_real_run_has_no_missing_metrics(first_project: Path, tmp_path: Path) -> None:
    shutil.copytree(first_project / "metrics", tmp_path / "metrics")
    done = run_in(tmp_path, sys.executable, "-m", "rubro.cli", "report")
    assert "missing" not in done.stderr
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Missing: " not in page
    assert page.count("<svg") == 19


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_an_open_page_sends_no_request(metrics: Path, tmp_path: Path, report: Report) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    page = tmp_path / "report.html"
    assert report().returncode == 0
    requested: list[str] = []

    def refuse(route: Any) -> None:
        requested.append(route.request.url)
        route.abort()

    with (
        playwright.sync_playwright() as driver,
        driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"]) as browser,
    ):
        tab = browser.new_page()
        tab.route(re.compile("^(?!file:)"), refuse)
        tab.goto(page.as_uri())
        document = tab.content()
        assert requested == []
        assert '<p hidden=""' not in document  # the script ran
        assert '<label for="search"' in document
        assert HOSTILE not in document
        # The content security policy blocks an image of another host.
        picture = '<img src="http://example.org/picture.png">'
        html = page.read_text(encoding="utf-8").replace("</main>", f"{picture}</main>")
        page.write_text(html, encoding="utf-8")
        tab.goto(page.as_uri())
        assert requested == []
        # Without the policy, the image is requested, so the test can fail.
        page.write_text(f"<html><body>{picture}</body></html>", encoding="utf-8")
        tab.goto(page.as_uri())
        assert requested == ["http://example.org/picture.png"]
