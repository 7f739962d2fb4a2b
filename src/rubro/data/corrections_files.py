"""Read files with corrected categories, such as the files of `rubro audit`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from rubro.base.errors import DataError
from rubro.base.params import DataParams
from rubro.base.text import first_names, normalise
from rubro.tables.cells import column_name, text_of
from rubro.tables.detection import kind_of, unreadable_by_name
from rubro.tables.readers import Record
from rubro.tables.streams import listed
from rubro.tables.title_files import TitleFile

_ACCEPT, _LABEL, _SUGGESTION = "accept", "label", "suggested_category"
# Answers in the column accept. Excel writes the logical values in the user's language.
_YES, _NO = ("yes", "y", "true", "1", "x", "si", "verdadero"), ("no", "n", "false", "0", "falso")


class Correction(NamedTuple):
    """Source of a corrected category.

    Attributes:
        path: Path of the file.
        line: Line in the file, from 1; the row number in parquet.
        texts: Text columns that the file contains.
        is_answer: Whether the category is an answer in the column accept, which must be similar to
            the name of a category.
    """

    path: Path
    line: int
    texts: tuple[str, ...] = ()
    is_answer: bool = False

    @property
    def place(self) -> str:
        """File name and line, for reports."""
        return f"{self.path.name}:{self.line}"


@dataclass
class Corrections:
    """Corrections in the order in which they were read.

    Attributes:
        rows: Usable corrections, one for each of the last rows of RawTitles.table.
        skipped: File, line, title, result ("undecided" or "unusable") and problem of all other rows.
    """

    rows: list[Correction] = field(default_factory=list)
    skipped: list[tuple[str, int, str, str, str]] = field(default_factory=list)


def correction_files(path: Path) -> tuple[list[Path], list[str]]:
    """List the files with corrections, ordered by name.

    Args:
        path: Path of a file, or of a folder. README.md, hidden files and the .dvc files of DVC are
            ignored in a folder.

    Returns:
        Files, and notices about files that are not read.

    Raises:
        DataError: The path does not exist, or a file in the folder is in an unsupported format.
    """
    if path.is_file():
        return [path], []
    if not path.is_dir():
        raise DataError(
            f"{path}: no such file or folder; create it, or set data.corrections in params.yaml to a "
            "folder of CSV files with the columns title and category, or to one such file"
        )
    files, others = [], []
    for file in sorted(path.iterdir()):
        if file.name.startswith(".") or file.name == "README.md" or file.suffix == ".dvc":
            continue
        if file.is_file() and kind_of(file) not in (None, "txt"):
            files.append(file)
        elif file.is_file() and (description := unreadable_by_name(file)):
            raise DataError(f"{file} is {description}")
        else:
            others.append(file.name)
    notices = []
    if others:
        notices.append(f"not read, no table of corrections: {first_names(others)} in {path}")
    old = Path(f"{path}.csv")
    if old.is_file():
        notices.append(f"not read: {old}; move it into the folder {path} to use its corrections")
    return files, notices


def correction_columns(params: DataParams) -> list[list[str]]:
    """Return the accepted names of the column of titles, and of the column of categories."""
    return [
        [params.title_column, "title"],
        [*params.category_columns, "category", _SUGGESTION],
    ]


class CorrectionsFile:
    """Rows of a corrections file, which has a column of categories or the columns of `rubro audit`.

    Args:
        file: Open file.
        params: Names of the columns of titles, categories and texts. The names title and category are
            understood too.
        found: Collects the corrections.

    Attributes:
        layout: Parameters with the names of the columns in this file.

    Raises:
        DataError: The file has no column with titles or categories, or has one of them twice.
    """

    def __init__(self, file: TitleFile, params: DataParams, found: Corrections) -> None:
        self._path, self._found = file.origin.path, found
        if file.columns is None:
            self._records, header = _with_header(file.rows([]))
        else:
            header = [column_name(name) for name in file.columns]
        self._is_audit = _ACCEPT in header and _SUGGESTION in header
        title = params.title_column if params.title_column in header else "title"
        categories = [name for name in params.category_columns if name in header] or ["category"]
        if self._is_audit:
            categories = [_SUGGESTION]
        self._decisions = [_ACCEPT] if self._is_audit else categories
        self._texts = tuple(
            name
            for name in params.text_columns
            if name in header and name not in (title, *categories)
        )
        used = [title, *categories, *self._texts, *([_ACCEPT, _LABEL] if self._is_audit else [])]
        for name in used if header else ():
            if header.count(name) > 1:
                raise DataError(
                    f"{self._path}: column {name[:100]!a} is listed twice; rename one of them"
                )
            if name not in header:
                usual = {"title": [params.title_column], "category": params.category_columns}
                wanted = " or ".join(map(repr, sorted({name, *usual.get(name, [])})))
                raise DataError(
                    f"{self._path}: no column {wanted} (found: {listed(header)}); a corrections file "
                    "needs a column of titles and a column of categories, or the columns of `rubro audit`"
                )
        if file.columns is not None:
            self._records = file.rows(used)
        self.layout = params.model_copy(
            update={
                "title_column": title,
                "category_column": categories[0] if len(categories) == 1 else categories,
                **dict.fromkeys(("language_column", "label_quality_column", "split_column")),
            }
        )

    def records(self) -> Iterator[Record]:
        """Yield the rows with a decision, whose category column contains the right category.

        Rows that cannot be read are yielded unchanged.
        """
        for record in self._records:
            if record.reason is None:
                values = dict(record.content)
                title = _text(values.get(self.layout.title_column))
                decision = "".join(_text(values.get(name)) for name in self._decisions)
                if title and not decision:
                    self._skip(record, title, "undecided", "")
                    continue
                if self._is_audit:
                    column = _column_of(decision)
                    values[_SUGGESTION] = values.get(column)
                    if title and not _text(values[_SUGGESTION]):
                        problem = f"'{_ACCEPT}' is {decision!r}, but '{column}' is empty"
                        self._skip(record, title, "unusable", problem)
                        continue
                record = record._replace(content=values)
            yield record

    def add(self, record: Record) -> None:
        """Add a row from `records`, which is usable, to the corrections."""
        is_answer = self._is_audit and _column_of(_text(record.content[_ACCEPT])) == _ACCEPT
        self._found.rows.append(Correction(self._path, record.lines[0], self._texts, is_answer))

    def reject(self, record: Record, problem: str) -> None:
        """Add a row from `records`, which is not usable, to the skipped corrections."""
        title = ""
        if record.reason is None:
            title = _text(record.content.get(self.layout.title_column))
        self._skip(record, title, "unusable", problem)

    def _skip(self, record: Record, title: str, result: str, problem: str) -> None:
        self._found.skipped.append((self._path.name, record.lines[0], title, result, problem))


def _with_header(records: Iterator[Record]) -> tuple[Iterator[Record], list[str]]:
    """Return all records, and the names of the columns in the first record that can be read."""
    first = []
    for record in records:
        first.append(record)
        if record.reason is None:
            return chain(first, records), [*record.content]
    return iter(first), []


def _column_of(answer: str) -> str:
    """Return the column that contains the right category, for an answer in the column accept."""
    folded = normalise(answer)
    return _SUGGESTION if folded in _YES else _LABEL if folded in _NO else _ACCEPT


def _text(value: Any) -> str:
    with suppress(TypeError):
        return (text_of(value) or "").strip()
    return str(value)
