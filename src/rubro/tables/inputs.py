"""Read titles in chunks of rows from a file, standard input or the command line."""

from __future__ import annotations

import itertools
import json
import os
import pickle
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any, cast

from rubro.base.errors import DataError
from rubro.base.text_columns import MAX_TEXT_CHARACTERS, Product
from rubro.tables.cells import column_name, text_of, text_or_empty
from rubro.tables.detection import SEPARATORS, find_column, has_decimal_comma
from rubro.tables.parquet import ParquetRows, parquet_errors_reported
from rubro.tables.readers import Record
from rubro.tables.streams import (
    Origin,
    is_unicode,
    listed,
    read_errors_reported,
    without_surrogates,
)
from rubro.tables.title_files import TitleFile, open_title_file

if TYPE_CHECKING:
    import pyarrow

TITLE_NAMES = ("title", "titulo", "nombre", "name", "product title")
CATEGORY_NAMES = ("category", "categoria", "rubro")
Row = tuple[Any, str, str, int]  # values, title, error, number of characters

# A chunk ends early if its rows have more characters than this, to limit its memory.
_CHUNK_CHARACTERS = 2**21
# A more deeply nested object can be read, but not written, because writing it is recursive.
_MAX_DEPTH = 100
# Objects with more different keys than this are not rows of one table.
_MAX_KEYS = 1000
# Rows whose fields are kept in the output, even though they have an error.
_READABLE = (None, "wrong_field_count", "open_quote", "not_utf8")


@dataclass
class Chunk:
    """Consecutive rows of an input, with their titles and errors.

    Attributes:
        rows: Values of each row, in the order of the input's columns, or an object for each row if
            the input has no columns. Empty if batch is set.
        titles: Title of each row; "" if the row has an error.
        errors: Reason why a row has no title; "" if it has one.
        batch: Rows of a parquet file; None for other formats.
        texts: Title and texts of each row, by the names of the model's columns; empty if only titles
            are read.
    """

    rows: list[Any] = field(default_factory=list)
    titles: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    batch: pyarrow.RecordBatch | None = None
    texts: list[dict[str, str]] = field(default_factory=list)

    @property
    def products(self) -> Sequence[Product]:
        """Product of each row as a classifier takes it: its title, or the texts of its columns."""
        return self.texts or self.titles


@dataclass
class Input:
    """An open source of titles, which is read in chunks of rows.

    Attributes:
        name: Name of the source in messages.
        kind: "csv", "tsv", "jsonl", "parquet" or "txt".
        columns: Column names; None if each row is an object with its own keys.
        title_column: Name of the title column.
        chunks: Chunks of rows in order; they can be read only once.
        guess: Sentence about the detected layout and columns; "" if nothing was detected.
        missing: Sentence about the model's columns that the input does not have; "" if it has all.
        delimiter: Character between the fields of csv and tsv.
        has_mark: Whether the text begins with a byte order mark, as Excel writes it.
        schema: Column types of a parquet file, or of objects after with_columns.
        total: Number of rows, or of bytes if bytes_read is set; None if it is unknown.
        bytes_read: Function that returns how many bytes of the file have been read.
        encoding: Python's name of the encoding of the text.
        decimal_comma: Whether numbers have a decimal comma, as in a Spanish spreadsheet.
    """

    name: str
    kind: str
    columns: list[str] | None
    title_column: str
    chunks: Iterator[Chunk]
    guess: str = ""
    missing: str = ""
    delimiter: str = ","
    has_mark: bool = False
    schema: pyarrow.Schema | None = None
    total: int | None = None
    bytes_read: Callable[[], int] | None = None
    encoding: str = "utf-8"
    decimal_comma: bool = False


@dataclass(frozen=True)
class Reading:
    """Options for reading titles from a file or standard input.

    Attributes:
        kind: Format of the file; None means detect it.
        encoding: Python's name of the encoding; None means detect it.
        separator: Name of the character between fields, such as "comma"; None means detect it.
        column: Name of the title column; None means detect it.
        model_column: Name of the title column in the model's training data.
        chunk_rows: Maximum number of rows in a chunk.
        column_option: Command-line option that names the title column, for error messages.
        text_columns: Names of the further columns that the model was trained on.
    """

    kind: str | None
    encoding: str | None
    separator: str | None
    column: str | None
    model_column: str
    chunk_rows: int
    column_option: str = "--column"
    text_columns: Sequence[str] = ()


