"""Open the socket of the service, and run uvicorn until a signal stops it."""

from __future__ import annotations

import asyncio
import errno
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

import uvicorn
from uvicorn.protocols.http.flow_control import CLOSE_HEADER

from rubro.base.errors import DataError
from rubro.base.signals import ENDING, Ended
from rubro.service.app import App
from rubro.service.protocol import IDLE_SECONDS, MAX_HEAD_BYTES, LimitedProtocol
from rubro.service.systemd import inherited_sockets, keep_socket, notify

_STOP_SECONDS = 30
_BACKLOG = 2048


def open_socket(host: str, port: int) -> socket.socket:
    """Open a socket that listens for connections, or use the one that systemd kept.

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
        found = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)[0][4][:2]
        kept = None
        for each in inherited_sockets():
            if each.getsockname()[:2] == found:
                kept = each
            else:
                each.close()
        listening = kept or socket.create_server(
            (host, port), family=family, backlog=_BACKLOG, dualstack_ipv6=has_both
        )
        if kept is None:
            keep_socket(listening)
        return listening
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        remedy = "choose another address with --host and --port"
        if getattr(error, "errno", None) == errno.EADDRINUSE:
            reason = f"another program already listens on port {port}"
            remedy = "choose another port with --port (0 = any free port), or stop that program"
        raise DataError(f"{host}:{port}: {reason}; {remedy}") from None


class _Server(uvicorn.Server):
    """uvicorn's server, which also answers connections that are not yet accepted when it stops.

    Args:
        config: Settings of uvicorn.
        on_stop: Function that is called with the signal when the service begins to stop.

    Attributes:
        received: Signals that have arrived.
    """

    def __init__(self, config: uvicorn.Config, on_stop: Callable[[signal.Signals], None]) -> None:
        super().__init__(config)
        self.received: list[int] = []
        self._on_stop = on_stop

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop, because a signal has arrived."""
        self.received.append(sig)
        super().handle_exit(sig, frame)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer connections, and report to systemd that the service is ready."""
        await super().startup(sockets)
        notify("READY=1")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept the waiting connections, and answer all requests that have begun."""
        notify("STOPPING=1")
        self._on_stop(signal.Signals(self.received[0]))
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


def run_server(app: App, listening: socket.socket) -> None:
    """Answer requests until a signal arrives, and finish the requests that have begun.

    Args:
        app: Application that answers the requests.
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
    server = _Server(config, lambda number: app.service.stop(number.name))

    for number in ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, server.handle_exit)
    # uvicorn has its own handlers for SIGINT and SIGTERM, and raises them again after it has stopped.
    server.run(sockets=[listening])
    if server.received[0] != signal.SIGTERM:
        raise Ended(server.received[0])
