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
from decimal import Decimal
from pathlib import Path
from shutil import copyfileobj
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, Any, cast

from rubro.base.errors import DataError
from rubro.base.outputs import output_path, replacing
from rubro.tables.inputs import Chunk, Input

if TYPE_CHECKING:
    import pyarrow

_KIND = re.compile(r"\.(csv|tsv|jsonl)(\.gz)?$|\.(parquet)$", re.IGNORECASE)
# Large row groups make parquet fast to read; small ones are written in little memory.
_ROW_GROUP_ROWS = 2**16
_ROW_GROUP_BYTES = 2**25
# Encodings that write a byte order mark, and the same encodings without one.
_WITH_MARK = {"utf-8-sig": "utf-8", "utf-16": "utf-16-le", "utf-32": "utf-32-le"}
# Cells that a spreadsheet would take for a formula; numbers with a sign are harmless.
_FORMULA = re.compile(
    r"(?![-+]?\d[\d.,]*(e[-+]?\d+)?%?$)[-=+@\t\r\n\uff0b\uff0d\uff1d\uff20]", re.IGNORECASE
)
# Placeholder in encoded JSON for a number that is too large for a float.
_LARGE_NUMBER = os.urandom(16).hex()

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
    path: Path | None,
    kind: str,
    source: Input,
    new_columns: dict[str, str],
    encoding: str | None = None,
    escapes_formulas: bool = False,
) -> Iterator[Output]:
    """Open standard output, or a file that is replaced only after everything is written.

    Args:
        path: File to write; None for standard output.
        kind: "csv", "tsv", "jsonl" or "parquet".
        source: Input of the rows. An input without columns can only be written as jsonl.
        new_columns: Arrow type of each new column, such as "string", by the name of the column.
        encoding: Encoding of csv and tsv; None means the encoding of the input.
        escapes_formulas: Whether to write an apostrophe before csv and tsv cells that a spreadsheet
            would take for a formula.

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
    if kind in ("jsonl", "parquet") and (escapes_formulas or encoding not in (None, "utf-8")):
        option = "--escape-formulas" if escapes_formulas else "--output-encoding"
        raise DataError(f"{option} is for csv and tsv; leave it out to write {kind}")
    with _stream(path, kind) as stream:
        output: Output
        if kind == "parquet":
            output = _ParquetOutput(stream, source, new_columns)
        elif kind == "jsonl":
            output = _JsonlOutput(stream, source, list(new_columns))
        else:
            output = _CsvOutput(stream, kind, source, list(new_columns), encoding, escapes_formulas)
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
    with replacing(output_path(path)) as partial, open(partial, "wb") as file:
        if path.suffix.lower() != ".gz":
            yield file
            return
        with gzip.GzipFile(fileobj=file, mode="wb", filename="", mtime=0) as zipped:
            yield cast(IO[bytes], zipped)


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
    return values


def _text(value: Any) -> str:
    """Convert bytes, or a value that JSON cannot represent, to text."""
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


class _Json:
    """Encoder of values as JSON, with null in place of NaN and infinity.

    Attributes:
        nulls: Number of values that were replaced by null.
    """

    def __init__(self) -> None:
        self.nulls = 0
        self._large_numbers: list[Decimal] = []
        self._encoder = json.JSONEncoder(
            ensure_ascii=False, allow_nan=False, default=self._replacement
        )

    def __call__(self, value: Any) -> str:
        self._large_numbers.clear()
        try:
            text = self._encoder.encode(value)
        except ValueError:  # a number is NaN or infinite
            self._large_numbers.clear()
            text = self._encoder.encode(self._finite(value))
        for number in self._large_numbers:
            text = text.replace(f'"{_LARGE_NUMBER}"', str(number), 1)
        return text

    def _replacement(self, value: Any) -> str:
        if isinstance(value, Decimal) and math.isinf(float(value)):
            self._large_numbers.append(value)
            return _LARGE_NUMBER
        return _text(value)

    def _finite(self, value: Any) -> Any:
        if isinstance(value, float) and not math.isfinite(value):
            self.nulls += 1
            return None
        if isinstance(value, dict):
            return {key: self._finite(each) for key, each in value.items()}
        return [*map(self._finite, value)] if isinstance(value, (list, tuple)) else value


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
        self._json = _Json()

    @property
    def notes(self) -> list[str]:
        """Sentences about values that were changed because the output format cannot hold them."""
        nulls = self._json.nulls
        return [f"{nulls:,} numbers are NaN or infinite; JSON has null instead"] if nulls else []

    def write(self, chunk: Chunk, answers: Answers) -> None:
        """Write a chunk of input rows, each followed by its values of the new columns."""
        rows = zip(_rows(chunk), answers, strict=True)
        self._write([self._line(row, answer) for row, answer in rows])

    def _write(self, lines: list[str]) -> None:
        self._stream.write(self._encoded(lines))
        self._stream.flush()

    def _encoded(self, lines: list[str]) -> bytes:
        return "".join(lines).encode()

    def _line(self, row: Any, answer: Sequence[str | float | None]) -> str:
        raise NotImplementedError

    def close(self) -> None:
        """Write the rows that are still buffered."""


class _WrittenRows(list[str]):
    """List that csv.writer can write rows to, as if it were a file."""

    write = list.append


class _CsvOutput(Output):
    def __init__(
        self,
        stream: IO[bytes],
        kind: str,
        source: Input,
        new_columns: list[str],
        encoding: str | None,
        escapes_formulas: bool,
    ) -> None:
        super().__init__(stream, source, new_columns)
        self._escapes_formulas = escapes_formulas
        name = encoding or source.encoding
        has_mark = name in _WITH_MARK or (
            encoding is None and source.has_mark and name.startswith("utf-")
        )
        self._encoding = _WITH_MARK.get(name, name)
        self._incomplete_rows = 0
        self._written = _WrittenRows()
        # With this terminator, csv.writer also quotes fields that contain a bare \r.
        self._writer = csv.writer(
            self._written,
            delimiter="\t" if kind == "tsv" else source.delimiter if source.kind == "csv" else ",",
            lineterminator="\r\n",
        )
        self._write(["\ufeff" * has_mark + self._line(source.columns or [], new_columns)])

    @property
    def notes(self) -> list[str]:
        notes = super().notes
        if self._incomplete_rows:
            notes.append(
                f"{self._incomplete_rows:,} rows have characters that do not exist in "
                f"{self._encoding} and are written as ?; --output-encoding utf-8 keeps them"
            )
        return notes

    def _line(self, row: Any, answer: Sequence[str | float | None]) -> str:
        self._writer.writerow(map(self._cell, [*row, *answer]))
        return self._written.pop().removesuffix("\r\n") + "\n"

    def _cell(self, value: Any) -> Any:
        """Convert a value to text, a number or None for csv.writer; lists become JSON."""
        if isinstance(value, (bool, list, dict)):
            value = self._json(value)
        elif isinstance(value, bytes):
            value = _text(value)
        if isinstance(value, float):
            if math.isnan(value):
                return None
            return str(value).replace(".", ",") if self._source.decimal_comma else value
        if self._escapes_formulas and isinstance(value, str) and _FORMULA.match(value):
            return f"'{value}"
        return value

    def _encoded(self, lines: list[str]) -> bytes:
        text = "".join(lines)
        try:
            return text.encode(self._encoding)
        except UnicodeEncodeError:
            self._incomplete_rows += sum(
                line.encode(self._encoding, "ignore").decode(self._encoding) != line
                for line in lines
            )
            return text.encode(self._encoding, "replace")


class _JsonlOutput(Output):
    def _line(self, row: Any, answer: Sequence[str | float | None]) -> str:
        columns = self._source.columns
        values = row if columns is None else dict(zip(columns, row, strict=True))
        for name, value in zip(self._new_columns, answer, strict=True):
            if name in values:
                raise _name_conflict(self._source, name)
            values[name] = value
        return self._json(values) + "\n"


class _ParquetOutput(Output):
    def __init__(self, stream: IO[bytes], source: Input, new_columns: dict[str, str]) -> None:
        import pyarrow
        import pyarrow.parquet

        super().__init__(stream, source, list(new_columns))
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
        arrays = self._arrays(chunk.rows, self._input_schema) if batch is None else batch.columns
        arrays = [*arrays, *self._arrays(answers, self._new_schema)]
        self._waiting.append(pyarrow.RecordBatch.from_arrays(arrays, schema=self._schema))
        rows = sum(waiting.num_rows for waiting in self._waiting)
        size = sum(waiting.nbytes for waiting in self._waiting)
        if rows >= _ROW_GROUP_ROWS or size >= _ROW_GROUP_BYTES:
            self._write_group()

    def _arrays(self, rows: Sequence[Sequence[Any]], schema: pyarrow.Schema) -> list[pyarrow.Array]:
        """Return one Arrow array per column; in text columns, values other than text become JSON."""
        import pyarrow

        columns: Iterable[Sequence[Any]] = zip(*rows, strict=True) if rows else [()] * len(schema)
        arrays = []
        for values, kind in zip(columns, schema.types, strict=True):
            if kind == "string":
                values = [*map(self._as_text, values)]
            arrays.append(pyarrow.array(values, kind))
        return arrays

    def _as_text(self, value: Any) -> str | None:
        text = value if isinstance(value, str) else self._json(value)
        return None if text == "null" and text is not value else text

    def _write_group(self) -> None:
        import pyarrow

        if self._waiting:
            self._writer.write_table(pyarrow.Table.from_batches(self._waiting, self._schema))
            self._waiting.clear()

    def close(self) -> None:
        self._write_group()
        self._writer.close()
