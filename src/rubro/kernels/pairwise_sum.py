"""Sums whose order is fixed, compiled for vector registers."""

from __future__ import annotations

import numpy as np
from numba import njit

_FEW = 16


@njit(cache=True, nogil=True)
def folded_sum(values: np.ndarray) -> np.float32:
    """Return the sum of values, float32 (n,); they are overwritten.

    The second half is added to the first until few values are left. The compiler leaves the order of
    a sum as it is written: one value after another, it would compute one addition at a time.
    """
    number = len(values)
    while number > _FEW:
        half = (number + 1) // 2
        for j in range(number - half):
            values[j] += values[half + j]
        number = half
    total = np.float32(0)
    for j in range(number):
        total += values[j]
    return total
