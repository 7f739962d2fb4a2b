"""Read corrected categories from files, and apply them to the rows with the same titles."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from difflib import SequenceMatcher, get_close_matches
from itertools import chain
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from rubro.base.errors import DataError
from rubro.base.params import DataParams, SubsetParams
from rubro.base.text import first_names, normalise
from rubro.data.labels import rows_by_category, similar_names, titles_at
from rubro.tables.cells import column_name, text_of
from rubro.tables.detection import kind_of, unreadable_by_name
from rubro.tables.readers import Record
from rubro.tables.streams import listed
from rubro.tables.title_files import TitleFile

_ACCEPT, _LABEL, _SUGGESTION = "accept", "label", "suggested_category"
_YES, _NO = ("yes", "y", "true", "1", "x", "si"), ("no", "n", "false", "0")
_REPORTED_COLUMNS = ["file", "line", "title", "category", "result", "rows", "detail"]
# Descriptions of the results of corrections, in the order of the message.
_RESULTS = {
    "replaced": "replaced another category",
    "new_row": "became training rows",
    "already_right": "named the category that the title already has",
    "repeated": "repeat another correction",
    "overruled": "disagree with a later one, which is used instead",
    "label_is_right": "confirm a label",
    "held_out": "skipped",
    "dropped": "dropped",
    "undecided": "without a decision yet",
}
_HELD_OUT_REASON = "of titles in validation or test (data.correct_held_out)"
_MIN_SIMILARITY, _MAX_EDITS = 0.8, 4  # a replaced character counts as two edits
_MAX_COMPARED_NAMES = 20
_Texts = dict[str, str]


class Correction(NamedTuple):
    """Source of a corrected category.

    Attributes:
        file: Name of the file.
        line: Line in the file, from 1; the row number in parquet.
        texts: Text columns that the file contains. The correction applies only to rows with the same
            texts in these columns.
        decision: "category" corrects the category, "label" confirms the label of an audit, and
            "name" corrects the category to a name that must be similar to an existing category.
    """

    file: str
    line: int
    texts: tuple[str, ...] = ()
    decision: Literal["category", "label", "name"] = "category"

    @property
    def place(self) -> str:
        """File and line, for messages."""
        return f"{self.file}:{self.line}"


@dataclass
class Corrections:
    """Corrections in the order in which they were read.

    Attributes:
        rows: Corrections with a decision: those of the last rows of RawTitles.table.
        undecided: File, line and title of each row without a decision.
    """

    rows: list[Correction] = field(default_factory=list)
    undecided: list[tuple[str, int, str]] = field(default_factory=list)


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
    """Rows of a corrections file, whose kind is detected from the names of its columns.

    - a table with a column of titles and a column of categories; a row without a category has no
      decision yet
    - a file of `rubro audit`, whose column `accept` contains yes, no, or another category

    Args:
        file: Open file.
        params: Names of the columns of titles, categories and texts. The names title and category are
            understood too.
        found: Collects the corrections.

    Raises:
        DataError: The file has no column with titles or categories, or has one of them twice.
    """

    def __init__(self, file: TitleFile, params: DataParams, found: Corrections) -> None:
        self._name, self._found = file.origin.path.name, found
        self._decision: Literal["category", "label", "name"] = "category"
        self._file = file
        self._records: Iterator[Record] = iter(())
        if file.columns is None:
            self._records = file.rows([])
            first = list(_first(self._records))
            header = [name for record in first if not record.reason for name in record.content]
            self._records = chain(first, self._records)
        else:
            header = [column_name(name) for name in file.columns]
        self.is_empty = file.columns is None and not header
        self._is_audit = _ACCEPT in header and _SUGGESTION in header
        title = params.title_column if params.title_column in header else "title"
        categories = [name for name in params.category_columns if name in header] or ["category"]
        if self._is_audit:
            categories = [_SUGGESTION]
        self._categories = categories
        self._texts = tuple(
            name
            for name in params.text_columns
            if name in header and name not in (title, *categories)
        )
        used = [title, *categories, *self._texts, *([_ACCEPT, _LABEL] if self._is_audit else [])]
        if not self.is_empty:
            self._require(used, header, params)
        if file.columns is not None:
            self._records = file.rows(used)
        one = categories[0] if len(categories) == 1 else categories
        optional = dict.fromkeys(("language_column", "label_quality_column", "split_column"))
        self.layout = params.model_copy(
            update={"title_column": title, "category_column": one, **optional}
        )

    def _require(self, used: Sequence[str], header: Sequence[str], params: DataParams) -> None:
        path = self._file.origin.path
        for name in used:
            if header.count(name) > 1:
                raise DataError(
                    f"{path}: column {name[:100]!a} is listed twice; rename one of them"
                )
            if name not in header:
                usual = {params.title_column, "title"}
                if name != used[0]:
                    usual = {*params.category_columns, "category"}
                wanted = " or ".join(
                    map(repr, sorted({name, *usual} if name != _LABEL else {name}))
                )
                raise DataError(
                    f"{path}: no column {wanted} (found: {listed(header)}); a corrections file needs a "
                    "column of titles and a column of categories, or the columns of `rubro audit`"
                )

    def records(self) -> Iterator[Record]:
        """Yield the rows with a decision, whose category column contains the right category.

        Rows that cannot be read are yielded unchanged.
        """
        for record in self._records:
            if record.reason is not None:
                yield record
                continue
            values = dict(record.content)
            title = _text(values.get(self.layout.title_column))
            self._decision, category = "category", ""
            if self._is_audit:
                category = _text(values.get(_ACCEPT))
                answer = normalise(category)
                if answer in _NO:
                    self._decision, values[_SUGGESTION] = "label", values.get(_LABEL)
                elif category and answer not in _YES:
                    self._decision, values[_SUGGESTION] = "name", category
            else:
                category = "".join(_text(values.get(name)) for name in self._categories)
            if title and not category:
                self._found.undecided.append((self._name, record.lines[0], title))
            else:
                yield record._replace(content=values)

    def add(self, record: Record) -> None:
        """Add the row that was yielded last to the corrections, because it is usable."""
        line = record.lines[0]
        self._found.rows.append(Correction(self._name, line, self._texts, self._decision))


def _first(records: Iterator[Record]) -> Iterator[Record]:
    """Yield the records up to the first one that can be read."""
    for record in records:
        yield record
        if record.reason is None:
            return


def _text(value: Any) -> str:
    with suppress(TypeError):
        return (text_of(value) or "").strip()
    return str(value)


@dataclass
class AppliedCorrections:
    """Rows with corrected categories.

    Attributes:
        table: Rows of the source with corrected categories and, last, corrections that became
            training rows. Column is_correction is true for corrected rows and new training rows.
        of_row: Number of the correction of each corrected or new row, by row.
        replaced: Rows of the source whose category was replaced by another one.
        results: Table of all corrections in the order of reading, with the columns file, line, title,
            category, result, rows (number of replaced categories) and detail.
        new_categories: Places of the corrections that name a new category, by category.
        similar: Names of existing categories that are similar to a new category, by new category.
    """

    table: pd.DataFrame
    of_row: dict[int, int]
    replaced: set[int]
    results: pd.DataFrame
    new_categories: dict[str, list[str]]
    similar: dict[str, list[str]]


def apply_corrections(
    table: pd.DataFrame,
    titles: pd.Series,
    texts: Sequence[pd.Series],
    found: Corrections,
    categories: Mapping[str, str] | None,
    split_of: pd.Series,
    params: SubsetParams,
    correct_held_out: bool,
) -> AppliedCorrections:
    """Replace the categories of all rows that have the same title as a correction.

    Titles are the same if their normal forms are the same. If a corrections file has text columns, the
    texts must be the same too. However, a correction without any text applies to all rows with its
    title if none of them is without texts. If several corrections of the same title disagree, the last
    one is used. Corrected rows stay in their split, and their labels are reliable. A correction whose
    title no row has becomes a training row.

    Args:
        table: Rows with the columns category, label_quality (categorical), key (hash from title_keys)
            and is_correction. The corrections are last.
        titles: Title of each row, with the row numbers as index.
        texts: Texts of each row for each text column; the name of a series is text.NAME.
        found: Sources of the corrections in the table.
        categories: Category of each value in the table if categories are paths; None = the same.
        split_of: Split of each row of the source, by row number.
        params: Whether similar names are merged.
        correct_held_out: Whether titles in validation and test are corrected; if not, their
            corrections are skipped.

    Raises:
        DataError: The column accept of an audit contains something that is not a category.
    """
    own = table[table["is_correction"]]
    keys = own["key"].tolist()
    values = own["category"].astype("str").tolist()
    rows_of_value = rows_by_category(table[~table["is_correction"]])
    name_of = categories or {value: value for value in (*rows_of_value, *values)}
    known = Counter[str]()
    for value, n in rows_of_value.items():
        known[name_of[value]] += n
    known.pop("", None)
    names = [name_of[value] for value in values]
    given = {name for name, each in zip(names, found.rows, strict=True) if each.decision != "name"}
    allowed = given.union(known)
    for number, (correction, name) in enumerate(zip(found.rows, names, strict=True)):
        if correction.decision == "name" and name not in allowed:
            names[number] = _existing(name, known, correction)
            values[number] = next(v for v in rows_of_value if name_of[v] == names[number])

    candidates = table.index[~table["is_correction"] & table["key"].isin(own["key"])]
    text_of_row = _normal_texts([*candidates, *own.index], texts)
    scopes = [
        {name: text_of_row[row][name] for name in correction.texts} if correction.texts else None
        for row, correction in zip(own.index, found.rows, strict=True)
    ]
    results = ["label_is_right" if each.decision == "label" else "" for each in found.rows]
    details = [""] * len(results)
    active = _without_overruled(keys, names, scopes, found.rows, results, details)

    rows_of_key = defaultdict[int, list[int]](list)
    for row, key in zip(candidates, table.loc[candidates, "key"].tolist(), strict=True):
        rows_of_key[key].append(row)
    of_row: dict[int, int] = {}
    for key, numbers in active.items():
        rows = rows_of_key.get(key, [])
        is_held_out = any(split_of.get(row) in ("validation", "test") for row in rows)
        for number, matched in _matches(numbers, rows, scopes, text_of_row):
            if found.rows[number].decision == "label":
                continue
            if is_held_out and not correct_held_out:
                results[number] = "held_out"
            elif matched:
                of_row |= dict.fromkeys(matched, number)
                results[number] = "already_right"
            else:
                of_row[int(own.index[number])] = number
                results[number] = "new_row"

    corrected, before = _corrected(table, of_row, values)
    replaced = {row for row, value in before.items() if name_of[value] != names[of_row[row]]}
    changes = Counter(of_row[row] for row in replaced)
    for number in changes:
        results[number] = "replaced"
    used = [number for number in range(len(results)) if results[number] in ("replaced", "new_row")]
    new, similar = _new_categories(used, names, known, found.rows, params)
    for number in used:
        if names[number] in new:
            close = similar.get(names[number])
            details[number] = "new category" + (
                f", similar to {first_names(close)}" if close else ""
            )
    own_titles = titles_at(titles, own.index)
    listed_rows = [
        (correction.file, correction.line, title, name, result, changes[number], detail)
        for number, (correction, title, name, result, detail) in enumerate(
            zip(found.rows, own_titles, names, results, details, strict=True)
        )
    ]
    listed_rows += [(*each, "", "undecided", 0, "") for each in found.undecided]
    listed_table = pd.DataFrame(listed_rows, columns=_REPORTED_COLUMNS)
    return AppliedCorrections(corrected, of_row, replaced, listed_table, new, similar)


def _existing(name: str, known: Mapping[str, int], correction: Correction) -> str:
    """Return the only existing category that is similar to a name in the column accept."""
    groups = similar_names({**known, name: 0})
    similar = next(
        ([each for each in group if each != name] for group in groups if name in group), []
    )
    if len(similar) == 1:
        return similar[0]
    close = similar or _close_names(name, known)
    hint = f"did you mean {' or '.join(map(repr, close))}? " if close else ""
    raise DataError(
        f"{correction.place}: {name[:100]!r} in column '{_ACCEPT}' is neither yes, no nor an existing "
        f"category; {hint}to introduce a new category, put the title and the category into another "
        "corrections file"
    )


def _close_names(name: str, known: Collection[str]) -> list[str]:
    """Return at most three category names that differ from a name in very few characters."""
    folded = {normalise(each): each for each in known}
    text = normalise(name)
    close = []
    for found in get_close_matches(text, folded, cutoff=_MIN_SIMILARITY):
        different = 1 - SequenceMatcher(None, found, text).ratio()
        if different * (len(found) + len(text)) <= _MAX_EDITS + 1e-9:
            close.append(folded[found])
    return close


def _normal_texts(rows: Sequence[int], texts: Sequence[pd.Series]) -> dict[int, _Texts]:
    """Return the normal forms of the texts of some rows by column name."""
    found: dict[int, _Texts] = {row: {} for row in sorted(rows)}
    for text in texts:
        name = str(text.name).removeprefix("text.")
        values = titles_at(text, pd.Index([*found]))
        for row, value in zip(found, values, strict=True):
            found[row][name] = normalise(value)
    return found


def _without_overruled(
    keys: Sequence[int],
    names: Sequence[str],
    scopes: Sequence[_Texts | None],
    corrections: Sequence[Correction],
    results: list[str],
    details: list[str],
) -> dict[int, list[int]]:
    """Return the numbers of the corrections to apply by title, and set the results of the others."""
    active = defaultdict[int, list[int]](list)
    for number, key in enumerate(keys):
        if not names[number]:
            results[number] = "undecided"
            continue
        is_repeated = False
        for other in active[key].copy():
            if scopes[number] is not None and scopes[other] != scopes[number]:
                continue
            if names[other] != names[number]:
                results[other], details[other] = "overruled", corrections[number].place
                active[key].remove(other)
            elif corrections[other].decision == "label":
                active[key].remove(other)
            elif scopes[other] == scopes[number]:
                is_repeated = True
                if not results[number]:
                    results[number], details[number] = "repeated", corrections[other].place
        if not is_repeated:
            active[key].append(number)
    return active


def _matches(
    numbers: Sequence[int],
    rows: Sequence[int],
    scopes: Sequence[_Texts | None],
    texts: Mapping[int, _Texts],
) -> list[tuple[int, list[int]]]:
    """Return the rows that each correction of a title applies to; later corrections win."""
    general, special = [], []
    for number in numbers:
        scope = scopes[number]
        if scope is None:
            special.append((number, [*rows]))
            continue
        matched = [row for row in rows if all(texts[row][name] == scope[name] for name in scope)]
        if matched or any(scope.values()):
            special.append((number, matched))
        else:
            general.append((number, [*rows]))
    return general + special


def _corrected(
    table: pd.DataFrame, of_row: Mapping[int, int], values: Sequence[str]
) -> tuple[pd.DataFrame, dict[int, str]]:
    """Return the rows with corrected categories, and the previous values of the corrected rows."""
    rows = np.array(sorted(of_row), dtype=np.int64)
    places = table.index.get_indexer(pd.Index(rows))
    is_corrected = np.zeros(len(table), dtype=bool)
    is_corrected[places] = True
    is_own = table["is_correction"].to_numpy()
    category = table["category"].cat
    codes = category.codes.to_numpy(copy=True)
    old = [str(category.categories[code]) for code in codes[places]]
    codes[places] = category.categories.get_indexer(pd.Index([values[of_row[row]] for row in rows]))
    quality = table["label_quality"].cat
    quality = quality.set_categories(quality.categories.union(["reliable"])).cat
    quality_codes = quality.codes.to_numpy(copy=True)
    quality_codes[places] = quality.categories.to_list().index("reliable")
    corrected = table.assign(
        category=pd.Categorical.from_codes(codes, category.categories),
        label_quality=pd.Categorical.from_codes(quality_codes, quality.categories),
        is_correction=is_corrected,
    )[~is_own | is_corrected]
    before = {
        int(row): value
        for row, place, value in zip(rows, places, old, strict=True)
        if not is_own[place]
    }
    return corrected, before


def _new_categories(
    used: Sequence[int],
    names: Sequence[str],
    known: Mapping[str, int],
    corrections: Sequence[Correction],
    params: SubsetParams,
) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Return the places of each new category, and the existing categories with similar names."""
    new = defaultdict[str, list[str]](list)
    for number in used:
        if names[number] not in known:
            new[names[number]].append(corrections[number].place)
    similar: dict[str, list[str]] = {}
    if new:
        for group in similar_names({**known, **dict.fromkeys(new, 0)}):
            for name in group:
                if name in new and (others := [each for each in group if each in known]):
                    similar[name] = others
    if params.similar_categories == "merge":
        for name in similar:
            del new[name]
    for name in [*new][:_MAX_COMPARED_NAMES]:
        if name not in similar and (close := _close_names(name, known)):
            similar[name] = close
    return dict(new), similar


