"""Small files that would fill the memory if they were read without limits."""

from __future__ import annotations

import gzip
import random
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from rubro.base.errors import DataError
from rubro.tables.parquet import ParquetRows, parquet_errors_reported
from rubro.tables.streams import Origin

MEASURED = """
import resource, sys
import pyarrow.parquet
from rubro.base.errors import DataError
from rubro.tables.inputs import Reading, open_input

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

before = peak()
try:
    with open_input(sys.argv[1], Reading(None, None, None, "title", "title", 1024)) as source:
        rows = sum(len(chunk.titles) for chunk in source.chunks)
    print(peak() - before, rows)
except DataError as error:
    print(peak() - before, error)
"""
LONG = "g" * 10_000_000


def repeated(value: object, count: int) -> pyarrow.Array:
    """Return an array that stores a value once."""
    indices = pyarrow.array(np.zeros(count, np.int32))
    return pyarrow.DictionaryArray.from_arrays(indices, pyarrow.array([value]))


def csv_of(header: str, *rows: str) -> Callable[[Path], object]:
    return lambda path: Path(path).write_text("\n".join([header, *rows]), encoding="utf-8")


def gzip_of(start: str, line: str, count: int) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(gzip.compress((start + line * count).encode(), 1))


def parquet_of(
    count: int, other: Callable[[int], object], **how: object
) -> Callable[[Path], object]:
    def write(path: Path) -> None:
        table = pyarrow.table({"title": ["mesa"] * count, "other": other(count)})
        pyarrow.parquet.write_table(table, path, **how)

    return write


def with_lists(count: int) -> pyarrow.Array:
    offsets = pyarrow.array(np.arange(count + 1, dtype=np.int32))
    return pyarrow.ListArray.from_arrays(offsets, repeated(LONG, count).dictionary_decode())


CASES: dict[str, tuple[str, Callable[[Path], object], str, int]] = {
    "a header of 100,000 names": (
        "x.csv",
        csv_of("title," + ",".join(f"a{n}" for n in range(100_000)), *["mesa"] * 3000),
        "100001 columns",
        100,
    ),
    "short rows of 16,000 columns": (
        "x.csv",
        csv_of("title" + "," * 16_000, *["mesa"] * 3000),
        "3000",
        60,
    ),
    "long texts": (
        "x.csv.gz",
        gzip_of("title,other\n", "mesa," + "x" * 500_000 + "\n", 200),
        "200",
        60,
    ),
    "many empty objects": (
        "x.jsonl.gz",
        gzip_of("", '{"title": "mesa", "other": [' + "{}," * 150_000 + "{}]}\n", 20),
        "20",
        150,
    ),
    "millions of rows in gzip": ("x.csv.gz", gzip_of("title,x\n", "a,\n", 2**21), "rows", 60),
    "a text in every row": ("x.parquet", parquet_of(1024, lambda n: repeated(LONG, n)), "100", 100),
    "a text in every list": (
        "x.parquet",
        parquet_of(16, with_lists, compression="zstd"),
        "100 times",
        200,
    ),
    "texts that share a prefix": (
        "x.parquet",
        parquet_of(
            64,
            lambda n: [LONG[:2_000_000] + str(row) for row in range(n)],
            use_dictionary=False,
            column_encoding={"title": "PLAIN", "other": "DELTA_BYTE_ARRAY"},
        ),
        "100 times",
        250,
    ),
    "bytes of a fixed length": (
        "x.parquet",
        parquet_of(200, lambda n: pyarrow.array([b"x" * 1_000_000] * n, pyarrow.binary(1_000_000))),
        "100 times",
        150,
    ),
    "a list of millions of numbers": (
        "x.parquet",
        parquet_of(1, lambda n: pyarrow.array([np.zeros(2 * 10**7, np.int64)])),
        "100 times",
        100,
    ),
    "20,000 columns in parquet": (
        "x.parquet",
        lambda path: pyarrow.parquet.write_table(
            pyarrow.table({f"a{n}": ["mesa"] for n in range(20_000)}), path
        ),
        "20000 columns",
        250,
    ),
}


