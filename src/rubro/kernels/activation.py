"""ReLU and dropout of a hidden layer, compiled for a CPU.

Operations and their order are fixed, and nothing is reassociated: the bytes are the same on every CPU
and for any number of threads.
"""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def activate(
    values: np.ndarray,
    bias: np.ndarray,
    draws: np.ndarray,
    least: np.uint16,
    factor: np.float32,
    first_row: int,
    end_row: int,
    first: int,
    end: int,
) -> None:
    """Add the bias to part of a product, then take ReLU and dropout, in place.

    Args:
        values: Product, float32 (n, outputs).
        bias: float32 (outputs,).
        draws: Random draws, uint16 (n, outputs).
        least: Least draw of a value that is kept.
        factor: Factor of the values that are kept.
        first_row: First row of the part.
        end_row: Row after the last one.
        first: First column of the part.
        end: Column after the last one.
    """
    own_bias = bias[first:end]
    for i in range(first_row, end_row):
        own, drawn = values[i, first:end], draws[i, first:end]
        for j in range(len(own)):
            value = own[j] + own_bias[j]
            is_zero = value <= 0 or drawn[j] < least  # not a number stays so, and ends the training
            own[j] = np.float32(0) if is_zero else value * factor


@njit(cache=True, nogil=True)
def gradient_before(
    gradient: np.ndarray, results: np.ndarray, factor: np.float32
) -> tuple[np.ndarray, np.ndarray]:
    """Return the gradient before ReLU and dropout, float32 (n, outputs), and that of the bias.

    Args:
        gradient: Gradient of the results, float32 (n, outputs).
        results: Values after ReLU and dropout, float32 (n, outputs).
        factor: Factor of the values that were kept.
    """
    before = np.empty_like(gradient)
    of_bias = np.zeros(gradient.shape[1], dtype=np.float32)
    for i in range(len(gradient)):
        after, result, own = gradient[i], results[i], before[i]
        for j in range(len(own)):
            own[j] = after[j] * factor if result[j] > 0 else np.float32(0)
            of_bias[j] += own[j]
    return before, of_bias