def no_corrections() -> pd.DataFrame:
    """Return an empty table with the columns of AppliedCorrections.results."""
    return pd.DataFrame(columns=_REPORTED_COLUMNS)


def corrections_report(
    applied: AppliedCorrections,
    lost: Mapping[int, str],
    reasons: Mapping[str, str],
    held_out: Mapping[str, Collection[int]],
    labels: Collection[str],
) -> tuple[pd.DataFrame, dict[str, int], list[str]]:
    """Describe which corrections were used, after rows and categories were selected.

    Args:
        applied: Corrections of the rows.
        lost: Reason for dropping each row of applied.of_row that was dropped.
        reasons: Description of each reason.
        held_out: Rows that remain in validation, and in test.
        labels: Selected categories.

    Returns:
        Table of all corrections, counts for JSON, and sentences for the user.
    """
    results = applied.results.copy()
    remaining = {number for row, number in applied.of_row.items() if row not in lost}
    unused = Counter[str]()
    for row, number in applied.of_row.items():
        if number not in remaining and results.at[number, "result"] != "dropped":
            detail = "; ".join(
                filter(None, (reasons[lost[row]], str(results.at[number, "detail"])))
            )
            results.loc[number, ["result", "detail"]] = "dropped", detail
            unused[reasons[lost[row]]] += 1
    counts = Counter(results["result"])
    if counts["held_out"]:
        unused[_HELD_OUT_REASON] += counts["held_out"]
        results.loc[results["result"] == "held_out", "detail"] = _HELD_OUT_REASON
    corrected = {name: len(applied.replaced & {*rows}) for name, rows in held_out.items()}
    summary = {
        "files": results["file"].nunique(),
        **{name: counts[name] for name in _RESULTS},
        "replaced_rows": len(applied.replaced),
        **{f"replaced_{name}_rows": count for name, count in corrected.items()},
        "new_categories": len(applied.new_categories),
    }
    described = [f"{counts[name]:,} {text}" for name, text in _RESULTS.items() if counts[name]]
    notices = [f"corrections: {', '.join(described)}; metrics/corrections.csv lists them"]
    if unused:
        total = len(results) - counts["undecided"]
        listed_reasons = ", ".join(f"{count} {reason}" for reason, count in unused.items())
        notice = f"{unused.total()} of {total} corrections are not used: {listed_reasons}"
        dropped = results.loc[results["result"] == "dropped", "category"]
        if names := sorted({*dropped} - {*labels}):
            notice += (
                f"; raise subset.top_categories to use the corrections of {first_names(names)}"
            )
        notices.append(notice)
    if counts["overruled"]:
        first = results[results["result"] == "overruled"].iloc[0]
        notices.append(
            f"{first['file']}:{first['line']} ({first['category'][:80]!r}) disagrees with "
            f"{first['detail']}, which is used; metrics/corrections.csv lists all disagreements"
        )
    notices += _new_category_notices(applied)
    if any(corrected.values()):
        changed = ", ".join(f"{name} {count}" for name, count in corrected.items() if count)
        notices.append(
            f"rows of validation and test with a corrected category: {changed}; their metrics are not "
            "comparable with metrics that were measured before these corrections"
        )
    return results, summary, notices


def _new_category_notices(applied: AppliedCorrections) -> list[str]:
    """Announce new categories; those that are similar to existing ones have a notice each."""
    notices = []
    for name, places in applied.new_categories.items():
        if close := applied.similar.get(name):
            notices.append(
                f"{name[:80]!r} ({places[0]}) is a new category, similar to {first_names(close)}: "
                "rename it in the corrections file if it means the same"
            )
    others = [name for name in applied.new_categories if name not in applied.similar]
    if others:
        count = f"{len(others)} new {'category' if len(others) == 1 else 'categories'}"
        notices.append(f"corrections introduce {count}: {first_names(others)}")
    return notices
