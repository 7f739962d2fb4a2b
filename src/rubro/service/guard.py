"""Limit the size and duration of requests and the memory that they use together."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rubro.service.logs import log_event
from rubro.service.metrics import ServiceMetrics
from rubro.service.problems import problem_response

Take = Callable[[int], None]  # takes a number of bytes of the memory for all requests
MAX_BODY_BYTES = 2**20
# A client reads the answer only after it has sent the body, so larger bodies are read and discarded.
_MAX_DISCARDED_BYTES = 2**24
_BODY_SECONDS = 20.0
_PIECE_BYTES = 2**16
_CLOSE = {"Connection": "close"}
_HEADERS = [(b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-cache")]
# Addresses and names that no web page of a stranger can have, because its name contains a dot.
_LOCAL_HOST = re.compile(r"\[[0-9a-f:.]+\]|[0-9.]+|[^.]*|.*\.localhost", re.IGNORECASE)
# Estimated memory of a request without its body and answer, and of a byte of JSON as Python objects.
_REQUEST_BYTES = 2**13
_BYTES_PER_JSON_BYTE = 24


class Budget:
    """Memory that the requests in progress may use together.

    Args:
        size: Number of bytes.
    """

    def __init__(self, size: int) -> None:
        self._free = size

    @contextmanager
    def share(self) -> Iterator[Take]:
        """Let a request use a part of the memory until the end of the block.

        Yields:
            Function that reserves a number of bytes, or raises an HTTPException (status 503) if
            fewer bytes are free.
        """
        taken = 0

        def take(size: int) -> None:
            nonlocal taken
            if size > self._free:
                detail = "too many requests, or too large ones, are waiting; try again later"
                raise HTTPException(503, detail, {"Retry-After": "1"})
            self._free -= size
            taken += size

        try:
            yield take
        finally:
            self._free += taken


class Guard:
    """ASGI middleware that limits requests and counts them.

    Endpoints take memory for their answers with the function `take` of the request's state.

    Args:
        app: ASGI application that answers the requests.
        metrics: Prometheus metrics that count the requests.
        budget: Memory that the requests may use.
        hosts: Names in the Host header, in addition to addresses and local names, that are accepted;
            None = accept every name.
        root_path: Prefix that a proxy adds to the paths, for the OpenAPI description.
        logs_requests: Whether to write a line for each request to the log.
    """

    def __init__(
        self,
        app: ASGIApp,
        metrics: ServiceMetrics,
        budget: Budget,
        hosts: frozenset[str] | None,
        root_path: str,
        logs_requests: bool = False,
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._budget = budget
        self._hosts = hosts
        self._root_path = root_path
        self._logs_requests = logs_requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, and record its status and duration in the metrics."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 0
        # The server does not send the body of an answer to HEAD.
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        path = _path(str(scope["path"]), self._root_path)
        scope = {**scope, "method": method, "path": path, "root_path": self._root_path}

        async def send_in_pieces(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *_HEADERS]
                return await send(message)
            # Each piece waits until the client has read the pieces before it, so the memory of the
            # answer becomes free for other requests only when it is no longer used.
            body = message.get("body", b"")
            for start in range(0, max(len(body), 1), _PIECE_BYTES):
                piece = body[start : start + _PIECE_BYTES]
                is_last = start + _PIECE_BYTES >= len(body)
                more_body = message.get("more_body", False) or not is_last
                await send({**message, "body": piece, "more_body": more_body})
            return None

        try:
            with self._budget.share() as take:
                scope["state"] = {**scope.get("state", {}), "take": take}
                await self._answer(scope, receive, send_in_pieces, take)
        except asyncio.CancelledError:  # the service stops, and the time for begun requests is over
            if not status:
                refusal = problem_response(503, "the service is stopping", {"Retry-After": "1"})
                await refusal(scope, receive, send_in_pieces)
        finally:
            if status:
                # The path of the route, because arbitrary paths of clients would fill the memory.
                path = getattr(scope.get("route"), "path", "other")
                self._metrics.requests.labels(path, status).inc()
                seconds = time.perf_counter() - started
                self._metrics.seconds.labels(path).observe(seconds)
                if self._logs_requests:
                    _log_request(scope, status, seconds)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, take: Take) -> None:
        request = Request(scope, receive)
        try:
            _check_framing(request)
            async with asyncio.timeout(_BODY_SECONDS):
                body = await _read_body(request, take)
            if body:  # /health has no body, and must be answered in any case
                take(_REQUEST_BYTES + _BYTES_PER_JSON_BYTE * len(body))
            self._check_headers(request)
        except TimeoutError:
            detail = f"the body did not arrive completely within {_BODY_SECONDS:.0f} seconds"
            return await problem_response(408, detail, _CLOSE)(scope, receive, send)
        except HTTPException as error:
            refusal = problem_response(error.status_code, error.detail, error.headers)
            return await refusal(scope, receive, send)
        except ClientDisconnect:
            return None
        unread: list[Message] = [{"type": "http.request", "body": body}]

        async def replay() -> Message:
            return unread.pop() if unread else await receive()

        return await self._app(scope, replay, send)

    def _check_headers(self, request: Request) -> None:
        encoding = request.headers.get("content-encoding", "identity")
        if encoding.strip().lower() not in ("", "identity"):
            detail = f"the body is encoded with {encoding[:100]}; send it without an encoding"
            raise HTTPException(415, detail, {"Accept-Encoding": "identity"})
        name = re.sub(r"\.?(:[0-9]*)?$", "", request.headers.get("host", ""))
        if self._hosts is None or _LOCAL_HOST.fullmatch(name) or name.lower() in self._hosts:
            return
        # The page of a stranger could make its name point to this machine (DNS rebinding).
        detail = f"the service is not known as {name[:100]}; start it with --allowed-host NAME"
        raise HTTPException(421, detail)


def _log_request(scope: Scope, status: int, seconds: float) -> None:
    client, *_ = scope.get("client") or ("",)
    fields = {"method": scope["method"], "path": scope["path"], "status": status}
    message = f"{scope['method']} {quote(scope['path'])}: {status}"  # no control characters
    log_event("request", message, **fields, seconds=round(seconds, 6), client=client)


def _path(path: str, root_path: str) -> str:
    """Return the path of a request without the server's address and without a slash at the end."""
    if not path.startswith("/"):
        path = "/" + path.partition("://")[2].partition("/")[2]
    stripped = path.rstrip("/")
    return path if stripped in ("", root_path) else stripped


def _check_framing(request: Request) -> None:
    """Refuse a request whose end a proxy and this service could find in different places."""
    version = request["http_version"]
    if version not in ("1.0", "1.1"):
        raise HTTPException(400, f"the service does not know HTTP/{version}", _CLOSE)
    if "transfer-encoding" in request.headers and (
        "content-length" in request.headers or version == "1.0"
    ):
        detail = "Transfer-Encoding cannot be combined with Content-Length or HTTP/1.0"
        raise HTTPException(400, detail, _CLOSE)


async def _read_body(request: Request, take: Take) -> bytes:
    too_large = HTTPException(413, f"the body has more than {MAX_BODY_BYTES} bytes", _CLOSE)
    if int(request.headers.get("content-length", 0)) > _MAX_DISCARDED_BYTES:
        raise too_large
    body, size = bytearray(), 0
    refusal: HTTPException | None = None
    async for piece in request.stream():
        size += len(piece)
        if size > _MAX_DISCARDED_BYTES:
            raise too_large
        if size > MAX_BODY_BYTES:
            refusal = too_large
        if refusal is None:
            try:
                take(len(piece))
                body += piece
            except HTTPException as error:
                refusal = error
    if refusal is not None:
        raise refusal
    return bytes(body)
