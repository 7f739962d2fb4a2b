"""The step of RowWiseAdam on a CPU, compiled: it reads and writes each row once.

Operations and their order are fixed, and nothing is reassociated: the bytes are the same on every CPU
and for any number of threads.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from rubro.kernels.pairwise_sum import folded_sum


@njit(cache=True, nogil=True)
def update_rows(
    table: np.ndarray,
    mean: np.ndarray,
    mean_square: np.ndarray,
    rows: np.ndarray,
    index: np.ndarray,
    offsets: np.ndarray,
    vectors: np.ndarray,
    factors: np.ndarray,
    mean_share: np.float32,
    square_share: np.float32,
    square_bias: np.float32,
    eps_square: np.float32,
    rate: np.float32,
    start: int,
    end: int,
) -> None:
    """Move rows of a table along their mean gradient, in place.

    Args:
        table: float32 (rows, size).
        mean: Mean gradient of each value, float32 (rows, size).
        mean_square: Mean square of the gradient of each row, float32 (rows,).
        rows: Numbers of the rows, each once, int64 (R,).
        index: Positions in vectors of what each row adds up, int64 (N,), row by row.
        offsets: Bounds of the rows in index, int64 (R + 1,).
        vectors: Vectors whose sums are the gradients of the rows, float32 (V, size).
        factors: Factor of each vector, float32 (V,).
        mean_share: Share of this gradient in the mean, float32.
        square_share: Share of this gradient in the mean square, float32.
        square_bias: Divisor of the mean square, which starts at zero, float32.
        eps_square: Constant added to the mean square, float32.
        rate: Learning rate over the bias of the mean, float32.
        start: First position in rows.
        end: Position after the last one in rows.
    """
    size = table.shape[1]
    own, squares = np.empty(size, dtype=np.float32), np.empty(size, dtype=np.float32)
    for i in range(start, end):
        row = rows[i]
        own[:] = 0
        for k in range(offsets[i], offsets[i + 1]):
            vector, factor = vectors[index[k]], factors[index[k]]
            for j in range(size):
                own[j] += factor * vector[j]
        for j in range(size):
            squares[j] = own[j] * own[j]
        square = folded_sum(squares) / np.float32(size)
        mean_square[row] += (square - mean_square[row]) * square_share
        scale = rate / np.sqrt(mean_square[row] / square_bias + eps_square)
        values, means = table[row], mean[row]
        for j in range(size):
            moved = means[j] + (own[j] - means[j]) * mean_share
            means[j] = moved
            values[j] -= moved * scale
