"""Titles that are nearly the same are in one group."""

from __future__ import annotations

import numpy as np
import pytest

from rubro.base.text import tokenise
from rubro.labelling.near_duplicates import near_duplicate_groups

WORDS = [f"{a}{b}" for a in "bcdfghjklm" for b in ("ab", "eco", "ilo", "ona", "unu", "ar", "es")]


def jaccard(one: str, other: str) -> float:
    a, b = set(tokenise(one)), set(tokenise(other))
    return len(a & b) / len(a | b)


def random_titles(count: int) -> list[str]:
    """Return titles of ten words; every other title is the one before with a word replaced."""
    random = np.random.default_rng(3)
    titles: list[str] = []
    while len(titles) < count:
        words = random.choice(WORDS, 10, replace=False).tolist()
        titles += [" ".join(words), " ".join([*words[:9], "nuevo"])]
    return titles


def test_equal_sets_of_tokens_are_a_group() -> None:
    titles = ["Zapato rojo 38", "Lámpara", "ROJO zapato 41", "lampara!", "Lámpara", "Zapato rojo"]
    assert near_duplicate_groups(titles, 1.0).tolist() == [0, 1, 0, 2, 1, 3]


@pytest.mark.parametrize("similarity", [0.5, 0.7, 0.8])
def test_groups_contain_the_similar_pairs_only(similarity: float) -> None:
    titles = random_titles(4000)
    groups = near_duplicate_groups(titles, similarity)
    assert groups.dtype == np.int32
    _, first = np.unique(groups, return_index=True)
    assert (np.diff(first) > 0).all()
    assert all(
        jaccard(titles[first[group]], title) >= similarity
        for group, title in zip(groups, titles, strict=True)
    )
    # 9 of 11 tokens are common, and 1 % of the pairs may be missed.
    together = (groups[::2] == groups[1::2]).mean()
    assert together > 0.97
    assert len(first) > 1500


def test_a_chain_of_similar_titles_is_not_one_group() -> None:
    words = WORDS[:40]
    titles = [" ".join(words[start : start + 10]) for start in range(30)]
    groups = near_duplicate_groups(titles, 0.8)
    assert len(set(groups.tolist())) >= 10


def test_titles_without_tokens_are_a_group() -> None:
    assert near_duplicate_groups([], 0.8).tolist() == []
    assert near_duplicate_groups(["", "a", " "], 0.8).tolist() == [0, 1, 0]


def test_many_titles_with_common_tokens_need_linear_memory() -> None:
    titles = [f"pantalon talle {WORDS[n % 70]} {WORDS[n // 70 % 70]}" for n in range(4900)]
    groups = near_duplicate_groups(titles, 0.5)
    assert len(groups) == 4900
