"""Raw title files of any supported layout, read row by row; what cannot be used is quarantined."""

from __future__ import annotations

import csv
import gzip
import json
import re
import sys
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import TextIOWrapper
from pathlib import Path
from typing import IO, Any, cast

import pandas as pd

from rubro.console import file_progress
from rubro.errors import DataError
from rubro.params import DataParams
from rubro.splits import SPLITS

QUALITIES = ("reliable", "unreliable")
QUARANTINE_REASONS = (
    "not_json",
    "not_an_object",
    "not_csv",
    "not_utf8",
    "title_missing",
    "title_not_text",
    "title_empty",
    "title_too_long",
    "category_missing",
    "category_not_text",
    "unknown_split",
    "unknown_label_quality",
)
_NAME = re.compile(
    r"^(?:(?P<language>[^.]+)\.)?(?P<split>train|validation|test)"
    r"(?P<kind>\.jsonl|\.csv|\.tsv|\.parquet)(?:\.gz)?$"
)
_KIND = re.compile(r"(?P<kind>\.jsonl|\.csv|\.tsv|\.parquet)(?:\.gz)?$")
_LAYOUTS = (
    "{language}.{train,validation,test}.jsonl(.gz), {train,validation,test}.{csv,tsv,jsonl}(.gz) "
    "or .parquet, or one single file of these kinds"
)
# A title has no line breaks: a CSV record longer than this is a quote that was never closed.
_MAX_CSV_LINES = 50
_MAX_CSV_FIELD = 8 * 1024 * 1024


@dataclass(frozen=True)
class SourceFile:
    """A raw file and what its name says of its rows."""

    path: Path
    kind: str
    language: str | None = None
    split: str | None = None


@dataclass
class RawTitles:
    """All rows of a source that can be used, and an account of the rest.

    Attributes:
        table: one row a title: title, category, language ("" where the source does not say),
            label_quality, split ("" where the source does not say) and tokenized_title (tokens
            joined by blanks, or null).
        quarantine: one row a rejected row: file, line (1-based; the row number in parquet),
            reason and an excerpt.
        notices: sentences for the user, such as a file that was left out.
    """

    table: pd.DataFrame
    quarantine: pd.DataFrame
    notices: list[str] = field(default_factory=list)


def read_titles(params: DataParams, language: str | None) -> RawTitles:
    """Read every row of the source that params name.

    Args:
        params: where the source is and what its columns are called.
        language: read only the files of this language where file names tell; None = all.

    Returns:
        The usable rows and the quarantine.

    Raises:
        DataError: the source is missing, empty, damaged or of no supported layout, a column is
            missing, or more than params.max_quarantined_share of the rows is unusable.
    """
    columns: dict[str, list[Any]] = {
        name: []
        for name in ("title", "category", "language", "label_quality", "split", "tokenized_title")
    }
    rejected: list[tuple[str, int, str, str]] = []
    notices: list[str] = []
    for source in find_sources(Path(params.path), language):
        check = _RowCheck(source, params)
        try:
            for line, record, reason in _records(source, params, notices):
                row = check(record) if reason is None else reason
                if isinstance(row, str):
                    rejected.append((source.path.name, line, row, repr(record)[:120]))
                else:
                    for column, value in zip(columns.values(), row, strict=True):
                        column.append(value)
        except EOFError:
            raise DataError(
                f"{source.path}: the gzip stream ends early (a truncated download?); fetch it again"
            ) from None
        except (gzip.BadGzipFile, zlib.error) as error:
            raise DataError(f"{source.path}: not a valid gzip file ({error})") from None
        except UnicodeError as error:
            raise DataError(
                f"{source.path}: not {params.encoding} text ({error}); set data.encoding"
            ) from None
        except PermissionError:
            raise DataError(f"{source.path}: permission denied; make the file readable") from None
    quarantine = pd.DataFrame(rejected, columns=["file", "line", "reason", "excerpt"])
    _stop_if_unusable(params, len(columns["title"]), quarantine)
    return RawTitles(pd.DataFrame(columns), quarantine, notices)


def find_sources(path: Path, language: str | None) -> list[SourceFile]:
    """List the files of a source, in a fixed order.

    Args:
        path: a file, or a folder in one of the supported layouts.
        language: skip files whose name tells another language; None = all.

    Returns:
        The files, with the split and language that their names tell.

    Raises:
        DataError: nothing is there, or no file has a supported name, or none is of the language.
    """
    if path.is_file():
        kind = _KIND.search(path.name)
        if kind is None:
            raise DataError(f"{path}: unknown kind of file; supported: {_LAYOUTS}")
        return [SourceFile(path, kind["kind"])]
    if not path.is_dir():
        raise DataError(f"{path}: no such file or folder; set data.path in params.yaml")
    named = []
    for file in sorted(path.iterdir()):
        if match := _NAME.match(file.name):
            named.append(SourceFile(file, match["kind"], match["language"], match["split"]))
    if not named:
        single = [file for file in sorted(path.iterdir()) if _KIND.search(file.name)]
        if len(single) == 1:
            return find_sources(single[0], language)
        found = ", ".join(file.name for file in sorted(path.iterdir())[:5]) or "nothing"
        raise DataError(f"{path}: no title files (found {found}); supported: {_LAYOUTS}")
    chosen = [file for file in named if language is None or file.language in (None, language)]
    if not any(file.split == "train" for file in chosen):
        languages = sorted({file.language for file in named if file.language})
        raise DataError(
            f"{path}: no training file for language {language!r}; "
            f"languages found: {', '.join(languages) or 'none'}; set subset.language"
        )
    return chosen


