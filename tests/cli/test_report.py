"""`rubro report` as its users call it, and its page in a browser without a network."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from support.keyword_model import called
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
    assert "report.html: " in done.stderr and "17 charts" in done.stderr
    first = {path: path.read_bytes() for path in [*tmp_path.glob("new/pictures/*")]}
    page = (tmp_path / "report.html").read_bytes()
    assert len(first) == 2 * 17
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
    assert "metrics/curves/mlp/plots/metrics/train/balanced_accuracy.tsv and 11 more" in done.stderr
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
    done = report(*arguments)
    assert done.returncode == 2
    assert fact in done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_training_package_gives_one_message(metrics: Path, tmp_path: Path) -> None:
    (tmp_path / "matplotlib.py").write_text("raise ModuleNotFoundError(name='matplotlib')\n")
    done = run_in(tmp_path, sys.executable, "-m", "rubro.cli", "report", ok=False)
    assert done.returncode == 2
    for fact in ("rubro report", "matplotlib", "pip install 'rubro[train]'"):
        assert fact in done.stderr
    assert not (tmp_path / "report.html").exists()


@pytest.mark.slow
def test_a_real_run_has_no_missing_metrics(first_project: Path, tmp_path: Path) -> None:
    shutil.copytree(first_project / "metrics", tmp_path / "metrics")
    done = run_in(tmp_path, sys.executable, "-m", "rubro.cli", "report")
    assert "missing" not in done.stderr
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Missing: " not in page
    assert page.count("<svg") == 17


class Proxy:
    """A proxy that answers no request and records the requested hosts."""

    def __init__(self) -> None:
        self.hosts: set[str] = set()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            connection, _ = self._socket.accept()
            with connection:
                found = re.match(rb"\w+ (?:http://)?([^/: ]+)", connection.recv(1000))
                if found:
                    self.hosts.add(found[1].decode())

    def hosts_requested_by(self, page: Path) -> tuple[set[str], str]:
        """Open a page in a Chromium that sends all requests to the proxy.

        Returns:
            Requested hosts, without the hosts that the browser always requests, and the page after
            its script has run.
        """
        assert CHROMIUM
        self.hosts.clear()
        flags = (
            "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync "
            "--disable-background-networking --disable-component-update --virtual-time-budget=5000 "
            f"--proxy-server={self.address} --proxy-bypass-list=<-loopback> --dump-dom"
        )
        with TemporaryDirectory() as profile:
            command = [CHROMIUM, *flags.split(), f"--user-data-dir={profile}", page.as_uri()]
            done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
        own = {host for host in self.hosts if host.endswith(".google.com")}  # the time, accounts
        return self.hosts - own, done.stdout


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_an_open_page_sends_no_request(metrics: Path, tmp_path: Path, report: Report) -> None:
    proxy = Proxy()
    page = tmp_path / "report.html"
    assert report().returncode == 0
    hosts, document = proxy.hosts_requested_by(page)
    assert hosts == set()
    assert '<p hidden=""' not in document  # the script ran
    assert '<label for="search"' in document
    assert HOSTILE not in document
    # The content security policy blocks an image of another host.
    picture = '<img src="http://example.org/picture.png">'
    html = page.read_text(encoding="utf-8").replace("</main>", f"{picture}</main>")
    page.write_text(html, encoding="utf-8")
    assert proxy.hosts_requested_by(page)[0] == set()
    # Without the policy, the proxy records the request, so the test can fail.
    page.write_text(f"<html><body>{picture}</body></html>", encoding="utf-8")
    assert proxy.hosts_requested_by(page)[0] == {"example.org"}
