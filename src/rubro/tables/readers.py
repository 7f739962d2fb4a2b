"""Read each file format row by row, with line numbers and the reasons for rejecting rows."""

from __future__ import annotations

import csv
import itertools
import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from decimal import Decimal, InvalidOperation
from io import TextIOWrapper
from typing import Any, NamedTuple

from rubro.base.errors import DataError
from rubro.tables.detection import TableLayout, find_column
from rubro.tables.streams import Origin, empty_file, is_unicode

# A CSV record of more lines than this has a quote that was never closed.
_MAX_CSV_LINES = 1000
# Text with tabs may be unquoted: the end of a quote is searched for in only this many lines.
_MAX_TAB_LINES = 100
# Maximum number of characters in a line; a longer line is never held in memory as a whole.
MAX_LINE = 2**20
_MAX_CSV_RECORD = 8 * MAX_LINE
_EXCERPT = 200
_ARRAY_CHARACTERS = 2**16
_BLANKS = re.compile("[ \t\r\n]*")


class Record(NamedTuple):
    """A row of a file, or the reason why it was rejected.

    Attributes:
        lines: Numbers of the row's lines, from 1; in parquet, the row number.
        content: Object in JSON and parquet, list of fields in csv and text. For a rejected row, its
            fields if their number is wrong, otherwise an excerpt or a list with an error message.
        reason: Reason for rejecting the row, such as "not_json"; None for a valid row.
        characters: Number of characters of the row in the file.
    """

    lines: range
    content: Any
    reason: str | None
    characters: int = 0


class _Lines:
    """Iterate over the lines of a text; a line that is too long is replaced by an empty line.

    Attributes:
        number: Number of the last line that was read, from 1; 0 before the first line.
        taken: Lines that were read since the last call of start.
        too_long: Beginnings of the lines that were too long, by line number.
    """

    def __init__(self, text: TextIOWrapper) -> None:
        self._text = text
        self._given_back: list[str] = []
        self._left = math.inf
        self.number = 0
        self.taken: list[str] = []
        self.too_long: dict[int, str] = {}

    def start(self, max_characters: float = math.inf) -> None:
        """Begin a row; the iteration stops after the given number of characters."""
        self.taken = []
        self._left = max_characters

    def give_back(self, count: int) -> None:
        """Put the last `count` lines back, so that the iteration yields them again."""
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
            self.too_long[self.number + 1] = line[:_EXCERPT]
            while line and line[-1] != "\n":
                line = self._text.readline(MAX_LINE)
            line = "\n"
        self._left -= len(line)
        if self._left < 0:
            raise StopIteration
        self.number += 1
        self.taken.append(line)
        return line


def _numbered_lines(text: TextIOWrapper) -> Iterator[tuple[range, str, str | None]]:
    """Yield the number of each line as a range, its text, and None or "line_too_long"."""
    lines = _Lines(text)
    for line in lines:
        excerpt = lines.too_long.pop(lines.number, None)
        reason = None if excerpt is None else "line_too_long"
        yield range(lines.number, lines.number + 1), excerpt or line, reason
        lines.start()


def line_records(text: TextIOWrapper) -> Iterator[Record]:
    """Yield one row with a single field for each line, including blank lines."""
    for lines, line, reason in _numbered_lines(text):
        title = line.removesuffix("\n").removesuffix("\r")
        if reason is None and not is_unicode(title):
            reason = "not_utf8"
        yield Record(lines, [title], reason, len(line))


def json_records(text: TextIOWrapper) -> Iterator[Record]:
    """Yield one row for the JSON object in each line; blank lines are skipped."""
    for lines, line, reason in _numbered_lines(text):
        if reason is not None:
            yield Record(lines, line, reason, len(line))
            continue
        if not line.strip():
            continue
        line = line.rstrip("\n")
        try:
            value = json.loads(line, parse_float=_number)
        except (ValueError, RecursionError):
            reason = "not_json" if is_unicode(line) else "not_utf8"
            yield Record(lines, line[:_EXCERPT], reason, len(line))
            continue
        yield _object_record(lines, value, line)


def _number(text: str) -> float | Decimal:
    """Return the number in a JSON text; a Decimal if it is too large for a float."""
    number = float(text)
    if math.isinf(number):
        with suppress(InvalidOperation):  # too large for a Decimal, too
            return Decimal(text)
    return number


def _object_record(lines: range, value: Any, text: str) -> Record:
    if isinstance(value, dict):
        return Record(lines, value, None, len(text))
    return Record(lines, text[:_EXCERPT], "not_an_object", len(text))


