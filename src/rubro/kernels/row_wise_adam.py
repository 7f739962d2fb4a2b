"""Update rows of embedding tables for the optimiser RowWiseAdam, reading each row only once."""

from __future__ import annotations

import numpy as np
from numba import njit

from rubro.kernels.embedding_bag import weighted_sum
from rubro.kernels.pairwise_sum import pairwise_sum


@njit(
    "(float32[:, ::1], float32[:, ::1], float32[::1], int64[::1], int64[::1], int64[::1], "
    "float32[:, ::1], float32[::1], float32, float32, float32, float32, float32, int64, int64)",
    cache=True,
    nogil=True,
)
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
    """Update rows of an embedding table, their mean gradients and their mean squares, in place.

    Args:
        table: Embedding table, float32 (rows, size).
        mean: Mean gradient of each value, float32 (rows, size).
        mean_square: Mean square of the gradient of each row, float32 (rows,).
        rows: Distinct rows of the table, int64 (R,).
        index: Positions in vectors of the summands of each row's gradient, int64 (N,), row by row.
        offsets: Bounds of the rows in index, int64 (R + 1,).
        vectors: Vectors whose weighted sums are the gradients of the rows, float32 (V, size).
        factors: Factor of each vector, float32 (V,).
        mean_share: Weight of this gradient in the mean, 1 - beta_1.
        square_share: Weight of this gradient in the mean square, 1 - beta_2.
        square_bias: Divisor that corrects the mean square for its start at zero.
        eps_square: Constant added to the mean square.
        rate: Learning rate divided by the correction of the mean for its start at zero.
        start: First position in rows to update.
        end: Position after the last one.
    """
    size = table.shape[1]
    gradient, squares = np.empty(size, dtype=np.float32), np.empty(size, dtype=np.float32)
    for i in range(start, end):
        row = rows[i]
        weighted_sum(vectors, factors, index[offsets[i] : offsets[i + 1]], gradient)
        for j in range(size):
            squares[j] = gradient[j] * gradient[j]
        square = pairwise_sum(squares) / np.float32(size)
        mean_square[row] += (square - mean_square[row]) * square_share
        scale = rate / np.sqrt(mean_square[row] / square_bias + eps_square)
        values, means = table[row], mean[row]
        for j in range(size):
            means[j] += (gradient[j] - means[j]) * mean_share
            values[j] -= means[j] * scale
