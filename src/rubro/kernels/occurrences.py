"""Find all lists, and the positions in them, that contain each number."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit("(int64[::1], int64[::1], int64)", cache=True, nogil=True)
def occurrences(
    index: np.ndarray, offsets: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find the occurrences of each number in lists of numbers.

    Args:
        index: Numbers from 0 to count - 1, int64 (N,), list by list.
        offsets: Bounds of the lists in index, int64 (lists + 1,).
        count: Number of different numbers.

    Returns:
        Index of the list of each occurrence and position in that list, int64 (N,) each, number by
        number, and the bounds of the numbers in these arrays, int64 (count + 1,).
    """
    bounds = np.zeros(count + 1, dtype=np.int64)
    for number in index:
        bounds[number + 1] += 1
    for number in range(count):
        bounds[number + 1] += bounds[number]
    lists, positions, ends = np.empty_like(index), np.empty_like(index), bounds.copy()
    for i in range(len(offsets) - 1):
        for k in range(offsets[i], offsets[i + 1]):
            end = ends[index[k]]
            lists[end], positions[end] = i, k - offsets[i]
            ends[index[k]] += 1
    return lists, positions, bounds
