"""Limit the size and duration of requests: of their heads (request line, headers) and bodies."""

from __future__ import annotations

import asyncio
import time

from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from rubro.service.metrics import ServiceMetrics
from rubro.service.problems import problem_response

MAX_BODY_BYTES = 2**20
# A client reads the answer only after it has sent the body, so larger bodies are read and discarded.
_MAX_DISCARDED_BYTES = 2**24
_MAX_HEAD_BYTES = 2**16
_HEAD_SECONDS = 10.0
_BODY_SECONDS = 20.0
_CLOSE = {"Connection": "close"}
_HEADERS = [(b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-cache")]


class Guard:
    """ASGI middleware that limits the size and duration of request bodies, and counts requests.

    Args:
        app: ASGI application that answers the requests.
        metrics: Prometheus metrics that count the requests.
    """

    def __init__(self, app: ASGIApp, metrics: ServiceMetrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, and record its status and duration in the metrics."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *_HEADERS]
            await send(message)

        try:
            await self._answer(scope, receive, send_with_headers)
        finally:
            if status:
                # The path of the route, because arbitrary paths of clients would fill the memory.
                path = getattr(scope.get("route"), "path", "other")
                self._metrics.requests.labels(path, status).inc()
                self._metrics.seconds.labels(path).observe(time.perf_counter() - started)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with asyncio.timeout(_BODY_SECONDS):
                body = await _read_body(Request(scope, receive))
        except TimeoutError:
            detail = f"the body did not arrive completely within {_BODY_SECONDS:.0f} seconds"
            return await problem_response(408, detail, _CLOSE)(scope, receive, send)
        except _TooLarge:
            detail = f"the body has more than {MAX_BODY_BYTES} bytes"
            return await problem_response(413, detail, _CLOSE)(scope, receive, send)
        except ClientDisconnect:
            return None
        unread: list[Message] = [{"type": "http.request", "body": body}]

        async def replay() -> Message:
            return unread.pop() if unread else await receive()

        return await self._app(scope, replay, send)


class _TooLarge(Exception):
    pass


async def _read_body(request: Request) -> bytes:
    if int(request.headers.get("content-length", 0)) > _MAX_DISCARDED_BYTES:
        raise _TooLarge
    body, size = bytearray(), 0
    async for piece in request.stream():
        size += len(piece)
        if size <= MAX_BODY_BYTES:
            body += piece
        if size > _MAX_DISCARDED_BYTES:
            raise _TooLarge
    if size > MAX_BODY_BYTES:
        raise _TooLarge
    return bytes(body)


class GuardedProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 protocol, with limits on the size and duration of request headers."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the timeout for the headers of the first request."""
        super().connection_made(transport)
        self._head_timer: asyncio.TimerHandle | None = None
        self._begin_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the timeout for request headers."""
        self._end_head()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Close the connection if the headers of a request are too long."""
        super().data_received(data)
        if self._head_timer is not None:
            self._head_bytes += len(data)
            if self._head_bytes > _MAX_HEAD_BYTES:
                self.transport.close()

    def on_message_begin(self) -> None:
        """Start the timeout for the headers of the next request."""
        super().on_message_begin()
        if self._head_timer is None:
            self._begin_head()

    def on_headers_complete(self) -> None:
        """Cancel the timeout because the headers of a request are complete."""
        self._end_head()
        super().on_headers_complete()

    def _begin_head(self) -> None:
        self._head_bytes = 0
        self._head_timer = self.loop.call_later(_HEAD_SECONDS, self.transport.close)

    def _end_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
