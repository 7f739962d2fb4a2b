"""What protects the service from its clients: limits of size and time for heads and bodies."""

from __future__ import annotations

import asyncio
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from rubro.service.metrics import Metrics
from rubro.service.problems import problem

MOST_BYTES = 2**20
# A client that is still sending does not read the answer: so much is waited for.
_MOST_DISCARDED_BYTES = 2**24
_MOST_HEAD_BYTES = 2**16
_HEAD_SECONDS = 10.0
_BODY_SECONDS = 20.0
_CLOSE = {"Connection": "close"}
_HEADERS = [(b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-cache")]


class Guard:
    """Reads the body of a request within limits, then lets the application answer; counts it.

    Args:
        app: Application.
        metrics: Counters.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 0

        async def sent(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *_HEADERS]
            await send(message)

        try:
            await self._answer(scope, receive, sent)
        finally:
            if status:
                path = getattr(scope.get("route"), "path", "other")
                self._metrics.request(path, status, time.perf_counter() - started)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with asyncio.timeout(_BODY_SECONDS):
                body = await _body(scope, receive)
        except TimeoutError:
            response = problem(408, f"no whole body in {_BODY_SECONDS:.0f} seconds", _CLOSE)
            return await response(scope, receive, send)
        except _TooLarge:
            response = problem(413, f"the body has more than {MOST_BYTES} bytes", _CLOSE)
            return await response(scope, receive, send)
        if body is None:
            return None
        left: list[Message] = [{"type": "http.request", "body": body}]

        async def replayed() -> Message:
            return left.pop() if left else await receive()

        return await self._app(scope, replayed, send)


class _TooLarge(Exception):
    pass


async def _body(scope: Scope, receive: Receive) -> bytes | None:
    """Return the body of a request; None = the client has gone."""
    length = int(dict(scope["headers"]).get(b"content-length", b"0"))
    if length > _MOST_DISCARDED_BYTES:
        raise _TooLarge
    body, size = bytearray(), 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        piece = message.get("body", b"")
        size += len(piece)
        if size <= MOST_BYTES:
            body += piece
        if size > _MOST_DISCARDED_BYTES:
            raise _TooLarge
        if not message.get("more_body"):
            break
    if size > MOST_BYTES:
        raise _TooLarge
    return bytes(body)


class GuardedProtocol(HttpToolsProtocol):
    """HTTP/1.1 with limits for the head of a request, which uvicorn does not have."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request, not forever."""
        super().connection_made(transport)
        self._head_bytes = 0
        self._head_ends: asyncio.TimerHandle | None = None
        self._begin_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the time limit."""
        self._end_head()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Close the connection where a head has no end."""
        super().data_received(data)
        if self._head_ends is not None:
            self._head_bytes += len(data)
            if self._head_bytes > _MOST_HEAD_BYTES:
                self._give_up()

    def on_message_begin(self) -> None:
        """Start the time limit of a head."""
        super().on_message_begin()
        if self._head_ends is None:
            self._begin_head()

    def on_headers_complete(self) -> None:
        """End the time limit of a head."""
        self._end_head()
        super().on_headers_complete()

    def _begin_head(self) -> None:
        self._head_bytes = 0
        self._head_ends = self.loop.call_later(_HEAD_SECONDS, self._give_up)

    def _end_head(self) -> None:
        if self._head_ends is not None:
            self._head_ends.cancel()
            self._head_ends = None

    def _give_up(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()
