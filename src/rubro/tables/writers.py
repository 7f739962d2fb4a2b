"""Rows and answers to csv, tsv, jsonl and parquet."""

from __future__ import annotations

import csv
import gzip
import json
import math
import os
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from shutil import copyfileobj, copymode
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, Any, Protocol, cast

from rubro.base.errors import DataError
from rubro.tables.title_rows import Chunk, Input

if TYPE_CHECKING:
    import pyarrow

_KIND = re.compile(r"\.(csv|tsv|jsonl)(\.gz)?$|\.(parquet)$", re.IGNORECASE)
# Parquet is read fast where its row groups are large, and written in little memory where not.
_ROW_GROUP_ROWS = 2**16
_ROW_GROUP_BYTES = 2**25

Answers = Sequence[Sequence[str | float | None]]  # those of each row


class Output(Protocol):
    """An open output."""

    def write(self, chunk: Chunk, answers: Answers) -> None:
        """Write rows with their answers.

        Args:
            chunk: Rows of the input.
            answers: Values of the new columns for each row.
        """

    def close(self) -> None:
        """Write what is left."""


def output_kind(path: Path) -> str:
    """Return the kind of file that a name asks for.

    Raises:
        DataError: The name tells none.
    """
    match = _KIND.search(path.name)
    if match is None:
        raise DataError(
            f"{path}: unknown kind of file; end its name with .csv, .tsv, .jsonl (each also .gz) "
            "or .parquet, or set --format"
        )
    return (match[1] or match[3]).lower()


@contextmanager
def open_output(
    path: Path | None, kind: str, source: Input, new_columns: dict[str, str]
) -> Iterator[Output]:
    """Open a file that appears whole or not at all, or standard output.

    Args:
        path: File to write; None = standard output.
        kind: "csv", "tsv", "jsonl" or "parquet".
        source: Input of the rows; one without columns goes to jsonl alone.
        new_columns: Arrow type of each new column, by its name.

    Raises:
        DataError: The columns cannot be written as this kind of file, or path cannot be written.
    """
    _check_columns(source, kind, new_columns)
    with _stream(path, kind) as stream:
        output: Output
        if kind == "parquet":
            output = _ParquetOutput(stream, source, new_columns)
        elif kind == "jsonl":
            output = _JsonlOutput(stream, source, list(new_columns))
        else:
            output = _CsvOutput(stream, kind, source, list(new_columns))
        try:
            yield output
        finally:
            output.close()


def _check_columns(source: Input, kind: str, new_columns: Iterable[str]) -> None:
    columns = source.columns or []
    for name in new_columns:
        if name in columns:
            raise _taken(source, name)
    twice = [name for name, count in Counter(columns).items() if count > 1]
    if twice and kind in ("jsonl", "parquet"):
        raise DataError(
            f"{source.name}: column {twice[0]!r} is there twice, which {kind} cannot hold; "
            "rename one or write csv"
        )


def _taken(source: Input, name: str) -> DataError:
    return DataError(
        f"{source.name}: there is a column {name!r} already; set --prefix, for instance to "
        "rubro_, to give the new columns other names"
    )


@contextmanager
def _stream(path: Path | None, kind: str) -> Iterator[IO[bytes]]:
    if path is None:
        if kind != "parquet":
            yield sys.stdout.buffer
            return
        with TemporaryFile() as file:  # a pipe cannot say how far it has been written
            yield file
            file.seek(0)
            copyfileobj(file, sys.stdout.buffer)
            sys.stdout.buffer.flush()
        return
    with appearing(path) as file:
        if path.suffix.lower() != ".gz":
            yield file
            return
        with gzip.GzipFile(fileobj=file, mode="wb", filename="", mtime=0) as zipped:
            yield cast(IO[bytes], zipped)


@contextmanager
def appearing(path: Path) -> Iterator[IO[bytes]]:
    """Open a file under another name, which it keeps until it is whole."""
    target = path.resolve()  # a link stays one
    if target.is_dir():
        raise DataError(f"{path}: a folder; name a file in it")
    if not target.parent.is_dir():
        raise DataError(f"{target.parent}: no such folder; make it first")
    if target.exists() and not target.is_file():  # a device or a pipe
        with open(target, "wb") as file:
            yield file
        return
    partial = target.with_name(f".rubro-{os.getpid()}.partial")
    try:
        with open(partial, "wb") as file:
            yield file
        if target.exists():
            copymode(target, partial)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _rows(chunk: Chunk) -> Iterable[Sequence[Any]]:
    """The values of each row; those that only Arrow has, as text."""
    if chunk.batch is None:
        return chunk.rows
    names, columns = chunk.batch.schema.names, chunk.batch.columns
    return zip(*map(_python_values, names, columns), strict=True)


