"""Records of title files: text or parquet, gzipped or not, whole or damaged."""

from __future__ import annotations

import csv
import gzip
import itertools
import json
import math
import re
import zlib
from collections.abc import Callable, Collection, Iterator
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
# As many lines are searched for the end of a quote in text with tabs, which may be unquoted.
_MAX_TAB_LINES = 100
# Characters of a line; a longer one is no title and is never held in memory as a whole.
MAX_LINE = 2**20
_MAX_CSV_RECORD = 8 * MAX_LINE
_ARRAY_CHARACTERS = 2**16
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
        content: Object in JSON and parquet, fields in csv, line in text. For a rejected row, its
            fields where their number is wrong, else an excerpt or an error message.
        reason: Reason of the rejection, a key of PROBLEMS; None = a sound row.
    """

    lines: range
    content: Any
    reason: str | None


def problem(record: Record, columns: int, encoding: str) -> str:
    """Return what is wrong with a rejected row, in words.

    Args:
        record: Record with a reason.
        columns: Number of fields in the header.
        encoding: Name of the encoding that the text was read in.
    """
    content = record.content
    if record.reason == "wrong_field_count":
        fields = "1 field" if len(content) == 1 else f"{len(content)} fields"
        return f"{fields}, and the header has {columns}"
    if record.reason == "open_quote":
        first, last = record.lines.start, record.lines.stop - 1
        return f"a quote opens in line {first} and closes in line {last}, over rows in between"
    return PROBLEMS[record.reason or ""].format(encoding=encoding, content=_shown(content))


PROBLEMS = {
    "not_json": "not JSON: {content}",
    "not_an_object": "JSON, but no object: {content}",
    "not_csv": "not CSV ({content})",
    "not_utf8": "not {encoding} text",
    "line_too_long": f"more than {MAX_LINE} characters in a line",
    "wrong_field_count": "more or fewer fields than the header",
    "open_quote": "rows between a quote that opens and one that closes",
}


def _shown(content: Any) -> str:
    if isinstance(content, list):  # a message of the csv module
        return str(content[0])
    return ascii(content)[:100]


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
        number: Number of the last line, from 1; 0 = none was read.
        taken: Lines since the last call of start.
        cut: Starts of the lines that were too long, by their numbers.
    """

    def __init__(self, text: TextIOWrapper) -> None:
        self._text = text
        self._given_back: list[str] = []
        self._left = math.inf
        self.number = 0
        self.taken: list[str] = []
        self.cut: dict[int, str] = {}

    def start(self, most: float = math.inf) -> None:
        """Begin a record of at most so many characters: after them, the lines end."""
        self.taken = []
        self._left = most

    def give_back(self, count: int) -> None:
        """Let the last lines taken be read once more."""
        if count:
            self._given_back += reversed(self.taken[-count:])
            self.number -= count
            del self.taken[-count:]

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self._given_back.pop() if self._given_back else self._text.readline(MAX_LINE)
        if not line:
            raise StopIteration
        if len(line) == MAX_LINE and line[-1] != "\n":
            self.cut[self.number + 1] = line[:200]
            while line and line[-1] != "\n":
                line = self._text.readline(MAX_LINE)
            line = "\n"
        self._left -= len(line)
        if self._left < 0:
            raise StopIteration
        self.number += 1
        self.taken.append(line)
        return line


def _numbered(text: TextIOWrapper) -> Iterator[Record]:
    """Yield lines as records, with line ends."""
    contents = _Lines(text)
    for content in contents:
        line = contents.number
        cut = contents.cut.pop(line, None)
        lines = range(line, line + 1)
        yield Record(lines, content, None) if cut is None else Record(lines, cut, "line_too_long")
        contents.start()


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
        yield _object(lines, value, content.rstrip("\n"))


def _object(lines: range, value: Any, text: str) -> Record:
    if isinstance(value, dict):
        return Record(lines, value, None)
    return Record(lines, text[:200], "not_an_object")


def json_array_records(origin: Origin, text: TextIOWrapper) -> Iterator[Record]:
    """Yield the objects of one JSON array, without holding all of it in memory.

    Args:
        origin: Path and encoding of the text.
        text: Text from open_text whose first visible character is "[".

    Raises:
        DataError: The array is damaged, or one of its values is too long.
    """
    decoder = json.JSONDecoder()
    before, _, buffer = text.read(_ARRAY_CHARACTERS).partition("[")
    line, first, ended = 1 + before.count("\n"), True, False

    def refuse(why: str) -> DataError:
        return DataError(f"{origin.path}:{line}: {why}: {buffer[:60]!a}; mend the JSON array")

    while True:
        blank = len(buffer) - len(buffer.lstrip(" \t\r\n"))
        line += buffer.count("\n", 0, blank)
        buffer = buffer[blank:]
        start = buffer[:1]
        if start == "]":
            if (buffer[1:] + text.read(_ARRAY_CHARACTERS)).strip():
                raise refuse("something follows the end of the array")
            return
        skipped = 0 if first else 1
        if skipped and start and start != ",":
            raise refuse("no comma between two values")
        place = _after_blanks(buffer, skipped)
        try:
            value, end = decoder.raw_decode(buffer, place)
            # A number may go on in the text that is still to be read.
            complete = ended or end < len(buffer)
        except (ValueError, RecursionError):
            complete = False
        if complete:
            first_line = line + buffer.count("\n", 0, place)
            line = first_line + buffer.count("\n", place, end)
            yield _object(range(first_line, line + 1), value, buffer[place:end])
            buffer, first = buffer[end:], False
            continue
        if ended or len(buffer) > MAX_LINE:
            raise refuse("the array ends early" if not buffer.strip(" ,\n") else "not JSON")
        more = text.read(_ARRAY_CHARACTERS)
        ended = not more
        buffer += more


