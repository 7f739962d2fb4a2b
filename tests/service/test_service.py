"""Test the service as its clients see it: answers, errors, metrics, model changes and shutdown."""

from __future__ import annotations

import gzip
import os
import resource
import shutil
import signal
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from rubro import Classifier, __version__
from rubro.prediction.folder import Decision, Model
from rubro.service.schemas import PredictRequest
from rubro.service.served import read_model
from support.keyword_model import (
    CATEGORIES,
    assert_refused,
    called,
    write_model,
    write_thresholds,
)
from support.serving import HEAD, SECONDS, Server, log_lines, post, running, start
from support.tiny_project import wait_until

pytest_plugins = ["support.keyword_model", "support.serving"]


# Answers


def test_one_title_gets_one_answer(server: Server, model: Path) -> None:
    answer = server.ask("/predict", {"titles": "Mesa De Pino"})
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/json"
    ((category, confidence),) = Classifier.load(model).top(["Mesa De Pino"], 1)[0]
    assert category == "TABLES"
    choice = {"category": category, "confidence": round(confidence, 6)}
    assert answer.json["answers"] == [{**choice, "top": [choice], "error": None}]


def test_a_title_without_an_answer_keeps_its_place(server: Server) -> None:
    titles = ["Taza", 5, None, ["Mesa"], "", " \t", "Sill\ud800a", "Silla", "x" * 100_000]
    before = server.metric('rubro_answers_total{outcome="error"}')
    answers = server.ask("/predict", {"titles": titles, "top": 2.0}).json["answers"]
    errors = [answer["error"] for answer in answers]
    assert errors[0] is errors[7] is errors[8] is None
    facts = ["not text"] * 3 + ["empty"] * 2 + ["surrogate"]
    assert all(fact in error for fact, error in zip(facts, errors[1:7], strict=True))
    assert [answers[0]["category"], answers[7]["category"]] == ["MUGS", "CHAIRS"]
    assert [len(answer["top"]) for answer in answers] == [2, *[0] * 6, 2, 2]
    assert server.metric('rubro_answers_total{outcome="error"}') == before + 6


def test_the_category_is_null_below_the_minimum_confidence(server: Server) -> None:
    content = {"titles": ["Mesa", "nada"], "min_confidence": 0.9, "top": 100}
    sure, unsure = server.ask("/predict", content).json["answers"]
    assert sure["category"] == "TABLES"
    assert unsure["category"] is None
    assert unsure["confidence"] == unsure["top"][0]["confidence"] < 0.9
    assert len(unsure["top"]) == len(CATEGORIES)


def test_explain_returns_the_contribution_of_each_word(server: Server) -> None:
    title = "🍵 Taza para mesa"
    found = server.ask("/explain", {"title": title}).json
    assert found["answer"]["category"] == "TABLES"
    assert found["other"] == "MUGS"
    for word in found["words"]:
        assert title[word["start"] : word["end"]] == word["text"]
    contributions = {word["text"]: word["contribution"] for word in found["words"]}
    assert contributions["mesa"] > 0 > contributions["Taza"]
    assert abs(contributions["para"]) < 1e-6
    found = server.ask("/explain", {"title": "\ud800"}).json
    assert "surrogate" in found["answer"]["error"]
    assert (found["other"], found["words"]) == (None, [])


def test_every_answer_names_its_model(server: Server) -> None:
    version = server.ask("/version").json
    assert version["rubro"] == __version__
    model = version["model"]
    assert (model["name"], model["format"], len(model["hash"])) == ("svm", "rubro-2", 64)
    assert model["objective"] == "balanced_accuracy"
    categories = server.ask("/categories").json
    columns = {"title_column": "title", "category_columns": ["category"]}
    assert categories == {"model": model, "categories": list(CATEGORIES.values()), **columns}
    described = server.ask("/model").json
    assert described["model"] == model
    assert (described["categories"], described["examples"]) == (4, [])
    assert not described["collects_corrections"]
    for path, content in (("/predict", {"titles": "Mesa"}), ("/explain", {"title": "Mesa"})):
        assert server.ask(path, content).json["model"] == model
    assert server.ask("/health").json == {"status": "ok"}


