"""Sum values pair by pair (Higham 1993, The Accuracy of Floating Point Summation)."""

from __future__ import annotations

import numpy as np
from numba import njit

_MAXIMUM_REMAINING = 16


@njit(cache=True, nogil=True)
def pairwise_sum(values: np.ndarray) -> np.float32:
    """Return the sum of an array of values, float32 (n,), and overwrite the array.

    The second half is added to the first half until at most 16 values are left. Unlike a running
    sum, which the compiler must compute one addition at a time, this uses vector registers.
    """
    number = len(values)
    while number > _MAXIMUM_REMAINING:
        half = (number + 1) // 2
        for j in range(number - half):
            values[j] += values[half + j]
        number = half
    total = np.float32(0)
    for j in range(number):
        total += values[j]
    return total
