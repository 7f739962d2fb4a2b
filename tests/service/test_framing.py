"""Test that each request gets its own answer, however its headers describe its body."""

from __future__ import annotations

import itertools
import json
import random
import socket
import subprocess
import time
from pathlib import Path

import pytest

from support.serving import HEAD, SECONDS, Server
from support.strict_proxy import (
    NotForwarded,
    StrictProxy,
    first_request,
    read_reply,
    replies_until_closed,
)

pytest_plugins = ["support.keyword_model", "support.serving"]

CONNECTION = [None, "close", "keep-alive", "Upgrade", "Upgrade, HTTP2-Settings", "close, upgrade"]
CONNECTION += ["Transfer-Encoding", "Content-Length"]
UPGRADE = [None, "h2c", "websocket", "TLS/1.2", "HTTP/2.0, h2c"]
LENGTH = [None, "{0}", "0", "{1}", "{2}", "{0}, {0}", "+{0}", "{0}\r\nContent-Length: 5"]
CODING = [
    None,
    "chunked",
    "identity",
    "gzip, chunked",
    "chunked, chunked",
    "Chunked",
    "\x0bchunked",
]
EXPECT = [None, "100-continue", "200-ok"]
COMBINATIONS = list(itertools.product(CONNECTION, UPGRADE, LENGTH, CODING, EXPECT))
INNER = b"GET /categories HTTP/1.1\r\nHost: evil\r\n\r\n"
LAST = b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n"


def word(number: int) -> str:
    """Return a word that no other request contains."""
    return "q" + "".join(chr(ord("a") + int(digit)) for digit in str(number))


def head_and_body(
    number: int, combination: tuple[str | None, ...], is_inner: bool
) -> tuple[bytes, bytes]:
    """Return a request whose body is a title with its word, or another request."""
    connection, upgrade, length, coding, expect = combination
    body = INNER if is_inner else json.dumps({"title": f"mesa {word(number)}"}).encode()
    size = len(body)
    if coding is not None and "chunked" in coding.lower():
        body = b"%x\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (5, body[:5], size - 5, body[5:])
    headers = {
        "Host": "x",
        "Content-Type": "application/json",
        "Connection": connection,
        "Upgrade": upgrade,
        "HTTP2-Settings": upgrade and "AAMAAABkAAQCAAAAAAIAAAAA",
        "Content-Length": length and length.format(size, size - 5, size + 20),
        "Transfer-Encoding": coding,
        "Expect": expect,
    }
    lines = [f"{name}: {value}\r\n" for name, value in headers.items() if value is not None]
    return f"POST /explain HTTP/1.1\r\n{''.join(lines)}\r\n".encode(), body


def check_through_proxy(server: Server, proxy: StrictProxy, number: int, data: bytes) -> int:
    """Send bytes as one client of the proxy, and return the number of forwarded requests."""
    forwarded = 0
    own = json.dumps({"text": word(number)})[1:-1].replace(" ", "").encode()
    while data:
        try:
            request, data = first_request(data)
        except NotForwarded:
            # Without a proxy, the service may refuse the rest, or read it as some proxies do.
            replies = replies_until_closed(server.port, data + LAST)
            assert 1 <= len(replies) <= 2
            assert all(reply.status < 500 for reply in replies)
            assert not any(b'"categories"' in reply.body for reply in replies)
            if replies[0].status == 200:
                assert own in replies[0].body or data.startswith(b"GET")
            break
        head, blank_line, body = request.partition(b"\r\n\r\n")
        segments = [head + blank_line, body] if number % 2 and body else [request]
        reply = proxy.forward(*segments)
        forwarded += 1
        if request.startswith(b"GET"):
            assert reply.status == 200
            assert b'"categories"' in reply.body
        elif word(number).encode() in body.replace(b"\r\n", b""):
            assert (reply.status, own in reply.body) == (200, True)
        else:
            assert reply.status in (400, 422, 200)
            assert reply.status != 200 or own in reply.body
    return forwarded


@pytest.mark.slow
def test_no_request_is_answered_twice_or_by_another_body(server: Server) -> None:
    requests = list(itertools.product(COMBINATIONS, (False, True)))
    assert len(requests) > 10_000
    random.Random(3).shuffle(requests)
    forwarded = 0
    with StrictProxy(server.port) as proxy:
        for number, (combination, is_inner) in enumerate(requests):
            data = b"".join(head_and_body(number, combination, is_inner))
            forwarded += check_through_proxy(server, proxy, number, data)
    assert forwarded > 1500


@pytest.mark.parametrize("upgrade", UPGRADE[1:])
@pytest.mark.parametrize("coding", [None, "chunked"])
def test_an_upgrade_is_ignored_and_the_body_is_read(
    server: Server, upgrade: str, coding: str | None
) -> None:
    combination = ("Upgrade, HTTP2-Settings", upgrade, None if coding else "{0}", coding, None)
    with StrictProxy(server.port) as proxy:
        for number in range(2):
            data = b"".join(head_and_body(number, combination, is_inner=False))
            assert check_through_proxy(server, proxy, number, data) == 1
            data = b"".join(head_and_body(number, combination, is_inner=True))
            assert check_through_proxy(server, proxy, number, data) == 1


JAVA = """
import java.net.URI; import java.net.http.*;
public class Ask { public static void main(String[] a) throws Exception {
  HttpRequest r = HttpRequest.newBuilder(URI.create(a[0])).header("Content-Type", "application/json")
    .POST(HttpRequest.BodyPublishers.ofString("{\\"titles\\": \\"Mesa De Pino\\"}")).build();
  for (int i = 0; i < 2; i++) {
    HttpResponse<String> s = HttpClient.newHttpClient().send(r, HttpResponse.BodyHandlers.ofString());
    System.out.println(s.statusCode() + " " + s.body());
  }
}}
"""


@pytest.mark.slow
def test_the_http_client_of_java_gets_answers(server: Server, tmp_path: Path) -> None:
    source = tmp_path / "Ask.java"
    source.write_text(JAVA)
    url = f"http://127.0.0.1:{server.port}/predict"
    try:
        done = subprocess.run(["java", source, url], capture_output=True, text=True, check=True)
    except FileNotFoundError:
        pytest.skip("java is not installed")
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("200 ") and "TABLES" in line for line in lines)


def test_data_after_the_last_request_is_ignored(server: Server) -> None:
    body = json.dumps({"titles": ["mesa " * 100] * 1000}).encode()
    head = HEAD + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
    with socket.create_connection(("127.0.0.1", server.port), timeout=SECONDS) as connection:
        connection.sendall(head + body + INNER)
        time.sleep(0.02)
        connection.sendall(INNER * 2)
        reply = read_reply(connection.makefile("rb"))
    assert reply is not None
    assert reply.status == 200
