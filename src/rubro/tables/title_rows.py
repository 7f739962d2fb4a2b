"""Titles in rows: from a file, from standard input or from the command line."""

from __future__ import annotations

import itertools
import json
import os
import pickle
import stat
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from io import BufferedReader
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any, cast

from rubro.base.errors import DataError
from rubro.tables.layouts import Asked, TitleFile, find_column, no_header, open_title_file
from rubro.tables.records import (
    Origin,
    Record,
    is_unicode,
    open_parquet,
    problem,
    reading,
    without_surrogates,
)
from rubro.tables.values import text_of

if TYPE_CHECKING:
    import pyarrow

TITLE_NAMES = ("title", "titulo", "nombre", "name", "product title")
CATEGORY_NAMES = ("category", "categoria", "rubro")
Row = tuple[Any, str, str]  # values, title, error

# A chunk ends early where its titles are so long: memory is finite.
_CHUNK_CHARACTERS = 2**22
# An object nested deeper than this can be read and not written, by recursion.
_MAX_DEPTH = 100
# Objects with more keys than this between them are no rows of one table.
_MAX_KEYS = 1000


@dataclass
class Chunk:
    """Some rows of an input, in order.

    Attributes:
        rows: Values of each row, in the order of the input's columns; an object for each row where
            the input has no columns.
        titles: Title of each row; "" where it has an error.
        errors: Reason why a row has no title; "" where it has one.
        batch: Rows as a parquet file holds them, in place of rows.
    """

    rows: list[Any] = field(default_factory=list)
    titles: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    batch: pyarrow.RecordBatch | None = None


@dataclass
class Input:
    """An open input.

    Attributes:
        name: Name for messages.
        kind: "csv", "tsv", "jsonl", "parquet" or "txt".
        columns: Names of the columns; None where each row is an object with its own keys.
        title_column: Name of the column of titles.
        chunks: Rows, in order; to be read once.
        guess: Sentence on what was guessed; "" = nothing was.
        delimiter: Character between the fields of csv and tsv.
        has_mark: Whether the text begins with a byte order mark, as Excel writes it.
        schema: Columns of a parquet file, or those of objects after with_columns.
        total: Bytes, or rows of parquet; None = unknown.
        done: Returns how much of total was read.
    """

    name: str
    kind: str
    columns: list[str] | None
    title_column: str
    chunks: Iterator[Chunk]
    guess: str = ""
    delimiter: str = ","
    has_mark: bool = False
    schema: pyarrow.Schema | None = None
    total: int | None = None
    done: Callable[[], int] = lambda: 0


@dataclass(frozen=True)
class Reading:
    """How an input is to be read.

    Attributes:
        kind: Kind of file; None = the name or the content tells.
        encoding: Python's name of an encoding; None = the content tells.
        separator: Character between fields; None = the content tells.
        column: Name of the column of titles; None = it is guessed.
        model_column: Name of the column that held the titles of the model's training.
        chunk_rows: Most rows in a chunk.
        column_option: Option that names the column of titles.
    """

    kind: str | None
    encoding: str | None
    separator: str | None
    column: str | None
    model_column: str
    chunk_rows: int
    column_option: str = "--column"


def given_titles(titles: Sequence[str], chunk_rows: int) -> Input:
    """Return titles of the command line as an input of one column.

    Args:
        titles: Any texts.
        chunk_rows: Most rows in a chunk.
    """

    def rows() -> Iterator[Row]:
        for title in titles:
            text, error = _title("title", title)
            if not is_unicode(title):
                text, error = "", "the title is not text in the encoding of the terminal"
            yield [without_surrogates(title)], text, error

    chunks = _chunks(rows(), chunk_rows)
    return Input("command line", "txt", ["title"], "title", chunks)


