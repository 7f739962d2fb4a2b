"""Test that hostile requests cause no internal error, no traceback and no growth of memory."""

from __future__ import annotations

import random
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from support.serving import HEAD, SECONDS, Server, running

pytest_plugins = ["support.keyword_model", "support.serving"]
pytestmark = pytest.mark.slow

MEGABYTE = 2**20
SEEDS = [
    HEAD + b'Content-Length: 36\r\n\r\n{"titles": ["Mesa", "Taza"],"top":2}',
    HEAD.replace(b"predict", b"explain") + b'Content-Length: 17\r\n\r\n{"title": "Mesa"}',
    HEAD + b'Transfer-Encoding: chunked\r\n\r\n10\r\n{"titles": "Me"}\r\n0\r\n\r\n',
    HEAD + b'Content-Length: 47\r\n\r\n{"titles":[{"title":"Mesa","marca":"Taza"},{}]}',
    HEAD + b'Content-Length: 46\r\n\r\n{"titles": {"nombre": "Mesa"}, "level": 2.0  }',
    b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nRange: bytes=0-\r\nIf-Modified-Since: x\r\n\r\n",
]
DICTIONARY = [
    *(b"\r\n", b"\x00", b"\xff\xfe", b"\xed\xa0\x80", b"\\ud800", b'"', b"[" * 2000, b"{" * 2000),
    *(b"NaN", b"1e999", b"-1", b"9" * 5000, b"null", b"true", b"Content-Length: 0\r\n", b"%00"),
    *(b"Transfer-Encoding: chunked\r\n", b"Expect: 100-continue\r\n", b"Upgrade: h2c\r\n", b"*"),
    *(b'{"precio": 1e99}', b'"nombre":', b'"level":2,', b'{"marca":{"marca":"x"}},', b"{}"),
    *(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"CONNECT a:1 HTTP/1.1\r\n\r\n", b"../", b"\xc3\xb1"),
]


def mutated_request(rng: random.Random) -> bytes:
    """Return a request with some bytes changed, removed, repeated or taken from the dictionary."""
    request = bytearray(rng.choice(SEEDS))
    for _ in range(rng.randint(0, 4)):
        place = rng.randrange(len(request))
        match rng.randrange(4):
            case 0:
                request[place] = rng.randrange(256)
            case 1:
                del request[place : place + rng.randint(1, 20)]
            case 2:
                request[place:place] = request[place : place + 30] * rng.randint(1, 4)
            case _:
                request[place:place] = rng.choice(DICTIONARY)
        if not request:
            break
    return bytes(request)


def response_to(server: Server, request: bytes, is_cut: bool) -> bytes:
    with socket.create_connection(("127.0.0.1", server.port), timeout=SECONDS) as connection:
        received = b""
        with suppress(ConnectionError):
            connection.sendall(request)
            if is_cut:
                return b""
            connection.shutdown(socket.SHUT_WR)
            connection.settimeout(0.05)
            with suppress(TimeoutError):
                while piece := connection.recv(2**16):
                    received += piece
        return received


@pytest.mark.parametrize("name", ["model", "shop_model"])
def test_the_service_survives_broken_requests(name: str, request: pytest.FixtureRequest) -> None:
    rng = random.Random(7)
    with running(request.getfixturevalue(name)) as server:
        statuses = set()
        for number in range(8000):
            if number == 1000:
                memory = server.metric("process_resident_memory_bytes")
            received = response_to(server, mutated_request(rng), is_cut=rng.random() < 0.1)
            assert b"Traceback" not in received
            if received:
                statuses.add(received.partition(b"\r\n")[0].split()[1])
        assert b"500" not in statuses
        assert {b"200", b"400", b"404", b"422"} <= statuses
        assert server.ask("/predict", {"titles": "Mesa"}).status == 200
        assert server.metric("process_resident_memory_bytes") < memory + 20 * MEGABYTE
        assert server.metric("process_open_fds") < 100


@pytest.mark.parametrize("name", ["server", "shop"])
def test_the_answers_match_the_openapi_description(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    server: Server = request.getfixturevalue(name)
    url = f"http://127.0.0.1:{server.port}/openapi.json"
    schemathesis = Path(sys.executable).with_name("schemathesis")
    done = subprocess.run(
        [schemathesis, "run", url, "--phases=coverage,fuzzing", "--max-examples=300"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
