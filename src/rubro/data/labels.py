"""Doubtful labels: names that look the same, names of nothing, titles with several categories."""

from __future__ import annotations

import html
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b

import numpy as np
import pandas as pd

from rubro.base.parallel import mapped, thread_count
from rubro.base.params import SubsetParams
from rubro.base.text import normalise

_NULL_NAMES = {
    "", "-", "--", "?", ".", "#n/a", "<na>", "n/a", "na", "nan", "nil", "none", "null", "undefined"
}  # fmt: skip
_LEAST_PLURAL = 4
_LISTED_TITLES = 100
_SHOWN = 3
_CHUNK = 2**16  # titles that are Python's at a time
_MERGE = "subset.similar_categories=merge makes one of each"


@dataclass
class CheckedLabels:
    """Rows after the check of their labels.

    Attributes:
        table: Rows that are kept, with the categories that they are to have.
        problems: Columns problem (similar_categories, null_category or conflicting_title), names
            and rows; of conflicting titles the 100 with most rows.
        counts: Number of names or titles with each problem.
        dropped: Number of dropped rows by reason.
        notices: Sentences for the user.
    """

    table: pd.DataFrame
    problems: pd.DataFrame
    counts: dict[str, int]
    dropped: dict[str, int]
    notices: list[str] = field(default_factory=list)


def check_labels(table: pd.DataFrame, titles: pd.Series, params: SubsetParams) -> CheckedLabels:
    """Find doubtful labels, and merge or drop them where the parameters ask for it.

    Args:
        table: Columns category, categorical, and key, from title_keys.
        titles: Title of each row of the table, by its index.
        params: What becomes of similar names, names of nothing and titles of several categories.
    """
    problems: list[tuple[str, str, int]] = []
    rows = {str(name): int(n) for name, n in table["category"].value_counts().items() if n}
    groups = similar_names(rows)
    problems += [
        ("similar_categories", " | ".join(group), sum(rows[name] for name in group))
        for group in groups
    ]
    best: dict[str, str] = {}
    if groups and params.similar_categories == "merge":
        best = {name: group[0] for group in groups for name in group}
        merged = table["category"].map(lambda name: best.get(name, name))
        table = table.assign(category=merged.astype("category"))
    names = {best.get(name, name) for name in rows}
    null_names = sorted(name for name in names if is_null_name(name))
    problems += [("null_category", name, rows[name]) for name in null_names]
    before = len(table)
    if null_names and params.null_categories == "drop":
        table = table[~table["category"].isin(null_names)]
    dropped = {"null_category": before - len(table)}

    conflicting = _conflicting(table)
    found = table[conflicting]
    problems += _titles(found.assign(title=titles_at(titles, found.index).to_numpy()))
    before = len(table)
    if params.conflicting_titles == "drop":
        table = table[~conflicting]
    elif params.conflicting_titles == "first":
        first = found["key"].map(found.drop_duplicates("key").set_index("key")["category"])
        kept = ~conflicting
        kept[found.index] = (found["category"].astype("str") == first.astype("str")).to_numpy()
        table = table[kept]
    dropped["conflicting_title"] = before - len(table)
    counts = {
        "similar_categories": sum(map(len, groups)),
        "null_categories": len(null_names),
        "conflicting_titles": found["key"].nunique(),
    }
    return CheckedLabels(
        table,
        pd.DataFrame(problems, columns=["problem", "names", "rows"]),
        counts,
        dropped,
        _notices(params, groups, null_names, counts["conflicting_titles"]),
    )


def title_keys(titles: pd.Series) -> np.ndarray:
    """Return a number for each title, uint64 (titles,): the same for the same normal form.

    Two of n other titles share a number with a probability of about n**2 / 2**65: one in a hundred
    thousand for 20 million.
    """

    def keys_from(start: int) -> np.ndarray:
        texts = (normalise(title).encode("utf-8") for title in titles.iloc[start : start + _CHUNK])
        digests = [blake2b(text, digest_size=8).digest() for text in texts]
        return np.frombuffer(b"".join(digests), dtype="<u8")

    keys = np.empty(len(titles), dtype=np.uint64)
    for start, found in mapped(keys_from, range(0, len(titles), _CHUNK), thread_count()):
        keys[start : start + len(found)] = found
    return keys


