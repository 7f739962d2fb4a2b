"""Run-time support shared by the commands: exit codes, model folders and progress bars."""

from __future__ import annotations

import os
import signal
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rubro.base.console import console, progress_columns, reported_errors, say
from rubro.base.errors import DataError, RubroError, remedied_by
from rubro.base.signals import Ended, exit_code
from rubro.cli.standard_streams import prepare_standard_streams

if TYPE_CHECKING:
    from rubro.base.metric_names import Objective
    from rubro.prediction.classifier import Classifier
    from rubro.prediction.folder import ModelDescription
    from rubro.prediction.thresholds import Thresholds
    from rubro.tables.inputs import Chunk, Input, Reading

EXIT_BROKEN_PIPE = 141
_EXTRAS = {"search": "train,search"}


@contextmanager
def exit_codes(ctx: Any) -> Iterator[None]:
    """Turn the errors and signals that end a command into messages and exit codes.

    A missing package is reported together with the command that installs it. Ctrl-C and a closed
    output pipe end the command without a message; any other signal is named. The exit code is 141
    for a closed pipe, and otherwise as in `reported_errors`.

    Args:
        ctx: Context of click, which knows the name of the command.
    """
    with reported_errors():
        try:
            prepare_standard_streams()
            yield
            sys.stdout.flush()
        except KeyboardInterrupt as end:
            if isinstance(end, Ended) and end.number != signal.SIGINT:
                with suppress(OSError):  # the terminal may be gone
                    say(f"ended by {signal.Signals(end.number).name}")
            sys.exit(exit_code(end))
        except OSError as error:
            try:
                sys.stdout.flush()
            except OSError:  # Python would flush again when it exits, and fail again
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            if isinstance(error, BrokenPipeError):
                sys.exit(EXIT_BROKEN_PIPE)
            raise
        except ModuleNotFoundError as error:
            command, package = ctx.invoked_subcommand, str(error.name)
            extra = _EXTRAS.get(command, "train")
            raise RubroError(
                f"rubro {command} needs the packages of the extra {extra!r}, and {package} is not "
                f"installed: pip install 'rubro[{extra}]'"
            ) from None


def load_model(folder: Path, objective: Objective | None, level: int | None = None) -> Classifier:
    """Load the model of a folder.

    Args:
        folder: Model folder.
        objective: Metric for which the model chooses categories; None = the one it was trained for.
        level: Level of the category tree that the model must have; None = it needs no tree.

    Raises:
        DataError: The folder does not contain a model, the model is damaged, or it cannot serve the
            objective or the level.
    """
    from rubro.prediction.classifier import Classifier

    with model_required(folder):
        classifier = Classifier.load(folder, objective)
    try:
        classifier.level(level)
    except ValueError as error:
        raise DataError(f"{folder}: {error}") from None
    return classifier


def load_thresholds(
    file: Path | None, folder: Path, description: ModelDescription
) -> Thresholds | None:
    """Load thresholds as `Thresholds.of_model`, and report those that are ignored.

    Args:
        file: File of thresholds; None = thresholds.json in the model folder, if it exists.
        folder: Model folder.
        description: Content of model.json in this folder.

    Raises:
        DataError: The file is damaged, or it belongs to another model; or a file is given that is
            missing or belongs to another objective.
    """
    from rubro.prediction.thresholds import THRESHOLDS_FILE, Thresholds

    found = Thresholds.of_model(folder, description, file)
    if found is None and (folder / THRESHOLDS_FILE).exists():
        say(
            f"{folder / THRESHOLDS_FILE}: chosen for another objective than {description.objective}, "
            "so every answer is accepted"
        )
    return found


def refuse_both(thresholds: Path | None, **others: bool) -> None:
    """Raise DataError if --thresholds is given together with an option that replaces it.

    Args:
        thresholds: Value of --thresholds.
        others: Whether each of the other options is given.
    """
    given = [f"--{name.replace('_', '-')}" for name, is_given in others.items() if is_given]
    if thresholds is not None and given:
        names = " and ".join(["--thresholds", *given])
        raise DataError(f"{names} cannot be combined; give only one of them")


@contextmanager
def model_required(folder: Path) -> Iterator[None]:
    """Run a block that loads a model, and explain how to get the model if it is not usable.

    Raises:
        DataError: The folder does not contain a model, or the model is damaged.
    """
    get = (
        "`make repro` trains it, `dvc pull` fetches it from a DVC remote, and `dvc artifacts get "
        f"REPOSITORY ensemble-classifier --out {folder}` downloads it from another repository"
    )
    if not (folder / "model.json").is_file():
        raise DataError(
            f"{folder}: no model found in this folder. Set --model to another folder, or get the "
            f"model: {get}"
        )
    with remedied_by(f"The model is incomplete or has changed; get it again: {get}"):
        yield


def require_readable(file: str) -> None:
    """Raise DataError if an input is missing or a folder.

    Args:
        file: Path of the file, or "-" for standard input.
    """
    try:
        is_folder = file != "-" and stat.S_ISDIR(Path(file).stat().st_mode)
    except OSError as error:
        raise DataError(f"{file}: {error.strerror}; name another file") from None
    if is_folder:
        raise DataError(f"{file}: this is a folder; name a file in it, or pipe the titles in")


@contextmanager
def reported_input(path: str, reading: Reading) -> Iterator[Input]:
    """Open a source of titles, and print its detected layout and the columns that it lacks.

    Args:
        path: Path of the file, or "-" for standard input.
        reading: Options for reading it.
    """
    from rubro.tables.inputs import open_input

    with open_input(path, reading) as source:
        for message in filter(None, (source.guess, source.missing)):
            say(message)
        yield source


@contextmanager
def progress_bar(shown: bool) -> Iterator[Callable[[Input, str], Iterator[Chunk]]]:
    """Show a progress bar with rows, rate and remaining time on standard error.

    Args:
        shown: Whether to show the bar.

    Yields:
        Function that takes an input and a caption, yields the chunks of the input and moves the bar.
    """
    if not shown:
        yield lambda source, caption: source.chunks
        return
    from rich.progress import Progress, TextColumn

    *columns, remaining = progress_columns()
    columns += [TextColumn("{task.fields[rows]}"), remaining]

    def chunks(source: Input, caption: str) -> Iterator[Chunk]:
        task = progress.add_task(caption, total=source.total, rows="")
        start, rows = time.monotonic(), 0
        for chunk in source.chunks:
            yield chunk
            rows += len(chunk.titles)
            rate = rows / max(time.monotonic() - start, 1e-3)
            text = f"{rows:,} rows, {rate:,.0f}/s"
            completed = source.bytes_read() if source.bytes_read else rows
            progress.update(task, completed=completed, rows=text)
        progress.remove_task(task)

    with Progress(*columns, console=console(), transient=True) as progress:
        yield chunks
