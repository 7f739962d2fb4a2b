"""Raw title files of any supported layout, read row by row; unusable rows are quarantined."""

from __future__ import annotations

import re
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from rubro.base.console import file_progress
from rubro.base.errors import DataError
from rubro.base.params import DataParams
from rubro.base.text import normalise
from rubro.tables.layouts import (
    SEPARATORS,
    Asked,
    TitleFile,
    conversion,
    kind_of,
    no_header,
    open_title_file,
)
from rubro.tables.records import Origin, Record, is_unicode, open_parquet, problem, reading
from rubro.tables.values import category_name, text_of

QUALITIES = ("reliable", "unreliable")
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}
_WITHOUT_THEM = "or raise data.max_quarantined_share to go on without these rows"
# Reasons of the quarantine, each with what helps.
REMEDIES = {
    "not_json": "mend these lines",
    "not_an_object": "write an object with a title and a category in each line",
    "not_csv": "double each quote inside a quoted field",
    "wrong_field_count": "quote fields with a separator or a line break in them, or set "
    "data.separator if it is another one",
    "open_quote": "close or double the quote in the first of these lines",
    "not_utf8": "set data.encoding, for instance to latin-1",
    "line_too_long": "break the line, or remove what is no title",
    "title_missing": "set data.title_column",
    "title_not_text": "keep one title in each cell, not a list or an object",
    "title_empty": "fill in the titles or remove these rows",
    "title_too_long": "raise data.max_title_length",
    "category_missing": "set data.category_column",
    "category_empty": "fill in the categories or remove these rows",
    "category_not_text": "keep one category in each cell, not a list or an object; pandas' explode "
    "makes a row of each",
    "unknown_split": "write train, validation or test, or set data.split_column to null",
    "unknown_label_quality": "write reliable or unreliable, or set data.label_quality_column to null",
}
# Rows without a title and a category, such as a product's variants, are no titles.
BLANK = "no_title_and_no_category"
_USUAL_COLUMNS = {
    "language_column": "language",
    "label_quality_column": "label_quality",
    "split_column": "split",
}
_NAME = re.compile(
    rf"(?:(?P<language>[^.]+)\.)?(?P<split>{'|'.join(sorted(SPLIT_NAMES, reverse=True))})"
    r"(?P<part>[-_. ]?(?:part)?[-_. ]?(?P<number>\d+)(?:-of-(?P<parts>\d+))?(?:-[0-9a-f]{8,})?)?\.",
    re.IGNORECASE,
)
_PREFIXED_NAME = re.compile(r"(?:.*[-_ ])?" + _NAME.pattern, re.IGNORECASE)
_LAYOUTS = (
    "files named train, validation and test, or {language}.train ..., or one single file; of the "
    "kinds .csv, .tsv, .json, .jsonl (each also .gz) and .parquet"
)
# Split of the rows of data.corrections: training rows, of which no other split is drawn.
CORRECTIONS = "corrections"
# Number of unusable rows from which on reading stops where their share is too high.
_MANY_UNUSABLE = 2**20
_SHOWN_REASONS = 5
_CHUNK = 2**16  # titles that are handed to Arrow together
# Each line of such a record is a row that it swallowed.
_SWALLOWING = ("not_csv", "open_quote", "line_too_long")


@dataclass(frozen=True)
class SourceFile:
    """A raw file.

    Attributes:
        path: Path of the file.
        language: Language in the name of the file; None = no language.
        split: Split in the name of the file; None = no split.
        part: Number and hash of a part of a split, as the name has them; None = no part.
    """

    path: Path
    language: str | None = None
    split: str | None = None
    part: str | None = None


@dataclass
class RawTitles:
    """Usable rows of a source and an account of the rejected ones.

    Attributes:
        table: One row per title: title, category, language ("" = unknown), label_quality and split
            ("" = unknown); corrections last. Titles are Arrow's, the other columns categorical:
            a row takes little more memory than the bytes of its title.
        quarantine: One row per rejected row: file, line (from 1; the row number in parquet),
            reason, problem and excerpt.
        blank: Number of rows without a title and a category.
        notices: Sentences for the user, for instance on a file that was left out.
    """

    table: pd.DataFrame
    quarantine: pd.DataFrame
    blank: int = 0
    notices: list[str] = field(default_factory=list)


