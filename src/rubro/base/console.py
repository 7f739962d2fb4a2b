"""Print the messages, progress bars and errors of commands, and set their exit codes."""

from __future__ import annotations

import errno
import os
import re
import sys
import textwrap
import threading
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from io import BufferedReader, RawIOBase
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, cast

from rubro.base.errors import RubroError
from rubro.base.memory import free_reserve, is_memory_error, limit_memory
from rubro.base.signals import ended_by_signals, exit_code

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import ProgressColumn

EXIT_BAD_INPUT = 2
_MOST_CHARACTERS = 300
_FULL = (errno.ENOSPC, errno.EDQUOT)
_NOT_WRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EBADF)
_KEPT = "\n\t\u200c\u200d"  # the last two join letters and emoji
_LINE_START = re.compile(r"\n(?=\S)")


class _Visible(dict[int, str]):
    """Table for str.translate that replaces control and format characters, filled on demand."""

    def __missing__(self, code: int) -> str:
        char = chr(code)
        is_hidden = unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp")
        self[code] = "·" if is_hidden and char not in _KEPT else char
        return self[code]


_VISIBLE = _Visible()


def visible(text: str) -> str:
    """Replace characters that control the terminal or hide text with a dot.

    These are control characters, such as the start of an escape sequence, text direction marks,
    invisible characters and halves of surrogate pairs. Line breaks and tabs are kept.

    Args:
        text: Any text.

    Returns:
        Text of the same length.
    """
    return text if text.isascii() and text.isprintable() else text.translate(_VISIBLE)


def printable(text: str) -> str:
    """Make text visible on one line, and cut long text.

    Args:
        text: Any text; only its first 300 characters are kept.
    """
    shown = visible(text[:_MOST_CHARACTERS]).replace("\n", "·").replace("\t", "·")
    return shown + "…" * (len(text) > _MOST_CHARACTERS)


class _VisibleStream:
    """Stream that replaces control characters in the text, or UTF-8 bytes, that it passes on.

    Args:
        stream: Stream that receives the text. rich writes to it directly.
    """

    def __init__(self, stream: Any) -> None:
        self.rich_proxied_file = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self.rich_proxied_file, name)

    @property
    def buffer(self) -> _VisibleStream:
        return self  # so that the bytes get the encoding of the terminal

    def write(self, text: str | bytes) -> int:
        shown = text if isinstance(text, str) else bytes(text).decode("utf-8", "replace")
        self.rich_proxied_file.write(visible(shown))
        return len(text)

    def writelines(self, lines: Iterable[str | bytes]) -> None:
        for line in lines:
            self.write(line)


