"""Ragged arrays preserve their lists, by list and by position."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rubro.features.ragged import Ragged, sum_rows

LISTS = st.lists(st.lists(st.integers(0, 2**31 - 1), max_size=6), max_size=8)
ROWS = st.lists(st.lists(st.integers(0, 9), max_size=6), max_size=8)


def as_lists(ragged: Ragged) -> list[list[int]]:
    return [ragged[index].tolist() for index in range(len(ragged))]


@given(LISTS)
def test_a_ragged_array_contains_the_lists_that_it_was_built_from(lists: list[list[int]]) -> None:
    made = Ragged.from_lists(lists)
    assert as_lists(made) == lists
    assert made.lengths.tolist() == [len(items) for items in lists]
    assert len(made) == len(lists)
    assert made.values.dtype == np.int32
    assert made.offsets.dtype == np.int64


@given(LISTS.filter(bool), st.data())
def test_take_returns_the_lists_at_the_given_positions(
    lists: list[list[int]], data: st.DataObject
) -> None:
    positions = data.draw(st.lists(st.integers(0, len(lists) - 1), max_size=12))
    taken = Ragged.from_lists(lists).take(np.array(positions, dtype=np.int64))
    assert as_lists(taken) == [lists[position] for position in positions]
    assert taken.offsets[0] == 0
    assert taken.offsets[-1] == len(taken.values)
    assert taken.values.dtype == np.int32


@given(LISTS)
def test_by_position_returns_each_value_once_and_longer_lists_first(lists: list[list[int]]) -> None:
    positions = Ragged.from_lists(lists).by_position
    assert len(positions) == max(map(len, lists), default=0)
    before = list(range(len(lists)))
    for place, (indices, values) in enumerate(positions):
        assert sorted(indices.tolist()) == [i for i, own in enumerate(lists) if len(own) > place]
        assert values.tolist() == [lists[index][place] for index in indices]
        lengths = [len(lists[index]) for index in indices]
        assert lengths == sorted(lengths, reverse=True)
        if place:
            assert indices.tolist() == before[: len(indices)]
        before = indices.tolist()


@given(ROWS)
def test_sum_rows_adds_the_rows_of_each_list(lists: list[list[int]]) -> None:
    table = np.arange(30, dtype=np.float32).reshape(10, 3) ** 2
    for few_or_many in (lists, lists * 65):
        found = sum_rows(Ragged.from_lists(few_or_many), table.__getitem__, 3)
        assert found.dtype == np.float32
        expected = [table[rows].sum(axis=0) for rows in few_or_many]
        np.testing.assert_array_equal(found, np.reshape(expected, (len(few_or_many), 3)))
