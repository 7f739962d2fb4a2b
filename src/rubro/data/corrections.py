"""Apply corrected categories to the rows with the same titles, and report what they changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher, get_close_matches

import numpy as np
import pandas as pd

from rubro.base.errors import DataError
from rubro.base.params import SubsetParams
from rubro.base.text import first_names, normalise
from rubro.data.corrections_files import Correction, Corrections
from rubro.data.labels import rows_by_category, similar_names, title_keys, titles_at

_REPORTED_COLUMNS = ["file", "line", "title", "category", "result", "rows", "detail"]
# Possible results of a correction, in the order of the message; docs/data.md describes them.
_RESULTS = (
    "replaced",
    "new_row",
    "already_right",
    "repeated",
    "overruled",
    "held_out",
    "dropped",
    "undecided",
    "unusable",
)
_HELD_OUT_REASON = "of titles in validation or test (data.correct_held_out)"
_OTHER_TEXTS = "rows with this title have other texts"
_MIN_SIMILARITY, _MAX_EDITS = 0.8, 4  # a replaced character counts as two edits
_MAX_COMPARED_NAMES = 20
_MAX_LISTED = 5


@dataclass
class AppliedCorrections:
    """Rows with corrected categories.

    Attributes:
        table: Rows of the source with corrected categories and, last, corrections that became
            training rows. Column is_correction is true for corrected rows and new training rows.
        of_row: Number of the correction of each corrected or new row, with the row numbers as index,
            ascending.
        new_rows: Corrections that became training rows, ascending.
        replaced: Rows of the source whose category was replaced by another one.
        results: Table of all corrections, first the usable ones in the order of reading, with the
            columns file, line, title, category, result, rows (number of replaced categories) and detail.
        new_categories: Existing categories with similar names, by new category.
    """

    table: pd.DataFrame
    of_row: pd.Series
    new_rows: pd.Index
    replaced: pd.Index
    results: pd.DataFrame
    new_categories: dict[str, list[str]]


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
    """Replace the categories of the rows with the same titles as the corrections.

    A correction applies to the rows with the same title and, if it has any text, the same texts (all
    in their normal forms). If several corrections apply to a row, the last one is used. A correction
    that applies to no row of the source becomes a training row. Corrected rows stay in their split,
    and their labels are reliable.

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
    is_own = table["is_correction"]
    own = table.index[is_own]
    values = table.loc[own, "category"].astype("str").to_numpy(dtype=object)
    rows_of_value = rows_by_category(table[~is_own])
    name_of = categories or {value: value for value in (*rows_of_value, *values)}
    known = Counter[str]()
    for value, count in rows_of_value.items():
        known[name_of[value]] += count
    known.pop("", None)
    names = np.array([name_of[value] for value in values], dtype=object)
    existing = _existing_names(names, known, found)
    value_of = {name_of[value]: value for value in rows_of_value}
    for number, source in enumerate(found.rows):
        if source.is_answer and names[number] in existing:
            names[number] = existing[names[number]]
            values[number] = value_of[names[number]]

    of_row, winner, has_title = _assigned(table, texts, found, names)
    is_held_out = np.zeros(len(own), dtype=bool)
    if not correct_held_out:
        held_out = split_of.index[split_of.isin(["validation", "test"])]
        is_held_out = table.loc[own, "key"].isin(table.loc[held_out, "key"]).to_numpy()
        of_row = of_row[~is_held_out[of_row]]
    numbers, new_rows = of_row.to_numpy(), of_row.index.intersection(own)
    corrected = _corrected(table, of_row, values)
    old = table.loc[of_row.index, "category"].astype("str").map(name_of)
    replaced = of_row.index[old.ne(names[numbers])].difference(own)
    changes = np.bincount(of_row[replaced], minlength=len(own))

    result = np.where(changes > 0, "replaced", "already_right").astype(object)
    detail = np.full(len(own), "", dtype=object)
    result[of_row[new_rows]] = "new_row"
    result[is_held_out], detail[is_held_out] = "held_out", _HELD_OUT_REASON
    is_beaten = winner != np.arange(len(own))
    agrees = names[winner] == names
    result[is_beaten & agrees], result[is_beaten & ~agrees] = "repeated", "overruled"
    detail[is_beaten] = [found.rows[number].place for number in winner[is_beaten]]
    result[names == ""], detail[names == ""] = "unusable", "a category path without names"
    detail[(result == "new_row") & has_title] = _OTHER_TEXTS
    is_used = (result == "replaced") | (result == "new_row")
    new = _new_categories(names[is_used], known, params)
    for number in np.flatnonzero(is_used).tolist():
        if (similar := new.get(names[number])) is not None:
            text = "new category" + (f", similar to {first_names(similar)}" if similar else "")
            detail[number] = _joined(detail[number], text)
    places = [(source.path.name, source.line) for source in found.rows]
    own_titles = titles_at(titles, own)
    listed = [
        (*place, *row)
        for place, *row in zip(places, own_titles, names, result, changes, detail, strict=True)
    ]
    listed += [
        (file, line, title, "", outcome, 0, problem)
        for file, line, title, outcome, problem in found.skipped
    ]
    results = pd.DataFrame(listed, columns=_REPORTED_COLUMNS)
    return AppliedCorrections(corrected, of_row, new_rows, replaced, results, new)


