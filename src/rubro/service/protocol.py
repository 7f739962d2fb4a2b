"""Limit how long a connection waits for its client, and how many connections are open."""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.h11_impl import H11Protocol

from rubro.service.problems import problem_response

MAX_HEAD_BYTES = 2**16
IDLE_SECONDS = 30
_MAX_OVERHEAD_BYTES = 2**14  # of chunk sizes, in addition to the length of the body
_SLICE_BYTES = 2**12  # received data that is parsed at once
_HEAD_SECONDS = 10  # for the head of the first request
_READ_SECONDS = 30  # for reading an answer
_LAST_SECONDS = 1  # for a request that is on its way when the service stops
_MAX_CONNECTIONS = 2048
_RESERVED_FILES = 64  # descriptors that are not connections


class _Flow(FlowControl):
    """Flow control that resumes reading only if few bytes of later requests are waiting.

    uvicorn resumes reading after each request.
    """

    def __init__(self, transport: asyncio.Transport, conn: h11.Connection) -> None:
        super().__init__(transport)
        self._conn = conn

    def resume_reading(self) -> None:
        if self.read_paused and len(self._conn.trailing_data[0]) <= MAX_HEAD_BYTES:
            super().resume_reading()


class LimitedProtocol(H11Protocol):
    """uvicorn's HTTP/1.1 protocol with limits on the time that a client takes to send or to read.

    uvicorn closes idle connections with a timer. Here, the timer also runs while the client sends
    the head of a request (request line and headers) or reads an answer. When the timer expires, the
    connection is dropped together with the data that the client has not read.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request; drop other connections if there are too many."""
        super().connection_made(transport)
        self.flow = _Flow(transport, self.conn)
        self._is_half_closed = False
        self._overhead = 0
        self._wait_for_client(_HEAD_SECONDS)
        if len(self.connections) > _max_connections():
            self._drop_some()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timer."""
        super().connection_lost(exc)
        self._unset_keepalive_if_required()

    def data_received(self, data: bytes) -> None:
        """Read requests; the timer runs until the head of a request is complete."""
        for start in range(0, len(data), _SLICE_BYTES):
            # Data after the last request is ignored.
            if self.transport.is_closing() or self.conn.their_state is h11.MUST_CLOSE:
                break
            self._read(data[start : start + _SLICE_BYTES])

    def _read(self, data: bytes) -> None:
        cycle = self.cycle
        before = len(cycle.body) if cycle is not None else 0
        self.conn.receive_data(data)
        self.handle_events()
        if cycle is not self.cycle or not self._is_answering() or not cycle.more_body:
            self._overhead = 0
            return
        # Parsing a chunk takes a long time, so the body must not consist of tiny chunks.
        self._overhead = max(0, self._overhead + len(data) - 2 * (len(cycle.body) - before))
        if self._overhead > _MAX_OVERHEAD_BYTES and not self.transport.is_closing():
            self.send_400_response("")

    def eof_received(self) -> bool:  # type: ignore[override]
        """Return whether to keep the connection because a complete request is being answered."""
        self._is_half_closed = True
        return self._is_answering() and not self.cycle.more_body

    def pause_writing(self) -> None:
        """Start the timer within which the client must read the answer."""
        super().pause_writing()
        self._wait_for_client(_READ_SECONDS)

    def on_response_complete(self) -> None:
        """Continue with the next request, or wait until the client has read the last answer."""
        super().on_response_complete()
        self._waiting_since = self.loop.time()
        if self._is_half_closed and not self._is_answering():
            self.transport.close()
        if self.transport.is_closing():
            self._wait_for_client(_READ_SECONDS)

    def send_400_response(self, msg: str) -> None:
        """Refuse a request that is not valid HTTP/1.1, and close the connection."""
        detail = (
            "the request is not valid HTTP/1.1, its headers or trailers are too long, or its chunks are "
            "too short"
        )
        refusal = problem_response(400, detail, {"Connection": "close"})
        head = h11.Response(status_code=400, headers=refusal.raw_headers, reason=b"Bad Request")
        for event in (head, h11.Data(data=bytes(refusal.body)), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event))
        self.transport.close()
        self._wait_for_client(_READ_SECONDS)
        if self._is_answering():
            self.cycle.disconnected = True
            self.cycle.message_event.set()

    def shutdown(self) -> None:
        """Close the connection after the current request, or one that arrives within a second."""
        if self._is_answering():
            self.cycle.default_headers = self.server_state.default_headers
            self.cycle.keep_alive = False
        else:
            self._unset_keepalive_if_required()
            self._wait_for_client(_LAST_SECONDS)

    def timeout_keep_alive_handler(self) -> None:
        """Drop the connection, because the client has been idle or slow for too long."""
        self.transport.abort()

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _wait_for_client(self, seconds: float) -> None:
        if self.timeout_keep_alive_task is None:
            self._waiting_since = self.loop.time()
            end = self.timeout_keep_alive_handler
            self.timeout_keep_alive_task = self.loop.call_later(seconds, end)

    def _drop_some(self) -> None:
        """Drop the connections that have waited longest for their clients, unread answers first."""

        def rank(each: Any) -> tuple[bool, bool, float]:
            has_read = each.transport.get_write_buffer_size() == 0
            return each is self, has_read, each._waiting_since

        connections: set[Any] = self.connections  # of this class only
        waiting = [
            each
            for each in connections
            if each.timeout_keep_alive_task is not None or each.cycle.more_body
        ]
        # Several connections are dropped, because sorting takes longer than accepting a connection.
        for each in sorted(waiting, key=rank)[: len(waiting) // 16 + 1]:
            connections.discard(each)
            each.transport.abort()


def _max_connections() -> int:
    try:
        import resource
    except ImportError:  # on Windows
        return _MAX_CONNECTIONS
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return min(_MAX_CONNECTIONS, max(files - _RESERVED_FILES, 1))