def given_titles(titles: Sequence[str], chunk_rows: int) -> Input:
    """Return titles given on the command line as an input with one column.

    Args:
        titles: Any texts.
        chunk_rows: Maximum number of rows in a chunk.
    """

    def rows() -> Iterator[Row]:
        for title in titles:
            text, error = _title("title", title)
            if not is_unicode(title):
                text, error = "", "the title is not text in the encoding of the terminal"
            yield [without_surrogates(title)], text, error, len(title)

    chunks = _chunks(rows(), chunk_rows)
    return Input("command line", "txt", ["title"], "title", chunks)


@contextmanager
def open_input(argument: str, how: Reading) -> Iterator[Input]:
    """Open a file or standard input to read titles.

    Args:
        argument: Path of an existing file, or "-" for standard input.
        how: Options for reading the file.

    Raises:
        DataError: The input is empty, damaged or of an unknown format, or has no title column.
    """
    with ExitStack() as stack:
        if argument == "-":
            name, raw = Path("standard input"), sys.stdin.buffer
        else:
            name = Path(argument)
            raw = stack.enter_context(open(name, "rb"))
        status = os.fstat(raw.fileno())
        size = status.st_size if stat.S_ISREG(status.st_mode) else None
        origin = Origin(name, size, how.encoding or "utf-8", "--encoding")
        names = (how.model_column, *TITLE_NAMES) if how.column is None else (how.column,)
        with read_errors_reported(origin):
            file = open_title_file(
                stack,
                origin,
                cast(BufferedReader, raw),
                [names],
                kind=how.kind,
                encoding=how.encoding,
                separator=SEPARATORS.get(how.separator or ""),
                is_table=how.column is not None,
            )
            opened = _input(file, how)
        if opened.total is None and size is not None:
            opened.total, opened.bytes_read = size, raw.tell
        yield opened


