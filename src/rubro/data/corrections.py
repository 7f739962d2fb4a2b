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
from rubro.data.corrections_files import Corrections
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
_MAX_NOTICES = 5


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
    names = pd.Series([name_of[value] for value in values], dtype=object)
    existing = _existing_names(names, known, found)
    value_of = {name_of[value]: value for value in rows_of_value}
    for number in np.flatnonzero(names.isin(existing.keys())):
        if found.rows[number].is_answer:
            names[number] = existing[names[number]]
            values[number] = value_of[names[number]]

    of_row, winner, other_texts = _assigned(table, texts, found, names)
    keys = table["key"]
    of_title = table.index[~is_own & keys.isin(keys[own])]
    is_held_out = split_of.reindex(of_title).isin(["validation", "test"])
    held_out = keys[own].isin(keys[of_title][is_held_out.to_numpy()]).to_numpy()
    if not correct_held_out:
        of_row = of_row[~held_out[of_row.to_numpy()]]

    rows, numbers = of_row.index, of_row.to_numpy()
    category, quality = table["category"].copy(), table["label_quality"]
    before = category.loc[rows].astype("str").map(name_of).to_numpy()
    category.loc[rows] = pd.Categorical(values[numbers], dtype=category.dtype)
    quality = quality.cat.set_categories(quality.cat.categories.union(["reliable"]))
    quality.loc[rows] = "reliable"
    is_corrected = pd.Series(False, table.index)
    is_corrected.loc[rows] = True
    corrected = table.assign(category=category, label_quality=quality, is_correction=is_corrected)
    corrected = corrected[~is_own | is_corrected]
    replaced = rows[(before != names.to_numpy()[numbers]) & ~is_own[rows].to_numpy()]
    new_rows = rows.intersection(own)

    results = pd.DataFrame(
        {
            "file": [each.path.name for each in found.rows],
            "line": [each.line for each in found.rows],
            "title": titles_at(titles, own).to_numpy(),
            "category": names,
            "result": "already_right",
            "rows": of_row[replaced].value_counts().reindex(range(len(own)), fill_value=0),
            "detail": "",
        }
    )
    results.loc[results["rows"] > 0, "result"] = "replaced"
    results.loc[of_row[new_rows].to_numpy(), "result"] = "new_row"
    if not correct_held_out:
        results.loc[held_out, ["result", "detail"]] = "held_out", _HELD_OUT_REASON
    is_beaten = winner != np.arange(len(own))
    agrees = names.to_numpy()[winner] == names.to_numpy()
    results.loc[is_beaten, "result"] = np.where(agrees, "repeated", "overruled")[is_beaten]
    results.loc[is_beaten, "detail"] = [found.rows[number].place for number in winner[is_beaten]]
    no_name = "a category path without a name"
    results.loc[(names == "").to_numpy(), ["result", "detail"]] = "unusable", no_name
    is_used = results["result"].isin(["replaced", "new_row"])
    new = _new_categories(names[is_used], known, params)
    results.loc[(results["result"] == "new_row") & other_texts, "detail"] = _OTHER_TEXTS
    for number in results.index[is_used & names.isin(new.keys())]:
        similar = new[names[number]]
        detail = "new category" + (f", similar to {first_names(similar)}" if similar else "")
        results.loc[number, "detail"] = _joined(results.loc[number, "detail"], detail)
    skipped = [
        (file, line, title, "", result, 0, problem)
        for file, line, title, result, problem in found.skipped
    ]
    results = pd.concat([results, pd.DataFrame(skipped, columns=_REPORTED_COLUMNS)])
    results = results.reset_index(drop=True)
    return AppliedCorrections(corrected, of_row, new_rows, replaced, results, new)


