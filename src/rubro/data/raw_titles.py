"""Read the rows of raw title files, and set unusable rows aside."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa

from rubro.base.console import file_progress
from rubro.base.errors import DataError
from rubro.base.params import DataParams
from rubro.base.text import normalise
from rubro.base.text_columns import MAX_TEXT_CHARACTERS
from rubro.data.corrections_files import (
    Corrections,
    CorrectionsFile,
    correction_columns,
    correction_files,
)
from rubro.data.source_files import (
    SPLIT_NAMES,
    SUPPORTED_LAYOUTS,
    SourceFile,
    find_sources,
    find_unlabelled,
)
from rubro.data.splits import UNLABELLED
from rubro.tables.cells import category_name, column_name, text_of
from rubro.tables.detection import SEPARATORS
from rubro.tables.readers import Record
from rubro.tables.streams import Origin, is_unicode, listed, read_errors_reported
from rubro.tables.title_files import TitleFile, open_title_file

QUALITIES = ("reliable", "unreliable")
# Reasons for rejecting a row, each with a remedy for the user. Rows without a category are counted
# with these reasons, but they are not rejected because their titles are unlabelled titles.
REMEDY_BY_REASON = {
    "not_json": "mend these lines",
    "not_an_object": "write an object with a title and a category in each line",
    "not_csv": "double each quote inside a quoted field",
    "wrong_field_count": "quote fields that contain a separator or a line break, or set "
    "data.separator if the separator is another one",
    "open_quote": "close or double the quote in the first of these lines",
    "not_utf8": "set data.encoding, for instance to latin-1",
    "line_too_long": "break the line, or remove the text that does not belong to a title",
    "title_missing": "set data.title_column",
    "title_not_text": "keep one title in each cell, as UTF-8 text instead of a list or an object",
    "title_empty": "fill in the titles or remove these rows",
    "title_too_long": "raise data.max_title_length",
    "category_missing": "set data.category_column",
    "category_empty": "fill in the categories or remove these rows",
    "category_not_text": "keep one category in each cell, as UTF-8 text: write the name instead of "
    "an object, and a row for each value of a list",
    "text_not_text": "keep one text or number in each cell, as UTF-8 text instead of a list or an "
    "object, or remove the column from data.text_columns",
    "unknown_split": "write train, validation or test, or set data.split_column to null",
    "unknown_label_quality": "write reliable or unreliable, or set data.label_quality_column to null",
}
# Rows with neither a title nor a category, such as a product's variants, are counted and skipped.
EMPTY_ROW = "no_title_and_no_category"
_OPTIONAL_COLUMNS = {
    "language_column": "language",
    "label_quality_column": "label_quality",
    "split_column": "split",
}
# Split of the rows of data.corrections; they are training rows and never drawn for other splits.
CORRECTIONS = "corrections"
# Reading stops early if more rows than this, and too large a share of all rows, are unusable.
_MAX_UNUSABLE = 2**20
_MAX_LISTED_REASONS = 5
_ROWS_PER_CHUNK = 2**16
_REPEATED_TEXT = pa.dictionary(pa.int32(), pa.string())
_ROW_COLUMNS = {
    "title": pa.large_string(),
    **dict.fromkeys(("category", "language", "label_quality", "split"), _REPEATED_TEXT),
}
_PLACE_COLUMNS = {"file": _REPEATED_TEXT, "line": pa.int32()}
# Separates the levels of a category whose names are in several columns. No name contains it, because
# Python counts it as white space.
LEVEL_SEPARATOR = "\x1f"
# Records with these reasons may contain several rows, so each of their lines counts as a row.
_REASONS_OF_SEVERAL_ROWS = ("not_csv", "open_quote", "line_too_long")


@dataclass
class RawTitles:
    """Usable and rejected rows of a source, which is a file or folder of raw titles.

    Attributes:
        table: Columns title, category, language ("" = unknown), label_quality, split ("" =
            unknown), file (name of the file) and line (int32, from 1; the row number in parquet);
            and text.NAME for each text column ("" = empty cell). If several columns contain the
            levels of a category, LEVEL_SEPARATOR is between their names. The rows of the corrections
            files are last. Titles and texts are Arrow text and the other columns except line are
            categorical, so that a row takes little more memory than its texts.
        quarantine: Rejected rows with the columns file, line, reason, problem and excerpt. Rejected
            corrections are in corrections.skipped.
        empty_rows: Number of rows with neither a title nor a category.
        notices: Sentences for the user, for instance about a file that was skipped.
        corrections: Sources of the corrections.
        unlabelled: Rows with a title but no category, with the columns of the table, where the
            category is ""; None if there are none, or if data.unlabelled is "ignore".
        without_category: Number of rows with a title but no category, also if they are ignored:
            "category_missing" if the row or its file does not have the category column, and
            "category_empty" otherwise.
    """

    table: pd.DataFrame
    quarantine: pd.DataFrame
    empty_rows: int = 0
    notices: list[str] = field(default_factory=list)
    corrections: Corrections = field(default_factory=Corrections)
    unlabelled: pd.DataFrame | None = None
    without_category: Counter[str] = field(default_factory=Counter)

    @property
    def usable_rows(self) -> int:
        """Number of rows with a title, with or without a category."""
        return len(self.table) + self.without_category.total()


class _Rejection(NamedTuple):
    """Reason for rejecting a row, and a description of the problem."""

    reason: str
    problem: str


def read_titles(params: DataParams, language: str | None) -> RawTitles:
    """Read all rows of a source, further unlabelled titles, and the user's corrections.

    Reading stops early if very many rows, and too large a share of all rows, are unusable.

    Args:
        params: Path of the source, names of its columns, and paths of the unlabelled titles and of
            the corrections.
        language: Language of the files to read, if file names contain languages; None means all.

    Returns:
        Usable rows, and rejected rows. require_usable checks whether enough rows are usable.

    Raises:
        DataError: The source is missing, empty, damaged or in no supported layout, or a column is
            missing.
    """
    sources, notices = find_sources(Path(params.path), language)
    further, further_notices = find_unlabelled(Path(params.unlabelled_path), language)
    sources, notices = sources + further, notices + further_notices
    if params.unlabelled == "ignore":
        ignored = [source.path.name for source in sources if source.split == UNLABELLED]
        sources = [source for source in sources if source.split != UNLABELLED]
        if ignored:
            notices.append(f"not read, data.unlabelled is ignore: {', '.join(ignored)}")
    correction_paths, skipped = correction_files(Path(params.corrections))
    reader = _Reader(params, notices + skipped)
    for source in sources:
        reader.read(source)
        if reader.stops_early:
            return reader.result()
    for path in correction_paths:
        reader.read_corrections(path)
    return reader.result()


class _Reader:
    """Reads the files of a source and of the corrections, and collects their rows.

    Args:
        params: Names of the columns, format and limits of the source.
        notices: Sentences for the user; sentences about the content of the files are appended.
    """

    def __init__(self, params: DataParams, notices: list[str]) -> None:
        self._params = params
        self._notices = notices
        self._rows = _RowStore(params.text_columns)
        self._unlabelled = _RowStore(params.text_columns)
        self._without_category = Counter[str]()
        self._rejected: list[tuple[str, int, str, str, str]] = []
        self._empty_rows = 0
        self._corrections = Corrections()

    @property
    def stops_early(self) -> bool:
        """Whether very many rows, and too large a share of all rows, are unusable."""
        rejected = len(self._rejected)
        usable = len(self._rows) + self._without_category.total()
        return rejected > _MAX_UNUSABLE and _is_unusable(self._params, usable, rejected)

    def read(self, source: SourceFile) -> None:
        """Read the rows of a file, until stops_early is true."""
        params, name = self._params, source.path.name
        category_columns = [] if source.split == UNLABELLED else params.category_columns
        columns = [[params.title_column], *([column] for column in params.category_columns)]
        with _opened(source, params, columns) as file:
            for record in _records(source, file, params, self._notices):
                row = _row_of(record, file, source, params, category_columns)
                if row is None:
                    self._empty_rows += 1
                elif isinstance(row, _Rejection):
                    self._reject(record, row, name)
                    if self.stops_early:
                        return
                elif row[1]:  # the category
                    self._rows.add((*row, name, record.lines.start))
                else:
                    is_empty = any(column in record.content for column in category_columns)
                    reason = "category_empty" if is_empty else "category_missing"
                    self._without_category[reason] += 1
                    if params.unlabelled == "use":
                        self._unlabelled.add((*row, name, record.lines.start))

    def _reject(self, record: Record, rejection: _Rejection, name: str) -> None:
        """Reject a record of the file with a name; each line counts if it may contain several rows."""
        lines = record.lines if record.reason in _REASONS_OF_SEVERAL_ROWS else record.lines[:1]
        excerpt = ascii(record.content)[:120]
        self._rejected.extend((name, line, *rejection, excerpt) for line in lines)

    def read_corrections(self, path: Path) -> None:
        """Read the rows of a file of corrections, whose format may differ from the source."""
        source = SourceFile(path, split=CORRECTIONS)
        any_format = self._params.model_copy(update={"encoding": "auto", "separator": "auto"})
        with _opened(source, any_format, correction_columns(self._params)) as file:
            self._notices += _detected(source, file)
            corrections_file = CorrectionsFile(file, any_format, self._corrections)
            params = corrections_file.layout
            for record in corrections_file.records():
                row = _row_of(record, file, source, params, params.category_columns)
                if row is None:
                    self._empty_rows += 1
                elif isinstance(row, _Rejection):
                    corrections_file.reject(record, row.problem)
                else:
                    self._rows.add((*row, path.name, record.lines.start))
                    corrections_file.add(record)

    def result(self) -> RawTitles:
        """Return all rows that have been read."""
        columns = ["file", "line", "reason", "problem", "excerpt"]
        quarantine = pd.DataFrame(self._rejected, columns=columns)
        unlabelled = self._unlabelled.table() if len(self._unlabelled) else None
        return RawTitles(
            self._rows.table(),
            quarantine,
            self._empty_rows,
            self._notices,
            self._corrections,
            unlabelled,
            self._without_category,
        )


@contextmanager
def _opened(
    source: SourceFile, params: DataParams, columns: list[list[str]]
) -> Iterator[TitleFile]:
    """Open a file with a progress bar.

    Errors in reading it, also inside the `with` block, are raised as DataError.

    Args:
        source: File to open.
        params: Encoding and separator of the file, or "auto".
        columns: Accepted names of each column that will be used.
    """
    encoding = params.text_encoding
    size = source.path.stat().st_size
    origin = Origin(source.path, size, encoding or "utf-8", "data.encoding")
    separator = SEPARATORS.get(params.separator)
    with read_errors_reported(origin), ExitStack() as stack:
        raw = stack.enter_context(file_progress(source.path))
        yield open_title_file(stack, origin, raw, columns, encoding=encoding, separator=separator)


def _row_of(
    record: Record,
    file: TitleFile,
    source: SourceFile,
    params: DataParams,
    category_columns: Sequence[str],
) -> tuple[str, ...] | _Rejection | None:
    """Return the result of _checked_row for a record, or the reason why it could not be read."""
    if record.reason is not None:
        return _Rejection(record.reason, file.problem(record))
    return _checked_row(record.content, source, params, category_columns)


class _RowStore:
    """Collects rows in Arrow tables, which need less memory than Python objects."""

    def __init__(self, text_columns: Sequence[str]) -> None:
        texts = {f"text.{name}": pa.large_string() for name in text_columns}
        self._schema = pa.schema(_ROW_COLUMNS | texts | _PLACE_COLUMNS)
        self._rows: list[tuple[str | int, ...]] = []
        self._tables: list[pa.Table] = []

    def __len__(self) -> int:
        return sum(len(table) for table in self._tables) + len(self._rows)

    def add(self, row: tuple[str | int, ...]) -> None:
        """Add the title, category, language, label quality, split, texts, file and line of a row."""
        self._rows.append(row)
        if len(self._rows) == _ROWS_PER_CHUNK:
            self._flush()

    def _flush(self) -> None:
        columns = zip(*self._rows, strict=True) if self._rows else [()] * len(self._schema)
        values = dict(zip(self._schema.names, columns, strict=True))
        self._tables.append(pa.Table.from_pydict(values, self._schema))
        self._rows = []

    def table(self) -> pd.DataFrame:
        """Return all rows as a table; see RawTitles."""
        self._flush()
        table: pd.DataFrame = pa.concat_tables(self._tables).unify_dictionaries().to_pandas()
        return table


def _is_unusable(params: DataParams, usable: int, rejected: int) -> bool:
    return rejected > params.max_quarantined_share * (usable + rejected)


def require_usable(raw: RawTitles, params: DataParams, quarantine: Path) -> None:
    """Raise DataError unless most rows of a source can be used.

    Args:
        raw: Rows of the source.
        params: Path of the source and the maximum share of unusable rows.
        quarantine: Path of the file with the rejected rows, for the message.

    Raises:
        DataError: The source is empty, or more than params.max_quarantined_share are unusable. The
            message has a line for each reason, with the first such row and a remedy.
    """
    usable, rejected = raw.usable_rows, len(raw.quarantine)
    if usable + rejected == 0:
        if raw.empty_rows:
            raise DataError(
                f"{params.path}: none of {raw.empty_rows} rows has a title or a category; set "
                "data.title_column and data.category_column"
            )
        raise DataError(f"{params.path}: the source has no rows")
    if not _is_unusable(params, usable, rejected):
        if raw.table.empty:
            raise DataError(
                f"{params.path}: none of {usable} rows with a title has a category, but a classifier "
                "learns from titles with categories; set data.category_column, or fill in the "
                "categories of some titles"
            )
        return
    lines = []
    for reason, count in Counter(raw.quarantine["reason"]).most_common(_MAX_LISTED_REASONS):
        first = raw.quarantine[raw.quarantine["reason"] == reason].iloc[0]
        lines.append(
            f"{reason} {count}, first {first['file']}:{first['line']}: {first['problem']}; "
            f"{REMEDY_BY_REASON[reason]}"
        )
    lines.append("or raise data.max_quarantined_share to go on without these rows")
    share = rejected / (usable + rejected)
    raise DataError(
        f"{params.path}: {rejected} of {usable + rejected} rows ({share:.1%}) cannot be used, more "
        f"than data.max_quarantined_share ({params.max_quarantined_share:.1%}) allows; "
        f"{quarantine} lists them\n  " + "\n  ".join(lines)
    )


def quarantined(raw: RawTitles, quarantine: Path) -> str:
    """Return a message with the number of rejected rows for each reason.

    Args:
        raw: Rows of the source.
        quarantine: Path of the file with the rejected rows.
    """
    if raw.quarantine.empty:
        return "quarantined: 0"
    counts = Counter(raw.quarantine["reason"]).most_common()
    reasons = ", ".join(f"{reason} {count}" for reason, count in counts)
    return f"quarantined: {len(raw.quarantine)} ({reasons}), listed in {quarantine}"


def _checked_row(
    values: dict[str, Any],
    source: SourceFile,
    params: DataParams,
    category_columns: Sequence[str],
) -> tuple[str, ...] | _Rejection | None:
    """Return the title, category, language, label quality, split and texts of a usable row.

    The category of an unlabelled title is "". For an unusable row, return the reason. For a row with
    neither title nor category, return None.
    """
    columns = (params.title_column, *category_columns)
    cells = []
    try:
        for column in columns:
            cells.append(text_of(values.get(column)))
    except TypeError:
        name = "category" if cells else "title"
        return _Rejection(f"{name}_not_text", _not_text(values, columns[len(cells)]))
    title = cells[0]
    names = [category_name(level or "") for level in cells[1:]]
    category = names[0] if len(names) == 1 else LEVEL_SEPARATOR.join(filter(None, names))
    if params.title_column in values and not (title and title.strip()) and not category:
        return None
    if params.title_column not in values:
        return _Rejection("title_missing", _missing(_quoted([params.title_column]), values))
    if title is None:
        return _Rejection("title_missing", f"nothing in column '{params.title_column}'")
    if len(title) > params.max_title_length:
        limit = params.max_title_length
        problem = f"a title of {len(title)} characters, the limit is {limit}"
        return _Rejection("title_too_long", problem)
    if not (is_unicode(title) and is_unicode(category)):
        return _Rejection("not_utf8", "text in another encoding")
    if not normalise(title):
        return _Rejection("title_empty", f"nothing visible in column '{params.title_column}'")
    if not category and source.split == CORRECTIONS:
        place = "the cell in column" if len(cells) == 2 else "each cell in columns"
        return _Rejection("category_empty", f"{place} {_quoted(category_columns)} is blank")
    quality, split = "reliable", ""
    if category:
        quality = _optional_value(values, params.label_quality_column) or "reliable"
        split = source.split or _optional_value(values, params.split_column)
    if quality not in QUALITIES:
        return _Rejection("unknown_label_quality", f"label quality {quality[:50]!a}")
    if split and split not in SPLIT_NAMES and source.split != CORRECTIONS:
        return _Rejection("unknown_split", f"split {split[:50]!a}")
    language = _optional_value(values, params.language_column) or source.language or ""
    if not is_unicode(language):
        problem = f"text in another encoding in column '{params.language_column}'"
        return _Rejection("not_utf8", problem)
    texts = []
    for column in params.text_columns:
        # A text column may be called like the title or the category of the corrections.
        is_text = column not in (params.title_column, *category_columns)
        try:
            text = (text_of(values.get(column)) if is_text else None) or ""
        except TypeError:
            return _Rejection("text_not_text", _not_text(values, column))
        text = text[:MAX_TEXT_CHARACTERS].strip()
        if not is_unicode(text):
            return _Rejection("not_utf8", f"text in another encoding in column '{column}'")
        texts.append(text)
    return title.strip(), category, language, quality, SPLIT_NAMES.get(split, split), *texts


def _missing(columns: str, found: Iterable[str]) -> str:
    return f"no {columns} (found: {listed(found)})"


def _not_text(values: dict[str, Any], column: str) -> str:
    return f"not text in column '{column}': {ascii(values[column])[:100]}"


def _quoted(columns: Iterable[str]) -> str:
    return ", ".join(f"'{column}'" for column in columns)


def _optional_value(values: dict[str, Any], column: str | None) -> str:
    value = values.get(column) if column else None
    try:
        return (text_of(value) or "").strip().lower()
    except TypeError:
        return str(value)


def _records(
    source: SourceFile, file: TitleFile, params: DataParams, notices: list[str]
) -> Iterator[Record]:
    """Yield the rows of a file as dictionaries by column, and append notices about the file.

    A training file, and a source that is a single file, must have categories.
    """
    notices += _detected(source, file)
    name, path = source.path.name, source.path
    category_columns = params.category_columns
    if file.kind == "txt":
        if source.split != UNLABELLED:
            raise DataError(
                f"{path}: no table with columns '{params.title_column}' and "
                f"{_quoted(category_columns)}; set data.title_column and data.category_column, "
                f"or bring a file in another format; supported: {SUPPORTED_LAYOUTS}"
            )
        for record in file.rows(["title"]):
            if record.reason is None:
                record = record._replace(content={params.title_column: record.content["title"]})
            yield record
        return
    ignored = f"{name}: its categories are ignored, because the file is for unlabelled titles"
    no_categories = f"{name} has no column {_quoted(category_columns)}: its titles are unlabelled"
    needs_categories = source.split in (None, "train")
    uses = _column_uses(params, source)
    if file.columns is not None:
        header = [column_name(name) for name in file.columns]
        if any(column in header for column in category_columns):
            if source.split == UNLABELLED:
                notices.append(ignored)
        elif not needs_categories:
            uses = [use for use in uses if use.key != "category_column"]
            if source.split != UNLABELLED:
                notices.append(no_categories)
        _require_columns(file, source, uses, params, header)
        columns = {use.column: None for use in uses}
        yield from file.rows([name for name in columns if name in header])
        return
    unseen = {use for use in uses if use.is_required}
    found: list[str] | None = None
    has_categories = False
    for record in file.rows([]):
        if record.reason is None:
            found = found or list(record.content)
            unseen = {use for use in unseen if use.column not in record.content}
            if not has_categories:
                has_categories = any(column in record.content for column in category_columns)
        yield record
    if found is None or any(use.key == "title_column" for use in unseen):
        return  # rows without a title are reported one by one
    if source.split == UNLABELLED:
        if has_categories:
            notices.append(ignored)
    elif not has_categories and not needs_categories:
        unseen = {use for use in unseen if use.key != "category_column"}
        notices.append(no_categories)
    if unseen:
        key, column, _ = min(unseen)
        raise DataError(
            f"{path}: no row has '{column}' (the first row has: {listed(found)}); "
            f"{_column_hint(key, column, source)}"
        )


def _detected(source: SourceFile, file: TitleFile) -> list[str]:
    return [f"{source.path.name}: {', '.join(file.detected)}"] if file.detected else []


def _column_hint(key: str, column: str, source: SourceFile) -> str:
    """Return how a user mends a missing column, which the parameter `key` names."""
    if source.split == UNLABELLED:
        return f"call the column of the titles '{column}', as in data.path"
    hint = f"set data.{key} in params.yaml"
    if key == "category_column":
        hint += ", or move files with titles but without categories to data.unlabelled_path"
    return hint


class _ColumnUse(NamedTuple):
    """Column of the raw files that a parameter names.

    Attributes:
        key: Name of the parameter.
        column: Name of the column.
        is_required: Whether the column must exist.
    """

    key: str
    column: str
    is_required: bool


def _column_uses(params: DataParams, source: SourceFile) -> list[_ColumnUse]:
    """Return the columns that the parameters name; a file of unlabelled titles needs only titles."""
    uses = [_ColumnUse("title_column", params.title_column, True)]
    is_unlabelled = source.split == UNLABELLED
    if not is_unlabelled:
        uses += [_ColumnUse("category_column", column, True) for column in params.category_columns]
    for key, default in _OPTIONAL_COLUMNS.items():
        column = getattr(params, key)
        if column is not None:
            uses.append(_ColumnUse(key, column, column != default and not is_unlabelled))
    texts = (_ColumnUse("text_columns", name, not is_unlabelled) for name in params.text_columns)
    return [*uses, *texts]


def _require_columns(
    file: TitleFile,
    source: SourceFile,
    uses: Sequence[_ColumnUse],
    params: DataParams,
    found: list[str],
) -> None:
    path = file.origin.path
    for key, column, is_required in uses:
        count = found.count(column)
        if count > 1:
            raise DataError(f"{path}: column {column[:100]!a} is listed twice; rename one of them")
        if count or not is_required:
            continue
        hint = _column_hint(key, column, source)
        if any(not name.isprintable() for name in found):
            hint = f"is it {file.origin.encoding} text? Set data.encoding, or data.{key}"
        elif file.has_no_header():
            header = file.separator.join((params.title_column, *params.category_columns))
            hint = (
                "no header? The first line looks like a row: put the column names in a line before "
                f"it, such as {header}"
            )
        raise DataError(f"{path}: no column '{column}' (found: {listed(found)}); {hint}")
