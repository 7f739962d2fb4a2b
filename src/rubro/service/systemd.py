"""Report to systemd that the service is ready, and let systemd keep its socket during a restart.

While the service restarts, systemd keeps the listening socket open, so new connections wait in its
queue instead of being refused. Without systemd, these functions do nothing. They implement the
protocols of sd_notify(3), sd_listen_fds(3) and sd_pid_notify_with_fds(3).
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress

_FIRST_FILE = 3
_NAME = "FDNAME=listening"


def inherited_sockets() -> list[socket.socket]:
    """Return the listening sockets that systemd kept from before the restart, or opened."""
    is_meant = os.environ.pop("LISTEN_PID", "") == str(os.getpid())
    count = int(os.environ.pop("LISTEN_FDS", "0")) if is_meant else 0
    return [socket.socket(fileno=_FIRST_FILE + number) for number in range(count)]


def keep_socket(listening: socket.socket) -> None:
    """Ask systemd to keep a listening socket open until the service is stopped for good.

    Args:
        listening: Listening socket, which replaces the sockets that systemd kept before.
    """
    notify(f"FDSTOREREMOVE=1\n{_NAME}")
    notify(f"FDSTORE=1\n{_NAME}", listening.fileno())


def notify(message: str, *files: int) -> None:
    """Send a message to systemd; errors are ignored, because containers inherit unusable addresses.

    Args:
        message: Assignments that sd_notify(3) defines, such as READY=1.
        files: Descriptors of open files that systemd should keep.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection:
        connection.connect(address.replace("@", "\0", 1) if address[0] == "@" else address)
        socket.send_fds(connection, [message.encode()], [*files])
