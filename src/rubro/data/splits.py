"""The three splits and their labels, as files."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow
import pyarrow.parquet

from rubro.base.files import damaged, read_json, require_file, write_json

SPLITS = ("train", "validation", "test")
_ALWAYS_THERE = ("title", "category", "label_quality")


def save_splits(folder: Path, splits: dict[str, pd.DataFrame], labels: list[str]) -> None:
    """Write one parquet file a split and labels.json.

    Args:
        folder: made if missing.
        splits: by name: title, category, label_quality, tokenized_title.
        labels: the categories; the position is the class index.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, split in splits.items():
        split.to_parquet(folder / f"{name}.parquet", index=False, compression="zstd")
    write_json(folder / "labels.json", labels)


def load_split(folder: Path, name: str) -> pd.DataFrame:
    """Read a split that save_splits wrote.

    Raises:
        DataError: the file is missing or not as save_splits wrote it.
    """
    path = folder / f"{name}.parquet"
    require_file(path)
    try:
        columns = pyarrow.parquet.read_schema(path)
        table = pd.read_parquet(path)
    except Exception as error:  # noqa: BLE001 (of any kind: pandas trusts the file's metadata)
        raise damaged(path, f"not a readable parquet file ({error})") from None
    texts = (pyarrow.string(), pyarrow.large_string())
    for column in (*_ALWAYS_THERE, "tokenized_title"):
        if column not in columns.names or column not in table:
            raise damaged(path, f"no column '{column}'")
        empty = columns.field(column).type == pyarrow.null() and column == "tokenized_title"
        if columns.field(column).type not in texts and not empty:
            raise damaged(path, f"column '{column}' is not text")
        if column in _ALWAYS_THERE and table[column].isna().any():
            raise damaged(path, f"column '{column}' has gaps")
    return table


def load_labels(folder: Path) -> list[str]:
    """Read the class names in order.

    Raises:
        DataError: the file is missing, or holds anything but distinct names.
    """
    path = folder / "labels.json"
    labels = read_json(path, list[str])
    if len(set(labels)) < len(labels):
        raise damaged(path, "a label is there twice")
    return labels