def _input(file: TitleFile, how: Reading) -> Input:
    origin, columns, records = file.origin, file.columns, file.records
    column, guess = how.column or how.model_column, ""
    found = columns
    if file.kind == "txt":
        column = "title"
        if file.detected:
            sentence = "; ".join([*file.detected, "set --input-format if it is not"])
            guess = f"{origin.path}: {sentence}"
    elif columns is not None:
        if not is_unicode("".join(columns)):
            raise DataError(
                f"{origin.path}:1: the header is not {origin.encoding} text: {listed(columns)}; "
                f"set {origin.encoding_setting}, for instance to latin-1"
            )
        column, guess = _title_column(file, columns, how)
    else:
        first = _beginning(records, how.chunk_rows)
        records = itertools.chain(first, records)
        keys = {key: None for record in first if record.reason is None for key in record.content}
        found = list(keys)
        if keys:
            column, guess = _title_column(file, found, how)
    text_columns = _text_columns(found, column, how)
    for name in (column, *text_columns.values()):
        if columns is not None and columns.count(name) > 1:
            raise DataError(f"{origin.path}: column {name!r} is listed twice; rename one")
    if guess and text_columns and file.kind != "txt":
        guess += f", texts from {', '.join(map(repr, text_columns.values()))}"
    missing = _missing_columns(
        file, [name for name in how.text_columns if name not in text_columns]
    )

    if file.parquet is not None:
        chunks = _parquet_chunks(file, file.parquet, column, how.chunk_rows)
    elif columns is None:
        chunks = _chunks(_object_rows(file, records, column), how.chunk_rows)
    else:
        # Short rows are filled up, and jsonl output repeats the names of the columns in each row.
        width = len(columns) + len("".join(columns))
        chunk_rows = max(min(how.chunk_rows, _CHUNK_CHARACTERS // width), 1)
        chunks = _chunks(_field_rows(file, columns.index(column), len(columns)), chunk_rows)
    if columns is None:  # later objects may have keys that the first ones lack
        text_columns = {name: text_columns.get(name, name) for name in how.text_columns}
    if text_columns:
        chunks = _with_texts(chunks, columns, how.model_column, text_columns)
    return Input(
        str(origin.path),
        "jsonl" if columns is None else file.kind,
        columns,
        column,
        chunks,
        guess,
        missing if found else "",
        delimiter=file.separator,
        has_mark=file.has_mark,
        schema=None if file.parquet is None else file.parquet.schema,
        total=None if file.parquet is None else file.parquet.count,
        encoding=origin.encoding,
        decimal_comma=has_decimal_comma(file.separator, file.first_rows),
    )


def _title_column(file: TitleFile, columns: list[str], how: Reading) -> tuple[str, str]:
    """Return the name of the title column, and a message about the detected layout of the file."""
    path, detected = file.origin.path, ", ".join(file.detected)
    if how.column is not None:
        names = [column_name(column) for column in columns]
        wanted = column_name(how.column)
        if wanted not in names:
            raise DataError(
                f"{path}: no column {how.column!r} (found: {listed(columns)}); "
                f"set {how.column_option} to one of them"
            )
        column = how.column if how.column in columns else columns[names.index(wanted)]
        return column, f"{path}: {detected}" if detected else ""
    title = find_column(columns, (how.model_column, *TITLE_NAMES))
    if title is None:
        if len(columns) != 1:
            remedy = f"set {how.column_option}"
            if file.has_no_header():
                remedy = "no header? Put the column names in a line before the first one"
            raise DataError(
                f"{path}: no column {how.model_column!r}, nor another usual name of a title column "
                f"(found: {listed(columns)}); {remedy}"
            )
        title = columns[0]
    return title, f"{path}: {', '.join([*file.detected, f'titles from column {title!r}'])}"


def _text_columns(columns: Sequence[str] | None, title: str, how: Reading) -> dict[str, str]:
    """Return the columns of the file that contain the text columns of the model, by their names.

    The files in data/subset store the texts of a column NAME in text.NAME, and may store something
    else, such as the category, in NAME.
    """
    others = [column for column in columns or [] if column != title]
    found = {name: find_column(others, (f"text.{name}", name)) for name in how.text_columns}
    return {name: column for name, column in found.items() if column is not None}


def _missing_columns(file: TitleFile, names: Sequence[str]) -> str:
    """Return a sentence about text columns of the model that a file does not have."""
    if not names:
        return ""
    place = (
        f"{file.origin.path} has" if file.columns else f"the first rows of {file.origin.path} have"
    )
    return (
        f"{place} no column{'s' * (len(names) > 1)} {', '.join(map(repr, names))}, which the model was "
        "also trained on, so its answers are less certain"
    )


def _with_texts(
    chunks: Iterable[Chunk],
    columns: Sequence[str] | None,
    title_column: str,
    text_columns: Mapping[str, str],
) -> Iterator[Chunk]:
    """Add the title and the texts of each row to chunks.

    Args:
        chunks: Chunks of rows.
        columns: Columns of the rows; None if each row is an object.
        title_column: Name of the title column in the model.
        text_columns: Column of the rows that contains the texts of each text column of the model.
    """
    names = (title_column, *text_columns)
    for chunk in chunks:
        texts = [
            [
                text_or_empty(value)[:MAX_TEXT_CHARACTERS]
                for value in column_values(chunk, columns, name)
            ]
            for name in text_columns.values()
        ]
        chunk.texts = [
            dict(zip(names, row, strict=True)) for row in zip(chunk.titles, *texts, strict=True)
        ]
        yield chunk


def column_values(chunk: Chunk, columns: Sequence[str] | None, column: str) -> list[Any]:
    """Return the value of each row of a chunk in a column.

    Args:
        chunk: Chunk of rows.
        columns: Columns of the rows; None if each row is an object, which may lack the column.
        column: Name of the column.
    """
    if chunk.batch is not None:
        values: list[Any] = chunk.batch.column(column).to_pylist()
        return values
    if columns is None:
        return [_value(row, column) for row in chunk.rows]
    place = columns.index(column)
    return [row[place] for row in chunk.rows]


def _beginning(records: Iterator[Record], max_rows: int) -> list[Record]:
    """Return the first rows, as many as fit into a chunk."""
    first: list[Record] = []
    characters = 0
    for record in records:
        first.append(record)
        characters += record.characters
        if len(first) >= max_rows or characters > _CHUNK_CHARACTERS:
            break
    return first


def _parquet_chunks(
    file: TitleFile, parquet: ParquetRows, column: str, chunk_rows: int
) -> Iterator[Chunk]:
    place = parquet.schema.names.index(column)
    with parquet_errors_reported(file.origin):
        for batch in parquet.batches(chunk_rows):
            titles = [_title(column, value) for value in batch.column(place).to_pylist()]
            yield Chunk([], [title for title, _ in titles], [error for _, error in titles], batch)


def _field_rows(file: TitleFile, place: int, columns: int) -> Iterator[Row]:
    """Yield the values, title and error of each csv, tsv or txt row; field `place` is the title."""
    with read_errors_reported(file.origin):
        for record in file.records:
            values = record.content if record.reason in _READABLE else []
            title = ""
            error = "" if record.reason is None else _error(file, record)
            if not is_unicode("".join(values)):
                values = [without_surrogates(value) for value in values]
                error = error or _error(file, record._replace(reason="not_utf8"))
            if not error:
                title, error = _title("title", values[place])
            values = [*values[:columns], *[""] * (columns - len(values))]
            yield values, title, error, record.characters


def _object_rows(file: TitleFile, records: Iterable[Record], column: str) -> Iterator[Row]:
    """Yield the values, title and error of each JSON object."""
    with read_errors_reported(file.origin):
        for record in records:
            values, title = record.content, ""
            if record.reason is not None:
                values, error = {}, _error(file, record)
            elif _depth(values) > _MAX_DEPTH:
                values, error = {}, f"line {record.lines.start}: nested more than {_MAX_DEPTH} deep"
            elif is_unicode(text := json.dumps(values, ensure_ascii=False, default=str)):
                title, error = _title(column, _value(values, column))
            else:
                values = json.loads(without_surrogates(text))
                error = _error(file, record._replace(reason="not_utf8"))
            yield values, title, error, record.characters


def _value(values: dict[str, Any], column: str) -> Any:
    """Return the value of a key, whose Unicode form may differ from the form in other rows."""
    if column in values:
        return values[column]
    name = column_name(column)
    return next((values[key] for key in values if column_name(key) == name), None)


def _depth(values: dict[str, Any]) -> int:
    depth, level = 0, list[Any]([values])
    while level:
        depth += 1
        inner = [value.values() if isinstance(value, dict) else value for value in level]
        level = [item for items in inner for item in items if isinstance(item, (dict, list))]
    return depth


def _title(column: str, value: Any) -> tuple[str, str]:
    """Return the title in a cell, and "" or the reason why the cell contains no title."""
    try:
        title = text_of(value)
    except TypeError:
        return "", f"the {column} is not text: {ascii(value)[:100]}"
    if title is None:
        return "", f"no {column}"
    return (title, "") if title.strip() else ("", f"the {column} is empty")


def _error(file: TitleFile, record: Record) -> str:
    """Return a message with the line number of a rejected row and the reason for rejecting it."""
    why = file.problem(record)
    if record.reason == "not_utf8":
        why += f"; set {file.origin.encoding_setting}, for instance to latin-1"
    columns = len(file.columns or [])
    if record.reason == "wrong_field_count" and len(record.content) > columns:
        surplus = without_surrogates(", ".join(record.content[columns:]))
        why += f"; without a column: {surplus[:1000]}"
    return f"line {record.lines.start}: {why}"


def _chunks(rows: Iterable[Row], chunk_rows: int) -> Iterator[Chunk]:
    chunk, characters = Chunk(), 0
    for values, title, error, length in rows:
        chunk.rows.append(values)
        chunk.titles.append(title)
        chunk.errors.append(error)
        characters += length
        if len(chunk.titles) >= chunk_rows or characters > _CHUNK_CHARACTERS:
            yield chunk
            chunk, characters = Chunk(), 0
    if chunk.titles:
        yield chunk


@contextmanager
def with_columns(source: Input) -> Iterator[Input]:
    """Read all JSON objects of an input, and turn each of their keys into a column.

    Args:
        source: Input whose rows are objects without common columns.

    Yields:
        The same input with columns, their types and rows of values.

    Raises:
        DataError: The objects have too many different keys.
    """
    import pyarrow

    kinds: dict[str, set[str]] = {}
    rows = count = 0
    with TemporaryFile() as file:
        for chunk in source.chunks:
            for values in chunk.rows:
                for key, value in values.items():
                    kinds.setdefault(key, set()).add(_json_kind(value))
            if len(kinds) > _MAX_KEYS:
                raise DataError(
                    f"{source.name}: objects with more than {_MAX_KEYS} different keys do not "
                    "make a table; write jsonl"
                )
            pickle.dump(chunk, file)
            rows += len(chunk.titles)
            count += 1
        file.seek(0)

        def chunks() -> Iterator[Chunk]:
            for _ in range(count):
                chunk: Chunk = pickle.load(file)
                chunk.rows = [[values.get(key) for key in kinds] for values in chunk.rows]
                yield chunk

        source.columns, source.chunks = list(kinds), chunks()
        source.schema = pyarrow.schema([(key, _arrow_type(kinds[key])) for key in kinds])
        source.total, source.bytes_read = rows, None
        yield source


def _json_kind(value: Any) -> str:
    if type(value) is int:
        if abs(value) <= 2**53:
            return "int"
        return "long" if -(2**63) <= value < 2**63 else "other"
    return {type(None): "null", bool: "bool", float: "float"}.get(type(value), "other")


def _arrow_type(kinds: set[str]) -> str:
    """Return the Arrow type for values of some kinds; mixed kinds are stored as JSON text."""
    arrow_types = {"bool": {"bool"}, "int64": {"int", "long"}, "double": {"int", "float"}}
    kinds = kinds - {"null"}
    return next((name for name, held in arrow_types.items() if kinds and kinds <= held), "string")