def _corrected(table: pd.DataFrame, of_row: pd.Series, values: np.ndarray) -> pd.DataFrame:
    """Return the rows with corrected categories, without the corrections that are not rows."""
    is_corrected = table.index.isin(of_row.index)
    category, quality = table["category"].copy(), table["label_quality"]
    category[is_corrected] = values[of_row]
    if "reliable" not in quality.cat.categories:
        quality = quality.cat.add_categories("reliable")
    corrected: pd.DataFrame = table.assign(
        category=category,
        label_quality=quality.mask(is_corrected, "reliable"),
        is_correction=is_corrected,
    )
    is_kept: np.ndarray = is_corrected | ~table["is_correction"].to_numpy()
    return corrected[is_kept]


def _existing_names(
    names: np.ndarray, known: Mapping[str, int], found: Corrections
) -> dict[str, str]:
    """Return the similar existing category of each answer that is not a category itself.

    Raises:
        DataError: No category, or more than one, is similar to an answer.
    """
    allowed = {*known}
    answers: dict[str, Correction] = {}
    for name, source in zip(names, found.rows, strict=True):
        if source.is_answer:
            answers.setdefault(name, source)
        else:
            allowed.add(name)
    similar = _similar_names([name for name in answers if name not in allowed], known)
    for name, others in similar.items():
        if len(others) != 1:
            close = others or _close_names(name, known)
            hint = f"did you mean {' or '.join(map(repr, close))}? " if close else ""
            raise DataError(
                f"{answers[name].path}:{answers[name].line}: {name[:100]!r} in column 'accept' is neither "
                f"yes, no nor an existing category; {hint}to introduce a new category, write it into "
                "column 'suggested_category' and yes into 'accept'"
            )
    return {name: other for name, (other,) in similar.items()}


