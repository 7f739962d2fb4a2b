"""Find suspicious labels: near-duplicate names, null-like names and conflicting titles."""

from __future__ import annotations

import html
import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import pandas as pd

from rubro.base.parallel import mapped, thread_count
from rubro.base.params import SubsetParams
from rubro.base.text import first_names, normalise

_NULL_NAMES = {
    "", "-", "--", "?", ".", "#n/a", "<na>", "n/a", "na", "nan", "nil", "none", "null", "undefined"
}  # fmt: skip
_MIN_PLURAL_LENGTH = 4
_MAX_LISTED_TITLES = 100
_TITLES_PER_CHUNK = 2**16


@dataclass
class CheckedLabels:
    """Rows that are kept after the check of their labels, and the problems that were found.

    Attributes:
        table: Rows that are kept, with merged categories.
        problems: Table of suspicious labels with the columns problem (similar_categories,
            null_category or conflicting_title), names (the labels or the title) and rows
            (number of rows). Only the 100 most frequent conflicting titles are listed.
        counts: Number of names or titles with each problem.
        dropped: Dropped rows by reason.
        notices: Sentences for the user.
    """

    table: pd.DataFrame
    problems: pd.DataFrame
    counts: dict[str, int]
    dropped: dict[str, pd.DataFrame]
    notices: list[str]


def check_labels(
    table: pd.DataFrame, titles: pd.Series, params: SubsetParams, are_paths: bool = False
) -> CheckedLabels:
    """Find suspicious labels, and merge or drop them if the parameters ask for it.

    Args:
        table: Rows with the columns category (categorical) and key (hash from title_keys).
        titles: Title of each row, with the same index as the table.
        params: Settings for similar names, null-like names and titles with several categories.
        are_paths: Whether the categories are paths, whose similar names category_paths has found.
    """
    rows = rows_by_category(table)
    groups = [] if are_paths else similar_names(rows)
    problems = [
        ("similar_categories", " | ".join(group), sum(rows[name] for name in group))
        for group in groups
    ]
    merged: dict[str, str] = {}
    if groups and params.similar_categories == "merge":
        merged = {name: group[0] for group in groups for name in group}
        categories = table["category"].map(lambda name: merged.get(name, name))
        table = table.assign(category=categories.astype("category"))
    names = {merged.get(name, name) for name in rows}
    null_names = sorted(name for name in names if is_null_name(name))
    problems += [("null_category", name, rows[name]) for name in null_names]
    dropped = {}
    if null_names and params.null_categories == "drop":
        is_null = table["category"].isin(null_names)
        dropped["null_category"], table = table[is_null], table[~is_null]

    is_conflicting = _is_conflicting(table)
    found = table[is_conflicting]
    problems += _title_problems(found.assign(title=titles_at(titles, found.index).to_numpy()))
    kept = ~is_conflicting
    if params.conflicting_titles == "first":
        first = found["key"].map(found.drop_duplicates("key").set_index("key")["category"])
        kept[found.index] = (found["category"].astype("str") == first.astype("str")).to_numpy()
    if params.conflicting_titles != "keep":
        dropped["conflicting_title"], table = table[~kept], table[kept]
    counts = {
        "similar_categories": sum(map(len, groups)),
        "null_categories": len(null_names),
        "conflicting_titles": found["key"].nunique(),
    }
    notices = _notices(params, groups, null_names, counts["conflicting_titles"])
    listed = pd.DataFrame(problems, columns=["problem", "names", "rows"])
    return CheckedLabels(table, listed, counts, dropped, notices)


def rows_by_category(table: pd.DataFrame) -> dict[str, int]:
    """Return the number of rows of each category that occurs, most frequent first.

    Args:
        table: Rows with the categorical column category.
    """
    return {str(name): int(n) for name, n in table["category"].value_counts().items() if n}


def title_keys(titles: pd.Series) -> np.ndarray:
    """Return a hash of the normal form of each title, uint64 (titles,).

    Among n different titles, two have the same hash with a probability of about n**2 / 2**65, which
    is one in a hundred thousand for 20 million titles.
    """

    def keys_from(start: int) -> np.ndarray:
        chunk = titles.iloc[start : start + _TITLES_PER_CHUNK]
        texts = (normalise(title).encode("utf-8") for title in chunk)
        digests = [blake2b(text, digest_size=8).digest() for text in texts]
        return np.frombuffer(b"".join(digests), dtype="<u8")

    keys = np.empty(len(titles), dtype=np.uint64)
    for start, found in mapped(keys_from, range(0, len(titles), _TITLES_PER_CHUNK), thread_count()):
        keys[start : start + len(found)] = found
    return keys


