"""Ragged arrays: lists of integers of different lengths, stored in one array."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, pairwise
from pathlib import Path

import numpy as np

from rubro.base.files import damaged

_FEW_LISTS = 64  # sum short batches list by list, longer ones position by position


@dataclass(frozen=True)
class Ragged:
    """Lists of integers of different lengths, stored in one array.

    Attributes:
        values: Concatenated lists, int32 (total length,).
        offsets: Bounds of the lists, int64 (lists + 1,); list i is
            `values[offsets[i]:offsets[i + 1]]`.
    """

    values: np.ndarray
    offsets: np.ndarray

    @classmethod
    def from_lists(cls, lists: Sequence[Sequence[int]]) -> Ragged:
        """Store lists of integers below 2**31."""
        lengths = np.array([len(each) for each in lists], dtype=np.int64)
        return cls.from_lengths(np.fromiter(chain.from_iterable(lists), np.int32), lengths)

    @classmethod
    def from_lengths(cls, values: np.ndarray, lengths: np.ndarray) -> Ragged:
        """Divide an array into consecutive lists with the given lengths, integers (lists,)."""
        return cls(values, np.concatenate([[0], np.cumsum(lengths)]))

    @classmethod
    def concatenated(cls, parts: Sequence[Ragged]) -> Ragged:
        """Concatenate the lists of several ragged arrays."""
        values = np.concatenate([np.zeros(0, np.int32), *(part.values for part in parts)])
        lengths = np.concatenate([np.zeros(0, np.int64), *(part.lengths for part in parts)])
        return cls.from_lengths(values, lengths)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> np.ndarray:
        return self.values[self.offsets[index] : self.offsets[index + 1]]

    @cached_property
    def lengths(self) -> np.ndarray:
        """Length of each list, int64 (lists,)."""
        return np.asarray(self.offsets[1:] - self.offsets[:-1])

    def take(self, indices: np.ndarray) -> Ragged:
        """Return the lists at the given indices, integers (n,), in the order of the indices."""
        lengths = self.offsets[indices + 1] - self.offsets[indices]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        shift = np.repeat(self.offsets[indices] - offsets[:-1], lengths)
        return Ragged(self.values[np.arange(offsets[-1]) + shift], offsets)

    def emptied(self, where: np.ndarray) -> Ragged:
        """Return the lists, but empty each list whose value in a mask, bool (lists,), is true."""
        lengths = np.where(where, 0, self.lengths)
        kept = np.repeat(~where, self.lengths)
        return Ragged.from_lengths(self.values[kept], lengths)

    @cached_property
    def by_position(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Indices of the lists that have a value at each position, and these values.

        Each position has a pair of arrays, int64 (n,) and int32 (n,). Longer lists come first, so
        the indices at a position are a prefix of the indices at the previous position.
        """
        lengths = self.lengths
        order = np.argsort(-lengths, kind="stable")
        descending = -lengths[order]
        starts = self.offsets[order]
        longest = int(lengths.max(initial=0))
        counts = np.searchsorted(descending, -np.arange(longest), side="left")
        return [
            (order[:count], self.values[starts[:count] + position])
            for position, count in enumerate(counts)
        ]


def check_ranges(
    path: Path, tensors: Mapping[str, np.ndarray], offsets: dict[str, str], limits: dict[str, int]
) -> None:
    """Check that the offsets and indices read from a file are in range.

    Args:
        path: Path of the file.
        tensors: Tensors of the file by name.
        offsets: Names of the offsets, each with the name of the values that they divide into lists.
        limits: Names of the indices, each with the number that they must stay below.

    Raises:
        DataError: An offset or index is out of range.
    """
    for name, values in offsets.items():
        bounds = tensors[name]
        is_complete = len(bounds) > 0 and bounds[0] == 0 and bounds[-1] == len(tensors[values])
        if not is_complete or (bounds[1:] < bounds[:-1]).any():
            raise damaged(path, f"tensor {name} is out of range")
    for name, limit in limits.items():
        if tensors[name].min(initial=0) < 0 or tensors[name].max(initial=0) >= limit:
            raise damaged(path, f"tensor {name} is out of range")


def sum_rows(lists: Ragged, rows: Callable[[np.ndarray], np.ndarray], size: int) -> np.ndarray:
    """Return the sum of the table rows that each list refers to.

    Args:
        lists: Lists of row numbers.
        rows: Function that returns rows, float32 (m, size), for row numbers, int (m,).
        size: Length of a row.

    Returns:
        Sums, float32 (lists, size); zeros for an empty list.
    """
    total = np.zeros((len(lists), size), dtype=np.float32)
    if len(lists) <= _FEW_LISTS:
        values, offsets = rows(lists.values), lists.offsets.tolist()
        for own, (start, end) in zip(total, pairwise(offsets), strict=True):
            np.add.reduce(values[start:end], axis=0, out=own)
        return total
    positions = lists.by_position
    if not positions:
        return total
    sorted_total = total[: len(positions[0][0])]
    for titles, values in positions:
        sorted_total[: len(titles)] += rows(values)
    result = np.zeros_like(total)
    result[positions[0][0]] = sorted_total
    return result