SLOW_CASES = ("many empty objects", "millions of rows in gzip")


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=[pytest.mark.slow] * (case in SLOW_CASES)) for case in CASES],
)
def test_a_small_file_is_read_or_refused_in_little_memory(tmp_path: Path, case: str) -> None:
    name, write, outcome, limit = CASES[case]
    write(tmp_path / name)
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, str(tmp_path / name)],
        check=True,
        capture_output=True,
        text=True,
        timeout=300,
    )
    megabytes, _, found = done.stdout.strip().partition(" ")
    assert outcome in found
    assert int(megabytes) < limit


def batches(path: Path) -> list[pyarrow.RecordBatch]:
    with path.open("rb") as file:
        origin = Origin(path, path.stat().st_size, "utf-8", "--encoding")
        return list(ParquetRows(origin, file).batches(1000))


def test_long_texts_in_parquet_are_read_in_small_batches(tmp_path: Path) -> None:
    random.seed(0)
    texts = [random.randbytes(1_000_000).hex() for _ in range(6)]
    table = pyarrow.table({"title": [*texts, *texts], "id": range(12)})
    pyarrow.parquet.write_table(table, tmp_path / "x.parquet")
    found = batches(tmp_path / "x.parquet")
    assert max(batch.num_rows for batch in found) <= 2
    assert pyarrow.Table.from_batches(found) == table


@pytest.mark.parametrize(
    "how", [{}, {"column_encoding": "DELTA_BYTE_ARRAY", "use_dictionary": False}]
)
def test_every_type_is_read_as_it_is_stored(tmp_path: Path, how: dict[str, object]) -> None:
    text = pyarrow.array(["mesa", None, "taza", "mesa"])
    columns = {
        "title": text,
        "large": text.cast("large_string"),
        "binary": text.cast("binary"),
        "category": text.dictionary_encode(),
        "lists": pyarrow.array([["a", "a"], None, [], ["b"]]),
        "objects": pyarrow.array([{"a": "x", "b": ["y"]}, None, {"a": None, "b": []}, {"a": "x"}]),
        "maps": pyarrow.array(
            [[("k", "v")], None, [], [("k", "w")]], pyarrow.map_("string", "string")
        ),
        "number": pyarrow.array([1, 2, 1, None]).dictionary_encode(),
        "price": pyarrow.array([Decimal("1.5"), None, Decimal("1.5"), Decimal(2)]),
        "nothing": pyarrow.nulls(4),
        "json": pyarrow.array(["1", None, "1", "1"], pyarrow.json_()),
        "a.b": pyarrow.array(["1", "2", "1", "2"]),
    }
    table = pyarrow.table(columns)
    if how:
        names = ["title", "large", "binary", "a.b"]
        table = table.select(names)
        how = {**how, "column_encoding": dict.fromkeys(names, "DELTA_BYTE_ARRAY")}
    pyarrow.parquet.write_table(table, tmp_path / "x.parquet", row_group_size=3, **how)
    found = pyarrow.Table.from_batches(batches(tmp_path / "x.parquet"))
    whole = pyarrow.parquet.read_table(tmp_path / "x.parquet")
    assert found.schema == whole.schema
    assert found.to_pylist() == whole.to_pylist()


def test_a_table_of_many_flags_and_empty_columns_is_not_too_large(tmp_path: Path) -> None:
    flags = pyarrow.array([False] * 20_000)
    nulls = pyarrow.nulls(20_000, pyarrow.string())
    columns = {f"a{n}": flags if n % 2 else nulls for n in range(600)}
    titles = [f"mesa {random.randbytes(8).hex()}" for _ in range(20_000)]
    path = tmp_path / "x.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"title": titles, **columns}), path)
    assert sum(batch.num_rows for batch in batches(path)) == 20_000


@pytest.mark.parametrize("error", [pyarrow.ArrowMemoryError("no"), OSError(12, "no")])
def test_missing_memory_is_not_a_damaged_parquet_file(error: Exception) -> None:
    origin = Origin(Path("x.parquet"), 1, "utf-8", "--encoding")
    with pytest.raises(type(error)), parquet_errors_reported(origin):
        raise error


def test_a_damaged_parquet_file_is_refused(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"title": ["mesa"] * 100}), tmp_path / "x.parquet")
    content = (tmp_path / "x.parquet").read_bytes()
    (tmp_path / "x.parquet").write_bytes(content[:20] + b"\xff" * 20 + content[40:])
    with pytest.raises(DataError, match=r"x\.parquet"):
        batches(tmp_path / "x.parquet")
