"""Titles in rows: from a file, from standard input or from the command line."""

from __future__ import annotations

import itertools
import json
import os
import pickle
import re
import stat
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from io import BufferedIOBase, BufferedReader, BytesIO, RawIOBase
from pathlib import Path
from shutil import copyfileobj
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, Any, cast

from rubro.base.errors import DataError
from rubro.base.text import normalise
from rubro.data.records import (
    MAX_LINE,
    Origin,
    Record,
    Unzipped,
    csv_records,
    empty,
    is_unicode,
    json_records,
    line_records,
    open_parquet,
    open_text,
    reading,
    without_surrogates,
)

if TYPE_CHECKING:
    import pyarrow

TITLE_NAMES = ("title", "titulo", "nombre", "name", "product title")
CATEGORY_NAMES = ("category", "categoria", "rubro")
Row = tuple[Any, str, str]  # values, title, error

_KIND = re.compile(r"\.(csv|tsv|jsonl|txt)(\.gz)?$|\.(parquet)$", re.IGNORECASE)
_GZIP_MAGIC = b"\x1f\x8b"
_PARQUET_MAGIC = b"PAR1"
_BYTE_ORDER_MARKS = {b"\xef\xbb\xbf": "utf-8", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
_HEAD_BYTES = 2**16
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
        encoding: Python's name of an encoding; None = utf-8, or what a byte order mark says.
        column: Name of the column of titles; None = it is guessed.
        model_column: Name of the column that held the titles of the model's training.
        chunk_rows: Most rows in a chunk.
        column_option: Option that names the column of titles.
    """

    kind: str | None
    encoding: str | None
    column: str | None
    model_column: str
    chunk_rows: int
    column_option: str = "--column"


def kind_of(path: Path) -> str | None:
    """Return the kind of file that a name tells; None where it tells none."""
    match = _KIND.search(path.name)
    return (match[1] or match[3]).lower() if match else None


def given_titles(titles: Sequence[str], chunk_rows: int) -> Input:
    """Return titles of the command line as an input of one column.

    Args:
        titles: Any texts.
        chunk_rows: Most rows in a chunk.
    """

    def rows() -> Iterator[Row]:
        for title in titles:
            error = _title_problem("title", title)
            if not is_unicode(title):
                error = "the title is not text in the encoding of the terminal"
            yield [without_surrogates(title)], "" if error else title, error

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
        how = replace(how, kind=how.kind or (None if argument == "-" else kind_of(name)))
        with reading(origin):
            opened = _opened(stack, origin, cast(BufferedReader, raw), how)
        if opened.total is None and size is not None:
            opened.total, opened.done = size, raw.tell
        yield opened


def find_column(columns: Iterable[str], names: Iterable[str]) -> str | None:
    """Return the column that has one of the names, in any case and with or without accents.

    Args:
        columns: Names in a file.
        names: Names that would do, the best one first.
    """
    exact = list(columns)
    plain = [_plain(column) for column in exact]
    for name in names:
        if name in exact:
            return name
        if _plain(name) in plain:
            return exact[plain.index(_plain(name))]
    return None


def _plain(name: str) -> str:
    return normalise(re.sub("[_-]", " ", name))


class _Rejoined(RawIOBase):
    """A stream with the bytes in front that were already read from it."""

    def __init__(self, head: bytes, rest: BufferedIOBase) -> None:
        self._head = BytesIO(head)
        self._rest = rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._head.readinto(buffer) or self._rest.readinto1(buffer)


def _head(stream: BufferedIOBase) -> tuple[bytes, BufferedReader]:
    """The first line, or some of it, and the stream with that still in it."""
    head = b""
    while b"\n" not in head and len(head) < _HEAD_BYTES:
        more = stream.read1(_HEAD_BYTES)
        if not more:
            break
        head += more
    return head, BufferedReader(_Rejoined(head, stream), _HEAD_BYTES)


def _opened(stack: ExitStack, origin: Origin, raw: BufferedReader, how: Reading) -> Input:
    head, stream = _head(raw)
    if origin.path.suffix.lower() == ".gz" or head.startswith(_GZIP_MAGIC):
        head, stream = _head(Unzipped(origin, stream))
    if not head:
        raise empty(origin)
    if how.kind == "parquet" or (how.kind is None and head.startswith(_PARQUET_MAGIC)):
        if origin.size is None:
            return _parquet_input(origin, stack.enter_context(_copied(stream)), how)
        raw.seek(0)
        return _parquet_input(origin, raw, how)
    mark = next((mark for mark in _BYTE_ORDER_MARKS if head.startswith(mark)), None)
    if how.encoding is None and mark is not None:
        origin = replace(origin, encoding=_BYTE_ORDER_MARKS[mark])
    first_line = head.decode(origin.encoding, "replace").removeprefix("\ufeff").partition("\n")[0]
    kind = how.kind or _guessed_kind(first_line, how)
    text = open_text(origin, stream)
    if kind == "jsonl":
        opened = _jsonl_input(origin, json_records(text), how)
    elif kind == "txt":
        rows = _text_rows(origin, line_records(text), 0, 1)
        chunks = _chunks(rows, how.chunk_rows)
        guess = f"{origin.path}: text, one title a line; set --input-format if it is not"
        opened = Input(
            str(origin.path), kind, ["title"], "title", chunks, "" if how.kind else guess
        )
    else:
        delimiter = "\t" if kind == "tsv" else _delimiter(first_line)
        header, records = csv_records(origin, text, delimiter)
        opened = _table_input(origin, kind, header, how)
        place = header.index(opened.title_column)
        rows = _text_rows(origin, records, place, len(header))
        opened.chunks, opened.delimiter = _chunks(rows, how.chunk_rows), delimiter
    opened.chunks = _read(origin, opened.chunks)
    opened.has_mark = mark is not None
    return opened


@contextmanager
def _copied(stream: BufferedReader) -> Iterator[IO[bytes]]:
    """A pipe as a file: parquet is read from its end."""
    with TemporaryFile() as file:
        copyfileobj(stream, file)
        yield file


def _read(origin: Origin, chunks: Iterator[Chunk]) -> Iterator[Chunk]:
    with reading(origin):
        yield from chunks


def _guessed_kind(first_line: str, how: Reading) -> str:
    if first_line.lstrip().startswith("{"):
        return "jsonl"
    kind = "tsv" if "\t" in first_line else "csv"
    if how.column is not None:
        return kind
    fields = first_line.split("\t" if kind == "tsv" else _delimiter(first_line))
    fields = [field.strip().strip('"') for field in fields]
    return "txt" if find_column(fields, (how.model_column, *TITLE_NAMES)) is None else kind


def _delimiter(header: str) -> str:
    """Excel writes semicolons where a comma is the decimal sign."""
    return ";" if ";" in header and "," not in header else ","


def _title_column(origin: Origin, kind: str, columns: list[str], how: Reading) -> tuple[str, str]:
    """The column of titles, and what to tell the user who did not name it."""
    guessed_kind = "" if how.kind else f"{kind}, "
    if how.column is not None:
        names = [column.strip() for column in columns]
        if how.column not in columns and how.column not in names:
            raise DataError(
                f"{origin.path}: no column {how.column!r} (found: {listed(columns)}); "
                f"set {how.column_option} to one of them"
            )
        column = how.column if how.column in columns else columns[names.index(how.column)]
        return column, f"{origin.path}: {kind}" if guessed_kind else ""
    found = find_column(columns, (how.model_column, *TITLE_NAMES))
    if found is None:
        if len(columns) != 1:
            raise DataError(
                f"{origin.path}: no column {how.model_column!r}, nor another name of titles "
                f"(found: {listed(columns)}); set {how.column_option}"
            )
        found = columns[0]
    return found, f"{origin.path}: {guessed_kind}titles from column {found!r}"


def listed(columns: Iterable[str]) -> str:
    """Return names for a message, or the first of many."""
    names = ", ".join(itertools.islice(columns, 20))[:200]
    return without_surrogates(names) or "none"


def _table_input(origin: Origin, kind: str, columns: list[str], how: Reading) -> Input:
    """An input of named columns, still without chunks."""
    if not is_unicode("".join(columns)):
        raise DataError(
            f"{origin.path}:1: the header is not {origin.encoding} text: {listed(columns)}; "
            f"set {origin.encoding_setting}, for instance to latin-1"
        )
    column, guess = _title_column(origin, kind, columns, how)
    if Counter(columns)[column] > 1:
        raise DataError(f"{origin.path}: column {column!r} is there twice; rename one")
    return Input(str(origin.path), kind, columns, column, iter(()), guess)


def _jsonl_input(origin: Origin, records: Iterator[Record], how: Reading) -> Input:
    first = list(itertools.islice(records, how.chunk_rows))
    keys = {key: None for record in first if record.reason is None for key in record.content}
    column, guess = how.column or how.model_column, ""
    if keys:
        column, guess = _title_column(origin, "jsonl", list(keys), how)
    rows = _object_rows(origin, itertools.chain(first, records), column)
    chunks = _chunks(rows, how.chunk_rows)
    return Input(str(origin.path), "jsonl", None, column, chunks, guess)


def _parquet_input(origin: Origin, file: IO[bytes], how: Reading) -> Input:
    with open_parquet(origin, file) as parquet:
        schema, rows = parquet.schema_arrow, parquet.metadata.num_rows
    opened = _table_input(origin, "parquet", schema.names, how)
    place, column = schema.names.index(opened.title_column), opened.title_column
    if not _is_text(schema.types[place]):
        raise DataError(
            f"{origin.path}: column {column!r} holds {schema.types[place]}, not text; set "
            f"{how.column_option}"
        )
    read = 0

    def chunks() -> Iterator[Chunk]:
        nonlocal read
        with open_parquet(origin, file) as parquet:
            for batch in parquet.iter_batches(how.chunk_rows):
                found = batch.column(place).to_pylist()
                errors = [_title_problem(column, title) for title in found]
                titles = [
                    "" if error else title for title, error in zip(found, errors, strict=True)
                ]
                read += len(found)
                yield Chunk([], titles, errors, batch)

    opened.chunks, opened.schema = chunks(), schema
    opened.total, opened.done = rows, lambda: read
    return opened


def _is_text(kind: pyarrow.DataType) -> bool:
    from pyarrow import types

    if types.is_dictionary(kind):
        kind = kind.value_type
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_null(kind))


def _text_rows(
    origin: Origin, records: Iterator[Record], place: int, columns: int
) -> Iterator[Row]:
    """The rows of csv, tsv and text; place is the column of titles."""
    for record in records:
        values = record.content if isinstance(record.content, list) else [record.content]
        if record.reason not in (None, "wrong_field_count", "not_utf8"):
            yield [""] * columns, "", _problem(origin, record, columns)
            continue
        error = "" if record.reason is None else _problem(origin, record, columns)
        if not is_unicode("".join(values)):
            values = [without_surrogates(value) for value in values]
            error = error or _problem(origin, record._replace(reason="not_utf8"), columns)
        if not error:
            error = _title_problem("title", values[place])
        values = [*values[:columns], *[""] * (columns - len(values))]
        yield values, "" if error else values[place], error


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
        title = values.get(column)
        error = _title_problem(column, title)
        yield values, "" if error else title, error


def _depth(values: dict[str, Any]) -> int:
    depth, level = 0, list[Any]([values])
    while level:
        depth += 1
        inner = [value.values() if isinstance(value, dict) else value for value in level]
        level = [item for items in inner for item in items if isinstance(item, (dict, list))]
    return depth


def _title_problem(column: str, title: Any) -> str:
    if title is None:
        return f"no {column}"
    if not isinstance(title, str):
        return f"the {column} is not text: {ascii(title)[:100]}"
    return "" if title.strip() else f"the {column} is empty"


def _problem(origin: Origin, record: Record, columns: int) -> str:
    """Why a record is no row, in words."""
    content = record.content
    if record.reason == "not_json":
        why = f"not JSON: {ascii(content)[:100]}"
    elif record.reason == "not_an_object":
        why = f"JSON, but no object: {ascii(content)[:100]}"
    elif record.reason == "line_too_long":
        why = f"more than {MAX_LINE} characters in a line"
    elif record.reason == "not_csv":
        why = f"not CSV ({content[0]})"
    elif record.reason == "wrong_field_count":
        why = f"{len(content)} fields, and the header has {columns}"
        if len(content) > columns:
            surplus = without_surrogates(", ".join(content[columns:]))
            why += f"; without a column: {surplus[:1000]}"
    else:
        why = f"not {origin.encoding} text; set {origin.encoding_setting}, for instance to latin-1"
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
