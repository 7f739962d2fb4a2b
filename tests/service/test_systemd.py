"""Run the unit under a real systemd in a container: start, upgrade, rollback and a new model under load."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from rubro import __version__
from support.keyword_model import write_model
from support.serving import SECONDS, Server
from support.tiny_project import wait_until

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
NSPAWN = shutil.which("systemd-nspawn")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(NSPAWN is None, reason="systemd-nspawn is not installed"),
    pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="needs root"),
]
# The interpreter and the packages of this test; the service may not read the homes of users.
START = """#!/bin/sh
export PYTHONHOME=/opt/python LD_LIBRARY_PATH=/opt/python/lib
export PYTHONPATH=/opt/rubro/current/src:/opt/packages PYTHONDONTWRITEBYTECODE=1
exec /opt/python/bin/{python} -m rubro.cli "$@"
"""


def switch(link: Path, target: str) -> None:
    """Replace a symbolic link atomically, as the documentation does."""
    new = link.with_name(f"{link.name}.new")
    new.symlink_to(target)
    new.replace(link)


class Container:
    """A container that runs systemd and the unit, with the programs of this machine.

    Args:
        folder: Temporary folder, which contains opt (releases) and srv (models).
    """

    def __init__(self, folder: Path) -> None:
        self.opt, self.models = folder / "opt", folder / "srv"
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        for release in ("1", "2"):
            self._add_release(release)
        switch(self.opt / "current", "releases/1")
        for number, title_column in enumerate(("title", "name"), 1):
            write_model(self.models / "models" / str(number), title_column)
        switch(self.models / "model", "models/1")
        text = (DEPLOY / "rubro.env").read_text().replace("PORT=8000", f"PORT={self.port}")
        (folder / "rubro.env").write_text(text)
        binds = {
            self.opt: "/opt/rubro",
            self.models: "/srv/rubro",
            folder / "rubro.env": "/etc/rubro/rubro.env",
            DEPLOY / "rubro.service": "/etc/systemd/system/rubro.service",
            Path(sys.base_prefix): "/opt/python",
            Path(sysconfig.get_path("purelib")): "/opt/packages",
        }
        root = folder / "root"
        for name in ("etc", "usr", "opt", "srv", "var"):
            (root / name).mkdir(parents=True)
        for name in ("bin", "sbin", "lib", "lib64"):
            (root / name).symlink_to(f"usr/{name}")
        shutil.copy("/etc/os-release", root / "etc")
        # Without this file, systemd would enable the services of this machine.
        (root / "etc" / "machine-id").write_text(f"{uuid4().hex}\n")
        words = [f"--bind-ro={source}:{target}" for source, target in binds.items()]
        options = [
            f"--directory={root}",
            f"--machine=rubro-{os.getpid()}",
            "--bind-ro=/usr",
            *words,
        ]
        options += ["--register=no", "--keep-unit", "--boot", "--console=pipe"]
        self._process = subprocess.Popen(
            [str(NSPAWN), *options],
            stdin=subprocess.DEVNULL,
            stdout=open(folder / "console", "w"),  # noqa: SIM115
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.ask = Server(self._process, self.port).ask

    def _add_release(self, release: str) -> None:
        """Add a release whose version ends with its name."""
        folder = self.opt / "releases" / release
        (folder / "bin").mkdir(parents=True)
        start = folder / "bin" / "rubro"
        start.write_text(START.format(python=Path(os.path.realpath(sys.executable)).name))
        start.chmod(0o755)
        shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__"))
        file = folder / "src" / "rubro" / "__init__.py"
        file.write_text(file.read_text().replace(__version__, f"{__version__}.{release}"))

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the container."""
        (leader,) = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()  # fmt: skip
        enter = ["nsenter", f"--target={leader}", "--mount", "--uts", "--ipc", "--pid", "--"]
        return subprocess.run([*enter, *words], capture_output=True, text=True, check=False)

    def systemctl(self, *words: str) -> None:
        """Run systemctl, which must succeed."""
        done = self.run("systemctl", *words)
        assert done.returncode == 0, done.stderr + self.run("journalctl", "-u", "rubro").stdout

    def version(self) -> tuple[str, str]:
        """Return the release, and the hash of the model."""
        found = self.ask("/version").json
        return found["rubro"].rpartition(".")[2], found["model"]["hash"]

    def is_running(self) -> bool:
        """Return whether systemd has started."""
        with suppress(ValueError):
            return self.run("systemctl", "is-system-running").stdout.strip() in (
                "running",
                "degraded",
            )
        return False

    def stop(self) -> None:
        """Stop the container."""
        with suppress(ValueError):
            self.run("poweroff")
        self._process.wait(SECONDS)


@pytest.fixture
def container(tmp_path: Path) -> Iterator[Container]:
    tmp_path.chmod(0o755)
    found = Container(tmp_path)
    try:
        if not wait_until(found.is_running):
            pytest.skip("systemd does not start here: " + (tmp_path / "console").read_text()[-500:])
        yield found
    finally:
        found.stop()


def test_no_request_fails_during_upgrade_and_rollback(container: Container) -> None:
    container.systemctl("start", "rubro")
    release, old_model = container.version()
    assert release == "1"
    statuses: Counter[Any] = Counter()
    is_over = threading.Event()

    def ask(keeps: bool) -> None:
        """Send requests, on one connection or on a new connection for each."""
        connection = HTTPConnection("127.0.0.1", container.port, timeout=SECONDS)
        while not is_over.wait(0.01):
            try:
                connection.request("POST", "/predict", '{"titles": "Mesa"}', {"Content-Type": "application/json"})  # fmt: skip
                answer = connection.getresponse()
                assert json.load(answer)["answers"][0]["category"] == "TABLES"
                statuses[answer.status] += 1
            except Exception as error:  # noqa: BLE001 (counted)
                statuses[repr(error)] += 1
                connection.close()
            if not keeps:
                connection.close()

    threads = [threading.Thread(target=ask, args=(number % 2 == 0,)) for number in range(6)]
    for thread in threads:
        thread.start()
    try:
        time.sleep(1)
        switch(container.models / "model", "models/2")
        assert wait_until(lambda: container.version()[1] != old_model)
        for expected in ("2", "1"):
            switch(container.opt / "current", f"releases/{expected}")
            container.systemctl("restart", "rubro")
            assert container.version()[0] == expected
        switch(container.models / "model", "models/1")
        assert wait_until(lambda: container.version()[1] == old_model)
    finally:
        is_over.set()
        for thread in threads:
            thread.join()
    assert {*statuses} == {200}, statuses
    assert statuses[200] > 100


def test_the_unit_stores_corrections_and_reports_a_broken_model(container: Container) -> None:
    container.systemctl("start", "rubro")
    answer = container.ask("/corrections", {"title": "Mesa", "category": "MUGS"})
    assert answer.status == 201
    stored = container.run("cat", f"/var/lib/rubro/corrections/{answer.json['file']}").stdout
    assert stored == "title,category\nMesa,MUGS\n"
    switch(container.models / "model", "models/none")
    time.sleep(3)
    assert container.ask("/ready").status == 200  # the model in memory is kept
    assert container.run("systemctl", "restart", "rubro").returncode != 0
    switch(container.models / "model", "models/1")
    container.systemctl("restart", "rubro")
    assert container.ask("/ready").status == 200
