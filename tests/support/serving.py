"""A `rubro serve` of a hand-made model in a process of its own, as fixtures.

A test file takes them with `pytest_plugins = ["support.keyword_model", "support.serving"]`.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPMessage
from pathlib import Path
from typing import Any

import pytest

from support.keyword_model import command

SECONDS = 60


@dataclass(frozen=True)
class Answer:
    """An answer over HTTP."""

    status: int
    headers: HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Server:
    """A running service."""

    process: subprocess.Popen[str]
    port: int

    def ask(
        self,
        path: str,
        content: Any = None,
        method: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """Send bytes, or anything else as JSON; without a content, GET."""
        body = content if isinstance(content, bytes | None) else json.dumps(content).encode()
        method = method or ("GET" if body is None else "POST")
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)) as connection:
            connection.request(
                method, path, body, {"Content-Type": "application/json", **(headers or {})}
            )
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())

    def metric(self, name: str) -> float:
        """The value of a line of /metrics."""
        lines = self.ask("/metrics").body.decode().splitlines()
        (value,) = [line.rpartition(" ")[2] for line in lines if line.startswith(f"{name} ")]
        return float(value)


def start(model: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start `rubro serve` on a free port."""
    words = command(model, ["--port", "0", *arguments], "serve")
    return subprocess.Popen(words, stderr=subprocess.PIPE, text=True)


@contextmanager
def running(model: Path, *arguments: str) -> Iterator[Server]:
    """Run `rubro serve`; it must end well and have said nothing but where it is."""
    with start(model, *arguments) as process:
        assert process.stderr is not None
        try:
            said = process.stderr.readline()
            assert "http://" in said, said + process.stderr.read()
            yield Server(process, int(said.rstrip().rpartition(":")[2]))
        finally:
            process.terminate()
            rest = process.stderr.read()
    assert rest == ""
    assert process.returncode == 0


@pytest.fixture(scope="module")
def server(model: Path) -> Iterator[Server]:
    """A service for the tests of a file."""
    with running(model) as found:
        yield found
