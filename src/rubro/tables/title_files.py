"""Detect the layout of files with titles in any supported format, and open their rows."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from io import BufferedIOBase, BufferedReader
from shutil import copyfileobj
from tempfile import TemporaryFile
from typing import IO, Any, cast

from rubro.base.errors import DataError
from rubro.tables.cells import column_name
from rubro.tables.detection import (
    BYTE_ORDER_MARKS,
    SEPARATORS,
    detect_encoding,
    detect_layout,
    find_column,
    kind_of,
    unreadable_format,
)
from rubro.tables.parquet import ParquetRows, parquet_errors_reported
from rubro.tables.readers import (
    MAX_LINE,
    Record,
    csv_records,
    json_array_records,
    json_records,
    line_records,
)
from rubro.tables.streams import (
    GzipStream,
    Origin,
    empty_file,
    ends_lines_with_cr,
    listed,
    open_text,
    with_sample,
)

_ARRAY_START = re.compile(r"\s*\[\s*[{\]]")
_JSON_KINDS = ("json", "jsonl")
# Empty files of these formats are damaged, because they lack the header or the brackets.
_NEVER_EMPTY = ("csv", "tsv", "json", "parquet")
_GZIP_START = b"\x1f\x8b"
_PARQUET_START = b"PAR1"
_LONG_NAME = 40
_PARQUET_ROWS = 2**14
_ROWS_PER_CHECK = 2**16
_NUMBER = re.compile(r"\s*[-+]?\d+([.,]\d+)?\s*")
_PROBLEMS = {
    "not_json": "not JSON: {content}",
    "not_an_object": "JSON, but no object: {content}",
    "not_csv": "not CSV ({content})",
    "not_utf8": "not {encoding} text",
    "line_too_long": f"more than {MAX_LINE} characters in a line",
}


@dataclass
class TitleFile:
    """An open file of titles.

    Attributes:
        kind: "csv", "tsv", "jsonl", "json", "txt" or "parquet".
        origin: Path, size and encoding of the file.
        records: Rows, which can be read only once; empty for parquet.
        columns: Column names as stored in the file; None if each row is an object.
        separator: Character between fields.
        has_mark: Whether the text begins with a byte order mark.
        detected: Phrases for properties that were detected from the content, such as the encoding.
        first_rows: Some of the first rows of a table.
        parquet: Rows of a parquet file; None for other formats.
    """

    kind: str
    origin: Origin
    records: Iterator[Record] = field(default_factory=lambda: iter(()))
    columns: list[str] | None = None
    separator: str = ","
    has_mark: bool = False
    detected: list[str] = field(default_factory=list)
    first_rows: list[list[str]] = field(default_factory=list)
    parquet: ParquetRows | None = None

    def has_no_header(self) -> bool:
        """Return whether the first line of a table looks like a row instead of column names."""
        header = self.columns or []
        below = [row for row in self.first_rows if len(row) == len(header)]
        repeated = any(
            name.strip() and any(row[place] == name for row in below)
            for place, name in enumerate(header)
        )
        return repeated or any(len(name) > _LONG_NAME or _NUMBER.fullmatch(name) for name in header)

    def problem(self, record: Record) -> str:
        """Return a message that describes why a row was rejected."""
        content = record.content
        if record.reason == "wrong_field_count":
            fields = "1 field" if len(content) == 1 else f"{len(content)} fields"
            return f"{fields}, and the header has {len(self.columns or [])}"
        if record.reason == "open_quote":
            first, last = record.lines.start, record.lines.stop - 1
            return f"a quote opens in line {first} and closes in line {last}, over rows in between"
        shown = str(content[0]) if isinstance(content, list) else ascii(content)[:100]
        text = _PROBLEMS[record.reason or ""]
        return text.format(encoding=self.origin.encoding, content=shown)

    def rows(self, columns: Sequence[str]) -> Iterator[Record]:
        """Yield the record of each row; its content is a dictionary by normalised column name.

        Records of rows that cannot be read have a reason instead and keep their raw content.

        Args:
            columns: Normalised names (column_name) of the columns. JSON rows keep all their keys.
        """
        if self.columns is None:
            for record in self.records:
                if record.reason is None:
                    names = [column_name(key) for key in record.content]
                    if names != list(record.content):
                        values = dict(zip(names, record.content.values(), strict=True))
                        record = record._replace(content=values)
                yield record
            return
        header = [column_name(name) for name in self.columns]
        places = [header.index(name) for name in columns]
        if self.parquet is not None:
            number = 0
            stored = [self.columns[place] for place in places]
            with parquet_errors_reported(self.origin):
                for batch in self.parquet.batches(_PARQUET_ROWS, stored):
                    for values in batch.to_pylist():
                        number += 1
                        values = {column_name(name): value for name, value in values.items()}
                        yield Record(range(number, number + 1), values, None)
            return
        for record in self.records:
            if record.reason is None:
                fields = map(record.content.__getitem__, places)
                record = record._replace(content=dict(zip(columns, fields, strict=True)))
            yield record


def open_title_file(
    stack: ExitStack,
    origin: Origin,
    raw: BufferedReader,
    columns: Sequence[Sequence[str]],
    *,
    kind: str | None = None,
    encoding: str | None = None,
    separator: str | None = None,
    is_table: bool = False,
) -> TitleFile:
    """Detect the layout of a file, and open its rows.

    Args:
        stack: Stack that closes temporary files.
        origin: Path and size of the file.
        raw: Open file or pipe, at its start.
        columns: Accepted names of each column that will be used.
        kind: Format of the file; None means detect it.
        encoding: Python's name of the encoding; None means detect it.
        separator: Character between fields; None means detect it.
        is_table: Whether to read text as a table even if its header has none of the columns.

    Raises:
        DataError: The file is empty, damaged or in a format that rubro does not support.
    """
    is_pipe = origin.size is None
    sample, stream = with_sample(raw, is_pipe)
    is_gzip = origin.path.suffix.lower() == ".gz" or sample.startswith(_GZIP_START)
    if is_gzip:
        unzipped = cast(BufferedIOBase, GzipStream(origin, stream))
        sample, stream = with_sample(unzipped, is_pipe)
    given_kind, kind = kind, kind or kind_of(origin.path)
    if not sample and kind in _NEVER_EMPTY:
        raise empty_file(origin)
    if kind == "parquet" or (kind is None and sample.startswith(_PARQUET_START)):
        content: IO[bytes] = raw
        if is_pipe:  # parquet is read from its end
            content = stack.enter_context(TemporaryFile())  # noqa: SIM115
            copyfileobj(stream, content)
            origin = replace(origin, size=content.tell())
        content.seek(0)
        parquet = ParquetRows(origin, content)
        return TitleFile("parquet", origin, columns=parquet.schema.names, parquet=parquet)
    if description := unreadable_format(origin.path, kind, sample):
        raise DataError(f"{origin.path} is {description}")
    if not sample:
        kind = kind or "txt"
    mark = next((mark for mark in BYTE_ORDER_MARKS if sample.startswith(mark)), None)
    detected_encoding = []
    if encoding is None:
        encoding = BYTE_ORDER_MARKS[mark] if mark else detect_encoding(sample)
        origin = replace(origin, encoding=encoding)
        detected_encoding = [] if encoding == "utf-8" else [f"{encoding} text"]
    beginning = sample.decode(origin.encoding, "replace").removeprefix("\ufeff")
    has_cr_ends = ends_lines_with_cr(beginning)
    if has_cr_ends:
        beginning = beginning.replace("\r", "\n")
    text = open_text(origin, stream, has_cr_ends)

    def opened(
        kind: str, records: Iterator[Record], detected: list[str], **table: Any
    ) -> TitleFile:
        detected = [*detected, *detected_encoding]
        if is_gzip:  # otherwise, each row takes at least a byte of the file
            records = _plausible(origin, records)
        return TitleFile(
            kind, origin, records, has_mark=mark is not None, detected=detected, **table
        )

    start = beginning.lstrip()[:1]
    is_array = start == "[" and kind in _JSON_KINDS
    if kind is None:  # text may also begin with "["
        is_array = _ARRAY_START.match(beginning) is not None
    if is_array:
        detected = [] if kind == "json" else ["a JSON array"]
        return opened("json", json_array_records(origin, text), detected)
    if kind in _JSON_KINDS or (kind is None and start == "{"):
        if kind == "json":
            _require_json_lines(origin, beginning, columns)
        return opened("jsonl", json_records(text), [] if kind else ["jsonl"])

    layout = detect_layout(beginning, kind, separator, columns)
    has_columns = layout.wanted_columns > 0
    if kind == "txt":
        is_table = given_kind is None and has_columns and len(layout.rows[0]) > 1
    elif not is_table:
        is_table = kind is not None or has_columns
    if not is_table:
        detected = [] if kind == "txt" else ["text, one title a line"]
        return opened("txt", line_records(text), detected, columns=["title"])
    table = "tsv" if layout.separator == "\t" else "csv"
    detected = [] if kind in ("csv", "tsv") else [table]
    usual = "\t" if "tsv" in (kind, *detected) else ","
    if separator is None and layout.separator != usual:
        names = {character: name for name, character in SEPARATORS.items()}
        detected.append(f"separated by {names.get(layout.separator, repr(layout.separator))}")
    header, rows = csv_records(origin, text, layout, columns)
    return opened(
        table,
        rows,
        detected,
        columns=header,
        separator=layout.separator,
        first_rows=layout.rows[1:],
    )


def _require_json_lines(origin: Origin, sample: str, columns: Sequence[Sequence[str]]) -> None:
    """Raise DataError if text is not JSON, or is one JSON object that contains a whole table.

    An object is a row, not a table, if it has a text or a number in one of the wanted columns.
    """
    if sample.lstrip()[:1] != "{":
        raise DataError(f"{origin.path}: not JSON: {sample[:60]!a}; mend or rename the file")
    first, second, *_ = [*(line for line in sample.splitlines() if line.strip()), "", ""]
    try:
        value = json.loads(first)
        if second and isinstance(json.loads(second), dict):
            return
    except (ValueError, RecursionError):
        value = {}
    wanted = {find_column(value, [name]) for names in columns for name in names}
    if any(isinstance(value[key], (str, int, float)) for key in wanted if key is not None):
        return
    keys = listed(value) if value else "unknown"
    example = json.dumps({names[0]: "..." for names in columns}, ensure_ascii=False)
    raise DataError(
        f"{origin.path} holds one JSON object instead of rows (its keys: {keys}). "
        f"Write an array of objects, such as [{example}, ...], or one such object per line."
    )


def _plausible(origin: Origin, records: Iterator[Record]) -> Iterator[Record]:
    """Yield rows; raise DataError if they are more than the compressed file can plausibly hold."""
    for count, record in enumerate(records):
        if count % _ROWS_PER_CHECK == 0:
            origin.check_rows(count)
        yield record
