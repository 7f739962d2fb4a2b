"""Read parquet files in batches whose decoded size is limited."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import IO, TYPE_CHECKING, Any

from rubro.base.errors import DataError
from rubro.base.memory import is_memory_error
from rubro.tables.streams import MAX_EXPANSION, Origin

if TYPE_CHECKING:
    import pyarrow

# Decoded size of a batch in bytes; a batch with a single row may be larger.
_BATCH_BYTES = 2**22
# Rows and bytes that are read at once. Repeated texts count once.
_READ_ROWS = 2**14
_READ_BYTES = 2**24
# Texts stored as differences cannot be measured before they are decoded. The number of rows that
# are read at once keeps them below this size even if every text is as long as possible.
_UNMEASURED_READ_BYTES = 2**26
_VALUE_BYTES = 8
_ALWAYS_ALLOWED_BYTES = 2**26


@contextmanager
def parquet_errors_reported(origin: Origin) -> Iterator[None]:
    """Turn exceptions that occur while a parquet file is read into DataError."""
    import pyarrow

    try:
        yield
    except (pyarrow.ArrowException, OSError, OverflowError, ValueError) as error:
        if is_memory_error(error):
            raise
        raise DataError(f"{origin.path}: not a readable parquet file ({error})") from None


class ParquetRows:
    """Rows of an open parquet file.

    A file of a kilobyte can repeat a long text a million times, because it stores the text once, in
    a dictionary. Such texts are measured before they are decoded.

    Args:
        origin: Path and size of the file.
        raw: Open file.

    Attributes:
        schema: Names and types of the columns.
        count: Number of rows.

    Raises:
        DataError: The file is not parquet, or has too many columns or implausibly many rows.
    """

    def __init__(self, origin: Origin, raw: IO[bytes]) -> None:
        from pyarrow.parquet import ParquetFile

        self._origin = origin
        with parquet_errors_reported(origin):
            file = ParquetFile(raw)
            self._metadata = file.metadata
            self.schema: pyarrow.Schema = file.schema_arrow
            self.count: int = file.metadata.num_rows
            origin.check_rows(self.count)
            origin.check_columns(self._metadata.num_columns)
            dictionaries = [
                self._path(leaf) for leaf in self._leaves(None) if self._is_shared(leaf)
            ]
            # Arrow cannot put nested texts from the dictionaries of two row groups into one batch.
            groups = range(self._metadata.num_row_groups)
            is_nested = not set(dictionaries) <= set(self.schema.names)
            self._groups = [[group] for group in groups] if is_nested else [list(groups)]
            self._file = ParquetFile(
                raw, metadata=self._metadata, read_dictionary=dictionaries, pre_buffer=False
            )

    def batches(
        self, max_rows: int, columns: Sequence[str] | None = None
    ) -> Iterator[pyarrow.RecordBatch]:
        """Yield the rows in batches.

        Args:
            max_rows: Maximum number of rows in a batch.
            columns: Names of the columns to read; None means all.

        Raises:
            DataError: The file is damaged, or its content is implausibly large for its size.
        """
        import pyarrow

        size = count = 0
        with parquet_errors_reported(self._origin):
            rows = self._rows_to_read(columns)
            for encoded in chain.from_iterable(
                self._file.iter_batches(rows, groups, columns) for groups in self._groups
            ):
                size += _decoded_bytes(encoded, 1)
                count += encoded.num_rows
                self._check_size(size)
                fields = list(self.schema)
                if columns is not None:
                    fields = [self.schema.field(name) for name in encoded.schema.names]
                for batch in _parts(encoded):
                    arrays = [
                        column if column.type == field.type else column.cast(field.type)
                        for column, field in zip(batch.columns, fields, strict=True)
                    ]
                    decoded = pyarrow.RecordBatch.from_arrays(arrays, schema=pyarrow.schema(fields))
                    for start in range(0, decoded.num_rows, max_rows):
                        yield decoded.slice(start, max_rows)
        if count < self.count:
            raise DataError(
                f"{self._origin.path}: not a readable parquet file ({count} of {self.count} rows found)"
            )

    def _check_size(self, count: int) -> None:
        size = self._origin.size or 0
        if count > max(MAX_EXPANSION * size, _ALWAYS_ALLOWED_BYTES):
            raise DataError(
                f"{self._origin.path}: its content is more than {MAX_EXPANSION} times its size, for "
                "example because a long text is repeated in many rows; if that is intended, write it "
                "as csv"
            )

    def _leaves(self, columns: Sequence[str] | None) -> list[int]:
        """Return the numbers of the stored columns (leaves) that belong to the named columns."""
        return [
            leaf
            for leaf in range(self._metadata.num_columns)
            if columns is None
            or any(f"{self._path(leaf)}.".startswith(f"{name}.") for name in columns)
        ]

    def _path(self, leaf: int) -> str:
        return str(self._metadata.schema.column(leaf).path)

    def _chunks(self, leaf: int) -> list[Any]:
        groups = range(self._metadata.num_row_groups)
        return [self._metadata.row_group(group).column(leaf) for group in groups]

    def _has_differences(self, leaf: int) -> bool:
        """Return whether texts may be stored as differences from the text before them."""
        return any("DELTA_BYTE_ARRAY" in chunk.encodings for chunk in self._chunks(leaf))

    def _is_shared(self, leaf: int) -> bool:
        """Return whether texts may be stored in a dictionary that Arrow can read as it is."""
        column = self._metadata.schema.column(leaf)
        return (
            column.physical_type == "BYTE_ARRAY"
            and column.logical_type.type != "DECIMAL"
            and any(chunk.has_dictionary_page for chunk in self._chunks(leaf))
            and not self._has_differences(leaf)
        )

    def _rows_to_read(self, columns: Sequence[str] | None) -> int:
        """Return how many rows to read at once, so that their size is limited.

        The names of the columns count too, because jsonl output repeats them in each row.
        """
        width = unmeasured = size = 0
        for leaf in self._leaves(columns):
            column, chunks = self._metadata.schema.column(leaf), self._chunks(leaf)
            width += len(column.path) + max(column.length or 0, _VALUE_BYTES)
            sizes = [chunk.total_uncompressed_size for chunk in chunks]
            size += sum(sizes)
            if column.max_repetition_level:
                size += _VALUE_BYTES * sum(chunk.num_values for chunk in chunks)
            if self._has_differences(leaf):
                unmeasured += max(sizes)
        self._check_size(size)
        rows = min(_READ_ROWS, _READ_BYTES // max(width, size // max(self.count, 1), 1))
        if unmeasured:
            rows = min(rows, _UNMEASURED_READ_BYTES // unmeasured)
        return max(rows, 1)


def _parts(batch: pyarrow.RecordBatch) -> Iterator[pyarrow.RecordBatch]:
    """Divide a batch into parts that are small when they are decoded, or have a single row."""
    if batch.num_rows < 2 or _decoded_bytes(batch) <= _BATCH_BYTES:
        yield batch
        return
    half = batch.num_rows // 2
    yield from _parts(batch.slice(0, half))
    yield from _parts(batch.slice(half))


def _decoded_bytes(
    values: pyarrow.RecordBatch | pyarrow.Array, value_bytes: int = _VALUE_BYTES
) -> int:
    """Return the number of bytes that values take when each repeated text is stored each time.

    Each value counts as at least `value_bytes` bytes.
    """
    import pyarrow
    from pyarrow import compute, types

    if isinstance(values, pyarrow.RecordBatch):
        return sum(_decoded_bytes(column, value_bytes) for column in values.columns)
    if isinstance(values, pyarrow.ExtensionArray):
        return _decoded_bytes(values.storage, value_bytes)
    if isinstance(values, pyarrow.StructArray):
        return sum(_decoded_bytes(field, value_bytes) for field in values.flatten())
    size = value_bytes * len(values)
    if isinstance(values, pyarrow.MapArray):
        start, stop = values.offsets[0].as_py(), values.offsets[-1].as_py()
        items = (part.slice(start, stop - start) for part in (values.keys, values.items))
        return size + sum(_decoded_bytes(item, value_bytes) for item in items)
    if isinstance(values, (pyarrow.ListArray, pyarrow.LargeListArray, pyarrow.FixedSizeListArray)):
        return size + _decoded_bytes(values.flatten(), value_bytes)
    if not isinstance(values, pyarrow.DictionaryArray):
        return max(size, int(values.nbytes))
    kind = values.type.value_type
    if types.is_primitive(kind) or types.is_decimal(kind):
        return size
    lengths = compute.binary_length(values.dictionary).take(values.indices)
    return size + int(compute.sum(lengths).as_py() or 0)