def _python_values(name: str, column: pyarrow.Array) -> list[Any]:
    import pyarrow
    from pyarrow import types

    kind = column.type
    try:
        if types.is_temporal(kind) or types.is_decimal(kind):
            column = column.cast("string")
        values: list[Any] = column.to_pylist()
    except (pyarrow.ArrowException, OverflowError, ValueError) as error:
        raise DataError(
            f"column {name!r}: {kind} cannot be written as text ({error}); write parquet"
        ) from None
    if types.is_floating(kind):  # JSON has no NaN
        values = [None if value is None or math.isnan(value) else value for value in values]
    return values


def _cell(value: Any) -> Any:
    """A value as csv.writer takes it: text, a number or None."""
    if isinstance(value, bytes):
        return _text(value)
    return _json(value) if isinstance(value, (bool, list, dict)) else value


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=_text)


def _text(value: Any) -> str:
    """What JSON has no notation for: bytes, and times inside lists."""
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


class _WrittenRows(list[str]):
    """What csv.writer writes."""

    def write(self, row: str) -> None:
        self.append(row)


class _CsvOutput:
    def __init__(self, stream: IO[bytes], kind: str, source: Input, new_columns: list[str]) -> None:
        self._stream = stream
        self._written = _WrittenRows()
        # csv.writer quotes the line ends in its own terminator; readers stumble over a bare \r.
        self._writer = csv.writer(
            self._written,
            delimiter="\t" if kind == "tsv" else ";" if source.delimiter == ";" else ",",
            lineterminator="\r\n",
        )
        if source.has_mark:
            stream.write("\ufeff".encode())
        self._write([[*(source.columns or []), *new_columns]])

    def write(self, chunk: Chunk, answers: Answers) -> None:
        self._write(
            [*map(_cell, row), *answer] for row, answer in zip(_rows(chunk), answers, strict=True)
        )

    def _write(self, rows: Iterable[list[Any]]) -> None:
        self._writer.writerows(rows)
        text = "".join(row.removesuffix("\r\n") + "\n" for row in self._written)
        self._written.clear()
        self._stream.write(text.encode())
        self._stream.flush()

    def close(self) -> None:
        pass


class _JsonlOutput:
    def __init__(self, stream: IO[bytes], source: Input, new_columns: list[str]) -> None:
        self._stream = stream
        self._source = source
        self._new_columns = new_columns

    def write(self, chunk: Chunk, answers: Answers) -> None:
        columns = self._source.columns
        lines = []
        for row, answer in zip(_rows(chunk), answers, strict=True):
            values = cast(dict[str, Any], row)
            if columns is not None:
                values = dict(zip(columns, row, strict=True))
            for name, value in zip(self._new_columns, answer, strict=True):
                if name in values:
                    raise _taken(self._source, name)
                values[name] = value
            lines.append(_json(values) + "\n")
        self._stream.write("".join(lines).encode())
        self._stream.flush()

    def close(self) -> None:
        pass


class _ParquetOutput:
    def __init__(self, stream: IO[bytes], source: Input, new_columns: dict[str, str]) -> None:
        import pyarrow
        import pyarrow.parquet

        schema = source.schema
        if schema is None:
            schema = pyarrow.schema([(name, "string") for name in source.columns or []])
        self._old, self._new = schema, pyarrow.schema(list(new_columns.items()))
        for field in self._new:
            schema = schema.append(field)
        self._schema = schema
        self._writer = pyarrow.parquet.ParquetWriter(stream, schema)
        self._waiting: list[pyarrow.RecordBatch] = []

    def write(self, chunk: Chunk, answers: Answers) -> None:
        import pyarrow

        batch = chunk.batch
        arrays = _columns(chunk.rows, self._old) if batch is None else batch.columns
        arrays = [*arrays, *_columns(answers, self._new)]
        self._waiting.append(pyarrow.RecordBatch.from_arrays(arrays, schema=self._schema))
        rows = sum(batch.num_rows for batch in self._waiting)
        size = sum(batch.nbytes for batch in self._waiting)
        if rows >= _ROW_GROUP_ROWS or size >= _ROW_GROUP_BYTES:
            self._write()

    def _write(self) -> None:
        import pyarrow

        if self._waiting:
            self._writer.write_table(pyarrow.Table.from_batches(self._waiting, self._schema))
            self._waiting.clear()

    def close(self) -> None:
        self._write()
        self._writer.close()


def _columns(rows: Sequence[Sequence[Any]], schema: pyarrow.Schema) -> list[pyarrow.Array]:
    """Rows as one array a column; in a column of text, other values as JSON."""
    import pyarrow

    columns: Iterable[Sequence[Any]] = zip(*rows, strict=True) if rows else [()] * len(schema)
    arrays = []
    for values, kind in zip(columns, schema.types, strict=True):
        if kind == "string":
            values = [
                value if value is None or isinstance(value, str) else _json(value)
                for value in values
            ]
        arrays.append(pyarrow.array(values, kind))
    return arrays