def _stop_if_unusable(params: DataParams, usable: int, quarantine: pd.DataFrame) -> None:
    rows = usable + len(quarantine)
    if rows == 0:
        raise DataError(f"{params.path}: no rows; the source is empty")
    share = len(quarantine) / rows
    if share > params.max_quarantined_share:
        reasons = ", ".join(
            f"{reason} {count}" for reason, count in Counter(quarantine["reason"]).most_common()
        )
        first = quarantine.iloc[0]
        raise DataError(
            f"{params.path}: {len(quarantine)} of {rows} rows ({share:.1%}) cannot be used, more "
            f"than data.max_quarantined_share ({params.max_quarantined_share:.1%}) allows: "
            f"{reasons}; the first is {first['file']}:{first['line']}: {first['excerpt']}"
        )


class _RowCheck:
    """Turns a record into a row of the table, or into the reason why it cannot be one."""

    def __init__(self, source: SourceFile, params: DataParams) -> None:
        self.source = source
        self.params = params

    def __call__(self, record: dict[str, Any]) -> tuple[Any, ...] | str:
        title = record.get(self.params.title_column)
        category = record.get(self.params.category_column)
        if title is None:
            return "title_missing"
        if not isinstance(title, str):
            return "title_not_text"
        if not title.strip(" \t\r\n\0"):
            return "title_empty"
        if len(title) > self.params.max_title_length:
            return "title_too_long"
        if category is None or category == "":
            return "category_missing"
        if not isinstance(category, str):
            return "category_not_text"
        if not (_is_unicode(title) and _is_unicode(category)):
            return "not_utf8"
        quality = record.get("label_quality") or "reliable"
        if quality not in QUALITIES:
            return "unknown_label_quality"
        split = self.source.split or record.get("split") or ""
        if split not in ("", *SPLITS):
            return "unknown_split"
        language = str(record.get("language") or self.source.language or "").strip().lower()
        tokens = record.get("tokenized_title")
        if isinstance(tokens, list):
            tokens = " ".join(map(str, tokens))
        # A few distinct strings for millions of rows: share them.
        shared = (sys.intern(value) for value in (category, language, quality, split))
        category, language, quality, split = shared
        return title, category, language, quality, split, tokens


def _is_unicode(text: str) -> bool:
    """Bytes that could not be decoded arrive as lone surrogates (PEP 383)."""
    return text.isascii() or not any("\ud800" <= char <= "\udfff" for char in text)


Record = tuple[int, Any, str | None]  # line, content, reason why it is no record


def _records(source: SourceFile, params: DataParams, notices: list[str]) -> Iterator[Record]:
    with file_progress(source.path) as raw:
        if raw.peek(1) == b"":
            raise DataError(f"{source.path}: the file is empty")
        if source.kind == ".parquet":
            yield from _parquet_records(source, params, raw)
            return
        stream = gzip.GzipFile(fileobj=raw) if source.path.suffix == ".gz" else raw
        encoding = "utf-8-sig" if params.encoding.lower() in ("utf-8", "utf8") else params.encoding
        try:
            text = TextIOWrapper(
                cast(IO[bytes], stream), encoding, errors="surrogateescape", newline="\n"
            )
        except LookupError:
            raise DataError(f"data.encoding: unknown encoding {params.encoding!r}") from None
        if source.kind == ".jsonl":
            yield from _json_records(text)
        else:
            yield from _csv_records(source, params, text, notices)


def _json_records(text: TextIOWrapper) -> Iterator[Record]:
    for line, content in enumerate(text, start=1):
        try:
            record = json.loads(content)
        except (ValueError, RecursionError):
            reason = "not_json" if _is_unicode(content) else "not_utf8"
            yield line, content.rstrip("\n")[:200], reason
        else:
            yield line, record, None if isinstance(record, dict) else "not_an_object"


def _csv_records(
    source: SourceFile, params: DataParams, text: TextIOWrapper, notices: list[str]
) -> Iterator[Record]:
    csv.field_size_limit(_MAX_CSV_FIELD)
    reader = csv.reader(text, delimiter="\t" if source.kind == ".tsv" else ",", strict=True)
    header = [name.strip() for name in next(reader, [])]
    if params.category_column not in header and source.split == "test":
        notices.append(f"{source.path.name} has no column '{params.category_column}': left out")
        return
    _require_columns(source, params, header)
    while True:
        line = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            _stop_at_open_quote(source, line, reader.line_num)
            yield line, str(error), "not_csv"
            continue
        _stop_at_open_quote(source, line, reader.line_num)
        if len(fields) == len(header):
            yield line, dict(zip(header, fields, strict=True)), None
        elif fields:
            yield line, fields, "not_csv"


def _stop_at_open_quote(source: SourceFile, first: int, last: int) -> None:
    if last - first >= _MAX_CSV_LINES:
        raise DataError(
            f"{source.path}:{first}: a quote opens here and is not closed within "
            f"{_MAX_CSV_LINES} lines; close or double it"
        )


def _parquet_records(source: SourceFile, params: DataParams, raw: IO[bytes]) -> Iterator[Record]:
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(raw)
        _require_columns(source, params, file.schema_arrow.names)
        line = 0
        for batch in file.iter_batches():
            for record in batch.to_pylist():
                line += 1
                yield line, record, None
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{source.path}: not a readable parquet file ({error})") from None


def _require_columns(source: SourceFile, params: DataParams, found: list[str]) -> None:
    for key in ("title_column", "category_column"):
        column = getattr(params, key)
        if column not in found:
            raise DataError(
                f"{source.path}: no column '{column}' (found: {', '.join(found) or 'none'}); "
                f"set data.{key} in params.yaml"
            )