def _assigned(
    table: pd.DataFrame, texts: Sequence[pd.Series], found: Corrections, names: np.ndarray
) -> tuple[pd.Series, np.ndarray, np.ndarray]:
    """Find the rows that each correction applies to.

    Returns:
        Number of the last correction of each row, including corrections that become rows; number of the
        correction that is used instead of each correction, or its own number; and whether the source
        has the title of each correction, int and bool (corrections,).
    """
    own = table.index[table["is_correction"]]
    rows = table.loc[table["key"].isin(table.loc[own, "key"]), ["key", "is_correction"]]
    for text in texts:
        rows[str(text.name)] = [normalise(value) for value in titles_at(text, rows.index)]
    numbers = np.arange(len(own))
    corrections = rows.loc[own].drop(columns="is_correction").assign(number=numbers)
    has_texts = np.full(len(own), False)
    for text in texts:
        has_texts |= (corrections[str(text.name)] != "").to_numpy()
    scopes: dict[tuple[str, ...], list[int]] = {(): []}
    for number, (source, has_text) in enumerate(zip(found.rows, has_texts, strict=True)):
        if names[number]:
            scope = tuple(f"text.{name}" for name in source.texts) if has_text else ()
            scopes.setdefault(scope, []).append(number)
    rows = rows.rename_axis("row").reset_index()
    winner, merged = numbers.copy(), []
    for scope, members in scopes.items():
        same = ["key", *scope]
        group = corrections.iloc[members][[*same, "number"]]
        winner[members] = group.groupby(same)["number"].transform("last")
        last = group.drop_duplicates(same, keep="last")
        merged.append(last.merge(rows[[*same, "row", "is_correction"]], on=same))
    pairs = pd.concat(merged)[["number", "row", "is_correction"]]
    # A correction that applies to no row of the source is a row itself.
    of_source = pairs.loc[~pairs["is_correction"], "number"]
    own_rows = own[(winner == numbers) & ~np.isin(numbers, of_source)]
    pairs = pairs[~pairs["is_correction"] | pairs["row"].isin(own_rows)]
    of_row = pairs.groupby("row")["number"].max()
    first_row = pairs.drop_duplicates("number").set_index("number")["row"]
    is_kept = own.get_indexer(of_row.index)
    kept = of_row[(is_kept < 0) | (is_kept == of_row)]
    beaten = first_row[~first_row.index.isin(kept)]
    winner[beaten.index] = of_row[beaten]
    has_title = corrections["key"].isin(rows.loc[~rows["is_correction"], "key"])
    return kept, winner[winner], has_title.to_numpy()


def _similar_names(names: Collection[str], known: Mapping[str, int]) -> dict[str, list[str]]:
    """Return the existing categories that differ from each name only in case, accents or plural."""
    similar: dict[str, list[str]] = {name: [] for name in names}
    for group in similar_names({**known, **dict.fromkeys(names, 0)}) if names else []:
        for name in similar.keys() & group:
            similar[name] = [each for each in group if each in known]
    return similar


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


def _new_categories(
    names: Iterable[str], known: Mapping[str, int], params: SubsetParams
) -> dict[str, list[str]]:
    """Return the new categories among some names, with existing categories that are similar."""
    similar = _similar_names([name for name in dict.fromkeys(names) if name not in known], known)
    if params.similar_categories == "merge":
        similar = {name: others for name, others in similar.items() if not others}
    for name in [*similar][:_MAX_COMPARED_NAMES]:
        similar[name] = similar[name] or _close_names(name, known)
    return similar


def with_unlabelled_texts(
    texts: Sequence[pd.Series],
    titles: pd.Series,
    new_rows: pd.Index,
    unlabelled: pd.DataFrame,
) -> list[pd.Series]:
    """Give new rows without any text the texts of the first unlabelled row with the same title.

    Args:
        texts: Texts of each row for each text column; the name of a series is text.NAME.
        titles: Title of each row.
        new_rows: Rows of corrections that became training rows, ascending.
        unlabelled: Rows without categories, with a column for each text column.
    """
    own = [titles_at(text, new_rows) for text in texts]
    empty = [row for row, *values in zip(new_rows, *own, strict=True) if not any(values)]
    if not texts or not empty:
        return list(texts)
    keys = title_keys(titles_at(titles, pd.Index(empty)))
    unlabelled_keys = title_keys(unlabelled["title"].astype("str"))
    places = np.flatnonzero(np.isin(unlabelled_keys, keys))
    place_of = dict(zip(unlabelled_keys[places[::-1]].tolist(), places[::-1], strict=True))
    found = {
        row: place_of[key] for row, key in zip(empty, keys.tolist(), strict=True) if key in place_of
    }
    filled = [text.copy() for text in texts] if found else list(texts)
    for text in filled:
        text.iloc[[*found]] = unlabelled[str(text.name)].iloc[[*found.values()]].to_numpy()
    return filled


