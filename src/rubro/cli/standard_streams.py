"""Prepare standard input and output, which may be closed or have an old encoding."""

from __future__ import annotations

import os
import sys
from io import TextIOBase, TextIOWrapper
from typing import Any, NoReturn

from rubro.base.errors import RubroError


class _ClosedStream(TextIOBase):
    """Replacement for a closed standard stream, which raises RubroError when a command uses it."""

    def __init__(self, message: str) -> None:
        self._message = message

    def _refuse(self, *_: Any) -> NoReturn:
        raise RubroError(self._message)

    buffer = property(_refuse)
    fileno = isatty = read = readline = write = _refuse


def prepare_standard_streams() -> None:
    """Write UTF-8 to pipes and files, and make closed standard streams raise RubroError.

    The file descriptors of closed streams are opened, so that no other file gets their numbers.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    if sys.stdin is None:
        sys.stdin = _ClosedStream("standard input is closed; name a file, or pipe titles in")
    if sys.stdout is None:
        sys.stdout = _ClosedStream("standard output is closed; redirect it to a file")
    if isinstance(sys.stdout, TextIOWrapper) and not sys.stdout.isatty():
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
