"""Open the socket of the service, and run uvicorn until a signal stops it."""

from __future__ import annotations

import signal
import socket

import uvicorn
from fastapi import FastAPI

from rubro.base.errors import DataError
from rubro.service.guard import GuardedProtocol

_KEEP_ALIVE_SECONDS = 30
_STOP_SECONDS = 30
_BACKLOG = 2048


def open_socket(host: str, port: int) -> socket.socket:
    """Open a socket that listens for connections.

    Args:
        host: Name or address of this machine to listen on.
        port: Port number; 0 = any free port.

    Raises:
        DataError: The address is in use or does not belong to this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except (OSError, UnicodeError) as error:
        raise DataError(
            f"{host}:{port}: {error}; choose another address with --host and --port"
        ) from None


def run_server(app: FastAPI, listening: socket.socket) -> None:
    """Answer requests until SIGTERM or Ctrl-C, and finish the requests that have begun.

    Args:
        app: FastAPI application that answers the requests.
        listening: Listening socket, which is closed at the end.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed.
    """
    # Ignored, because uvicorn has stopped when it raises its signals again.
    signal.signal(signal.SIGTERM, lambda *_: None)
    config = uvicorn.Config(
        app,
        http=GuardedProtocol,
        ws="none",
        log_config=None,
        log_level="error",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_STOP_SECONDS,
    )
    uvicorn.Server(config).run(sockets=[listening])
