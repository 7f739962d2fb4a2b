"""Reading raw title files in tests."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from rubro.data.corrections_files import Correction, Corrections
from rubro.data.raw_titles import CORRECTIONS, RawTitles, read_titles

Read = Callable[..., RawTitles]
Row = tuple[str, str, str]  # title, category, split


@pytest.fixture
def read(make_params: Callable[..., Any]) -> Read:
    """Return a function that reads a source, with changed data parameters."""

    def run(path: Path, language: str | None = None, **data: Any) -> RawTitles:
        overrides = {"data.path": str(path), "data.max_quarantined_share": 1.0}
        overrides |= {f"data.{key}": value for key, value in data.items()}
        return read_titles(make_params(overrides).data, language)

    return run


@pytest.fixture
def read_file(tmp_path: Path, read: Read) -> Read:
    """Return a function that writes a file and reads it, with changed data parameters."""

    def run(content: str | bytes | pd.DataFrame, name: str = "x.csv", **data: Any) -> RawTitles:
        if isinstance(content, pd.DataFrame):
            write_frame(content, tmp_path / name)
        elif isinstance(content, bytes):
            (tmp_path / name).write_bytes(content)
        else:
            write_text(tmp_path / name, content)
        return read(tmp_path / name, **data)

    return run


def raw_titles(rows: list[Row], language: str | list[str] = "") -> RawTitles:
    """Return rows as if they had been read from files."""
    table = pd.DataFrame(rows, columns=["title", "category", "split"]).assign(
        language=language, label_quality="reliable", file="x.csv", line=range(2, len(rows) + 2)
    )
    quarantine = pd.DataFrame(columns=["file", "line", "reason", "problem", "excerpt"])
    lines = range(2, 2 + sum(split == CORRECTIONS for _, _, split in rows))
    corrections = Corrections([Correction(Path("corrections.csv"), line) for line in lines])
    return RawTitles(table, quarantine, corrections=corrections)


def rows(raw: RawTitles) -> list[tuple[str, str]]:
    """Return the titles and categories that were read."""
    return list(zip(raw.table["title"], raw.table["category"], strict=True))


def all_rows(raw: RawTitles) -> list[tuple[str, str]]:
    """Return the titles and categories, and check that no row is in the quarantine."""
    assert raw.quarantine.empty
    return rows(raw)


def titles_of(table: pd.DataFrame | None) -> list[str]:
    """Return the titles of a table; an empty list if there is no table."""
    return [] if table is None else list(table["title"])


def reasons(raw: RawTitles) -> list[tuple[int, str]]:
    """Return the lines and reasons of the quarantine."""
    return list(zip(raw.quarantine["line"], raw.quarantine["reason"], strict=True))


def jsonl(*records: object) -> str:
    """Return one line of JSON per record."""
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def write_frame(table: pd.DataFrame, path: Path) -> None:
    """Write a table in the format that the file's name implies."""
    if ".parquet" in path.name:
        table.to_parquet(path)
    elif ".json" in path.name or ".ndjson" in path.name:
        lines = ".jsonl" in path.name or ".ndjson" in path.name
        table.to_json(path, orient="records", lines=lines, force_ascii=False)
    else:
        table.to_csv(path, index=False, sep="\t" if ".tsv" in path.name else ",")


def write_text(path: Path, text: str, encoding: str = "utf-8") -> None:
    """Write text with its line ends unchanged, compressed if the file's name ends with .gz."""
    content = text.encode(encoding)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