def _after_blanks(text: str, start: int) -> int:
    rest = text[start : start + MAX_LINE]
    return start + len(rest) - len(rest.lstrip(" \t\r\n"))


def csv_records(
    origin: Origin,
    text: TextIOWrapper,
    delimiter: str,
    skipped_lines: int = 0,
) -> tuple[list[str], Callable[[Collection[int]], Iterator[Record]]]:
    """Return the names in the header, and a function that yields the rows, blank lines skipped.

    The function takes the positions of the columns that are read: a line break in one of them may
    be a sign of rows between a quote that was left open and the next quote (`open_quote`). Blank
    fields beyond the header are left out. Text with tabs need not be quoted: a line with the right
    number of fields is a row.

    Args:
        origin: Path and encoding of the text.
        text: Text from open_text.
        delimiter: Character between fields.
        skipped_lines: Number of lines in front of the header.

    Raises:
        DataError: The header is missing; or, while rows are read, a quote is never closed.
    """
    csv.field_size_limit(_MAX_CSV_RECORD)
    contents = _Lines(text)
    for _ in itertools.islice(contents, skipped_lines):
        pass
    contents.start(_MAX_CSV_RECORD)
    first = contents.number + 1
    reader = csv.reader(contents, delimiter=delimiter, strict=True)
    try:
        header = next(reader, [])
        if contents.cut:
            raise csv.Error(f"more than {MAX_LINE} characters")
        if contents.number > first:
            raise csv.Error(f"{contents.number + 1 - first} lines long, by a quote")
    except csv.Error as error:
        hint = f"is it {origin.encoding} text? Set {origin.encoding_setting}"
        raise DataError(f"{origin.path}:{first}: no readable header ({error}); {hint}") from None
    if not header:
        if contents.number < first:
            raise empty(origin)
        raise DataError(f"{origin.path}:{first}: no header: the line is blank")

    # Separators at the end of the header alone ask for no fields.
    named = max((place for place, name in enumerate(header, 1) if name.strip()), default=1)

    def next_fields() -> list[str]:
        return _tab_fields(contents, len(header)) if delimiter == "\t" else next(reader)

    def rows(read: Collection[int]) -> Iterator[Record]:
        while True:
            first = contents.number + 1
            contents.start(_MAX_CSV_RECORD)
            reason: str | None = None
            unclosed = False
            try:
                fields = next_fields()
            except StopIteration:
                return
            except csv.Error as error:
                fields, reason = [str(error)], "not_csv"
                unclosed = str(error) == "unexpected end of data"
            lines = range(first, contents.number + 1)
            if unclosed or len(lines) > _MAX_CSV_LINES:
                raise DataError(
                    f"{origin.path}:{first}: a quote opens here and is not closed within "
                    f"{len(lines)} lines; close or double it"
                )
            if contents.cut:
                fields, reason = [contents.cut.popitem()[1]], "line_too_long"
                contents.cut.clear()
            if not fields:
                continue
            if reason is None:
                while len(fields) > len(header) and not fields[-1].strip():
                    fields.pop()
                if named <= len(fields) < len(header):
                    fields += [""] * (len(header) - len(fields))
                if len(fields) != len(header):
                    reason = "wrong_field_count"
                elif (
                    len(lines) > 1 < len(header)
                    and any("\n" in fields[place].strip() for place in read)
                    and _hold_rows(contents.taken, delimiter, len(header))
                ):
                    reason = "open_quote"
            yield Record(lines, fields, reason)

    return header, rows


def _tab_fields(contents: _Lines, count: int) -> list[str]:
    """Return the fields of the next row; whether they are quoted, they tell by themselves."""
    line = next(contents)
    fields = line.rstrip("\r\n").split("\t")
    if fields == [""]:
        return []
    if '"' not in line:
        return fields
    is_open = any(field[:1] == '"' and field.count('"') % 2 for field in fields)
    if is_open or len(fields) != count:
        lines = itertools.chain([line], itertools.islice(contents, _MAX_TAB_LINES))
        try:
            quoted = next(csv.reader(lines, delimiter="\t", strict=True))
        except csv.Error:
            quoted = []
        taken = contents.taken
        if len(quoted) == count and not (
            len(taken) > 1 and all(line.count("\t") == count - 1 for line in taken)
        ):
            return quoted
        contents.give_back(len(taken) - 1)
    return [_unquoted(field) for field in fields]


def _unquoted(field: str) -> str:
    inner = field[1:-1].replace('""', "")
    if len(field) > 1 and field[0] == field[-1] == '"' and '"' not in inner:
        return field[1:-1].replace('""', '"')
    return field


def _hold_rows(lines: list[str], delimiter: str, count: int) -> bool:
    """Return whether the lines of one record look like records themselves."""
    first, *inner, last = lines
    if any(_field_count(line, delimiter) == count for line in inner):
        return True
    before, _, title = first.rpartition('"')
    starts = before.count(delimiter) + title.count(delimiter) + 1
    end, _, after = last.partition('"')
    ends = end.count(delimiter) + after.count(delimiter) + 1
    return bool(end.strip()) and starts == ends == count


def _field_count(line: str, delimiter: str) -> int:
    try:
        return len(next(csv.reader([line], delimiter=delimiter, strict=True), []))
    except csv.Error:
        return 0


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
