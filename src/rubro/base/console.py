"""Messages, progress, errors and exit codes of commands."""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from io import BufferedReader, RawIOBase
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, cast

from rubro.base.errors import RubroError
from rubro.base.signals import ended_by_signals, exit_code

if TYPE_CHECKING:
    from rich.console import Console

EXIT_BAD_INPUT = 2
_MOST_CHARACTERS = 300
_FULL = (errno.ENOSPC, errno.EDQUOT)
_NOT_WRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)


@cache
def console() -> Console:
    """Return the console of standard error."""
    from rich.console import Console  # a command that says nothing starts without it

    return Console(stderr=True, highlight=False, soft_wrap=True)


@contextmanager
def reported_errors() -> Iterator[None]:
    """Turn errors that the user can correct, and signals, into a message and an exit code.

    Exit codes: 2 for a wrong file, a wrong parameter or a full disk; 130 for Ctrl-C, and 128 + its
    number for another signal that ends a command. Any other exception is a bug and passes through.
    """
    try:
        with ended_by_signals():
            yield
    except RubroError as error:
        _refuse(str(error))
    except FileNotFoundError as error:
        missing = error.filename or error
        _refuse(f"{missing}: no such file; `dvc repro` makes the inputs of a stage")
    except KeyboardInterrupt as end:
        with suppress(OSError):  # the terminal may be gone
            console().print("interrupted; run the same command again to resume", style="yellow")
        sys.exit(exit_code(end))
    except Exception as error:
        reason = _disk_error(error)
        if reason is None:
            raise
        _refuse(reason)


def _disk_error(error: BaseException | None) -> str | None:
    """Return the message of an error of the disk; None where it is not the cause."""
    while error is not None:
        text = str(error).partition("\n")[0]
        number = error.errno if isinstance(error, OSError) else None
        # safetensors reports an error number in its text; torch.save gives no reason.
        if number in _FULL or "(os error 28)" in text or "inline_container.cc" in text:
            return f"No space left ({text}); make room, then run the same command again"
        if "(os error " in text or number in _NOT_WRITABLE:
            return text
        if isinstance(error, OSError) and error.filename is not None:
            return text
        error = error.__cause__
    return None


def _refuse(message: str) -> NoReturn:
    # A message may quote bytes that no terminal can show.
    message = message.encode("utf-8", "backslashreplace").decode("utf-8")
    console().print(f"error: {message}", style="red", markup=False)
    sys.exit(EXIT_BAD_INPUT)


def say(message: str) -> None:
    """Print a line of progress to standard error."""
    console().print(message, markup=False)


@contextmanager
def file_progress(path: Path) -> Iterator[BufferedReader]:
    """Open a file of bytes for reading; in a terminal, a bar shows the progress.

    Args:
        path: Path of an existing file.

    Yields:
        The open file.
    """
    from rich.progress import Progress

    with (
        Progress(console=console(), disable=not console().is_terminal, transient=True) as progress,
        open(path, "rb") as file,
    ):
        task = progress.add_task(path.name, total=path.stat().st_size)
        yield BufferedReader(cast(RawIOBase, progress.wrap_file(file, task_id=task)))


def printable(text: str) -> str:
    """Return text without what moves the cursor, turns the writing round or rings the bell.

    Args:
        text: Any text; its beginning alone is returned where it is long.
    """
    shown = "".join(char if char.isprintable() else "·" for char in text[:_MOST_CHARACTERS])
    return shown + "…" * (len(text) > _MOST_CHARACTERS)


def output_console() -> Console:
    """Return a console of standard output that shows any text."""
    # A terminal in an old encoding cannot show every title.
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False)