def no_corrections() -> pd.DataFrame:
    """Return an empty table with the columns of AppliedCorrections.results."""
    return pd.DataFrame(columns=_REPORTED_COLUMNS)


def corrections_report(
    applied: AppliedCorrections,
    lost: Mapping[int, str],
    reasons: Mapping[str, str],
    held_out: Mapping[str, pd.Index],
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
    unused: dict[int, str] = {}
    of_row = zip(applied.of_row.index.tolist(), applied.of_row.tolist(), strict=True)
    for row, number in of_row:
        unused[number] = "" if row not in lost else unused.get(number, lost[row])
    unused = {number: reason for number, reason in unused.items() if reason}
    details = results["detail"].to_list()
    results.loc[[*unused], "result"] = "dropped"
    results.loc[[*unused], "detail"] = [
        _joined(reasons[reason], details[number]) for number, reason in unused.items()
    ]
    counts = Counter(results["result"])
    corrected = {name: len(applied.replaced.intersection(rows)) for name, rows in held_out.items()}
    summary = {
        "files": results["file"].nunique(),
        **{name: counts[name] for name in _RESULTS},
        "replaced_rows": len(applied.replaced),
        **{f"replaced_{name}_rows": count for name, count in corrected.items()},
        "new_categories": len(applied.new_categories),
    }
    described = ", ".join(f"{name} {counts[name]}" for name in _RESULTS if counts[name])
    notices = [f"corrections: {len(results)} ({described}), listed in metrics/corrections.csv"]
    count_of_reason = Counter(reasons[reason] for reason in unused.values())
    count_of_reason += Counter({_HELD_OUT_REASON: counts["held_out"]})
    if count_of_reason:
        total = len(results) - counts["undecided"]
        listed = ", ".join(f"{count} {reason}" for reason, count in count_of_reason.items())
        notice = f"{count_of_reason.total()} of {total} corrections are not used: {listed}"
        not_selected = [n for n, reason in unused.items() if reason == "category_not_selected"]
        if names := sorted({*results["category"].iloc[not_selected]} - {*labels}):
            notice += (
                f"; raise subset.top_categories to use the corrections of {first_names(names)}"
            )
        notices.append(notice)
    notices += _problem_notices(results)
    if new := applied.new_categories:
        shown = [
            name[:80] + (f" (similar to {first_names(others)})" if others else "")
            for name, others in sorted(new.items(), key=lambda each: not each[1])
        ]
        count = "a new category" if len(new) == 1 else f"{len(new):,} new categories"
        notice = f"corrections name {count}: {', '.join(shown[:_MAX_LISTED])}"
        if more := len(shown[_MAX_LISTED:]):
            notice += f" and {more:,} more"
        if any(new.values()):
            notice += "; rename a category in the corrections if it means the same as a similar one"
        notices.append(notice)
    if any(corrected.values()):
        changed = ", ".join(f"{name} {count}" for name, count in corrected.items() if count)
        notices.append(
            f"rows of validation and test with a corrected category: {changed}; their metrics are not "
            "comparable with metrics that were measured before these corrections"
        )
    return results, summary, notices


def _problem_notices(results: pd.DataFrame) -> list[str]:
    """Return a sentence for each problem, with the number of corrections and the first of them."""
    problems = [
        (
            "overruled",
            "disagree with a later one, which is used: {count}, first {place} with {detail}",
        ),
        (
            "unusable",
            "cannot be used: {count}, first {place}: {detail}; correct or remove these rows",
        ),
        (
            _OTHER_TEXTS,
            "have a title that occurs only with other texts: {count}, first {place}; they become new "
            + "training rows (a correction without texts corrects all rows with its title)",
        ),
    ]
    notices = []
    for problem, text in problems:
        found = results[(results["result"] == problem) | results["detail"].str.startswith(problem)]
        if len(found):
            file, line, detail = found.iloc[0][["file", "line", "detail"]]
            description = text.format(count=len(found), place=f"{file}:{line}", detail=detail)
            notices.append(f"corrections that {description}")
    return notices


def _joined(*details: str) -> str:
    return "; ".join(filter(None, details))
