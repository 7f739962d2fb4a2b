"""`rubro report` as its users call it, and its page in a browser that is watched."""

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

from support.hand_made import called
from support.report_metrics import HOSTILE
from support.tiny_project import run_in

pytest_plugins = ["support.hand_made", "support.report_metrics", "support.tiny_project"]

Report = Callable[..., subprocess.CompletedProcess[str]]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PNG = b"\x89PNG\r\n\x1a\n"


def run_report(folder: Path) -> subprocess.CompletedProcess[str]:
    """Call `rubro report` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "rubro.cli", "report"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.fixture
def report(tmp_path: Path) -> Report:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return called(tmp_path, "report", *arguments)

    return run


@pytest.mark.slow
def test_the_page_and_the_pictures_are_the_same_each_time(
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
def test_the_split_is_an_option(metrics: Path, tmp_path: Path, report: Report) -> None:
    assert report("--split", "validation").returncode == 0
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<title>Rubro: report on validation</title>" in page


@pytest.mark.slow
def test_what_is_missing_is_said_and_the_page_made(
    metrics: Path, tmp_path: Path, report: Report
) -> None:
    shutil.rmtree(metrics / "curves")
    done = report()
    assert done.returncode == 0
    assert "metrics/curves/mlp/plots/metrics/train/balanced_accuracy.tsv and 11 more" in done.stderr
    assert "`dvc pull`" in done.stderr and "`dvc repro`" in done.stderr
    assert (tmp_path / "report.html").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "metrics: no metrics there"),
        (["--output", "nowhere/report.html"], "no such folder"),
        (["--output", "metrics"], "a folder; name a file in it"),
        (["--split", "train"], "'test', 'validation'"),
        (["--images", "evaluate.json"], "evaluate.json"),
    ],
)
def test_wrong_input_is_one_message(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    report: Report,
    arguments: list[str],
    message: str,
) -> None:
    if arguments:
        shutil.copy(request.getfixturevalue("metrics") / "evaluate.json", tmp_path)
    done = report(*arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_without_the_packages_of_training_it_says_which_to_install(
    metrics: Path, tmp_path: Path
) -> None:
    """A package that is not there, as where prediction alone was installed."""
    (tmp_path / "matplotlib.py").write_text("raise ModuleNotFoundError(name='matplotlib')\n")
    done = run_report(tmp_path)
    assert done.returncode == 2
    assert "rubro report needs matplotlib, which is not installed" in done.stderr
    assert not (tmp_path / "report.html").exists()


@pytest.mark.slow
def test_it_reports_a_real_run(first_project: Path, tmp_path: Path) -> None:
    shutil.copytree(first_project / "metrics", tmp_path / "metrics")
    done = run_in(tmp_path, sys.executable, "-m", "rubro.cli", "report")
    assert "missing" not in done.stderr
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Missing: " not in page
    assert page.count("<svg") == 17


class Proxy:
    """A proxy that answers nothing and remembers which hosts it was asked for."""

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

    def hosts_asked_by(self, page: Path) -> tuple[set[str], str]:
        """Open a page in Chromium, all of whose traffic goes through the proxy.

        Returns:
            Hosts that were asked, without those that the browser asks by itself; and the page as it
            is after its script ran.
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
@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium")
def test_an_open_page_asks_nobody_for_anything(
    metrics: Path, tmp_path: Path, report: Report
) -> None:
    proxy = Proxy()
    page = tmp_path / "report.html"
    assert report().returncode == 0
    hosts, document = proxy.hosts_asked_by(page)
    assert hosts == set()
    assert '<p hidden=""' not in document  # the script ran
    assert '<label for="search"' in document
    assert HOSTILE not in document
    # The policy keeps even a page with a foreign picture from asking for it.
    picture = '<img src="http://example.org/picture.png">'
    html = page.read_text(encoding="utf-8").replace("</main>", f"{picture}</main>")
    page.write_text(html, encoding="utf-8")
    assert proxy.hosts_asked_by(page)[0] == set()
    # Without it the proxy hears of it: else this test would prove nothing.
    page.write_text(f"<html><body>{picture}</body></html>", encoding="utf-8")
    assert proxy.hosts_asked_by(page)[0] == {"example.org"}
