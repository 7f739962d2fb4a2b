"""Write rows and their predictions to csv, tsv, jsonl and parquet."""

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
from typing import IO, TYPE_CHECKING, Any, cast

from rubro.base.errors import DataError
from rubro.tables.inputs import Chunk, Input

if TYPE_CHECKING:
    import pyarrow

_KIND = re.compile(r"\.(csv|tsv|jsonl)(\.gz)?$|\.(parquet)$", re.IGNORECASE)
# Large row groups make parquet fast to read; small ones are written in little memory.
_ROW_GROUP_ROWS = 2**16
_ROW_GROUP_BYTES = 2**25

Answers = Sequence[Sequence[str | float | None]]  # values of the new columns for each row


def output_kind(path: Path) -> str:
    """Return the format of an output file, such as "csv".

    Raises:
        DataError: The file's name does not imply a supported format.
    """
    match = _KIND.search(path.name)
    if match is None:
        raise DataError(
            f"{path}: unknown kind of file; use a name that ends with .csv, .tsv, .jsonl (each "
            "also .gz) or .parquet, or set --format"
        )
    return (match[1] or match[3]).lower()


@contextmanager
def open_output(
    path: Path | None, kind: str, source: Input, new_columns: dict[str, str]
) -> Iterator[Output]:
    """Open standard output, or a file that is replaced only after everything is written.

    Args:
        path: File to write; None for standard output.
        kind: "csv", "tsv", "jsonl" or "parquet".
        source: Input of the rows. An input without columns can only be written as jsonl.
        new_columns: Arrow type of each new column, such as "string", by the name of the column.

    Raises:
        DataError: The columns cannot be written in this format, or path cannot be written.
    """
    columns = source.columns or []
    for name in new_columns:
        if name in columns:
            raise _name_conflict(source, name)
    repeated = [name for name, count in Counter(columns).items() if count > 1]
    if repeated and kind in ("jsonl", "parquet"):
        raise DataError(
            f"{source.name}: column {repeated[0]!r} is listed twice, which {kind} cannot hold; "
            "rename one or write csv"
        )
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


def _name_conflict(source: Input, name: str) -> DataError:
    return DataError(
        f"{source.name}: the input already has a column {name!r}; set --prefix, for instance to "
        "rubro_, to give the new columns other names"
    )


@contextmanager
def _stream(path: Path | None, kind: str) -> Iterator[IO[bytes]]:
    if path is None:
        if kind != "parquet":
            yield sys.stdout.buffer
            return
        with TemporaryFile() as file:  # parquet needs a file that knows its position
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
    """Open a file for writing under a temporary name, and rename it once it is complete.

    Args:
        path: Path of the file. Links and permissions are kept; devices are written directly.

    Raises:
        DataError: The path is a folder, or its folder does not exist.
    """
    target = path.resolve()
    if target.is_dir():
        raise DataError(f"{path}: this is a folder; name a file in it")
    if not target.parent.is_dir():
        raise DataError(f"{target.parent}: no such folder; create it first")
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
    """Return the values of each row of a chunk, with Arrow's dates and decimals as text."""
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
    """Convert a value to text, a number or None for csv.writer; lists become JSON."""
    if isinstance(value, bytes):
        return _text(value)
    return _json(value) if isinstance(value, (bool, list, dict)) else value


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=_text)


def _text(value: Any) -> str:
    """Convert bytes, or a value that JSON cannot represent, to text."""
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


class Output:
    """Writer of input rows and predictions; a subclass formats each row as text or columns.

    Args:
        stream: Stream to write to.
        source: Input of the rows.
        new_columns: Names of the columns added to the input columns.
    """

    def __init__(self, stream: IO[bytes], source: Input, new_columns: list[str]) -> None:
        self._stream = stream
        self._source = source
        self._new_columns = new_columns

    def write(self, chunk: Chunk, answers: Answers) -> None:
        """Write a chunk of input rows, each followed by its values of the new columns."""
        rows = zip(_rows(chunk), answers, strict=True)
        self._write(self._line(row, answer) for row, answer in rows)

    def _write(self, lines: Iterable[str]) -> None:
        self._stream.write("".join(lines).encode())
        self._stream.flush()

    def _line(self, row: Any, answer: Sequence[str | float | None]) -> str:
        raise NotImplementedError

    def close(self) -> None:
        """Write the rows that are still buffered."""


class _WrittenRows(list[str]):
    """List that csv.writer can write rows to, as if it were a file."""

    write = list.append


class _CsvOutput(Output):
    def __init__(self, stream: IO[bytes], kind: str, source: Input, new_columns: list[str]) -> None:
        super().__init__(stream, source, new_columns)
        self._written = _WrittenRows()
        # With this terminator, csv.writer also quotes fields that contain a bare \r.
        self._writer = csv.writer(
            self._written,
            delimiter="\t" if kind == "tsv" else ";" if source.delimiter == ";" else ",",
            lineterminator="\r\n",
        )
        mark = "\ufeff" if source.has_mark else ""
        self._write([mark, self._line(source.columns or [], new_columns)])

    def _line(self, row: Any, answer: Sequence[str | float | None]) -> str:
        self._writer.writerow([*map(_cell, row), *answer])
        return self._written.pop().removesuffix("\r\n") + "\n"


class _JsonlOutput(Output):
    def _line(self, row: Any, answer: Sequence[str | float | None]) -> str:
        columns = self._source.columns
        values = row if columns is None else dict(zip(columns, row, strict=True))
        for name, value in zip(self._new_columns, answer, strict=True):
            if name in values:
                raise _name_conflict(self._source, name)
            values[name] = value
        return _json(values) + "\n"


class _ParquetOutput(Output):
    def __init__(self, stream: IO[bytes], source: Input, new_columns: dict[str, str]) -> None:
        import pyarrow
        import pyarrow.parquet

        texts = pyarrow.schema([(name, "string") for name in source.columns or []])
        self._input_schema = texts if source.schema is None else source.schema
        self._new_schema = pyarrow.schema(list(new_columns.items()))
        metadata = self._input_schema.metadata
        self._schema = pyarrow.schema([*self._input_schema, *self._new_schema], metadata)
        self._writer = pyarrow.parquet.ParquetWriter(stream, self._schema)
        self._waiting: list[pyarrow.RecordBatch] = []

    def write(self, chunk: Chunk, answers: Answers) -> None:
        import pyarrow

        batch = chunk.batch
        arrays = _arrays(chunk.rows, self._input_schema) if batch is None else batch.columns
        arrays = [*arrays, *_arrays(answers, self._new_schema)]
        self._waiting.append(pyarrow.RecordBatch.from_arrays(arrays, schema=self._schema))
        rows = sum(waiting.num_rows for waiting in self._waiting)
        size = sum(waiting.nbytes for waiting in self._waiting)
        if rows >= _ROW_GROUP_ROWS or size >= _ROW_GROUP_BYTES:
            self._write_group()

    def _write_group(self) -> None:
        import pyarrow

        if self._waiting:
            self._writer.write_table(pyarrow.Table.from_batches(self._waiting, self._schema))
            self._waiting.clear()

    def close(self) -> None:
        self._write_group()
        self._writer.close()


def _arrays(rows: Sequence[Sequence[Any]], schema: pyarrow.Schema) -> list[pyarrow.Array]:
    """Return one Arrow array per column; in text columns, values other than text become JSON."""
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