def read_titles(params: DataParams, language: str | None) -> RawTitles:
    """Read every row of a source, and the corrections.

    Reading ends early where a great many rows, and too large a share of them, are unusable.

    Args:
        params: Path of the source, names of its columns, and path of the corrections.
        language: Language whose files are read, where file names tell it; None = all.

    Returns:
        Usable rows and quarantine; require_usable tells whether they will do.

    Raises:
        DataError: The source is missing, empty, damaged or of no supported layout, or a column is
            missing.
    """
    rows = _Rows()
    rejected: list[tuple[str, int, str, str, str]] = []
    sources, notices = find_sources(Path(params.path), language)
    blank = 0
    layouts = [(source, params) for source in sources]
    layouts.append((SourceFile(Path(params.corrections), split=CORRECTIONS), _corrections(params)))
    for source, layout in layouts:
        check = _RowCheck(source, layout)
        origin = Origin(
            source.path,
            source.path.stat().st_size,
            layout.text_encoding or "utf-8",
            "data.encoding",
        )
        with reading(origin), ExitStack() as stack:
            raw = stack.enter_context(file_progress(source.path))
            for record, words in _records(stack, source, origin, raw, layout, notices):
                row = check(record.content) if record.reason is None else (record.reason, words)
                if row is None:
                    blank += 1
                elif len(row) == 2:
                    lines = record.lines if record.reason in _SWALLOWING else record.lines[:1]
                    excerpt = ascii(record.content)[:120]
                    rejected.extend((source.path.name, line, *row, excerpt) for line in lines)
                    if len(rejected) > _MANY_UNUSABLE and _is_unusable(
                        params, len(rows), len(rejected)
                    ):
                        return _raw(rows, rejected, blank, notices)
                else:
                    rows.add(*row)
    return _raw(rows, rejected, blank, notices)


class _Rows:
    """Rows in little memory: titles in Arrow, the few distinct values of other columns by number."""

    _COLUMNS = ("category", "language", "label_quality", "split")

    def __init__(self) -> None:
        self._titles: list[str] = []
        self._chunks: list[pa.Array] = []
        self._numbers = {name: array("i") for name in self._COLUMNS}
        self._values: dict[str, dict[str, int]] = {name: {} for name in self._COLUMNS}

    def __len__(self) -> int:
        return len(self._numbers["category"])

    def add(self, title: str, *values: str) -> None:
        """Add a row.

        Args:
            title: Title.
            values: Category, language, label quality and split.
        """
        self._titles.append(title)
        if len(self._titles) == _CHUNK:
            self._flush()
        for name, value in zip(self._COLUMNS, values, strict=True):
            known = self._values[name]
            self._numbers[name].append(known.setdefault(value, len(known)))

    def _flush(self) -> None:
        self._chunks.append(pa.array(self._titles, pa.large_string()))
        self._titles = []

    def table(self) -> pd.DataFrame:
        """Return all rows."""
        self._flush()
        titles = pd.array(pa.chunked_array(self._chunks), dtype="str")
        columns = {
            name: pd.Categorical.from_codes(
                np.frombuffer(numbers, dtype=np.int32), pd.Index([*self._values[name]], dtype="str")
            )
            for name, numbers in self._numbers.items()
        }
        return pd.DataFrame({"title": titles, **columns})


def _corrections(params: DataParams) -> DataParams:
    """Return the layout of the csv that the page of `rubro serve` writes."""
    if not Path(params.corrections).is_file():
        raise DataError(
            f"{params.corrections}: no such file; set data.corrections in params.yaml to a csv with "
            "title and category, such as data/corrections.csv, which has no rows"
        )
    columns = {"title_column": "title", "category_column": "category"}
    others = dict.fromkeys(("language_column", "label_quality_column", "split_column"))
    return params.model_copy(update={**columns, **others, "encoding": "auto", "separator": "auto"})


def _raw(
    rows: _Rows,
    rejected: list[tuple[str, int, str, str, str]],
    blank: int,
    notices: list[str],
) -> RawTitles:
    quarantine = pd.DataFrame(rejected, columns=["file", "line", "reason", "problem", "excerpt"])
    return RawTitles(rows.table(), quarantine, blank, notices)


def _is_unusable(params: DataParams, usable: int, rejected: int) -> bool:
    return rejected > params.max_quarantined_share * (usable + rejected)