def test_the_service_answers_for_another_objective(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    model = Model.load(folder)
    decisions: dict[Any, Decision] = {"accuracy": Decision(shift=1.0), "macro_f1": Decision()}
    changes = {"category_titles": [1, 1, 1, 1000], "decisions": decisions}
    replace(model, description=model.description.model_copy(update=changes)).save(folder)
    hashes = set()
    for objective, category in (("accuracy", "MUGS"), ("macro_f1", "CHAIRS")):
        with running(folder, "--objective", objective) as server:
            answer = server.ask("/predict", {"titles": "silla taza"}).json
            assert answer["model"]["objective"] == objective
            assert answer["answers"][0]["category"] == category
            assert server.ask("/version").json["model"] == answer["model"]
            hashes.add(answer["model"]["hash"])
    assert len(hashes) == 2


def test_the_commit_is_read_from_git_or_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_model(tmp_path / "models" / "svm")
    git = ["git", "-C", str(tmp_path), "-c", "user.name=x", "-c", "user.email=x@example.org"]
    subprocess.run([*git, "init", "--quiet"], check=True)
    subprocess.run([*git, "commit", "--quiet", "--allow-empty", "-m", "one"], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    assert read_model(folder).identity["commit"] == head.stdout.strip()
    monkeypatch.setenv("RUBRO_COMMIT", "abc")
    assert read_model(folder).identity["commit"] == "abc"


def test_concurrent_requests_get_the_same_answers_as_single_ones(
    server: Server, model: Path
) -> None:
    words = [*CATEGORIES, "nada"]
    titles = [f"{words[n % 5]} {words[n % 3]} {n}" for n in range(400)]
    expected = [best for ((best, _), *_) in Classifier.load(model).top(titles, 1)]

    def categories(titles: str | list[str]) -> list[str]:
        answers = server.ask("/predict", {"titles": titles}).json["answers"]
        return [answer["category"] for answer in answers]

    with ThreadPoolExecutor(16) as threads:
        batch = threads.submit(categories, titles)
        assert [found for (found,) in threads.map(categories, titles)] == expected
        assert batch.result() == expected


def test_requests_are_counted_by_route_and_not_by_path(server: Server) -> None:
    for path in ("/secret-1", "/secret-2"):
        assert server.ask(path).status == 404
    name = 'rubro_requests_total{path="/health",status="200"}'
    server.ask("/health")
    before = server.metric(name)
    server.ask("/health")
    assert server.metric(name) == before + 1
    text = server.ask("/metrics").body.decode()
    assert "secret" not in text
    assert 'rubro_requests_total{path="other",status="404"}' in text
    assert "process_resident_memory_bytes" in text


# Errors


@pytest.mark.parametrize(
    ("path", "content", "status"),
    [
        ("/predict", b"", 422),
        ("/predict", {}, 422),
        ("/predict", {"titles": 5}, 422),
        ("/predict", {"titles": []}, 422),
        ("/predict", {"titles": ["x"] * 1001}, 422),
        ("/predict", {"titles": "x", "top": 0}, 422),
        ("/predict", {"titles": "x", "top": "3"}, 422),
        ("/predict", {"titles": "x", "min_confidence": float("nan")}, 422),
        ("/predict", b'{"titles": ["Taza"],}', 400),
        ("/predict", b'{"titles": "Taza"', 400),
        ("/predict", b"titles", 400),
        ("/predict", b'{"titles": "x", "top": 1' + b"0" * 5000 + b"}", 400),
        ("/predict", {"titles": "x", "\ud800": 1}, 422),
        ("/predict", {"titles": "x", "y" * 10_000: 1}, 422),
        ("/predict", b'{"titles": "\xff\xfe"}', 400),
        ("/predict", b"[" * 100_000, 400),
        ("/predict", b'{"titles":' * 50_000 + b"1" + b"}" * 50_000, 400),
        ("/explain", {"title": ["x"]}, 422),
        ("/predict", b" " * (2**20 + 1), 413),
        ("/nothing", {}, 404),
        ("/predict", None, 405),
        ("/%00%ff/../", None, 404),
    ],
    ids=lambda value: str(value)[:40],
)
def test_an_error_is_answered_with_a_problem(
    server: Server, path: str, content: Any, status: int
) -> None:
    answer = server.ask(path, content)
    assert answer.status == status
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem = answer.json
    assert problem.keys() == {"type", "title", "status", "detail"}
    assert problem["status"] == status
    assert 0 < len(problem["detail"]) < 1000
    assert "Traceback" not in problem["detail"]


def test_a_model_whose_sums_overflow_for_a_title_spoils_no_other_request(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    model = Model.load(folder)
    # Not all words fit into a title, so reading the model does not find the last one.
    words = {**{f"palabra{number}": 1 for number in range(30)}, **model.vocabulary}
    tensors = dict(model.tensors["svm"])
    tensors["idf"] = np.array([1] * 33 + [3e38], dtype=np.float32)
    tensors["starts"] = np.concatenate([np.zeros(30, np.int32), tensors["starts"]])
    Model(model.description, words, {"svm": tensors}).save(folder)
    with running(folder) as server, ThreadPoolExecutor(8) as threads:
        asked = ["Mesa", "Taza"] * 50
        found = [*threads.map(lambda title: server.ask("/predict", {"titles": title}), asked)]
        found.append(server.ask("/explain", {"title": "Taza"}))
    assert [answer.status for answer in found] == [200, 503] * 50 + [503]
    assert "overflow" in found[-1].json["detail"]


def test_an_error_names_the_key_the_path_or_the_methods(server: Server) -> None:
    unknown = server.ask("/predict", {"titles": "Mesa", "tops": 3})
    assert "tops: unknown key" in unknown.json["detail"]
    assert "/nothing" in server.ask("/nothing").json["detail"]
    assert "POST" in server.ask("/predict").json["detail"]


def test_many_unknown_fields_of_a_request_are_one_error(server: Server) -> None:
    content = {"titles": "Mesa", **dict.fromkeys(map(str, range(80_000)), 1)}
    assert server.ask("/predict", content).status == 422
    # Listing each field as an error takes long and would hold up other requests.
    with pytest.raises(ValidationError) as caught:
        PredictRequest.model_validate(content)
    assert caught.value.error_count() == 1


def test_the_body_must_be_json_in_any_unicode_encoding(server: Server) -> None:
    answer = server.ask("/predict", {"titles": "x"}, Content_Type="text/plain")
    assert answer.status == 422
    assert "Content-Type" in answer.json["detail"]
    answer = server.ask("/predict", '{"titles": "Mesa"}'.encode("utf-16"))
    assert answer.json["answers"][0]["category"] == "TABLES"


@pytest.mark.parametrize("path", ["/predict/", "http://x/predict"])
def test_a_path_may_end_with_a_slash_or_contain_the_address(server: Server, path: str) -> None:
    assert server.ask(path, {"titles": "Mesa"}).json["answers"][0]["category"] == "TABLES"


@pytest.mark.parametrize("path", ["/", "/health", "/categories", "/metrics", "/openapi.json"])
def test_head_returns_the_headers_of_get(server: Server, path: str) -> None:
    head, get = server.ask(path, method="HEAD"), server.ask(path)
    assert (head.status, head.body) == (200, b"")
    assert head.headers["Content-Type"] == get.headers["Content-Type"]
    assert path == "/metrics" or head.headers["Content-Length"] == str(len(get.body))
    assert server.ask("/predict", method="HEAD").status == 405


def test_an_encoded_body_is_refused(server: Server) -> None:
    body = gzip.compress(b'{"titles": "Mesa"}')
    answer = server.ask("/predict", body, Content_Encoding="gzip")
    assert (answer.status, answer.json["status"]) == (415, 415)
    assert answer.headers["Accept-Encoding"] == "identity"
    for name in ("identity", ""):
        answer = server.ask("/predict", {"titles": "Mesa"}, Content_Encoding=name)
        assert answer.status == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        *(
            (name, 200)
            for name in ("x", "localhost:80", "Shop.localhost", "127.0.0.1:1", "10.0.0.1")
        ),
        *((name, 200) for name in ("[::1]", "[::1]:80", "localhost.")),
        *((name, 421) for name in ("evil.example", "evil.example:80", "127.0.0.1.evil.example.")),
        *(
            (name, 421)
            for name in ("localhost.evil.example", "a@evil.example", "[::1].evil.example")
        ),
    ],
)
def test_a_foreign_host_is_refused_on_a_local_address(
    server: Server, host: str, status: int
) -> None:
    answer = server.ask("/predict", {"titles": "Mesa"}, Host=host)
    assert answer.status == status
    assert status == 200 or "--allowed-host" in answer.json["detail"]


def test_a_proxy_may_use_other_names_and_a_prefix(model: Path) -> None:
    options = ["--allowed-host", "Shop.example", "--root-path", "/rubro/"]
    with running(model, *options) as server:
        for path in ("/predict", "/rubro/predict", "/rubro/predict/"):
            assert server.ask(path, {"titles": "Mesa"}, Host="shop.example:443").status == 200
        for path in ("/", "/rubro/"):
            assert server.ask(path).body.startswith(b"<!doctype html>")
        assert server.ask("/openapi.json").json["servers"] == [{"url": "/rubro"}]
        assert server.ask("/health", Host="other.example").status == 421
    assert server.process.returncode == 0


def test_all_addresses_of_both_families_accept_any_name(model: Path) -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6")
    with running(model, "--host", "::") as server:
        assert server.ask("/health", Host="shop.example").status == 200
        with socket.create_connection(("::1", server.port)) as connection:
            connection.sendall(b"GET /health HTTP/1.0\r\n\r\n")
            assert connection.recv(100).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("value", ["", "/nonexistent"])
def test_the_environment_of_other_servers_is_ignored(
    model: Path, tmp_path: Path, value: str
) -> None:
    names = ("PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir")
    changes = {**dict.fromkeys(names, value), "WEB_CONCURRENCY": value or "auto"}
    with running(model, env={**os.environ, **changes}, cwd=tmp_path) as server:
        assert server.ask("/predict", {"titles": "Mesa"}).status == 200
        assert server.metric('rubro_requests_total{path="/predict",status="200"}') == 1
    assert not list(tmp_path.iterdir())


def exchange(server: Server, *parts: bytes) -> bytes:
    """Send bytes and return everything received until the server closes the connection."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=SECONDS) as connection:
        received = b""
        try:
            for part in parts:
                connection.sendall(part)
            while piece := connection.recv(2**16):
                received += piece
        except ConnectionError:  # the server closed the connection before it had read everything
            pass
        return received


@pytest.mark.parametrize(
    ("parts", "beginning"),
    [
        ([b"\x00\x01\r\n\r\n"], b"HTTP/1.1 400"),
        ([b"GET / HTTP/9.9\r\n\r\n"], b"HTTP/1.1 400"),
        ([HEAD + b"Content-Length: -1\r\n\r\n"], b"HTTP/1.1 400"),
        ([HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n"], b"HTTP/1.1 400"),
        ([HEAD + b"Content-Length: 99999999999999\r\n\r\n"], b"HTTP/1.1 413"),
        ([HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"zz\r\n"], b"HTTP/1.1 400"),
        ([b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n"], b"HTTP/1.1 400"),
        ([b"GET / HTTP/1.1\r\nX: ", *[b"x" * 2**14] * 5], b"HTTP/1.1 400"),
        ([b"GET / HTTP/1.1\r\n\r\n"], b"HTTP/1.1 400"),
        ([b"GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n"], b"HTTP/1.1 400"),
        ([HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"], b"HTTP/1.1 400"),
    ],
)
def test_a_broken_request_closes_its_connection(
    server: Server, parts: list[bytes], beginning: bytes
) -> None:
    assert exchange(server, *parts).startswith(beginning)
    assert server.ask("/health").status == 200


def test_a_chunked_body_that_is_too_large_is_refused(server: Server) -> None:
    name = 'rubro_requests_total{path="other",status="413"}'
    before = server.metric(name)
    chunk = b"10000\r\n" + b" " * 2**16 + b"\r\n"
    head = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    assert exchange(server, head, *[chunk] * 20, b"0\r\n\r\n").startswith(b"HTTP/1.1 413")
    exchange(server, head, *[chunk] * 300)
    assert server.metric(name) == before + 2


@pytest.mark.slow
def test_the_category_is_null_if_the_thresholds_do_not_accept_it(tmp_path: Path) -> None:
    folder, file = write_model(tmp_path / "model"), tmp_path / "thresholds.json"
    write_thresholds(file, folder, [0.2, 0.99, None, 0.2])
    titles = ["mesa", "silla", "lampara", "taza", "taza de otras cosas", "mesa"]
    with running(folder, "--thresholds", str(file)) as server:
        answers = server.ask("/predict", {"titles": titles}).json["answers"]
        found = [answer["category"] for answer in answers]
        assert found == ["TABLES", None, None, "MUGS", None, "TABLES"]
        assert all(answer["top"] for answer in answers)
        assert [answer["threshold"] for answer in answers[:4]] == [0.2, 0.99, None, 0.2]
        assert server.ask("/version").json["promised_precision"] == 0.9
        asked = {"titles": "mesa", "min_confidence": 1.0}
        assert server.ask("/predict", asked).json["answers"][0]["category"] is None
        assert server.ask("/explain", {"title": "taza de otras cosas"}).json["foreign"]
    write_model(folder, "name")
    options = ["--model", str(folder), "--thresholds", str(file)]
    assert_refused(called(tmp_path, "serve", *options), "another model")


def test_clients_that_disconnect_early_do_no_harm(server: Server) -> None:
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(HEAD + b'Content-Length: 50\r\n\r\n{"titles": "Me')
    assert server.ask("/predict", {"titles": "Mesa"}).status == 200


@pytest.mark.slow
def test_slow_clients_are_disconnected_and_delay_nobody(server: Server) -> None:
    with ThreadPoolExecutor(20) as threads:
        heads = threads.map(exchange, [server] * 10, [b"POST /pre"] * 10)
        body = HEAD + b"Content-Length: 9\r\n\r\n{"
        bodies = threads.map(exchange, [server] * 10, [body] * 10)
        assert server.ask("/predict", {"titles": "Mesa"}).status == 200
        assert set(heads) == {b""}
        assert all(body.startswith(b"HTTP/1.1 408") for body in bodies)


# Model changes


def replace_files(folder: Path, other: Path) -> None:
    """Replace the files of a folder one by one, as `dvc checkout` does."""
    for source in sorted(other.iterdir()):
        partial = folder / f"{source.name}.partial"
        shutil.copy(source, partial)
        partial.rename(folder / source.name)


@pytest.mark.slow
def test_a_new_model_is_loaded_without_losing_a_request(tmp_path: Path) -> None:
    folder, other = write_model(tmp_path / "one"), write_model(tmp_path / "two")
    description = (other / "model.json").read_text().replace("TABLES", "DESKS")
    (other / "model.json").write_text(description)
    with running(folder) as server, ThreadPoolExecutor(4) as threads:
        old = server.ask("/version").json["model"]["hash"]
        is_new = False

        def ask_until_it_is_new(_: int) -> set[tuple[str, str]]:
            found = set()
            while not is_new:
                answer = server.ask("/predict", {"titles": "Mesa"})
                assert answer.status == 200
                found.add((answer.json["model"]["hash"], answer.json["answers"][0]["category"]))
            return found

        asking = [threads.submit(ask_until_it_is_new, n) for n in range(4)]
        replace_files(folder, other)
        try:
            assert wait_until(lambda: server.ask("/version").json["model"]["hash"] != old)
        finally:
            is_new = True
        new = server.ask("/version").json["model"]["hash"]
        found = set().union(*(each.result() for each in asking))
        assert (old, "TABLES") in found
        assert found <= {(old, "TABLES"), (new, "DESKS")}
        assert server.ask("/predict", {"titles": "Mesa"}).json["answers"][0]["category"] == "DESKS"
        assert server.metric('rubro_model_reloads_total{outcome="replaced"}') == 1


@pytest.mark.slow
def test_the_model_in_use_is_kept_if_the_new_one_is_damaged(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    whole = (folder / "svm.safetensors").read_bytes()
    with start(folder) as server:
        before = server.ask("/version").json
        # Written in place, as cp does, so the service must not read from the file itself.
        (folder / "svm.safetensors").write_bytes(whole[:100])
        name = 'rubro_model_reloads_total{outcome="refused"}'
        assert wait_until(lambda: name in server.ask("/metrics").body.decode())
        assert server.ask("/version").json == before
        assert server.ask("/predict", {"titles": "Mesa"}).json["answers"][0]["category"] == "TABLES"
        refused, stopped = server.stop()
    assert "safetensors" in refused["message"]
    assert (refused["event"], refused["level"]) == ("refuse_model", "error")
    assert refused["model_hash"] == stopped["model_hash"] == before["model"]["hash"]
    assert refused["time"] <= stopped["time"]


# Shutdown and start


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (signal.SIGTERM, 0),
        pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow),
        (signal.SIGHUP, 129),
        pytest.param(signal.SIGUSR1, 138, marks=pytest.mark.slow),
        pytest.param(signal.SIGUSR2, 140, marks=pytest.mark.slow),
    ],
)
def test_requests_that_have_begun_are_answered_before_the_end(
    model: Path, sent: signal.Signals, code: int
) -> None:
    request = post({"titles": "Mesa"})
    with start(model) as server:
        address = ("127.0.0.1", server.port)
        with socket.create_connection(address, timeout=SECONDS) as connection:
            connection.sendall(request[:-9])
            assert server.ask("/health").status == 200
            server.process.send_signal(sent)

            def is_closed() -> bool:
                with socket.socket() as other:
                    return other.connect_ex(address) != 0

            assert wait_until(is_closed)
            connection.sendall(request[-9:])
            assert connection.recv(2**16).startswith(b"HTTP/1.1 200")
        _, messages = server.process.communicate()
    line, *others = messages.splitlines()
    (stopped,) = log_lines(line)
    assert (stopped["event"], sent.name in stopped["message"]) == ("stop", True)
    assert len(others) == (sent not in (signal.SIGTERM, signal.SIGINT))
    assert server.process.returncode == code


def test_no_connection_is_reset_when_the_service_stops(model: Path) -> None:
    request = post({"titles": "Mesa"})

    def ask_until_refused(server: Server) -> list[bytes]:
        found: list[bytes] = []
        while True:
            try:
                connection = socket.create_connection(("127.0.0.1", server.port), timeout=SECONDS)
            except ConnectionRefusedError:
                return found
            with connection:
                connection.sendall(request)
                found.append(connection.recv(2**16)[:12])

    with start(model) as server, ThreadPoolExecutor(8) as threads:
        asking = [threads.submit(ask_until_refused, server) for _ in range(8)]
        time.sleep(0.5)
        server.process.terminate()
        found = [answer for each in asking for answer in each.result()]
        assert server.process.wait(SECONDS) == 0
    assert len(found) > 8
    assert set(found) == {b"HTTP/1.1 200"}


def test_the_service_stops_if_more_connections_wait_than_it_may_open(model: Path) -> None:
    files = (100, 100)
    limit = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, files)
    with start(model, preexec_fn=limit) as server, ExitStack() as stack:
        assert server.ask("/health").status == 200
        server.process.send_signal(signal.SIGSTOP)
        for _ in range(3 * files[0]):
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
        server.process.send_signal(signal.SIGTERM)
        server.process.send_signal(signal.SIGCONT)
        _, messages = server.process.communicate()
    assert [line["event"] for line in log_lines(messages)] == ["stop"]
    assert server.process.returncode == 0


def test_the_next_request_of_a_connection_is_the_last_one_at_the_end(model: Path) -> None:
    with start(model) as server:
        client = HTTPConnection("127.0.0.1", server.port, timeout=SECONDS)
        client.request("GET", "/health")
        assert client.getresponse().read()
        server.process.terminate()
        time.sleep(0.5)
        client.request("GET", "/health")
        answer = client.getresponse()
        assert (answer.status, answer.headers["Connection"]) == (200, "close")
        assert server.process.wait(SECONDS) == 0


def test_an_unusable_address_or_folder_is_reported_in_one_line(
    server: Server, model: Path, tmp_path: Path
) -> None:
    for folder, options, fact in (
        (model, ["--port", str(server.port)], f"127.0.0.1:{server.port}: "),
        (model, ["--host", "no.such.host.invalid"], "choose another address"),
        (model, ["--host", ""], "--host"),
        (tmp_path, [], "`make repro`"),
    ):
        done = called(tmp_path, "serve", "--model", str(folder), *options)
        assert_refused(done, "error: ", fact)
        assert done.stderr.count("\n") == 1
        assert "Errno" not in done.stderr


@pytest.mark.parametrize(("option", "value"), [("PORT", "abc"), ("NO_THRESHOLDS", "maybe")])
def test_a_wrong_value_in_an_environment_variable_is_reported_with_its_name(
    tmp_path: Path, option: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"RUBRO_SERVE_{option}", value)
    assert_refused(called(tmp_path, "serve"), f"RUBRO_SERVE_{option}", value)
    wrong_option = called(tmp_path, "serve", "--port=-1")
    assert_refused(wrong_option, "--port")
    assert "RUBRO_SERVE" not in wrong_option.stderr
