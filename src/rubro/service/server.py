"""Open the socket of the service, and run uvicorn until a signal stops it."""

from __future__ import annotations

import asyncio
import signal
import socket
from contextlib import suppress

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.flow_control import CLOSE_HEADER

from rubro.base.errors import DataError
from rubro.base.signals import ENDING, Ended
from rubro.service.protocol import IDLE_SECONDS, MAX_HEAD_BYTES, LimitedProtocol

_STOP_SECONDS = 30
_BACKLOG = 2048


def open_socket(host: str, port: int) -> socket.socket:
    """Open a socket that listens for connections.

    Args:
        host: Name or address of this machine to listen on; :: also accepts IPv4 if the system can.
        port: Port number; 0 = any free port.

    Raises:
        DataError: The address is empty, is in use or does not belong to this machine.
    """
    if not host.strip():
        raise DataError("--host is empty; use 0.0.0.0 to listen on every IPv4 address")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    has_both = host == "::" and socket.has_dualstack_ipv6()
    try:
        return socket.create_server(
            (host, port), family=family, backlog=_BACKLOG, dualstack_ipv6=has_both
        )
    except (OSError, UnicodeError) as error:
        raise DataError(
            f"{host}:{port}: {error}; choose another address with --host and --port"
        ) from None


class _Server(uvicorn.Server):
    """uvicorn's server, which also answers connections that are not yet accepted when it stops."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept the waiting connections, and answer all requests that have begun."""
        headers = self.server_state.default_headers
        self.server_state.default_headers = [*headers, CLOSE_HEADER]
        accepted = []
        for each in sockets or []:
            each.setblocking(False)
            with suppress(OSError):  # none waits, or no more can be opened
                while True:
                    accepted.append(each.accept()[0])
        # This follows immediately, because it resets connections that arrive after the loop above.
        for server in self.servers:
            server.close()
        for each in accepted:
            await asyncio.get_running_loop().connect_accepted_socket(self._protocol, each)
        await super().shutdown(sockets)

    def _protocol(self) -> LimitedProtocol:
        return LimitedProtocol(self.config, self.server_state, self.lifespan.state)


def run_server(app: FastAPI, listening: socket.socket) -> None:
    """Answer requests until a signal arrives, and finish the requests that have begun.

    Args:
        app: FastAPI application that answers the requests.
        listening: Listening socket, which is closed at the end.

    Raises:
        Ended: A signal other than SIGTERM stopped the service.
    """
    config = uvicorn.Config(
        app,
        http=LimitedProtocol,
        ws="none",
        workers=1,  # otherwise, uvicorn reads WEB_CONCURRENCY
        log_config=None,
        log_level="error",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=_STOP_SECONDS,
        h11_max_incomplete_event_size=MAX_HEAD_BYTES,
    )
    server = _Server(config)
    received: list[int] = []

    def stop(number: int, _: object) -> None:
        received.append(number)
        server.handle_exit(number, None)

    for number in ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, stop)
    # uvicorn has its own handlers for SIGINT and SIGTERM, and raises them again after it has stopped.
    server.run(sockets=[listening])
    if received[0] != signal.SIGTERM:
        raise Ended(received[0])