def _existing_names(
    names: pd.Series, known: Mapping[str, int], found: Corrections
) -> dict[str, str]:
    """Return the similar existing category of each answer that is not a category itself.

    Raises:
        DataError: No category, or more than one, is similar to an answer.
    """
    answers = np.array([each.is_answer for each in found.rows], dtype=bool)
    allowed = {*known, *names[~answers]}
    unknown = {name: number for number, name in names[answers].items() if name not in allowed}
    similar = _similar_names(unknown, known)
    for name, number in unknown.items():
        if len(similar[name]) == 1:
            continue
        source = found.rows[int(number)]
        close = similar[name] or _close_names(name, known)
        hint = f"did you mean {' or '.join(map(repr, close))}? " if close else ""
        raise DataError(
            f"{source.path}:{source.line}: {name[:100]!r} in column 'accept' is neither yes, no nor an "
            f"existing category; {hint}to introduce a new category, write it into column "
            "'suggested_category' and yes into 'accept'"
        )
    return {name: each for name, (each,) in similar.items()}


def _assigned(
    table: pd.DataFrame, texts: Sequence[pd.Series], found: Corrections, names: pd.Series
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
    has_texts = corrections.drop(columns=["key", "number"]).ne("").any(axis=1)
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
    new_rows: Sequence[int],
    unlabelled: pd.DataFrame,
) -> list[pd.Series]:
    """Give new rows without any text the texts of the first unlabelled row with the same title.

    Args:
        texts: Texts of each row for each text column; the name of a series is text.NAME.
        titles: Title of each row.
        new_rows: Rows of corrections that became training rows, ascending.
        unlabelled: Rows without categories, with a column for each text column.
    """
    own = [titles_at(text, pd.Index(new_rows)) for text in texts]
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
    reason_of_row = pd.Series(applied.of_row.index.map(lost), applied.of_row, dtype=object)
    used = reason_of_row.index[reason_of_row.isna()]
    unused = reason_of_row[~reason_of_row.index.isin(used)]
    unused = unused[~unused.index.duplicated()]
    results.loc[unused.index, "result"] = "dropped"
    results.loc[unused.index, "detail"] = [
        _joined(reasons[reason], results.loc[number, "detail"]) for number, reason in unused.items()
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
    count_of_reason = Counter(reasons[reason] for reason in unused)
    count_of_reason += Counter({_HELD_OUT_REASON: counts["held_out"]})
    if count_of_reason:
        total = len(results) - counts["undecided"]
        listed = ", ".join(f"{count} {reason}" for reason, count in count_of_reason.items())
        notice = f"{count_of_reason.total()} of {total} corrections are not used: {listed}"
        not_selected = results.loc[unused.index[unused == "category_not_selected"], "category"]
        if names := sorted({*not_selected} - {*labels}):
            notice += (
                f"; raise subset.top_categories to use the corrections of {first_names(names)}"
            )
        notices.append(notice)
    if counts["overruled"]:
        first = results[results["result"] == "overruled"].iloc[0]
        notices.append(
            f"corrections that disagree with a later one, which is used: {counts['overruled']}, first "
            f"{_place(first)} ({first['category'][:80]!r}) with {first['detail']}"
        )
    if counts["unusable"]:
        first = results[results["result"] == "unusable"].iloc[0]
        notices.append(
            f"corrections that cannot be used: {counts['unusable']}, first {_place(first)}: "
            f"{first['detail']}; correct or remove these rows"
        )
    other_texts = results[results["detail"].str.startswith(_OTHER_TEXTS)]
    if len(other_texts):
        notices.append(
            f"corrections whose title occurs only with other texts: {len(other_texts)}, first "
            f"{_place(other_texts.iloc[0])}; they become training rows, and replace no category (empty "
            "the text columns of a correction to correct all rows with its title)"
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
    """Announce new categories; the first ones that are similar to existing ones have a notice each."""
    new, results = applied.new_categories, applied.results
    shown = [name for name in new if new[name]][:_MAX_NOTICES]
    notices = []
    for name in shown:
        first = results[results["category"] == name].iloc[0]
        notices.append(
            f"{name[:80]!r} ({_place(first)}) is a new category, similar to {first_names(new[name])}: "
            "rename it in the corrections file if it means the same"
        )
    others = [name for name in new if name not in shown]
    if others:
        count = f"{len(others):,} {'other ' if shown else ''}"
        count += "new category" if len(others) == 1 else "new categories"
        notices.append(f"corrections name {count}: {first_names(others)}")
    return notices


def _place(result: pd.Series) -> str:
    return f"{result['file']}:{result['line']}"


def _joined(*details: str) -> str:
    return "; ".join(filter(None, details))
