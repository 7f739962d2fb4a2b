"""What the commands of a trained model have in common."""

from __future__ import annotations

import codecs
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from rubro.base.console import console, reported_errors, say
from rubro.base.errors import DataError, RubroError
from rubro.base.signals import Ended, exit_code
from rubro.tables.inputs import Chunk, Input

if TYPE_CHECKING:
    from rubro.prediction.classifier import Classifier

EXIT_BROKEN_PIPE = 141


@contextmanager
def quiet_ends() -> Iterator[None]:
    """Turn errors into messages, and end without any on Ctrl-C and where nobody reads the output.

    Another signal that ends a command is named. Exit codes: those of reported_errors, and 141 for a
    closed pipe.
    """
    with reported_errors():
        try:
            yield
        except KeyboardInterrupt as end:
            if isinstance(end, Ended) and end.number != signal.SIGINT:
                with suppress(OSError):  # the terminal may be gone
                    say(f"ended by {signal.Signals(end.number).name}")
            sys.exit(exit_code(end))
        except BrokenPipeError:
            # What is still buffered would be written, and fail, at the end of Python.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(EXIT_BROKEN_PIPE)


@contextmanager
def needed_packages(command: str, extras: str = "train") -> Iterator[None]:
    """Turn a missing package into a message.

    Args:
        command: Command that needs it.
        extras: Extras of this package that bring what the command needs.

    Raises:
        RubroError: A package is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        raise RubroError(
            f"{command} needs {package}, which is not installed: pip install 'rubro[{extras}]'"
        ) from None


def load_model(folder: Path) -> Classifier:
    """Return the model in a folder.

    Raises:
        DataError: There is none, or it is damaged.
    """
    from rubro.prediction.classifier import Classifier

    require_model(folder)
    return Classifier.load(folder)


def require_model(folder: Path) -> None:
    """Check that a folder holds a model.

    Raises:
        DataError: There is none.
    """
    if not (folder / "model.json").is_file():
        raise DataError(
            f"{folder}: no model there; name another folder with --model, or get one: `make repro` "
            "trains it, `dvc pull` fetches it where a remote has it, and `dvc artifacts get "
            f"REPOSITORY ensemble-classifier --out {folder}` takes it from another repository"
        )


def checked_encoding(name: str | None) -> str | None:
    """Return Python's own name of an encoding.

    Args:
        name: Value of --encoding, if there is one.

    Raises:
        DataError: Python has no encoding of text of that name.
    """
    if name is None:
        return None
    try:
        "".encode(name)  # unlike codecs.lookup, refuses codecs that are not of text
    except (LookupError, ValueError):
        raise DataError(
            f"--encoding {name}: unknown encoding; for instance utf-8, latin-1 or utf-16"
        ) from None
    return codecs.lookup(name).name


@contextmanager
def progress_bar(shown: bool) -> Iterator[Callable[[Input, str], Iterator[Chunk]]]:
    """Show a bar with rows, rate and time left, on standard error.

    Args:
        shown: Whether there is one.

    Yields:
        Function that yields the chunks of an input, and moves the bar.
    """
    if not shown:
        yield lambda source, what: source.chunks
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[rows]}"),
        TimeRemainingColumn(),
    )

    def chunks(source: Input, what: str) -> Iterator[Chunk]:
        task = progress.add_task(what, total=source.total, rows="")
        start, rows = time.monotonic(), 0
        for chunk in source.chunks:
            yield chunk
            rows += len(chunk.titles)
            rate = rows / max(time.monotonic() - start, 1e-3)
            text = f"{rows:,} rows, {rate:,.0f}/s"
            progress.update(task, completed=source.done(), rows=text)
        progress.remove_task(task)

    with Progress(*columns, console=console(), transient=True) as progress:
        yield chunks
