"""Files of the three splits and of the labels."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow
import pyarrow.parquet

from rubro.base.files import damaged, read_json, replacing, require_file, write_json
from rubro.base.schema import Positive, Section
from rubro.base.text import tokenise

SPLITS = ("train", "validation", "test")
_COLUMNS = ("title", "tokens", "category", "label_quality")


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
        tokens = split["title"].map(lambda title: " ".join(tokenise(title)))
        table = split.assign(tokens=tokens)[list(_COLUMNS)]
        with replacing(folder / f"{name}.parquet") as partial:
            table.to_parquet(partial, index=False, compression="zstd")
    write_json(folder / "labels.json", labels)
    write_json(folder / "source.json", info.model_dump())


def load_split(folder: Path, name: str) -> pd.DataFrame:
    """Read a split that save_splits wrote.

    Raises:
        DataError: The file is missing or damaged.
    """
    path = folder / f"{name}.parquet"
    require_file(path)
    try:
        columns = pyarrow.parquet.read_schema(path)
        table = pd.read_parquet(path)
    except Exception as error:  # noqa: BLE001 (of any kind: pandas trusts the file's metadata)
        raise damaged(path, f"not a readable parquet file ({error})") from None
    texts = (pyarrow.string(), pyarrow.large_string())
    for column in _COLUMNS:
        if column not in columns.names or column not in table:
            raise damaged(path, f"no column '{column}'")
        if columns.field(column).type not in texts:
            raise damaged(path, f"column '{column}' is not text")
        if table[column].isna().any():
            raise damaged(path, f"column '{column}' has missing values")
    return table


def tokens_of(table: pd.DataFrame) -> list[list[str]]:
    """Return the tokens of each title of a split."""
    return [tokens.split() for tokens in table["tokens"]]


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
