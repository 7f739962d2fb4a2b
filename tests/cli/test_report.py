"""`rubro report` as its users call it, and its page in a browser without a network."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rubro.base.files import write_json
from rubro.report.content import read_content
from support.category_runs import cache_files
from support.chromium import NEEDS_CHROMIUM
from support.keyword_model import assert_refused, called
from support.report_metrics import HOSTILE
from support.tiny_project import ROOT, commit, run_in

pytest_plugins = [
    "support.chromium",
    "support.keyword_model",
    "support.report_metrics",
    "support.tiny_project",
]

Report = Callable[..., subprocess.CompletedProcess[str]]
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
    assert "report.html: " in done.stderr and "15 charts" in done.stderr
    first = {path: path.read_bytes() for path in [*tmp_path.glob("new/pictures/*")]}
    page = (tmp_path / "report.html").read_bytes()
    assert len(first) == 2 * 15
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


@pytest.fixture
def repository(metrics: Path, tmp_path: Path) -> Path:
    """A repository with a commit of the metrics, whose tables are in the cache of DVC."""
    for name in ("params.yaml", "benchmarks/results/noise.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / ".gitignore").write_text("/metrics/evaluation\n/metrics/curves\n*.html\n")
    run_in(tmp_path, "git", "init", "--quiet", "--initial-branch", "main")
    run_in(tmp_path, "dvc", "init", "--quiet")
    folder = metrics / "evaluation"
    files = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
    outs = [{"path": "metrics/evaluation", "md5": cache_files(tmp_path, files)}]
    write_json(tmp_path / "dvc.lock", {"stages": {"evaluate": {"cmd": "", "outs": outs}}})
    commit(tmp_path, "metrics")
    return tmp_path


def change_metrics(repository: Path) -> None:
    """Let the accuracy of the ensemble and the recall of a category fall to 0.1."""
    path = repository / "metrics/evaluate.json"
    values = json.loads(path.read_text())
    values["test"]["ensemble"]["accuracy"] = 0.1
    path.write_text(json.dumps(values))
    path = repository / "metrics/evaluation/test/ensemble/classes.csv"
    text = re.sub(r"(?m)^(A & B,\d+,\d+,[\d.]+),[\d.]+", r"\1,0.1", path.read_text("utf-8"))
    path.write_text(text, encoding="utf-8")


@pytest.mark.slow
def test_the_report_shows_commit_and_date_and_has_the_same_bytes_for_the_same_commit(
    repository: Path, report: Report
) -> None:
    pages = []
    for _ in range(2):
        assert report().returncode == 0
        pages.append((repository / "report.html").read_bytes())
    assert pages[0] == pages[1]
    head, date = run_in(repository, "git", "log", "-1", "--format=%h %cs").stdout.split()
    header = pages[0].decode().partition("</header>")[0]
    assert head in header and date in header
    assert "not committed" not in header
    change_metrics(repository)
    assert report().returncode == 0
    header = (repository / "report.html").read_text("utf-8").partition("</header>")[0]
    assert "not committed" in header


def test_the_report_compares_metrics_and_categories_with_a_commit(
    repository: Path, report: Report
) -> None:
    content = read_content(repository / "metrics", "test")
    accuracy = content.models["ensemble"].accuracy
    [before] = [row for row in content.categories if row.category == "A & B"]
    change_metrics(repository)
    done = report("--against", "HEAD")
    assert done.returncode == 0, done.stderr
    page = (repository / "report.html").read_text("utf-8")
    assert f"in HEAD ({commit_of(repository)}): {accuracy:.4f}" in page
    section = page.partition('<section aria-labelledby="comparison">')[2].partition("</section>")[0]
    row = section.partition("<td>worse</td>")[2].partition("</tr>")[0]
    assert "evaluate.test.ensemble.accuracy" in row.replace("<wbr>", "")
    assert f">{accuracy:.4f}<" in row and ">0.1000<" in row
    table = page.partition('id="categories-table"')[2].partition("</table>")[0]
    [row] = [row for row in table.split("<tr>") if "<span>A &amp; B</span>" in row]
    cells = re.findall('<td class="number">(.*?)</td>', row)
    assert cells[2:5] == ["0.100", f"{before.recall:.3f}", f"{0.1 - before.recall:+.3f}"]


@pytest.mark.slow
def test_a_commit_without_tables_in_the_cache_is_compared_by_its_metrics(
    repository: Path, report: Report
) -> None:
    change_metrics(repository)
    shutil.rmtree(repository / ".dvc" / "cache")
    done = report("--against", "HEAD")
    assert done.returncode == 0 and "not in the cache of DVC" in done.stderr
    page = (repository / "report.html").read_text("utf-8")
    assert "<td>worse</td>" in page and "recall before" not in page


def test_an_unknown_revision_is_refused(repository: Path, report: Report) -> None:
    assert_refused(report("--against", "nowhere"), "nowhere: no such commit")


def commit_of(repository: Path) -> str:
    return run_in(repository, "git", "rev-parse", "HEAD").stdout[:7]


@pytest.mark.slow
def test_a_real_run_has_no_missing_metrics(first_project: Path, tmp_path: Path) -> None:
    shutil.copytree(first_project / "metrics", tmp_path / "metrics")
    done = run_in(tmp_path, sys.executable, "-m", "rubro.cli", "report")
    assert "missing" not in done.stderr
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Missing: " not in page
    assert page.count("<svg") == 15


@pytest.mark.slow
@NEEDS_CHROMIUM
def test_an_open_page_sends_no_request(
    browser: Any, metrics: Path, tmp_path: Path, report: Report
) -> None:
    page = tmp_path / "report.html"
    assert report().returncode == 0
    requested: list[str] = []

    def refuse(route: Any) -> None:
        requested.append(route.request.url)
        route.abort()

    with browser.new_page() as tab:
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
