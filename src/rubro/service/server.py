"""The server: a socket, uvicorn, and its end."""

from __future__ import annotations

import signal
import socket
from types import FrameType

import uvicorn
from fastapi import FastAPI

from rubro.base.errors import DataError
from rubro.service.guard import GuardedProtocol

_KEEP_ALIVE_SECONDS = 30
_STOP_SECONDS = 30
_BACKLOG = 2048


def open_socket(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Args:
        host: Name or address of this machine.
        port: Number of the port; 0 = any that is free.

    Raises:
        DataError: The address is in use, or is not one of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except (OSError, UnicodeError) as error:
        raise DataError(
            f"{host}:{port}: {error}; choose another address with --host and --port"
        ) from None


def run(app: FastAPI, listening: socket.socket) -> None:
    """Answer requests until SIGTERM or Ctrl-C, and then those that have begun.

    Args:
        app: Application.
        listening: Open socket, closed at the end.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed.
    """

    def stopped(number: int, frame: FrameType | None) -> None:
        """Do nothing: uvicorn raises its signals again when it has stopped."""

    signal.signal(signal.SIGTERM, stopped)
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
