"""Files of the three splits and of the labels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pyarrow as pa
from pyarrow.parquet import ParquetWriter, read_schema

from rubro.base.files import damaged, read_json, replacing, require_file, write_json
from rubro.base.parallel import mapped, thread_count
from rubro.base.schema import Positive, Section
from rubro.base.text import tokenise

SPLITS = ("train", "validation", "test")
_COLUMNS = ("title", "tokens", "category", "label_quality")
_SCHEMA = pa.schema([(column, pa.string()) for column in _COLUMNS])
_CHUNK = 2**14
_ROWS_OF_A_GROUP = 2**17  # that memory holds as Python's strings


class SourceInfo(Section):
    """source.json: properties of the source that a model folder records.

    Attributes:
        title_column: Name of the column of titles.
        category_column: Name of the column of categories.
        max_title_length: Number of characters above which titles are quarantined.
    """

    title_column: str
    category_column: str
    max_title_length: Positive


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """Write a csv file without the table's index, replacing it in one step.

    Args:
        path: Path of the file; its folder is created if missing.
        table: Rows and columns of the file.
    """
    with replacing(path) as partial:
        table.to_csv(partial, index=False)


def save_splits(
    folder: Path, splits: dict[str, pd.DataFrame], labels: list[str], info: SourceInfo
) -> None:
    """Write a parquet file for each split, labels.json and source.json.

    Args:
        folder: Path of the folder, created if missing.
        splits: Columns title, category and label_quality of each split, by its name. A column of
            tokens, joined by blanks, is added.
        labels: Categories; the position is the class index.
        info: Properties of the source.
    """
    for name, split in splits.items():
        with (
            replacing(folder / f"{name}.parquet") as partial,
            ParquetWriter(partial, _SCHEMA, compression="zstd") as writer,
        ):

            def group(start: int, split: pd.DataFrame = split) -> pa.Table:
                rows = split.iloc[start : start + _ROWS_OF_A_GROUP]
                tokens = [" ".join(tokenise(title)) for title in rows["title"]]
                rows = rows.assign(tokens=tokens)[list(_COLUMNS)].astype("str")
                return pa.Table.from_pandas(rows, _SCHEMA, preserve_index=False)

            starts = range(0, max(len(split), 1), _ROWS_OF_A_GROUP)
            for _, table in mapped(group, starts, thread_count()):
                writer.write_table(table)
    write_json(folder / "labels.json", labels)
    write_json(folder / "source.json", info.model_dump())


def load_split(folder: Path, name: str, columns: tuple[str, ...] = _COLUMNS) -> pd.DataFrame:
    """Read a split that save_splits wrote.

    Args:
        folder: Path of the folder.
        name: Name of the split.
        columns: Names of the columns to read.

    Raises:
        DataError: The file is missing or damaged.
    """
    path = folder / f"{name}.parquet"
    require_file(path)
    try:
        schema = read_schema(path)
        stored = [column for column in columns if column in schema.names]
        table = pd.read_parquet(path, columns=stored)
    except Exception as error:  # noqa: BLE001 (of any kind: pandas trusts the file's metadata)
        raise damaged(path, f"not a readable parquet file ({error})") from None
    texts = (pa.string(), pa.large_string())
    for column in columns:
        if column not in stored or column not in table:
            raise damaged(path, f"no column '{column}'")
        if schema.field(column).type not in texts:
            raise damaged(path, f"column '{column}' is not text")
        if table[column].isna().any():
            raise damaged(path, f"column '{column}' has missing values")
    return table


class TitleTokens:
    """The tokens of each title of a split, made anew at each iteration: in memory they are text.

    Args:
        table: Split from load_split.
    """

    def __init__(self, table: pd.DataFrame) -> None:
        self._joined = table["tokens"]

    def __len__(self) -> int:
        return len(self._joined)

    def __iter__(self) -> Iterator[list[str]]:
        for chunk in self.chunks():
            yield from chunk

    def chunks(self) -> Iterator[list[list[str]]]:
        """Yield the tokens of thousands of titles at a time."""
        for start in range(0, len(self), _CHUNK):
            yield [tokens.split() for tokens in self._joined.iloc[start : start + _CHUNK]]


def load_info(folder: Path) -> SourceInfo:
    """Read source.json.

    Raises:
        DataError: The file is missing or damaged.
    """
    return read_json(folder / "source.json", SourceInfo)


def load_labels(folder: Path) -> list[str]:
    """Read the class names in order.

    Raises:
        DataError: The file is missing, or its names are not distinct.
    """
    path = folder / "labels.json"
    labels = read_json(path, list[str])
    if len(set(labels)) < len(labels):
        raise damaged(path, "a label is there twice")
    return labels