def require_usable(raw: RawTitles, params: DataParams, quarantine: Path) -> None:
    """Check that most rows of a source can be used.

    Args:
        raw: Rows of the source.
        params: Path of the source and the largest share of unusable rows.
        quarantine: File with the rejected rows, for the message.

    Raises:
        DataError: There is no row, or more than params.max_quarantined_share is unusable. The
            message has a line for each reason, with the first such row and what helps.
    """
    usable, rejected = len(raw.table), len(raw.quarantine)
    if usable + rejected == 0:
        if raw.blank:
            raise DataError(
                f"{params.path}: none of {raw.blank} rows has a title or a category; set "
                "data.title_column and data.category_column"
            )
        raise DataError(f"{params.path}: no rows; the source is empty")
    if not _is_unusable(params, usable, rejected):
        return
    counts = Counter(raw.quarantine["reason"]).most_common(_SHOWN_REASONS)
    lines = []
    for reason, count in counts:
        first = raw.quarantine[raw.quarantine["reason"] == reason].iloc[0]
        lines.append(
            f"{reason} {count}, first {first['file']}:{first['line']}: {first['problem']}; "
            f"{REMEDIES[reason]}"
        )
    share = rejected / (usable + rejected)
    raise DataError(
        f"{params.path}: {rejected} of {usable + rejected} rows ({share:.1%}) cannot be used, more "
        f"than data.max_quarantined_share ({params.max_quarantined_share:.1%}) allows; "
        f"{quarantine} lists them\n  " + "\n  ".join([*lines, _WITHOUT_THEM])
    )


def quarantined(raw: RawTitles, quarantine: Path) -> str:
    """Return the number of rejected rows by reason, in words.

    Args:
        raw: Rows of the source.
        quarantine: File with the rejected rows.
    """
    if raw.quarantine.empty:
        return "quarantined: 0"
    counts = Counter(raw.quarantine["reason"]).most_common()
    reasons = ", ".join(f"{reason} {count}" for reason, count in counts)
    return f"quarantined: {len(raw.quarantine)} ({reasons}), listed in {quarantine}"


def find_sources(path: Path, language: str | None) -> tuple[list[SourceFile], list[str]]:
    """List the files of a source in a fixed order.

    Args:
        path: Path of a file, or of a folder in a supported layout.
        language: Language of the files to list, where file names tell it; None = all.

    Returns:
        Files with the splits and languages in their names, and sentences on files of titles that
        are not among them.

    Raises:
        DataError: The path does not exist, no file has a supported name, or none is of the
            language.
    """
    if path.is_file():
        return [SourceFile(path)], []
    if not path.is_dir():
        raise DataError(f"{path}: no such file or folder; set data.path in params.yaml")
    files = sorted(file for file in path.iterdir() if file.is_file())
    named = [source for file in files if (source := _named(file))]
    if not named:  # such as shop_train.csv
        named = [source for file in files if (source := _named(file, prefixed=True))]
    if not named:
        return [SourceFile(_single(path, files))], []
    language = language and language.lower()
    chosen = [source for source in named if language is None or source.language in (None, language)]
    if not any(source.split == "train" for source in chosen):
        languages = ", ".join(sorted({source.language for source in named if source.language}))
        wanted = f" for language {language!r}" if language else ""
        raise DataError(
            f"{path}: no training file{wanted}; languages found: {languages or 'none'}; "
            "set subset.language, or add a file named train"
        )
    first: dict[tuple[str | None, str | None, str | None], Path] = {}
    for source in chosen:
        other = first.setdefault((source.language, source.split, source.part), source.path)
        if other != source.path:
            raise DataError(f"{other} and {source.path} are the same split twice; remove one")
    return chosen, _unread(files, named, chosen)


def _named(file: Path, prefixed: bool = False) -> SourceFile | None:
    match = (_PREFIXED_NAME if prefixed else _NAME).match(file.name)
    if match is None:
        return None
    suffix = Path(file.name[match.end() - 1 :])
    if kind_of(suffix) is None or suffix.name.lower().removesuffix(".gz").count(".") > 1:
        return None
    language = match["language"] and match["language"].lower()
    return SourceFile(file, language, SPLIT_NAMES[match["split"].lower()], match["part"])


