"""Records of title files: text or parquet, gzipped or not, whole or damaged."""

from __future__ import annotations

import csv
import gzip
import json
import math
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader, TextIOWrapper
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple, cast

from rubro.base.errors import DataError

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

# A CSV record of more lines than this is a quote that was never closed.
_MAX_CSV_LINES = 1000
# Characters of a line; a longer one is no title and is never held in memory as a whole.
MAX_LINE = 2**20
_MAX_CSV_RECORD = 8 * MAX_LINE
# gzip shrinks titles to a tenth of their size, and a gzip bomb to a thousandth.
_MOST_EXPANSION = 100
_ALWAYS_EXPANDED = 2**28
# A parquet file of more rows than bytes repeats the same values over and over.
_ALWAYS_ROWS = 2**24
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Origin:
    """Source of records, for messages.

    Attributes:
        path: Path of the file.
        size: Size of the file in bytes; None = a pipe.
        encoding: Python's name of the text encoding.
        encoding_setting: Parameter or option that sets another encoding.
    """

    path: Path
    size: int | None
    encoding: str
    encoding_setting: str


class Record(NamedTuple):
    """A row of a file.

    Attributes:
        lines: Line numbers, from 1; the row number in parquet.
        content: Object in jsonl and parquet, fields in csv, line in text. For a rejected row, its
            fields where their number is wrong, else an excerpt or an error message.
        reason: Reason of the rejection: not_json, not_an_object, not_utf8, not_csv,
            wrong_field_count or line_too_long; None = a sound row.
    """

    lines: range
    content: Any
    reason: str | None


def is_unicode(text: str) -> bool:
    """Return whether text is free of lone surrogates, the form of undecodable bytes (PEP 383)."""
    return text.isascii() or _LONE_SURROGATE.search(text) is None


def without_surrogates(text: str) -> str:
    """Return text with the replacement character in place of each lone surrogate."""
    return _LONE_SURROGATE.sub("\ufffd", text)


@contextmanager
def reading(origin: Origin) -> Iterator[None]:
    """Turn exceptions of reading a file into DataError."""
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


def empty(origin: Origin) -> DataError:
    """Return the error for an empty file."""
    return DataError(f"{origin.path}: the file is empty")


class Unzipped(gzip.GzipFile):
    """A gzip file that raises DataError where its content grows out of proportion (a gzip bomb).

    Args:
        origin: Path and size of the file.
        raw: Open file.
    """

    def __init__(self, origin: Origin, raw: IO[bytes]) -> None:
        super().__init__(fileobj=raw, mode="rb")
        self._path = origin.path
        self._most = math.inf
        if origin.size is not None:
            self._most = max(_MOST_EXPANSION * origin.size, _ALWAYS_EXPANDED)

    def read1(self, size: int = -1) -> bytes:
        """Return up to size bytes of content."""
        content = super().read1(size)
        if self.tell() > self._most:
            raise DataError(
                f"{self._path}: its content is more than {_MOST_EXPANSION} times its size (a gzip "
                "bomb?); if that is intended, unpack it with gunzip and read the result"
            )
        return content


def open_text(origin: Origin, stream: BufferedReader | Unzipped) -> TextIOWrapper:
    """Return a stream as text, with lone surrogates in place of undecodable bytes.

    Args:
        origin: Path and encoding of the text.
        stream: Unzipped bytes.

    Raises:
        DataError: The stream is empty.
    """
    if stream.peek(1) == b"":
        raise empty(origin)
    encoding = "utf-8-sig" if origin.encoding == "utf-8" else origin.encoding
    return TextIOWrapper(cast(IO[bytes], stream), encoding, errors="surrogateescape", newline="\n")


class _Lines:
    """Lines of a text, each line that is too long replaced by a blank one.

    Attributes:
        cut: Start of the last line that was too long; None = no such line. The reader resets it.
        left: Number of characters after which the lines end. The reader may set it.
    """

    def __init__(self, text: TextIOWrapper) -> None:
        self._text = text
        self.cut: str | None = None
        self.left = math.inf

    def __iter__(self) -> Iterator[str]:
        while line := self._text.readline(MAX_LINE):
            if len(line) == MAX_LINE and line[-1] != "\n":
                self.cut = line[:200]
                while line and line[-1] != "\n":
                    line = self._text.readline(MAX_LINE)
                line = "\n"
            self.left -= len(line)
            if self.left < 0:
                return
            yield line


