"""Lists of integers: taken, thinned, and their distinct values; compiled for a CPU."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def taken(
    values: np.ndarray, offsets: np.ndarray, indices: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the lists at the given positions, as Ragged.take does: values and offsets."""
    bounds = np.empty(len(indices) + 1, dtype=np.int64)
    bounds[0] = 0
    for i in range(len(indices)):
        bounds[i + 1] = bounds[i] + offsets[indices[i] + 1] - offsets[indices[i]]
    found = np.empty(bounds[-1], dtype=values.dtype)
    for i in range(len(indices)):
        first = offsets[indices[i]]
        for k in range(bounds[i + 1] - bounds[i]):
            found[bounds[i] + k] = values[first + k]
    return found, bounds


@njit(cache=True, nogil=True)
def kept_of(
    values: np.ndarray, offsets: np.ndarray, draws: np.ndarray, least: np.float32
) -> tuple[np.ndarray, np.ndarray]:
    """Return the values of lists whose draw is not below the least, and the offsets of the lists."""
    kept, bounds, number = np.empty_like(values), np.zeros_like(offsets), 0
    for i in range(len(offsets) - 1):
        for k in range(offsets[i], offsets[i + 1]):
            kept[number] = values[k]
            number += draws[k] >= least
        bounds[i + 1] = number
    return kept[:number], bounds


@njit(cache=True, nogil=True)
def distinct_of(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct values, sorted, and the position of each value among them, int64."""
    end = values.max() + 1 if len(values) else 0
    positions = np.zeros(end, dtype=np.int32)  # faster than sorting
    for value in values:
        positions[value] = 1
    distinct, number = np.empty(min(end, len(values)), dtype=np.int64), 0
    for value in range(end):
        if positions[value]:
            distinct[number] = value
            positions[value] = number
            number += 1
    index = np.empty(len(values), dtype=np.int64)
    for i in range(len(values)):
        index[i] = positions[values[i]]
    return distinct[:number], index