def _single(path: Path, files: Sequence[Path]) -> Path:
    kinds = {file: kind_of(file) for file in files}
    tables = [file for file in files if kinds[file] not in (None, "txt", "json")]
    tables = tables or [file for file in files if kinds[file] is not None]
    if len(tables) == 1:
        return tables[0]
    for file in files:
        if not tables and (how := conversion(file)):
            raise DataError(f"{file}: {how}")
    if tables:
        raise DataError(
            f"{path}: {len(tables)} files, and none is named train ({_some(tables)}); set data.path "
            "to one of them, or name them train_1, train_2 ... if they are parts of one table"
        )
    raise DataError(f"{path}: no title files (found {_some(files)}); supported: {_LAYOUTS}")


def _some(files: Sequence[Path]) -> str:
    names = ", ".join(file.name for file in files[:5]) or "nothing"
    return names + (" ..." if len(files) > 5 else "")


def _unread(
    files: Sequence[Path], named: Sequence[SourceFile], chosen: Sequence[SourceFile]
) -> list[str]:
    read = {source.path for source in chosen}
    others = [source.path for source in named if source.path not in read]
    known = {source.path for source in named}
    unnamed = [file for file in files if file not in known and (kind_of(file) or conversion(file))]
    notices = []
    if others:
        notices.append(f"not read, another language than subset.language: {_all(others)}")
    if unnamed:
        notices.append(f"not read, named neither train, validation nor test: {_all(unnamed)}")
    parts = defaultdict(set)
    for source in chosen:
        match = _PREFIXED_NAME.match(source.path.name)
        if match and match["parts"]:
            parts[source.split, int(match["parts"])].add(int(match["number"]))
    for (split, count), numbers in parts.items():
        if len(numbers) < count:
            notices.append(f"{split}: {len(numbers)} of {count} parts are there")
    return notices


def _all(files: Sequence[Path]) -> str:
    return ", ".join(file.name for file in files)


class _RowCheck:
    """Turns the values of a row into a row of the table.

    Returns None for a blank row, and a reason and its words for a row that cannot be used.
    """

    def __init__(self, source: SourceFile, params: DataParams) -> None:
        self.source = source
        self.params = params

    def __call__(self, record: dict[str, Any]) -> tuple[Any, ...] | None:
        params = self.params
        found = []
        for what, column in (
            ("title", params.title_column),
            ("category", params.category_column),
        ):
            try:
                found.append(text_of(record.get(column)))
            except TypeError as error:
                return f"{what}_not_text", f"a {error} in column '{column}'"
        title, category = found
        is_there = params.title_column in record and params.category_column in record
        if is_there and not (title and title.strip()) and not (category and category.strip()):
            return None
        if title is None:
            return "title_missing", f"nothing in column '{params.title_column}'"
        if len(title) > params.max_title_length:
            limit = params.max_title_length
            return "title_too_long", f"a title of {len(title)} characters, the limit is {limit}"
        if category is None and params.category_column not in record:
            return "category_missing", f"no '{params.category_column}'"
        if not (is_unicode(title) and is_unicode(category or "")):
            return "not_utf8", "text in another encoding"
        if not normalise(title):
            return "title_empty", f"nothing visible in column '{params.title_column}'"
        category = category_name(category or "")
        if not category:
            return "category_empty", f"the cell in column '{params.category_column}' is blank"
        quality = self._optional(record, params.label_quality_column) or "reliable"
        if quality not in QUALITIES:
            return "unknown_label_quality", f"label quality {quality[:50]!a}"
        split = self.source.split or self._optional(record, params.split_column)
        if split and split not in SPLIT_NAMES and self.source.split != CORRECTIONS:
            return "unknown_split", f"split {split[:50]!a}"
        language = self._optional(record, params.language_column) or self.source.language or ""
        return title.strip(), category, language, quality, SPLIT_NAMES.get(split, split)

    def _optional(self, record: dict[str, Any], column: str | None) -> str:
        value = record.get(column) if column else None
        try:
            return (text_of(value) or "").strip().lower()
        except TypeError:
            return str(value)


