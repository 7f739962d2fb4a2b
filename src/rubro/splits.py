"""The three splits and their labels, as files."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from rubro.files import write_json

SPLITS = ("train", "validation", "test")


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
    """Read a split that save_splits wrote."""
    return pd.read_parquet(folder / f"{name}.parquet")


def load_labels(folder: Path) -> list[str]:
    """Read the class names in order."""
    labels: list[str] = json.loads((folder / "labels.json").read_text(encoding="utf-8"))
    return labels