@contextmanager
def open_input(argument: str, how: Reading) -> Iterator[Input]:
    """Open a file or, for "-", standard input.

    Args:
        argument: Path of an existing file, or "-".
        how: How it is to be read.

    Raises:
        DataError: The input is empty, damaged or of an unknown kind, or no column holds titles.
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
        with reading(origin):
            opened = _opened(stack, origin, cast(BufferedReader, raw), how)
        if opened.total is None and size is not None:
            opened.total, opened.done = size, raw.tell
        yield opened


def _opened(stack: ExitStack, origin: Origin, raw: BufferedReader, how: Reading) -> Input:
    names = (how.model_column, *TITLE_NAMES) if how.column is None else (how.column,)
    asked = Asked(how.kind, how.encoding, how.separator, (names,), how.column is not None)
    file = open_title_file(stack, origin, raw, asked)
    origin = file.origin
    if file.kind == "parquet":
        return _parquet_input(file, how)
    if file.kind in ("jsonl", "json"):
        opened = _object_input(file, how)
    elif file.kind == "txt":
        chunks = _chunks(_text_rows(origin, file.records, 0, 1), how.chunk_rows)
        guess = [*file.found, "set --input-format if it is not"] if file.found else []
        opened = Input(str(origin.path), "txt", ["title"], "title", chunks, "; ".join(guess))
        if guess:
            opened.guess = f"{origin.path}: {opened.guess}"
    else:
        header = file.columns or []
        opened = _table_input(file, header, how)
        place = header.index(opened.title_column)
        rows = _text_rows(origin, file.records, place, len(header))
        opened.chunks, opened.delimiter = _chunks(rows, how.chunk_rows), file.separator
    opened.chunks = _read(origin, opened.chunks)
    opened.has_mark = file.has_mark
    return opened


def _read(origin: Origin, chunks: Iterator[Chunk]) -> Iterator[Chunk]:
    with reading(origin):
        yield from chunks


def _title_column(file: TitleFile, columns: list[str], how: Reading) -> tuple[str, str]:
    """The column of titles, and what to tell the user of what was found."""
    path, found = file.origin.path, ", ".join(file.found)
    if how.column is not None:
        names = [column.strip() for column in columns]
        if how.column not in columns and how.column not in names:
            raise DataError(
                f"{path}: no column {how.column!r} (found: {listed(columns)}); "
                f"set {how.column_option} to one of them"
            )
        column = how.column if how.column in columns else columns[names.index(how.column)]
        return column, f"{path}: {found}" if found else ""
    title = find_column(columns, (how.model_column, *TITLE_NAMES))
    if title is None:
        if len(columns) != 1:
            remedy = f"set {how.column_option}"
            if no_header(file):
                remedy = "no header? Put the names of the columns in a line before the first one"
            raise DataError(
                f"{path}: no column {how.model_column!r}, nor another name of titles "
                f"(found: {listed(columns)}); {remedy}"
            )
        title = columns[0]
    return title, f"{path}: {', '.join([*file.found, f'titles from column {title!r}'])}"


def listed(columns: Iterable[str]) -> str:
    """Return names for a message, or the first of many."""
    names = ", ".join(itertools.islice(columns, 20))[:200]
    return without_surrogates(names) or "none"


def _table_input(file: TitleFile, columns: list[str], how: Reading) -> Input:
    """An input of named columns, still without chunks."""
    origin = file.origin
    if not is_unicode("".join(columns)):
        raise DataError(
            f"{origin.path}:1: the header is not {origin.encoding} text: {listed(columns)}; "
            f"set {origin.encoding_setting}, for instance to latin-1"
        )
    column, guess = _title_column(file, columns, how)
    if Counter(columns)[column] > 1:
        raise DataError(f"{origin.path}: column {column!r} is there twice; rename one")
    return Input(str(origin.path), file.kind, columns, column, iter(()), guess)


def _object_input(file: TitleFile, how: Reading) -> Input:
    first = list(itertools.islice(file.records, how.chunk_rows))
    keys = {key: None for record in first if record.reason is None for key in record.content}
    column, guess = how.column or how.model_column, ""
    if keys:
        column, guess = _title_column(file, list(keys), how)
    rows = _object_rows(file.origin, itertools.chain(first, file.records), column)
    chunks = _chunks(rows, how.chunk_rows)
    return Input(str(file.origin.path), "jsonl", None, column, chunks, guess)


def _parquet_input(file: TitleFile, how: Reading) -> Input:
    origin, raw = file.origin, file.raw
    assert raw is not None
    with open_parquet(origin, raw) as parquet:
        schema, rows = parquet.schema_arrow, parquet.metadata.num_rows
    opened = _table_input(file, schema.names, how)
    place, column = schema.names.index(opened.title_column), opened.title_column
    read = 0

    def chunks() -> Iterator[Chunk]:
        nonlocal read
        with open_parquet(origin, raw) as parquet:
            for batch in parquet.iter_batches(how.chunk_rows):
                answers = [_title(column, value) for value in batch.column(place).to_pylist()]
                read += len(answers)
                titles = [title for title, _ in answers]
                yield Chunk([], titles, [error for _, error in answers], batch)

    opened.chunks, opened.schema = chunks(), schema
    opened.total, opened.done = rows, lambda: read
    return opened


def _text_rows(
    origin: Origin, records: Iterator[Record], place: int, columns: int
) -> Iterator[Row]:
    """The rows of csv, tsv and text; place is the column of titles."""
    for record in records:
        values = record.content if isinstance(record.content, list) else [record.content]
        if record.reason not in (None, "wrong_field_count", "open_quote", "not_utf8"):
            yield [""] * columns, "", _problem(origin, record, columns)
            continue
        error = "" if record.reason is None else _problem(origin, record, columns)
        if not is_unicode("".join(values)):
            values = [without_surrogates(value) for value in values]
            error = error or _problem(origin, record._replace(reason="not_utf8"), columns)
        title = ""
        if not error:
            title, error = _title("title", values[place])
        yield [*values[:columns], *[""] * (columns - len(values))], title, error


def _object_rows(origin: Origin, records: Iterable[Record], column: str) -> Iterator[Row]:
    """The rows of jsonl."""
    for record in records:
        values = record.content
        if record.reason is not None:
            yield {}, "", _problem(origin, record, 0)
            continue
        if _depth(values) > _MAX_DEPTH:
            yield {}, "", f"line {record.lines.start}: nested more than {_MAX_DEPTH} deep"
            continue
        text = json.dumps(values, ensure_ascii=False)
        if not is_unicode(text):
            values = json.loads(without_surrogates(text))
            yield values, "", _problem(origin, record._replace(reason="not_utf8"), 0)
            continue
        yield values, *_title(column, values.get(column))


def _depth(values: dict[str, Any]) -> int:
    depth, level = 0, list[Any]([values])
    while level:
        depth += 1
        inner = [value.values() if isinstance(value, dict) else value for value in level]
        level = [item for items in inner for item in items if isinstance(item, (dict, list))]
    return depth


def _title(column: str, value: Any) -> tuple[str, str]:
    """The title in a cell, and why there is none."""
    try:
        title = text_of(value)
    except TypeError:
        return "", f"the {column} is not text: {ascii(value)[:100]}"
    if title is None:
        return "", f"no {column}"
    return (title, "") if title.strip() else ("", f"the {column} is empty")


def _problem(origin: Origin, record: Record, columns: int) -> str:
    """Why a record is no row, in words."""
    why = problem(record, columns, origin.encoding)
    if record.reason == "not_utf8":
        why += f"; set {origin.encoding_setting}, for instance to latin-1"
    if record.reason == "wrong_field_count" and len(record.content) > columns:
        surplus = without_surrogates(", ".join(record.content[columns:]))
        why += f"; without a column: {surplus[:1000]}"
    return f"line {record.lines.start}: {why}"


def _chunks(rows: Iterable[Row], chunk_rows: int) -> Iterator[Chunk]:
    chunk, characters = Chunk(), 0
    for values, title, error in rows:
        chunk.rows.append(values)
        chunk.titles.append(title)
        chunk.errors.append(error)
        characters += len(title)
        if len(chunk.titles) >= chunk_rows or characters > _CHUNK_CHARACTERS:
            yield chunk
            chunk, characters = Chunk(), 0
    if chunk.titles:
        yield chunk


@contextmanager
def with_columns(source: Input) -> Iterator[Input]:
    """Read objects to their end, to know the columns that all of them have together.

    Args:
        source: Input without columns.

    Yields:
        The same input with columns and their types.

    Raises:
        DataError: The objects have too many different keys.
    """
    import pyarrow

    kinds: dict[str, set[str]] = {}
    rows = 0
    with TemporaryFile() as file:
        for chunk in source.chunks:
            for values in chunk.rows:
                for key, value in values.items():
                    kinds.setdefault(key, set()).add(_json_kind(value))
            if len(kinds) > _MAX_KEYS:
                raise DataError(
                    f"{source.name}: objects with more than {_MAX_KEYS} different keys make no "
                    "table; write jsonl"
                )
            pickle.dump(chunk, file)
            rows += len(chunk.titles)
        file.seek(0)
        read = 0

        def chunks() -> Iterator[Chunk]:
            nonlocal read
            while read < rows:
                chunk: Chunk = pickle.load(file)
                chunk.rows = [[values.get(key) for key in kinds] for values in chunk.rows]
                read += len(chunk.titles)
                yield chunk

        schema = pyarrow.schema([(key, _arrow_type(kinds[key])) for key in kinds])
        yield replace(
            source,
            columns=list(kinds),
            schema=schema,
            chunks=chunks(),
            total=rows,
            done=lambda: read,
        )


def _json_kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        if abs(value) <= 2**53:
            return "int"
        return "long" if -(2**63) <= value < 2**63 else "other"
    return "float" if isinstance(value, float) else "other"


def _arrow_type(kinds: set[str]) -> str:
    """The name of a type that holds values of some kinds unchanged; text holds any, as JSON."""
    kinds = kinds - {"null"}
    for types, name in (
        ({"bool"}, "bool"),
        ({"int", "long"}, "int64"),
        ({"int", "float"}, "double"),
    ):
        if kinds and kinds <= types:
            return name
    return "string"
