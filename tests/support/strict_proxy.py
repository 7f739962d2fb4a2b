"""Forward HTTP/1.1 requests strictly, over one connection that all clients share.

The proxy frames requests by the rules of RFC 9112 and refuses requests that the rules do not
allow. If the server read a request in another way, the next response on the shared connection would
be wrong.
"""

from __future__ import annotations

import re
import select
import socket
from dataclasses import dataclass
from io import BufferedReader
from typing import Self

from support.serving import SECONDS

_REQUEST_LINE = re.compile(rb"[A-Z]+ [!-~]+ HTTP/1\.([01])")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t -~\x80-\xff]*?)[ \t]*")
_CHUNK = re.compile(rb"([0-9A-Fa-f]+)\r\n")


class NotForwarded(Exception):
    """The request is incomplete, or the rules do not allow it."""


@dataclass(frozen=True)
class Reply:
    """A response on a raw connection."""

    status: int
    headers: dict[str, str]
    body: bytes


def first_request(data: bytes) -> tuple[bytes, bytes]:
    """Return the bytes of the first request, and the bytes after it.

    Raises:
        NotForwarded: There is not exactly one way to read the request.
    """
    head, blank_line, rest = data.partition(b"\r\n\r\n")
    request_line, *lines = head.split(b"\r\n")
    version = _REQUEST_LINE.fullmatch(request_line)
    found = [_HEADER.fullmatch(line) for line in lines]
    if not blank_line or version is None or None in found:
        raise NotForwarded
    headers: dict[str, list[bytes]] = {}
    for match in found:
        assert match is not None
        headers.setdefault(match[1].decode().lower(), []).append(match[2])
    lengths = headers.get("content-length", [])
    if "transfer-encoding" in headers:
        codings = b",".join(headers["transfer-encoding"]).lower()
        if lengths or codings != b"chunked" or version[1] == b"0":
            raise NotForwarded
        size = _chunked_size(rest)
    elif lengths:
        if len(lengths) > 1 or not lengths[0].isdigit():
            raise NotForwarded
        size = int(lengths[0])
    else:
        size = 0
    if size > len(rest):
        raise NotForwarded
    end = len(head) + len(blank_line) + size
    return data[:end], data[end:]


def _chunked_size(data: bytes) -> int:
    place, size = 0, -1
    while size != 0:
        chunk = _CHUNK.match(data, place)
        if chunk is None:
            raise NotForwarded
        size = int(chunk[1], 16)
        place = chunk.end() + size + 2
        if data[place - 2 : place] != b"\r\n":
            raise NotForwarded
    return place


def read_reply(file: BufferedReader) -> Reply | None:
    """Return the next final response, or None if the server closed the connection instead."""
    while line := file.readline():
        status = int(re.fullmatch(rb"HTTP/1\.1 ([0-9]{3}) [^\r\n]*\r\n", line)[1])  # type: ignore[index]
        headers = {}
        while (line := file.readline()) != b"\r\n":
            name, _, value = line.decode().partition(":")
            headers[name.lower()] = value.strip()
        if status != 100:
            body = file.read(int(headers["content-length"]))
            assert len(body) == int(headers["content-length"])
            return Reply(status, headers, body)
    return None


def replies_until_closed(port: int, data: bytes) -> list[Reply]:
    """Send bytes on a new connection, and return all responses."""
    replies = []
    with socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as connection:
        file = connection.makefile("rb")
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            while reply := read_reply(file):
                replies.append(reply)
        except ConnectionError:  # the server closed the connection before it had read everything
            pass
    return replies


class StrictProxy:
    """Proxy in front of a server on this machine.

    Args:
        port: Port of the server.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._shared: tuple[socket.socket, BufferedReader] | None = None

    def forward(self, *segments: bytes) -> Reply:
        """Send one request in segments over the shared connection, and return its response."""
        if self._shared is not None:
            connection, file = self._shared
            if select.select([connection], [], [], 0)[0]:
                assert connection.recv(2**16) == b"", "there is a response without a request"
                self.close()
        if self._shared is None:
            connection = socket.create_connection(("127.0.0.1", self._port), timeout=SECONDS)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._shared = connection, connection.makefile("rb")
        connection, file = self._shared
        for segment in segments:
            connection.sendall(segment)
        reply = read_reply(file)
        assert reply is not None, "the request has no response"
        if reply.headers.get("connection") == "close":
            assert file.read() == b""
            self.close()
        return reply

    def close(self) -> None:
        """Close the shared connection."""
        if self._shared is not None:
            self._shared[1].close()
            self._shared[0].close()
            self._shared = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