def json_array_records(origin: Origin, text: TextIOWrapper) -> Iterator[Record]:
    """Yield one row per object of a JSON array without holding the whole array in memory.

    Raises:
        DataError: The array is damaged, or one of its values is too long.
    """
    decoder = json.JSONDecoder(parse_float=_number)
    before, _, buffer = text.read(_ARRAY_CHARACTERS).partition("[")
    line, is_first, ended = 1 + before.count("\n"), True, False

    def damaged(why: str) -> DataError:
        return DataError(f"{origin.path}:{line}: {why}: {buffer[:60]!a}; mend the JSON array")

    while True:
        blanks = _blanks_end(buffer, 0)
        line += buffer.count("\n", 0, blanks)
        buffer = buffer[blanks:]
        start = buffer[:1]
        if start == "]":
            if (buffer[1:] + text.read(_ARRAY_CHARACTERS)).strip():
                raise damaged("something follows the end of the array")
            return
        comma = 0 if is_first else 1
        if comma and start and start != ",":
            raise damaged("no comma between two values")
        place = _blanks_end(buffer, comma)
        try:
            value, end = decoder.raw_decode(buffer, place)
            # A number may continue in the text that has not been read yet.
            complete = ended or end < len(buffer)
        except (ValueError, RecursionError):
            complete = False
        if complete:
            first_line = line + buffer.count("\n", 0, place)
            line = first_line + buffer.count("\n", place, end)
            yield _object_record(range(first_line, line + 1), value, buffer[place:end])
            buffer, is_first = buffer[end:], False
            continue
        if ended or len(buffer) > MAX_LINE:
            raise damaged("the array ends early" if not buffer.strip(" ,\n") else "not JSON")
        more = text.read(_ARRAY_CHARACTERS)
        ended = not more
        buffer += more


def _blanks_end(text: str, start: int) -> int:
    match = _BLANKS.match(text, start)
    return match.end() if match else start


def csv_records(
    origin: Origin, text: TextIOWrapper, layout: TableLayout, columns: Iterable[Sequence[str]]
) -> tuple[list[str], Iterator[Record]]:
    """Return the column names in the header of a csv or tsv text, and an iterator of rows.

    If a field of a wanted column has a line break and its lines look like rows, the row is rejected
    as `open_quote`, because a quote that was left open probably swallowed the rows up to the next
    quote. Blank fields beyond the header are skipped. A blank line is a row if only the first column
    has a name, otherwise it is skipped. In text with tabs, fields may be unquoted: a line with the
    right number of fields is a row.

    Args:
        origin: Path and encoding of the text.
        text: Text from open_text.
        layout: Layout from detect_layout.
        columns: Accepted names of each wanted column.

    Raises:
        DataError: The header is missing. While rows are read: a quote is never closed.
    """
    csv.field_size_limit(_MAX_CSV_RECORD)
    delimiter, contents = layout.separator, _Lines(text)
    for _ in range(layout.skipped_lines):
        next(contents)
    contents.start(_MAX_CSV_RECORD)
    first = contents.number + 1
    reader = csv.reader(contents, delimiter=delimiter, strict=True)
    try:
        header = next(reader, [])
        if contents.too_long:
            raise csv.Error(f"more than {MAX_LINE} characters")
        if contents.number > first:
            raise csv.Error(f"{contents.number + 1 - first} lines long because of a quote")
    except csv.Error as error:
        hint = f"is it {origin.encoding} text? Set {origin.encoding_setting}"
        raise DataError(f"{origin.path}:{first}: no readable header ({error}); {hint}") from None
    if not header:
        if contents.number < first:
            raise empty_file(origin)
        raise DataError(f"{origin.path}:{first}: no header: the line is blank")
    origin.check_columns(len(header))

    # Rows may omit the fields of unnamed columns at the end of the header.
    required = max((place for place, name in enumerate(header, 1) if name.strip()), default=1)
    names = [name.strip() for name in header]
    wanted = [name for accepted in columns if (name := find_column(names, accepted)) is not None]
    used = {names.index(name) for name in wanted}

    def rows() -> Iterator[Record]:
        while True:
            first = contents.number + 1
            contents.start(_MAX_CSV_RECORD)
            reason: str | None = None
            unclosed = False
            try:
                is_tsv = delimiter == "\t"
                fields = _tab_fields(contents, len(header)) if is_tsv else next(reader)
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
            if contents.too_long:
                fields, reason = [contents.too_long.popitem()[1]], "line_too_long"
                contents.too_long.clear()
            if not fields:
                if required > 1:
                    continue
                fields = [""]
            if reason is None:
                while len(fields) > len(header) and not fields[-1].strip():
                    fields.pop()
                if required <= len(fields) < len(header):
                    fields += [""] * (len(header) - len(fields))
                if len(fields) != len(header):
                    reason = "wrong_field_count"
                elif (
                    len(lines) > 1 < len(header)
                    and any("\n" in fields[place].strip() for place in used)
                    and _contain_rows(contents.taken, delimiter, len(header))
                ):
                    reason = "open_quote"
            yield Record(lines, fields, reason, sum(map(len, contents.taken)))

    return header, rows()


def _tab_fields(contents: _Lines, count: int) -> list[str]:
    """Return the fields of the next row of tab-separated text, which may or may not be quoted."""
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


def _contain_rows(lines: list[str], delimiter: str, count: int) -> bool:
    """Return whether lines that were read as one row look like several rows of `count` fields."""
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
