"""Run `rubro serve` with a hand-made model in a process of its own.

Test modules load the fixture with `pytest_plugins = ["support.keyword_model", "support.serving"]`.
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
HEAD = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


def post(content: object) -> bytes:
    """Return the bytes of a request to /predict."""
    body = json.dumps(content).encode()
    return HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body


@dataclass(frozen=True)
class Answer:
    """An HTTP response."""

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
        self, path: str, content: Any = None, method: str | None = None, **headers: str
    ) -> Answer:
        """Post bytes, or anything else as JSON; without content, send a GET request."""
        body = content if isinstance(content, bytes | None) else json.dumps(content).encode()
        method = method or ("GET" if body is None else "POST")
        sent = {"Content-Type": "application/json"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)) as connection:
            connection.request(method, path, body, sent)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())

    def metric(self, name: str) -> float:
        """Return the value of a metric in /metrics."""
        lines = self.ask("/metrics").body.decode().splitlines()
        (value,) = [line.rpartition(" ")[2] for line in lines if line.startswith(f"{name} ")]
        return float(value)

    def stop(self) -> list[dict[str, Any]]:
        """Stop the service with SIGTERM, and return the objects in its log after the first line."""
        self.process.terminate()
        return log_lines(self.process.communicate()[1])


def port_of(line: str) -> int:
    """Return the port in the first line that `rubro serve` writes to its log."""
    return int(json.loads(line)["url"].rpartition(":")[2])


def log_lines(text: str) -> list[dict[str, Any]]:
    """Return the objects in the log of `rubro serve`."""
    return [json.loads(line) for line in text.splitlines()]


@contextmanager
def start(model: Path, *arguments: str, **options: Any) -> Iterator[Server]:
    """Start `rubro serve` on a free port, with options of Popen."""
    words = command(model, ["--port", "0", *arguments], "serve")
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, **options) as process:
        assert process.stderr is not None
        try:
            line = process.stderr.readline()
            if "http://" not in line:
                process.terminate()
                raise AssertionError(line + process.stderr.read())
            yield Server(process, port_of(line))
        finally:
            process.terminate()


@contextmanager
def running(model: Path, *arguments: str, **options: Any) -> Iterator[Server]:
    """Run `rubro serve`, which must exit with 0 and log no error."""
    with start(model, *arguments, **options) as server:
        yield server
        log = server.stop()
        assert {line["level"] for line in log} == {"info"}, log
    assert server.process.returncode == 0


@pytest.fixture(scope="module")
def server(model: Path) -> Iterator[Server]:
    """Service shared by the tests of a module."""
    with running(model) as shared:
        yield shared


@pytest.fixture
def collecting(model: Path, tmp_path: Path) -> Iterator[Server]:
    """Service that collects corrections in the folder corrections of tmp_path."""
    with running(model, "--corrections", str(tmp_path / "corrections")) as found:
        yield found


@pytest.fixture(scope="module")
def shop(shop_model: Path) -> Iterator[Server]:
    """Service with the model `shop_model`, shared by the tests of a module."""
    with running(shop_model) as shared:
        yield shared