def _records(
    stack: ExitStack,
    source: SourceFile,
    origin: Origin,
    raw: BufferedReader,
    params: DataParams,
    notices: list[str],
) -> Iterator[tuple[Record, str]]:
    """Yield the records of a file, those that are rejected with a problem in words."""
    asked = Asked(
        encoding=params.text_encoding,
        separator=SEPARATORS.get(params.separator),
        columns=((params.title_column,), (params.category_column,)),
    )
    file = open_title_file(stack, origin, raw, asked)
    if file.found:
        notices.append(f"{source.path.name}: {', '.join(file.found)}")
    if file.kind == "parquet":
        yield from _parquet_records(source, file, params, notices)
    elif file.kind in ("json", "jsonl"):
        yield from _json_records(source, file, params, notices)
    elif file.kind == "txt":
        raise DataError(
            f"{source.path}: no table with columns '{params.title_column}' and "
            f"'{params.category_column}'; set data.title_column and data.category_column, or bring "
            f"another kind of file; supported: {_LAYOUTS}"
        )
    else:
        yield from _csv_records(source, file, params, notices)


def _json_records(
    source: SourceFile, file: TitleFile, params: DataParams, notices: list[str]
) -> Iterator[tuple[Record, str]]:
    unlabelled: list[Record] | None = [] if source.split == "test" else None
    for record in file.records:
        if record.reason is None and unlabelled is not None:
            if params.category_column not in record.content:
                unlabelled.append(record)
                continue
            yield from ((row, "") for row in unlabelled)
            unlabelled = None
        yield record, problem(record, 0, file.origin.encoding) if record.reason else ""
    if unlabelled:
        notices.append(_left_out(source, params))


def _csv_records(
    source: SourceFile, file: TitleFile, params: DataParams, notices: list[str]
) -> Iterator[tuple[Record, str]]:
    header = [name.strip() for name in file.columns or []]
    if _is_unlabelled(source, params, header):
        notices.append(_left_out(source, params))
        return
    _require_columns(source, file, params, header)
    read = [header.index(name) for name in _read_columns(params) if name in header]
    names = [header[place] for place in read]
    for record in file.records:
        if record.reason is None:
            values = dict(zip(names, map(record.content.__getitem__, read), strict=True))
            yield record._replace(content=values), ""
        else:
            yield record, problem(record, len(header), file.origin.encoding)


def _parquet_records(
    source: SourceFile, file: TitleFile, params: DataParams, notices: list[str]
) -> Iterator[tuple[Record, str]]:
    assert file.raw is not None
    with open_parquet(file.origin, file.raw) as parquet:
        stored = parquet.schema_arrow.names
        header = [name.strip() for name in stored]
        if _is_unlabelled(source, params, header):
            notices.append(_left_out(source, params))
            return
        _require_columns(source, file, params, header)
        read = [name for name in _read_columns(params) if name in header]
        batches = parquet.iter_batches(columns=[stored[header.index(name)] for name in read])
        row = 0
        for batch in batches:
            names = [name.strip() for name in batch.schema.names]
            values = (batch.column(place).to_pylist() for place in range(len(names)))
            for cells in zip(*values, strict=True):
                row += 1
                yield Record(range(row, row + 1), dict(zip(names, cells, strict=True)), None), ""


def _read_columns(params: DataParams) -> list[str]:
    optional = (getattr(params, key) for key in _USUAL_COLUMNS)
    return [params.title_column, params.category_column, *(name for name in optional if name)]


def _is_unlabelled(source: SourceFile, params: DataParams, columns: list[str]) -> bool:
    """Return whether a file has no categories, as the challenge's test file of titles to predict."""
    return source.split == "test" and params.category_column not in columns


def _left_out(source: SourceFile, params: DataParams) -> str:
    return f"{source.path.name} has no column '{params.category_column}': left out"


def _require_columns(
    source: SourceFile, file: TitleFile, params: DataParams, found: list[str]
) -> None:
    names = ascii(", ".join(found))[1:200].rstrip("'") or "none"
    for key in ("title_column", "category_column", *_USUAL_COLUMNS):
        column = getattr(params, key)
        count = found.count(column)
        if count > 1:
            raise DataError(f"{source.path}: column {column[:100]!a} is there twice; rename one")
        if count or column is None or column == _USUAL_COLUMNS.get(key):
            continue
        hint = f"set data.{key} in params.yaml"
        if any(not name.isprintable() for name in found):
            hint = f"is it {file.origin.encoding} text? Set data.encoding, or data.{key}"
        elif no_header(file):
            header = file.separator.join((params.title_column, params.category_column))
            hint = (
                "no header? The first line looks like a row: put the names of the columns in a "
                f"line before it, such as {header}"
            )
        raise DataError(f"{source.path}: no column '{column}' (found: {names}); {hint}")