def show_control_characters() -> None:
    """Replace control characters by dots in all text that this process prints for people.

    This applies to standard error, including usage errors, warnings, tracebacks and logs, and to
    standard output if it is a terminal. Programs that read standard output get exact text.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)  # None if it is closed
        if stream is None or isinstance(stream, _VisibleStream):
            continue
        if name == "stdout" and stream.isatty():
            stream.reconfigure(errors="replace")  # it may have an old encoding
        if name == "stderr" or stream.isatty():
            setattr(sys, name, _VisibleStream(stream))


@cache
def console() -> Console:
    """Return a console that writes to standard error."""
    # Slow to import, and not every command prints messages.
    from rubro.base.rich_console import PlainConsole

    return PlainConsole(stderr=True, soft_wrap=True)


@contextmanager
def reported_errors() -> Iterator[None]:
    """End the process with a message and an exit code after a signal or a user error.

    Exit codes: 2 for a wrong file, a wrong parameter, a full disk or too little memory; 128 + N if
    signal N ended the command (130 for Ctrl-C). Any other exception is a bug and passes through.
    """
    limit_memory()
    threading.excepthook = _thread_ended
    try:
        with ended_by_signals():
            yield
    except RubroError as error:
        _refuse(str(error))
    except KeyboardInterrupt as end:
        with suppress(OSError):  # the terminal may be gone
            say("interrupted; run the same command again to resume", style="yellow")
        sys.exit(exit_code(end))
    except Exception as error:
        end_if_machine_error(error)
        raise


def _thread_ended(arguments: threading.ExceptHookArgs) -> None:
    """End the process if a lack of memory or disk space ended a thread.

    Other threads may wait for that thread forever.
    """
    try:
        end_if_machine_error(arguments.exc_value)
    except SystemExit:
        os._exit(EXIT_BAD_INPUT)
    threading.__excepthook__(arguments)


def end_if_machine_error(error: BaseException | None) -> None:
    """End the process with a message and exit code 2 if missing memory or the disk caused an error."""
    free_reserve()
    reason = _machine_error(error)
    if reason is not None:
        _refuse(reason)


def _machine_error(error: BaseException | None) -> str | None:
    """Return a message if a lack of memory or the disk caused an error, otherwise None.

    The exceptions that led to the error are checked too.
    """
    while error is not None:
        text = str(error).partition("\n")[0]
        number = error.errno if isinstance(error, OSError) else None
        if is_memory_error(error):
            return (
                f"Not enough memory{text and f' ({text})'}. Free some memory, raise the memory limit of "
                "this process or container, or choose smaller sizes."
            )
        # safetensors reports an error number in its text; torch.save gives no reason.
        if number in _FULL or "(os error 28)" in text or "inline_container.cc" in text:
            return f"No space left ({text}). Free some disk space, then run the same command again."
        if number == errno.EFBIG:
            return f"{text}. Raise the limit of file sizes (ulimit -f), or write a smaller file."
        if "(os error " in text or number in _NOT_WRITABLE:
            return text
        if isinstance(error, FileNotFoundError) and "temporary directory" in text:
            return f"{text}. Set TMPDIR to a folder that you can write to."
        if isinstance(error, FileNotFoundError):
            return f"{error.filename}: no such file" if error.filename else text
        if isinstance(error, OSError) and error.filename is not None:
            return text
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return None


def _refuse(message: str) -> NoReturn:
    try:
        say(f"error: {message}", style="red")
    except (ImportError, MemoryError):  # too little memory for rich
        os.write(2, f"error: {visible(message)}\n".encode("utf-8", "backslashreplace"))
    sys.exit(EXIT_BAD_INPUT)


def say(message: str, style: str | None = None) -> None:
    """Print a message to standard error, with its second and later lines indented.

    In a terminal, long lines end between words. Lines that are already indented stay whole, because
    they are commands that people copy.

    Args:
        message: Message, which may quote any text. Its lines are indented, so that a name with a
            line break cannot look like another message.
        style: Style of rich, such as a colour.
    """
    text = _LINE_START.sub("\n  ", message)
    if console().is_terminal:
        first, *others = visible(message).split("\n")
        lines = [_wrapped(first, ""), *(_wrapped(line, "  ") for line in others)]
        text = "\n".join(lines)
    console().print(text, style=style)


def _wrapped(line: str, indent: str) -> str:
    """Return a line of a message, indented and broken between words unless it is indented already."""
    if not line or line[0].isspace():
        return line
    return textwrap.fill(
        line,
        console().width,
        initial_indent=indent,
        subsequent_indent="  ",
        break_long_words=False,
        break_on_hyphens=False,
    )


@contextmanager
def file_progress(path: Path) -> Iterator[BufferedReader]:
    """Open a file for reading bytes, with a progress bar if standard error is a terminal.

    Args:
        path: Path of an existing file.
    """
    from rich.progress import Progress

    hidden = not console().is_terminal
    columns = progress_columns()
    with (
        Progress(*columns, console=console(), disable=hidden, transient=True) as progress,
        progress.open(path, "rb", description=path.name) as file,
    ):
        yield BufferedReader(cast(RawIOBase, file))


def progress_columns() -> tuple[ProgressColumn, ...]:
    """Return the columns of progress bars: name, percentage, bar and remaining time."""
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn

    name = TextColumn("{task.description}", markup=False)
    return name, TaskProgressColumn(), BarColumn(), TimeRemainingColumn()


def output_console() -> Console:
    """Return a console for standard output that replaces characters it cannot encode."""
    # Files and terminals with an old encoding cannot hold every title.
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")
    from rubro.base.rich_console import PlainConsole

    return PlainConsole()
