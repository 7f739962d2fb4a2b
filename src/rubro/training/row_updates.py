"""The step of RowWiseAdam on a CPU, compiled: it reads and writes each row once.

Operations and their order are fixed, and nothing is reassociated: the bytes are the same on every CPU
and for any number of threads.
"""

from __future__ import annotations

import numpy as np
from numba import njit

_LANES = 8  # sums that are added side by side, as many as a vector register has


@njit(cache=True, nogil=True)
def update_rows(
    table: np.ndarray,
    mean: np.ndarray,
    mean_square: np.ndarray,
    rows: np.ndarray,
    gradient: np.ndarray,
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
        rows: Numbers of the rows, each once, int64 (n,).
        gradient: Gradient of these rows, float32 (n, size).
        mean_share: Share of this gradient in the mean, float32.
        square_share: Share of this gradient in the mean square, float32.
        square_bias: Divisor of the mean square, which starts at zero, float32.
        eps_square: Constant added to the mean square, float32.
        rate: Learning rate over the bias of the mean, float32.
        start: First position in rows.
        end: Position after the last one in rows.
    """
    size = table.shape[1]
    sums = np.zeros(_LANES, dtype=np.float32)
    for i in range(start, end):
        row, own = rows[i], gradient[i]
        sums[:] = 0
        for at in range(0, size - _LANES + 1, _LANES):
            for lane in range(_LANES):
                sums[lane] += own[at + lane] * own[at + lane]
        for j in range(size - size % _LANES, size):
            sums[0] += own[j] * own[j]
        total = ((sums[0] + sums[1]) + (sums[2] + sums[3])) + (
            (sums[4] + sums[5]) + (sums[6] + sums[7])
        )
        mean_square[row] += (total / np.float32(size) - mean_square[row]) * square_share
        scale = rate / np.sqrt(mean_square[row] / square_bias + eps_square)
        for j in range(size):
            moved = mean[row, j] + (own[j] - mean[row, j]) * mean_share
            mean[row, j] = moved
            table[row, j] -= moved * scale
