"""Raw title files of any supported layout, read row by row; unusable rows are quarantined."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BufferedReader, TextIOWrapper
from pathlib import Path
from typing import Any

import pandas as pd

from rubro.base.console import file_progress
from rubro.base.errors import DataError
from rubro.base.params import DataParams
from rubro.base.text import normalise
from rubro.data.records import (
    Origin,
    Record,
    Unzipped,
    csv_records,
    empty,
    is_unicode,
    json_records,
    open_parquet,
    open_text,
    reading,
)
from rubro.data.splits import SPLITS

QUALITIES = ("reliable", "unreliable")
QUARANTINE_REASONS = (
    "not_json",
    "not_an_object",
    "not_csv",
    "not_utf8",
    "line_too_long",
    "title_missing",
    "title_not_text",
    "title_empty",
    "title_too_long",
    "title_of_several_lines",
    "category_missing",
    "category_not_text",
    "unknown_split",
    "unknown_label_quality",
)
_NAME = re.compile(
    r"^(?:(?P<language>[^.]+)\.)?(?P<split>train|validation|test)"
    r"(?P<kind>\.parquet$|(?:\.jsonl|\.csv|\.tsv)(?=(?:\.gz)?$))"
)
_KIND = re.compile(r"(?P<kind>\.parquet$|(?:\.jsonl|\.csv|\.tsv)(?=(?:\.gz)?$))")
_LAYOUTS = (
    "files named train, validation and test, or {language}.train ..., or one single file; of the "
    "kinds .jsonl, .csv and .tsv (each also .gz) and .parquet"
)
# Number of unusable rows from which on reading stops where their share is too high.
_MANY_UNUSABLE = 2**20
_REMEDIES = {
    "not_utf8": "set data.encoding, for instance to latin-1",
    "title_missing": "set data.title_column",
    "category_missing": "set data.category_column",
    "title_too_long": "raise data.max_title_length",
}


@dataclass(frozen=True)
class SourceFile:
    """A raw file.

    Attributes:
        path: Path of the file.
        kind: Suffix: ".jsonl", ".csv", ".tsv" or ".parquet".
        language: Language in the name of the file; None = no language.
        split: Split in the name of the file; None = no split.
    """

    path: Path
    kind: str
    language: str | None = None
    split: str | None = None


@dataclass
class RawTitles:
    """Usable rows of a source and an account of the rejected ones.

    Attributes:
        table: One row per title: title, category, language ("" = unknown), label_quality and split
            ("" = unknown).
        quarantine: One row per rejected row: file, line (from 1; the row number in parquet), reason
            and excerpt.
        notices: Sentences for the user, for instance on a file that was left out.
    """

    table: pd.DataFrame
    quarantine: pd.DataFrame
    notices: list[str] = field(default_factory=list)


def read_titles(params: DataParams, language: str | None) -> RawTitles:
    """Read every row of a source.

    Args:
        params: Path of the source and names of its columns.
        language: Language whose files are read, where file names tell it; None = all.

    Returns:
        Usable rows and quarantine.

    Raises:
        DataError: The source is missing, empty, damaged or of no supported layout, a column is
            missing, or more than params.max_quarantined_share of the rows is unusable.
    """
    columns: dict[str, list[Any]] = {
        name: [] for name in ("title", "category", "language", "label_quality", "split")
    }
    rejected: list[tuple[str, int, str, str]] = []
    notices: list[str] = []
    for source in find_sources(Path(params.path), language):
        check = _RowCheck(source, params)
        origin = Origin(source.path, source.path.stat().st_size, params.encoding, "data.encoding")
        with reading(origin):
            for lines, record, reason in _records(source, origin, params, notices):
                row = check(record, len(lines)) if reason is None else reason
                if isinstance(row, str):
                    excerpt = ascii(record)[:120]
                    rejected.extend((source.path.name, line, row, excerpt) for line in lines)
                    if len(rejected) > _MANY_UNUSABLE:
                        _stop_if_unusable(params, len(columns["title"]), rejected)
                else:
                    for column, value in zip(columns.values(), row, strict=True):
                        column.append(value)
    _stop_if_unusable(params, len(columns["title"]), rejected)
    quarantine = pd.DataFrame(rejected, columns=["file", "line", "reason", "excerpt"])
    return RawTitles(pd.DataFrame(columns), quarantine, notices)


def find_sources(path: Path, language: str | None) -> list[SourceFile]:
    """List the files of a source in a fixed order.

    Args:
        path: Path of a file, or of a folder in a supported layout.
        language: Language of the files to list, where file names tell it; None = all.

    Returns:
        Files with the splits and languages in their names.

    Raises:
        DataError: The path does not exist, no file has a supported name, or none is of the
            language.
    """
    if path.is_file():
        kind = _KIND.search(path.name)
        if kind is None:
            raise DataError(f"{path}: unknown kind of file; supported: {_LAYOUTS}")
        return [SourceFile(path, kind["kind"])]
    if not path.is_dir():
        raise DataError(f"{path}: no such file or folder; set data.path in params.yaml")
    language = language and language.lower()
    files = sorted(file for file in path.iterdir() if file.is_file())
    named: list[SourceFile] = []
    for file in files:
        if match := _NAME.match(file.name):
            spoken = match["language"] and match["language"].lower()
            named.append(SourceFile(file, match["kind"], spoken, match["split"]))
    if not named:
        single = [file for file in files if _KIND.search(file.name)]
        if len(single) == 1:
            return find_sources(single[0], language)
        found = ", ".join(file.name for file in files[:5]) or "nothing"
        raise DataError(f"{path}: no title files (found {found}); supported: {_LAYOUTS}")
    chosen = [file for file in named if language is None or file.language in (None, language)]
    if not any(file.split == "train" for file in chosen):
        languages = ", ".join(sorted({file.language for file in named if file.language}))
        wanted = f" for language {language!r}" if language else ""
        raise DataError(
            f"{path}: no training file{wanted}; languages found: {languages or 'none'}; "
            "set subset.language, or add a file named train"
        )
    first: dict[tuple[str | None, str | None], Path] = {}
    for source in chosen:
        other = first.setdefault((source.language, source.split), source.path)
        if other != source.path:
            raise DataError(f"{other} and {source.path} are the same split twice; remove one")
    return chosen


def _stop_if_unusable(
    params: DataParams, usable: int, rejected: list[tuple[str, int, str, str]]
) -> None:
    rows = usable + len(rejected)
    if rows == 0:
        raise DataError(f"{params.path}: no rows; the source is empty")
    share = len(rejected) / rows
    if share > params.max_quarantined_share:
        counts = Counter(reason for _, _, reason, _ in rejected).most_common()
        reasons = ", ".join(f"{reason} {count}" for reason, count in counts)
        file, line, _, excerpt = rejected[0]
        most = counts[0][0]
        remedy = f"; {_REMEDIES[most]}" if most in _REMEDIES else ""
        raise DataError(
            f"{params.path}: {len(rejected)} of {rows} rows ({share:.1%}) cannot be used, more "
            f"than data.max_quarantined_share ({params.max_quarantined_share:.1%}) allows: "
            f"{reasons}; the first is {file}:{line}: {excerpt}{remedy}"
        )


class _RowCheck:
    """Turns a record into a row of the table or a reason of rejection."""

    def __init__(self, source: SourceFile, params: DataParams) -> None:
        self.source = source
        self.params = params

    def __call__(self, record: dict[str, Any], lines: int) -> tuple[Any, ...] | str:
        title = record.get(self.params.title_column)
        category = record.get(self.params.category_column)
        if title is None:
            return "title_missing"
        if not isinstance(title, str):
            return "title_not_text"
        if len(title) > self.params.max_title_length:
            return "title_too_long"
        if category is None:
            return "category_missing"
        if not isinstance(category, str):
            return "category_not_text"
        if not (is_unicode(title) and is_unicode(category)):
            return "not_utf8"
        if not normalise(title):
            return "title_empty"
        # An open quote swallows the lines up to the next quote.
        if lines > 1 and "\n" in title + category:
            return "title_of_several_lines"
        category = category.strip()
        if not category:
            return "category_missing"
        quality = record.get("label_quality") or "reliable"
        if quality not in QUALITIES:
            return "unknown_label_quality"
        split = self.source.split or record.get("split") or ""
        if split not in ("", *SPLITS):
            return "unknown_split"
        language = str(record.get("language") or self.source.language or "").strip().lower()
        # A few distinct strings for millions of rows: share them.
        shared = (sys.intern(value) for value in (category, language, quality, split))
        category, language, quality, split = shared
        return title, category, language, quality, split


_OPTIONAL_COLUMNS = ("label_quality", "language", "split")


def _records(
    source: SourceFile, origin: Origin, params: DataParams, notices: list[str]
) -> Iterator[Record]:
    with file_progress(source.path) as raw:
        if raw.peek(1) == b"":
            raise empty(origin)
        if source.kind == ".parquet":
            yield from _parquet_records(source, origin, params, raw, notices)
            return
        text = open_text(origin, Unzipped(origin, raw) if source.path.suffix == ".gz" else raw)
        if source.kind == ".jsonl":
            yield from _json_records(source, params, text, notices)
        else:
            yield from _csv_records(source, origin, params, text, notices)


def _json_records(
    source: SourceFile, params: DataParams, text: TextIOWrapper, notices: list[str]
) -> Iterator[Record]:
    unlabelled: list[Record] | None = [] if source.split == "test" else None
    for record in json_records(text):
        if record.reason is None and unlabelled is not None:
            if params.category_column not in record.content:
                unlabelled.append(record)
                continue
            yield from unlabelled
            unlabelled = None
        yield record
    if unlabelled:
        notices.append(_left_out(source, params))


def _csv_records(
    source: SourceFile,
    origin: Origin,
    params: DataParams,
    text: TextIOWrapper,
    notices: list[str],
) -> Iterator[Record]:
    header, rows = csv_records(origin, text, "\t" if source.kind == ".tsv" else ",")
    header = [name.strip() for name in header]
    if _is_unlabelled(source, params, header):
        notices.append(_left_out(source, params))
        return
    _require_columns(source, params, header)
    for lines, fields, reason in rows:
        if reason is None:
            yield Record(lines, dict(zip(header, fields, strict=True)), None)
        else:
            yield Record(lines, fields, "not_csv" if reason == "wrong_field_count" else reason)


def _parquet_records(
    source: SourceFile,
    origin: Origin,
    params: DataParams,
    raw: BufferedReader,
    notices: list[str],
) -> Iterator[Record]:
    with open_parquet(origin, raw) as file:
        found = file.schema_arrow.names
        if _is_unlabelled(source, params, found):
            notices.append(_left_out(source, params))
            return
        _require_columns(source, params, found)
        row = 0
        read = [params.title_column, params.category_column, *_OPTIONAL_COLUMNS]
        for batch in file.iter_batches(columns=[name for name in found if name in read]):
            for record in batch.to_pylist():
                row += 1
                yield Record(range(row, row + 1), record, None)


def _is_unlabelled(source: SourceFile, params: DataParams, columns: list[str]) -> bool:
    """Return whether a file has no categories, as the challenge's test file of titles to predict."""
    return source.split == "test" and params.category_column not in columns


def _left_out(source: SourceFile, params: DataParams) -> str:
    return f"{source.path.name} has no column '{params.category_column}': left out"


def _require_columns(source: SourceFile, params: DataParams, found: list[str]) -> None:
    twice = [name for name, count in Counter(found).items() if name and count > 1]
    if twice:
        raise DataError(f"{source.path}: column {twice[0][:100]!a} is there twice; rename one")
    for key in ("title_column", "category_column"):
        column = getattr(params, key)
        if column not in found:
            hint = f"set data.{key} in params.yaml"
            if any(not name.isprintable() for name in found):
                hint = f"is it {params.encoding} text? Set data.encoding, or data.{key}"
            names = ascii(", ".join(found))[1:200].rstrip("'") or "none"
            raise DataError(f"{source.path}: no column '{column}' (found: {names}); {hint}")
