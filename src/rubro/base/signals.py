"""Handle signals that end a command: from Ctrl-C, a scheduler or a closed terminal."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU")
ENDING = [
    getattr(signal, name) for name in _NAMES if hasattr(signal, name)
]  # Windows lacks most of them


class Ended(KeyboardInterrupt):
    """Raised when a signal that ends the command arrives.

    Args:
        number: Number of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def exit_code(end: KeyboardInterrupt) -> int:
    """Return the exit code that shells use for a command that was ended by a signal."""
    return 128 + (end.number if isinstance(end, Ended) else signal.SIGINT)


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Raise Ended in the main thread when a signal arrives that would end the process.

    Ignored signals stay ignored, such as SIGHUP after `nohup`.
    """
    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in ENDING:
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, _raise)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _raise(number: int, _: object) -> None:
    raise Ended(number)
