"""Test that slow, greedy and crowding clients cannot take the service down."""

from __future__ import annotations

import asyncio
import json
import resource
import select
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from starlette.exceptions import HTTPException
from starlette.types import Message

from rubro import Classifier
from rubro.service.batching import parts
from rubro.service.guard import Budget, Guard
from rubro.service.metrics import ServiceMetrics
from support.serving import HEAD, SECONDS, Server, post
from support.strict_proxy import Reply, read_reply, replies_until_closed

pytest_plugins = ["support.keyword_model", "support.serving"]

MEGABYTE = 2**20
HEALTH = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"


# Requests


@pytest.mark.parametrize("line", [b"A: x\r\n", b"A: " + b"x" * 2**19 + b"\r\n", b"x" * 2**19])
@pytest.mark.parametrize(
    "beginning", [HEAD, HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n"], ids=["head", "trailers"]
)
def test_heads_and_trailers_have_a_maximum_size(
    server: Server, beginning: bytes, line: bytes
) -> None:
    before = server.metric("process_resident_memory_bytes")
    replies = replies_until_closed(server.port, beginning + line * (8 * MEGABYTE // len(line)))
    assert [reply.status for reply in replies] in ([400], [])  # the rest may reset the connection
    assert server.metric("process_resident_memory_bytes") < before + 4 * MEGABYTE


def test_a_body_of_tiny_chunks_is_limited(server: Server) -> None:
    head = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    body = json.dumps({"titles": ["mesa"] * 100}).encode()
    tiny = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
    (reply,) = replies_until_closed(server.port, head + tiny)
    assert reply.status == 200
    replies = replies_until_closed(server.port, head + b"1\r\n \r\n" * 100_000)
    assert [reply.status for reply in replies] in ([400], [])


def test_pipelined_requests_are_all_answered(server: Server) -> None:
    large = post({"titles": ["mesa", *["x" * 100] * 900]})
    for data, count in ((HEALTH * 2000, 2000), ((large + HEALTH) * 3, 6)):
        replies = replies_until_closed(server.port, data)
        assert [reply.status for reply in replies] == [200] * count


def test_pipelined_requests_are_not_all_kept_in_memory(server: Server) -> None:
    requests = post({"titles": "mesa"}) * 5000
    before = server.metric("process_resident_memory_bytes")
    with socket.create_connection(("127.0.0.1", server.port), timeout=SECONDS) as connection:
        connection.setblocking(False)
        deadline = time.monotonic() + 2
        while time.monotonic() < deadline:
            try:
                connection.send(requests)
                connection.recv(2**20)
            except BlockingIOError:
                time.sleep(0.001)
        assert server.metric("process_resident_memory_bytes") < before + 8 * MEGABYTE


def test_the_beginning_of_the_next_request_may_follow_a_large_one(server: Server) -> None:
    large = post({"titles": ["mesa", *["x" * 100] * 900]})
    with socket.create_connection(("127.0.0.1", server.port), timeout=SECONDS) as connection:
        file = connection.makefile("rb")
        for _ in range(5):
            connection.sendall(large + HEALTH[:10])
            first = read_reply(file)
            connection.sendall(HEALTH[10:])
            second = read_reply(file)
            assert first is not None
            assert second is not None
            assert (first.status, second.status) == (200, 200)


@pytest.mark.parametrize("data", [HEALTH[:20], HEAD + b"Content-Length: 9\r\n\r\n{"])
def test_an_incomplete_request_ends_with_its_connection(server: Server, data: bytes) -> None:
    started = time.monotonic()
    assert replies_until_closed(server.port, HEALTH + data)[0].status == 200
    assert time.monotonic() - started < 9  # it did not wait for a time limit of 10 or 30 seconds


# Memory and work


def test_requests_share_a_budget_of_memory() -> None:
    budget = Budget(100)
    with budget.share() as one, budget.share() as other:
        one(60)
        other(40)
        for take in (one, other):
            with pytest.raises(HTTPException) as refusal:
                take(1)
            assert refusal.value.status_code == 503
            assert refusal.value.headers == {"Retry-After": "1"}
    with budget.share() as take:
        take(100)


def test_a_request_is_refused_if_the_service_cannot_wait_for_it() -> None:
    async def never(*_: object) -> None:
        await asyncio.sleep(SECONDS)

    async def receive() -> Message:
        return {"type": "http.request", "body": b""}

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def stop() -> None:
        guard = Guard(never, ServiceMetrics(), Budget(0), None, "")
        scope = {"type": "http", "http_version": "1.1", "method": "GET", "path": "/", "headers": []}
        task = asyncio.create_task(guard(scope, receive, send))
        await asyncio.sleep(0.01)
        task.cancel()
        await task

    asyncio.run(stop())
    assert sent[0]["status"] == 503


def test_large_bodies_are_refused_while_others_wait(server: Server) -> None:
    size = MEGABYTE - 100
    with ExitStack() as stack:
        for _ in range(300):
            waiting = socket.create_connection(("127.0.0.1", server.port), timeout=SECONDS)
            stack.enter_context(waiting)
            waiting.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % size + b" " * (size - 1))
        answer = server.ask("/predict", {"titles": ["mesa"] * 1000})
        assert answer.status == 503
        assert answer.json["status"] == 503
        assert answer.headers["Retry-After"] == "1"
        assert server.metric("process_resident_memory_bytes") < 600 * MEGABYTE

    def is_free() -> bool:
        return server.ask("/predict", {"titles": ["mesa"] * 1000}).status == 200

    deadline = time.monotonic() + SECONDS
    while not is_free():
        assert time.monotonic() < deadline


@pytest.fixture
def greedy(server: Server) -> Iterator[list[socket.socket]]:
    """Clients that ask for large answers and do not read them."""
    requests = post({"titles": [5] * 1000}) * 80
    with ExitStack() as stack:
        clients = []
        for _ in range(30):
            client = stack.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.settimeout(SECONDS)
            client.connect(("127.0.0.1", server.port))
            client.sendall(requests)
            clients.append(client)
        assert server.ask("/predict", {"titles": "mesa"}).status == 200
        name = 'rubro_requests_total{path="/predict",status="200"}'
        before, now = -1.0, server.metric(name)
        while now != before:  # until the service waits for all clients
            time.sleep(1)
            before, now = now, server.metric(name)
        yield clients


def test_clients_that_do_not_read_leave_descriptors_to_others(
    server: Server, greedy: list[socket.socket]
) -> None:
    limits = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (80, limits[1]))
    try:
        for _ in range(3):
            assert server.ask("/health").status == 200
    finally:
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, limits)


