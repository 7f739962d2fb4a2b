"""Open byte and text streams of pipes, gzip and text files, with DataError for bad content."""

from __future__ import annotations

import gzip
import math
import re
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedIOBase, BufferedReader, BytesIO, RawIOBase, TextIOWrapper
from itertools import islice
from pathlib import Path
from typing import IO, Any

from rubro.base.errors import DataError

SAMPLE_BYTES = 2**20
_BUFFER_BYTES = 2**16
# Compression shrinks titles to a tenth of their size, but a bomb to a thousandth.
MAX_EXPANSION = 100
_ALWAYS_ALLOWED_GZIP_BYTES = 2**28
# A larger file with more rows than bytes repeats the same values over and over.
_ALWAYS_ALLOWED_ROWS = 2**20
# Maximum number of columns, as in Excel: short rows of a wider table would fill the memory.
_MAX_COLUMNS = 2**14
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
# Text up to the end of the first line; line breaks inside quotes do not end it.
_FIRST_LINE = re.compile(r"""(?>"[^"]*"|[^\r\n])*+(\r+\n|\r|\n)""")
_QUOTED = re.compile(r'"[^"]*"')


@dataclass(frozen=True)
class Origin:
    """Description of the file or pipe that rows are read from, for error messages.

    Attributes:
        path: Path of the file.
        size: Size of the file in bytes; None for a pipe.
        encoding: Python's name of the text encoding.
        encoding_setting: Parameter or command-line option with which users set the encoding.
    """

    path: Path
    size: int | None
    encoding: str
    encoding_setting: str

    def check_rows(self, count: int) -> None:
        """Raise DataError if there are more rows than a file of this size can plausibly hold."""
        if self.size is not None and count > max(self.size, _ALWAYS_ALLOWED_ROWS):
            raise DataError(
                f"{self.path}: {count} rows or more in {self.size} bytes cannot be titles; remove "
                "the repeated rows"
            )

    def check_columns(self, count: int) -> None:
        """Raise DataError if a table has too many columns."""
        if count > _MAX_COLUMNS:
            raise DataError(
                f"{self.path}: {count} columns, and the limit is {_MAX_COLUMNS}; remove the columns "
                "that you do not need"
            )


def is_unicode(text: str) -> bool:
    """Return whether text has no lone surrogates, which stand for undecodable bytes (PEP 383)."""
    return text.isascii() or _LONE_SURROGATE.search(text) is None


def without_surrogates(text: str) -> str:
    """Return text with each lone surrogate replaced by the Unicode replacement character."""
    return _LONE_SURROGATE.sub("\ufffd", text)


def listed(columns: Iterable[str]) -> str:
    """Join column names for a message, and truncate a long list."""
    return without_surrogates(", ".join(islice(columns, 20))[:200]) or "none"


@contextmanager
def read_errors_reported(origin: Origin) -> Iterator[None]:
    """Turn exceptions that occur while a file is read into DataError."""
    try:
        yield
    except EOFError:
        raise DataError(
            f"{origin.path}: the gzip stream ends early (a truncated download?); fetch it again"
        ) from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{origin.path}: not a valid gzip file ({error})") from None
    except UnicodeError as error:
        raise DataError(
            f"{origin.path}: not {origin.encoding} text ({error}); set {origin.encoding_setting}"
        ) from None
    except PermissionError:
        raise DataError(f"{origin.path}: permission denied; make the file readable") from None


def empty_file(origin: Origin) -> DataError:
    """Return the error for an empty file."""
    return DataError(f"{origin.path}: the file is empty")


class GzipStream(gzip.GzipFile):
    """A gzip stream that raises DataError if it expands too much (a gzip bomb)."""

    def __init__(self, origin: Origin, raw: IO[bytes]) -> None:
        super().__init__(fileobj=raw, mode="rb")
        self._path = origin.path
        self._max_bytes = math.inf
        if origin.size is not None:
            self._max_bytes = max(MAX_EXPANSION * origin.size, _ALWAYS_ALLOWED_GZIP_BYTES)

    def read1(self, size: int = -1) -> bytes:
        """Return at most `size` decompressed bytes, or any number of bytes if it is negative."""
        content = super().read1(size)
        if self.tell() > self._max_bytes:
            raise DataError(
                f"{self._path}: its content is more than {MAX_EXPANSION} times its size (a gzip "
                "bomb?); if that is intended, unpack it with gunzip and read the result"
            )
        return content


class _Rejoined(RawIOBase):
    """A stream that first repeats bytes already read from another stream, then continues it."""

    def __init__(self, start: bytes, stream: BufferedIOBase) -> None:
        self._start = BytesIO(start)
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._start.readinto(buffer) or self._stream.readinto1(buffer)


def with_sample(stream: BufferedIOBase, is_pipe: bool) -> tuple[bytes, BufferedReader]:
    """Return the first bytes of a stream, and a stream that starts with them again.

    Args:
        stream: Stream at its start.
        is_pipe: Whether the first bytes end after the first line, because the next may come late.
    """
    sample = b""
    while len(sample) < SAMPLE_BYTES and not (is_pipe and b"\n" in sample):
        more = stream.read1(_BUFFER_BYTES)
        sample += more
        if not more:
            break
    return sample, BufferedReader(_Rejoined(sample, stream), _BUFFER_BYTES)


def ends_lines_with_cr(text: str) -> bool:
    """Return whether all lines of a text end with a bare carriage return, as in old Mac files."""
    first = _FIRST_LINE.match(text)
    if first is None or first[1] != "\r" or first.end() == len(text):
        return False
    return "\n" not in text or "\n" not in _QUOTED.sub("", text)


def open_text(origin: Origin, stream: BufferedReader, has_cr_ends: bool) -> TextIOWrapper:
    """Decode a byte stream as text, with lone surrogates in place of undecodable bytes.

    Args:
        origin: Path and encoding of the text.
        stream: Stream at its start.
        has_cr_ends: Whether bare carriage returns end lines; they are replaced by line feeds.
    """
    encoding = "utf-8-sig" if origin.encoding == "utf-8" else origin.encoding
    newline = None if has_cr_ends else "\n"
    return TextIOWrapper(stream, encoding, errors="surrogateescape", newline=newline)
