"""Exceptions that are shown to the user as a message instead of a traceback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class RubroError(Exception):
    """An error that the user can correct, such as a wrong file, value or parameter.

    The message names the file (and line) or the parameter, the value found, and a remedy.
    """


class ParamsError(RubroError):
    """A parameter is unknown, or has a wrong type or value."""


class DataError(RubroError):
    """A data file is missing, is damaged or contains no usable row."""


class FileError(DataError):
    """A file that rubro wrote is missing or damaged; see remedied_by for the remedy."""


class TrainingError(RubroError):
    """A training run diverged, lost a process, differs between processes or cannot be tracked."""


@contextmanager
def remedied_by(remedy: str) -> Iterator[None]:
    """Add a remedy for the operation to the message of a FileError that the block raises.

    Args:
        remedy: Sentence without a period about how to get the file again.

    Raises:
        DataError: The block raised a FileError.
    """
    try:
        yield
    except FileError as error:
        raise DataError(f"{error}. {remedy}") from None