def titles_at(titles: pd.Series, rows: pd.Index) -> pd.Series:
    """Return the titles of some rows without copying all titles; pandas indexing copies them.

    Args:
        titles: All titles.
        rows: Row numbers, ascending.
    """
    chosen = np.zeros(len(titles), dtype=bool)
    chosen[rows] = True
    return titles[chosen].reset_index(drop=True)


def _is_conflicting(table: pd.DataFrame) -> pd.Series:
    """Return for each row whether its title has several categories, bool (rows,)."""
    keys, categories = table["key"].to_numpy(), table["category"].cat.codes.to_numpy()
    order = np.argsort(keys, kind="stable")
    after, before = order[1:], order[:-1]
    differ = (keys[after] == keys[before]) & (categories[after] != categories[before])
    return table["key"].isin(np.unique(keys[after[differ]]))


def similar_names(rows: Mapping[str, int]) -> list[list[str]]:
    """Group category names that differ only in case, accents, HTML entities, plural or white space.

    Args:
        rows: Number of rows by category name.

    Returns:
        Groups of at least two names, in alphabetical order. The most frequent name of a group is
        first.
    """
    leader = {name: name for name in rows}

    def leader_of(name: str) -> str:
        while leader[name] != name:
            name = leader[name]
        return name

    for endings in ("s",), ("s", "e"):  # Spanish plurals end in s or es: camión, camiones
        first: dict[str, str] = {}
        for name in rows:
            if stem := _stem(name, endings):
                leader[leader_of(name)] = leader_of(first.setdefault(stem, name))
    members = defaultdict(list)
    for name in rows:
        members[leader_of(name)].append(name)
    groups = [sorted(names, key=lambda name: (-rows[name], name)) for names in members.values()]
    return sorted(group for group in groups if len(group) > 1)


def similar_names_notice(place: str, groups: Sequence[Sequence[str]], params: SubsetParams) -> str:
    """Return a sentence for the user about similar names.

    Args:
        place: Plural noun for the names, such as "names in category paths".
        groups: Groups of similar names.
        params: Whether similar names are merged.
    """
    names = first_names([" | ".join(group) for group in groups])
    is_merged = params.similar_categories == "merge"
    return (
        f"{sum(map(len, groups))} {place} differ only in case, accents, plural or spaces ({names}); "
        + ("merged" if is_merged else "set subset.similar_categories=merge to merge them")
    )


def _stem(name: str, endings: Sequence[str]) -> str:
    """Return a category name without white space, symbols and the given word endings."""
    text = normalise(html.unescape(name))
    words = "".join(
        char if char.isalnum() or unicodedata.category(char)[0] == "M" else " " for char in text
    )
    stem = ""
    for word in words.split():
        if len(word) >= _MIN_PLURAL_LENGTH:
            for ending in endings:
                word = word.removesuffix(ending)
        stem += word
    return stem


def is_null_name(name: str) -> bool:
    """Return whether a category name means that the category is missing, such as "nan"."""
    return name.strip().lower() in _NULL_NAMES


def _title_problems(table: pd.DataFrame) -> list[tuple[str, str, int]]:
    """List the most frequent titles with several categories, as rows for CheckedLabels.problems."""
    table = table.assign(key=[normalise(title) for title in table["title"]])
    rows = table["key"].value_counts(sort=False)
    frequent = sorted(rows.items(), key=lambda item: (-item[1], item[0]))[:_MAX_LISTED_TITLES]
    table = table[table["key"].isin([key for key, _ in frequent])]
    found = []
    for key, count in frequent:
        same = table[table["key"] == key]
        categories = " | ".join(same["category"].unique())
        found.append(("conflicting_title", f"{same['title'].iloc[0]}: {categories}", int(count)))
    return found


def _notices(
    params: SubsetParams, groups: list[list[str]], null_names: list[str], titles: int
) -> list[str]:
    notices = []
    if groups:
        categories = "category" if len(groups) == 1 else "categories"
        place = f"names of {len(groups)} {categories}"
        notices.append(similar_names_notice(place, groups, params))
    if null_names:
        notice = f"categories whose names stand for a missing category: {first_names(null_names)}"
        if params.null_categories == "keep":
            notice += "; set subset.null_categories=drop to drop their rows"
        notices.append(notice)
    if titles:
        notice = f"{titles} {'title has' if titles == 1 else 'titles have'} several categories"
        if params.conflicting_titles == "keep":
            notice += (
                "; set subset.conflicting_titles=first to keep the first category of each, or drop "
                "to drop their rows"
            )
        notices.append(notice)
    return notices
