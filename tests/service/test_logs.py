"""Test the log of the service, its metrics, its probes and its environment variables."""

from __future__ import annotations

import os
import pty
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from http.client import HTTPConnection
from pathlib import Path

from rubro import __version__
from support.keyword_model import command, environment, write_model, write_thresholds
from support.serving import SECONDS, Server, port_of, post, running, start
from support.tiny_project import wait_until

pytest_plugins = ["support.keyword_model", "support.serving"]


def outcomes(server: Server) -> dict[str, float]:
    names = ("answered", "below_threshold", "foreign", "error")
    return {name: server.metric(f'rubro_answers_total{{outcome="{name}"}}') for name in names}


def test_start_reload_and_stop_are_logged_with_the_model(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    with start(folder) as server:
        old = server.ask("/version").json["model"]["hash"]
        write_model(folder, title_column="name")
        write_thresholds(folder / "thresholds.json", folder, [0.1] * 4)
        assert wait_until(lambda: server.ask("/version").json["model"]["hash"] != old)
        new = server.ask("/version").json["model"]["hash"]
        reloaded, stopped = server.stop()
    assert (reloaded["event"], reloaded["previous_hash"]) == ("reload_model", old)
    assert "precision of 0.9" in reloaded["message"]
    assert (stopped["event"], "SIGTERM" in stopped["message"]) == ("stop", True)
    for line in (reloaded, stopped):
        assert (line["level"], line["model_hash"]) == ("info", new)
        assert datetime.fromisoformat(line["time"]).utcoffset() == timedelta(0)


def test_requests_are_logged_only_if_wanted(model: Path) -> None:
    with start(model, "--access-log") as server:
        server.ask("/predict", {"titles": "Mesa"})
        server.ask("/%1b[31m%0anowhere")
        first, second, _ = server.stop()
    assert (first["event"], first["method"], first["path"]) == ("request", "POST", "/predict")
    assert (first["status"], first["client"]) == (200, "127.0.0.1")
    assert 0 < first["seconds"] < SECONDS
    assert (second["status"], second["path"]) == (404, "/\x1b[31m\nnowhere")


def test_a_terminal_shows_messages(model: Path) -> None:
    mine, its = pty.openpty()
    words = command(model, ["--port", "0", "--access-log"], "serve")
    with subprocess.Popen(words, stderr=its, text=True) as process:
        shown = os.read(mine, 2**16).decode()
        found = re.fullmatch(r"svm, 4 categories: http://127\.0\.0\.1:(\d+)\r\n", shown)
        assert found
        Server(process, int(found[1])).ask("/%1b[31m%0a%c3%b1")
        shown = os.read(mine, 2**16).decode()
        process.terminate()
    os.close(mine)
    os.close(its)
    assert shown == "GET /%1B%5B31m%0A%C3%B1: 404\r\n"  # a client must not control the terminal


def test_titles_are_counted_by_outcome(server: Server) -> None:
    before = outcomes(server)
    content = {"titles": ["mesa", "mesa silla", "nada", "", 5], "min_confidence": 0.9}
    answers = server.ask("/predict", content).json["answers"]
    assert [answer["category"] for answer in answers] == ["TABLES", None, None, None, None]
    server.ask("/explain", {"title": "taza"})
    added = {name: count - before[name] for name, count in outcomes(server).items()}
    assert added == {"answered": 2, "below_threshold": 1, "foreign": 1, "error": 2}


def test_paths_are_counted_by_outcome(shop: Server) -> None:
    before = outcomes(shop)
    content = {"titles": ["mesa", "nada nadie"], "level": 2, "min_confidence": 0.1}
    shop.ask("/predict", content)
    added = {name: count - before[name] for name, count in outcomes(shop).items()}
    assert added == {"answered": 1, "below_threshold": 0, "foreign": 1, "error": 0}


def test_metrics_describe_the_model(server: Server) -> None:
    text = server.ask("/metrics").body.decode()
    model = server.ask("/version").json["model"]
    labels = {**model, "commit": model["commit"] or "", "version": __version__}
    (line,) = [line for line in text.splitlines() if line.startswith("rubro_model_info{")]
    assert dict(re.findall(r'(\w+)="([^"]*)"', line)) == {
        name: value for name, value in labels.items() if name != "format"
    }
    assert server.metric("rubro_model_categories") == 4
    assert time.time() - 3600 < server.metric("rubro_model_loaded_timestamp_seconds") <= time.time()
    assert 'rubro_confidence_bucket{le="0.999"}' in text


def test_the_service_is_not_ready_while_it_stops(model: Path) -> None:
    request = post({"titles": "Mesa"})
    with start(model) as server:
        assert server.ask("/ready").json == {"status": "ready"}
        others = [HTTPConnection("127.0.0.1", server.port, timeout=SECONDS) for _ in range(2)]
        for each in others:
            each.request("GET", "/health")
            assert each.getresponse().read()
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(request[:-9])
            assert server.ask("/health").status == 200
            server.process.terminate()
            time.sleep(0.5)
            statuses = {}
            for each, path in zip(others, ("/ready", "/health"), strict=True):
                each.request("GET", path)
                statuses[path] = each.getresponse().status
            connection.sendall(request[-9:])
            assert connection.recv(2**16).startswith(b"HTTP/1.1 200")
        assert server.process.wait(SECONDS) == 0
    assert statuses == {"/ready": 503, "/health": 200}


def test_options_are_read_from_the_environment(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "corrections"
    values = {
        "RUBRO_SERVE_CORRECTIONS": str(folder),
        "RUBRO_SERVE_THRESHOLDS": "",
        "RUBRO_SERVE_ACCESS_LOG": "1",
    }
    with start(model, env=environment(**values)) as server:
        assert server.ask("/model").json["collects_corrections"] is True
        assert "request" in [line["event"] for line in server.stop()]
    assert folder.is_dir()


class Systemd:
    """The part of systemd that keeps sockets: a datagram socket that receives messages and files.

    Args:
        folder: Temporary folder.
    """

    def __init__(self, folder: Path) -> None:
        self.address = folder / "notify"
        self._receiving = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._receiving.bind(str(self.address))
        self._receiving.settimeout(SECONDS)
        self.kept: list[int] = []

    def read_until(self, wanted: str) -> None:
        """Read messages until one arrives, and keep the files that the service sends meanwhile."""
        while True:
            message, files, _, _ = socket.recv_fds(self._receiving, 4096, 8)
            lines = message.decode().splitlines()
            if lines[0] == "FDSTOREREMOVE=1":
                self.close()
            assert bool(files) == (lines[0] == "FDSTORE=1")
            self.kept += files
            if lines[0] == wanted:
                return

    def close(self) -> None:
        """Close all files that are kept."""
        while self.kept:
            os.close(self.kept.pop())

    @contextmanager
    def start(self, model: Path, port: int = 0) -> Iterator[Server]:
        """Start the service with the sockets that are kept."""
        words = command(model, ["--port", str(port)], "serve")
        for place, file in enumerate(self.kept, 3):
            words = ["bash", "-c", f'exec {place}<&{file} "$@"', "bash", *words]
        listening = f'LISTEN_PID=$$ LISTEN_FDS={len(self.kept)} exec "$@"'
        with subprocess.Popen(
            ["bash", "-c", listening, "bash", *words],
            pass_fds=self.kept,
            env=environment(NOTIFY_SOCKET=str(self.address)),
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stderr is not None
            yield Server(process, port_of(process.stderr.readline()))
            process.terminate()
        assert process.returncode == 0


def test_a_restart_by_systemd_refuses_no_connection(model: Path, tmp_path: Path) -> None:
    systemd = Systemd(tmp_path)
    with systemd.start(model) as server:
        systemd.read_until("READY=1")
        port = server.port
    systemd.read_until("STOPPING=1")
    with socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as waiting:
        waiting.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        with systemd.start(model, port):
            systemd.read_until("READY=1")
            assert waiting.recv(2**16).startswith(b"HTTP/1.1 200")
    systemd.read_until("STOPPING=1")
    # With another port, the socket is replaced.
    with systemd.start(model) as server:
        systemd.read_until("READY=1")
        assert server.port != port
        (kept,) = systemd.kept
        with socket.socket(fileno=os.dup(kept)) as listening:
            assert listening.getsockname()[1] == server.port
    systemd.close()


def test_an_unusable_address_of_systemd_is_ignored(model: Path) -> None:
    with running(model, env=environment(NOTIFY_SOCKET="/nowhere/notify")) as server:
        assert server.ask("/ready").status == 200
