"""Signals that end a command: Ctrl-C, a scheduler's, and that of a closed terminal."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU")
ENDING = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]  # Windows has few


class Ended(KeyboardInterrupt):
    """A signal has come that ends the command.

    Args:
        number: Number of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def exit_code(end: KeyboardInterrupt) -> int:
    """Return the exit code of a shell for a command that a signal has ended."""
    return 128 + (end.number if isinstance(end, Ended) else signal.SIGINT)


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Raise Ended at a signal that ends a command, in the main thread.

    A signal that is ignored, as SIGHUP is after `nohup`, stays ignored.
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