def _numbered(text: TextIOWrapper) -> Iterator[Record]:
    """Yield lines as records, with line ends."""
    contents = _Lines(text)
    for line, content in enumerate(contents, start=1):
        lines = range(line, line + 1)
        if contents.cut is None:
            yield Record(lines, content, None)
        else:
            yield Record(lines, contents.cut, "line_too_long")
            contents.cut = None


def line_records(text: TextIOWrapper) -> Iterator[Record]:
    """Yield each line, blank ones included, without its line end.

    Args:
        text: Text from open_text.
    """
    for record in _numbered(text):
        content = record.content.removesuffix("\n").removesuffix("\r")
        reason = record.reason
        if reason is None and not is_unicode(content):
            reason = "not_utf8"
        yield Record(record.lines, content, reason)


def json_records(text: TextIOWrapper) -> Iterator[Record]:
    """Yield the object of each line, blank lines skipped.

    Args:
        text: Text from open_text.
    """
    for record in _numbered(text):
        lines, content, reason = record
        if reason is not None:
            yield record
            continue
        if not content.strip():
            continue
        try:
            value = json.loads(content)
        except (ValueError, RecursionError):
            reason = "not_json" if is_unicode(content) else "not_utf8"
            yield Record(lines, content.rstrip("\n")[:200], reason)
            continue
        if isinstance(value, dict):
            yield Record(lines, value, None)
        else:
            yield Record(lines, content.rstrip("\n")[:200], "not_an_object")


def csv_records(
    origin: Origin, text: TextIOWrapper, delimiter: str
) -> tuple[list[str], Iterator[Record]]:
    """Return the names in the header and the rows below it, blank lines skipped.

    Args:
        origin: Path and encoding of the text.
        text: Text from open_text.
        delimiter: Character between fields.

    Raises:
        DataError: The header is missing; or, while rows are read, a quote is never closed.
    """
    csv.field_size_limit(_MAX_CSV_RECORD)
    contents = _Lines(text)
    contents.left = _MAX_CSV_RECORD
    reader = csv.reader(iter(contents), delimiter=delimiter, strict=True)
    try:
        header = next(reader, [])
        if contents.cut is not None:
            raise csv.Error(f"more than {MAX_LINE} characters")
        if reader.line_num > 1:
            raise csv.Error(f"{reader.line_num} lines long, by a quote")
    except csv.Error as error:
        hint = f"is it {origin.encoding} text? Set {origin.encoding_setting}"
        raise DataError(f"{origin.path}:1: no readable header ({error}); {hint}") from None
    if not header:
        blank = reader.line_num > 0
        raise (
            DataError(f"{origin.path}:1: no header: the line is blank") if blank else empty(origin)
        )

    def rows() -> Iterator[Record]:
        while True:
            first = reader.line_num + 1
            contents.left = _MAX_CSV_RECORD
            reason: str | None
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                fields, reason = [str(error)], "not_csv"
                unclosed = str(error) == "unexpected end of data"
            else:
                unclosed = False
                reason = None if len(fields) == len(header) else "wrong_field_count"
            lines = range(first, reader.line_num + 1)
            if unclosed or len(lines) > _MAX_CSV_LINES:
                raise DataError(
                    f"{origin.path}:{first}: a quote opens here and is not closed within "
                    f"{len(lines)} lines; close or double it"
                )
            if contents.cut is not None:
                fields, reason = [contents.cut], "line_too_long"
                contents.cut = None
            if fields:
                yield Record(lines, fields, reason)

    return header, rows()


@contextmanager
def open_parquet(origin: Origin, raw: IO[bytes]) -> Iterator[ParquetFile]:
    """Open a parquet file, and turn pyarrow's exceptions into DataError while it is open.

    Args:
        origin: Path and size of the file.
        raw: Open file.

    Raises:
        DataError: The file is not parquet, or its number of rows is out of proportion to its size.
    """
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(raw)
        most = max(origin.size or 0, _ALWAYS_ROWS)
        if file.metadata.num_rows > most:
            raise DataError(
                f"{origin.path}: {file.metadata.num_rows} rows in fewer bytes cannot be titles; "
                "remove the repeated ones"
            )
        yield file
    except (pyarrow.ArrowException, OSError, OverflowError, ValueError) as error:
        raise DataError(f"{origin.path}: not a readable parquet file ({error})") from None