def titles_at(titles: pd.Series, rows: pd.Index) -> pd.Series:
    """Return the titles of ascending rows; pandas' own look-up would copy all titles before.

    Args:
        titles: All titles.
        rows: Row numbers, ascending.
    """
    chosen = np.zeros(len(titles), dtype=bool)
    chosen[rows] = True
    return titles[chosen].reset_index(drop=True)


def _conflicting(table: pd.DataFrame) -> pd.Series:
    """Return whether a title has several categories, bool (rows,)."""
    keys, categories = table["key"].to_numpy(), table["category"].cat.codes.to_numpy()
    order = np.argsort(keys, kind="stable")
    after, before = order[1:], order[:-1]
    differ = (keys[after] == keys[before]) & (categories[after] != categories[before])
    return table["key"].isin(np.unique(keys[after[differ]]))


def similar_names(rows: Mapping[str, int]) -> list[list[str]]:
    """Return groups of names that differ in case, accents, entities, plural or spaces alone.

    Args:
        rows: Number of rows of each name.

    Returns:
        Groups of two names or more, in alphabetical order; in each, the name with most rows first.
    """
    leader = {name: name for name in rows}

    def leader_of(name: str) -> str:
        while leader[name] != name:
            name = leader[name]
        return name

    for key in (_without_s, _without_es):
        first: dict[str, str] = {}
        for name in rows:
            if shape := key(name):
                leader[leader_of(name)] = leader_of(first.setdefault(shape, name))
    members = defaultdict(list)
    for name in rows:
        members[leader_of(name)].append(name)
    groups = [sorted(names, key=lambda name: (-rows[name], name)) for names in members.values()]
    return sorted(group for group in groups if len(group) > 1)


def _words(name: str) -> list[str]:
    text = normalise(html.unescape(name))
    return "".join(sign if _is_of_a_word(sign) else " " for sign in text).split()


def _is_of_a_word(sign: str) -> bool:
    return sign.isalnum() or unicodedata.category(sign)[0] == "M"


def _without_s(name: str) -> str:
    return "".join(
        word.removesuffix("s") if len(word) >= _LEAST_PLURAL else word for word in _words(name)
    )


def _without_es(name: str) -> str:
    """Spanish makes plurals of es too: camión, camiones."""
    return "".join(
        word.removesuffix("s").removesuffix("e") if len(word) >= _LEAST_PLURAL else word
        for word in _words(name)
    )


def is_null_name(name: str) -> bool:
    """Return whether a name says that there is no category, such as "nan" or "NULL"."""
    return name.strip().lower() in _NULL_NAMES


def _titles(table: pd.DataFrame) -> list[tuple[str, str, int]]:
    table = table.assign(key=[normalise(title) for title in table["title"]])
    rows = table["key"].value_counts(sort=False)
    most = sorted(rows.items(), key=lambda item: (-item[1], item[0]))[:_LISTED_TITLES]
    table = table[table["key"].isin([key for key, _ in most])]
    found = []
    for key, count in most:
        same = table[table["key"] == key]
        categories = " | ".join(dict.fromkeys(same["category"]))
        found.append(("conflicting_title", f"{same['title'].iloc[0]}: {categories}", int(count)))
    return found


def _notices(
    params: SubsetParams, groups: list[list[str]], null_names: list[str], titles: int
) -> list[str]:
    notices = []
    if groups:
        names = sum(map(len, groups))
        done = "one of each is left" if params.similar_categories == "merge" else _MERGE
        notices.append(
            f"{names} names of {len(groups)} {'category' if len(groups) == 1 else 'categories'} differ only in case, accents, plural or "
            f"spaces ({_shown([' | '.join(group) for group in groups])}); {done}"
        )
    if null_names:
        kept = "; subset.null_categories=drop leaves their rows out"
        notices.append(
            f"categories named as if there were none: {_shown(null_names)}"
            + (kept if params.null_categories == "keep" else "")
        )
    if titles:
        kept = (
            "; subset.conflicting_titles=first keeps the first category of each, drop leaves them "
            "out"
        )
        notices.append(
            f"{titles} {'title has' if titles == 1 else 'titles have'} several categories"
            + (kept if params.conflicting_titles == "keep" else "")
        )
    return notices


def _shown(names: Iterable[str]) -> str:
    names = [name[:80] for name in names]
    return ", ".join(names[:_SHOWN]) + (" ..." if len(names) > _SHOWN else "")
