"""Print the messages, progress bars and errors of commands, and set their exit codes."""

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
_NOT_WRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EBADF)


@cache
def console() -> Console:
    """Return a rich console that writes to standard error."""
    from rich.console import Console  # slow to import, and not every command prints messages

    return Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)


@contextmanager
def reported_errors() -> Iterator[None]:
    """End the process with a message and an exit code after a signal or a user error.

    Exit codes: 2 for a wrong file, a wrong parameter or a full disk; 128 + N if signal N ended the
    command (130 for Ctrl-C). Any other exception is a bug and passes through.
    """
    try:
        with ended_by_signals():
            yield
    except RubroError as error:
        _refuse(str(error))
    except FileNotFoundError as error:
        missing = error.filename or error
        _refuse(f"{missing}: no such file. Run `dvc repro`, which writes the inputs of each stage.")
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
    """Return a message if the disk caused an error or one of its causes, otherwise None."""
    while error is not None:
        text = str(error).partition("\n")[0]
        number = error.errno if isinstance(error, OSError) else None
        # safetensors reports an error number in its text; torch.save gives no reason.
        if number in _FULL or "(os error 28)" in text or "inline_container.cc" in text:
            return f"No space left ({text}). Free some disk space, then run the same command again."
        if number == errno.EFBIG:
            return f"{text}. Raise the limit of file sizes (ulimit -f), or write a smaller file."
        if "(os error " in text or number in _NOT_WRITABLE:
            return text
        if isinstance(error, OSError) and error.filename is not None:
            return text
        error = error.__cause__
    return None


def _refuse(message: str) -> NoReturn:
    # A message may quote bytes that cannot be printed.
    message = message.encode("utf-8", "backslashreplace").decode("utf-8")
    console().print(f"error: {message}", style="red", markup=False)
    sys.exit(EXIT_BAD_INPUT)


def say(message: str) -> None:
    """Print a message to standard error."""
    console().print(message, markup=False)


@contextmanager
def file_progress(path: Path) -> Iterator[BufferedReader]:
    """Open a file for reading bytes, with a progress bar if standard error is a terminal.

    Args:
        path: Path of an existing file.
    """
    from rich.progress import Progress

    with (
        Progress(console=console(), disable=not console().is_terminal, transient=True) as progress,
        progress.open(path, "rb", description=path.name) as file,
    ):
        yield BufferedReader(cast(RawIOBase, file))


def printable(text: str) -> str:
    """Replace unprintable characters, such as terminal escapes, and cut long text.

    Args:
        text: Any text; only its first 300 characters are kept.
    """
    shown = "".join(char if char.isprintable() else "·" for char in text[:_MOST_CHARACTERS])
    return shown + "…" * (len(text) > _MOST_CHARACTERS)


def output_console() -> Console:
    """Return a console for standard output that replaces characters it cannot encode."""
    # Terminals with an old encoding cannot print every title.
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False)