@pytest.mark.slow
def test_clients_that_do_not_read_are_disconnected(
    server: Server, greedy: list[socket.socket]
) -> None:
    time.sleep(32)
    assert server.metric("process_open_fds") < 30


def test_a_slow_client_gets_its_whole_answer(server: Server) -> None:
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", server.port))
        client.sendall(post({"titles": ["mesa"] * 1000, "top": 100}))
        time.sleep(2)
        reply = read_reply(client.makefile("rb"))
    assert isinstance(reply, Reply)
    assert len(json.loads(reply.body)["answers"]) == 1000


def test_the_work_on_a_request_is_shared_by_characters(model: Path) -> None:
    classifier = Classifier.load(model)
    dense = "\ufdfa" * 1000  # each character is decomposed into 18
    titles = ["mesa", 5, "x" * 900, *["taza"] * 300, dense, None, *["ñ" * 1000] * 9, "y" * 99_999]
    found = list(parts(classifier, titles))
    assert [title for part in found for title in part] == titles
    assert max(map(len, found)) == 128
    assert [dense] in found
    assert sum("ñ" * 1000 in part for part in found) >= 4
    assert list(parts(classifier, ["mesa"])) == [["mesa"]]


def test_short_requests_pass_long_ones(server: Server) -> None:
    request = post({"titles": ["mesa " * 200] * 1000})
    with ExitStack() as stack:
        clients = []
        for _ in range(9):
            address = ("127.0.0.1", server.port)
            client = stack.enter_context(socket.create_connection(address, timeout=SECONDS))
            client.sendall(request)
            clients.append(client)
        assert server.ask("/health").status == 200
        assert server.ask("/predict", {"titles": "taza"}).status == 200
        assert len(select.select(clients, [], [], 0)[0]) < 9
