"""Group titles that are nearly the same."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from scipy import sparse

from rubro.base.text import tokenise
from rubro.features.ragged import Ragged

_MISSED_SHARE = 0.01  # of the pairs with the minimum similarity, share that is not compared
_KEY_SHARE = 0.3  # of these pairs, minimum share with the same key in a band
_BLOCK = 2**16  # pairs whose similarity is computed at once
_MIX = np.uint64(0x9E3779B97F4A7C15)  # odd multiplier of a hash function: 2**64 / golden ratio


def near_duplicate_groups(titles: Sequence[str], similarity: float) -> np.ndarray:
    """Group titles whose sets of tokens are similar.

    The similarity of two titles is the Jaccard index of their sets of tokens, in which each digit is
    a 0. Each title of a group is similar to the first title of the group. Candidates are found by
    MinHash with banding, in almost linear time, so a title may be missing from its group: two titles
    that are just similar enough are compared with a probability of 99 %, and more similar titles
    with a higher one.

    Source: Broder 1997, On the Resemblance and Containment of Documents; Leskovec, Rajaraman and
    Ullman, Mining of Massive Datasets, section 3.4.

    >>> near_duplicate_groups(["Red lamp 10 W", "red LAMP 20 w", "blue chair"], 0.8).tolist()
    [0, 0, 1]

    Args:
        titles: Any texts.
        similarity: Minimum Jaccard index of a title and the first title of its group, greater than
            0 and at most 1.

    Returns:
        Group number of each title, numbered by first title, int32 (titles,).
    """
    first_with: dict[frozenset[str], int] = {}
    number: dict[str, int] = {}
    lists: list[list[int]] = []
    same = np.empty(len(titles), dtype=np.int32)  # titles with the same set are compared once
    for position, title in enumerate(titles):
        tokens = frozenset(tokenise(title))
        same[position] = first_with.setdefault(tokens, len(lists))
        if same[position] == len(lists):
            # Numbers in the order of first titles, so that they do not depend on Python's hashes.
            lists.append([number.setdefault(token, len(number)) for token in sorted(tokens)])
    sets = Ragged.from_lists(lists)
    leaders = _leaders(len(sets), _similar_pairs(sets, len(number), similarity))
    groups = leaders[same]
    _, first, group = np.unique(groups, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first)).astype(np.int32)[group]


def _similar_pairs(sets: Ragged, tokens: int, similarity: float) -> np.ndarray:
    """Return pairs of similar sets, the smaller position first, integers (pairs, 2)."""
    ones = np.ones(len(sets.values), np.int32)
    matrix = sparse.csr_matrix((ones, sets.values, sets.offsets), shape=(len(sets), tokens))
    found = [np.zeros((0, 2), np.int64)]
    for pairs in _candidates(sets, tokens, similarity):
        for start in range(0, len(pairs), _BLOCK):
            block = pairs[start : start + _BLOCK]
            one, other = block.T
            common = matrix[one].multiply(matrix[other]).sum(axis=1).A1
            total = sets.lengths[one] + sets.lengths[other] - common
            found.append(block[common >= similarity * total])
    return np.unique(np.concatenate(found), axis=0)


def _candidates(sets: Ragged, tokens: int, similarity: float) -> Iterator[np.ndarray]:
    """Yield pairs of sets that have the same key in a band, the smaller position first.

    A set is paired only with the first set and with the previous set of the same key, so the number
    of pairs is linear in the number of sets.
    """
    filled = np.flatnonzero(sets.lengths)
    if similarity >= 1 or len(filled) < 2:
        return
    random = np.random.default_rng(0)
    rows = max(1, int(math.log(_KEY_SHARE) / math.log(similarity)))
    bands = math.ceil(math.log(_MISSED_SHARE) / math.log(1 - similarity**rows))
    for _ in range(bands):
        keys = np.zeros(len(filled), dtype=np.uint64)
        for _ in range(rows):
            order = random.permutation(tokens).astype(np.uint64)
            smallest = np.minimum.reduceat(order[sets.values], sets.offsets[filled])
            keys = (keys ^ smallest) * _MIX
            keys ^= keys >> np.uint64(32)
        by_key = np.argsort(keys, kind="stable")
        sorted_keys, sorted_sets = keys[by_key], filled[by_key]
        repeats = sorted_keys[1:] == sorted_keys[:-1]
        starts = np.flatnonzero(np.concatenate([[True], ~repeats]))
        first = np.repeat(sorted_sets[starts], np.diff([*starts, len(filled)]))
        with_first = np.stack([first[1:], sorted_sets[1:]], axis=1)[repeats]
        with_previous = np.stack([sorted_sets[:-1], sorted_sets[1:]], axis=1)[repeats]
        yield np.unique(np.concatenate([with_first, with_previous]), axis=0)


def _leaders(count: int, pairs: np.ndarray) -> np.ndarray:
    """Return for each set the first leader that it is similar to; other sets are leaders themselves.

    Args:
        count: Number of sets.
        pairs: Pairs of similar sets, the smaller position first, in ascending order of the first.

    Returns:
        Position of the leader of each set, integers (count,).
    """
    leaders = list(range(count))
    # When a set is reached as the first of a pair, its own leader is known.
    for first, second in pairs.tolist():
        if leaders[first] == first and leaders[second] == second:
            leaders[second] = first
    return np.array(leaders, dtype=np.int64)
