"""Sums of rows of an embedding table, compiled for a CPU: rows are read where they are, not copied.

Operations and their order are fixed, and nothing is reassociated: the bytes are the same on every CPU.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor


class RowSums(torch.autograd.Function):
    """Sums of rows, with a sparse gradient of the table."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, rows: Tensor, index: Tensor, offsets: Tensor) -> Tensor:
        """Return the sum of the rows of each list, float32 (lists, size); zeros for an empty list.

        Args:
            ctx: Context of the gradient.
            table: float32 (table rows, size).
            rows: Distinct rows of the table, int64 (R,).
            index: Positions in rows, int64 (N,), list by list.
            offsets: Start of each list in index, int64 (lists,).
        """
        ctx.shape = table.shape
        ctx.save_for_backward(rows, index, offsets)
        sums = np.zeros((len(offsets), table.shape[1]), dtype=np.float32)
        _add_rows(table.detach().numpy(), rows.numpy(), index.numpy(), offsets.numpy(), sums)
        return torch.from_numpy(sums)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradient of the table."""
        rows, index, offsets = ctx.saved_tensors
        values = np.zeros((len(rows), ctx.shape[1]), dtype=np.float32)
        _spread(gradients[0].contiguous().numpy(), index.numpy(), offsets.numpy(), values)
        gradient = torch.sparse_coo_tensor(
            rows.unsqueeze(0), torch.from_numpy(values), ctx.shape, check_invariants=False
        )
        return gradient, None, None, None


@njit(cache=True, nogil=True)
def _add_rows(
    table: np.ndarray, rows: np.ndarray, index: np.ndarray, offsets: np.ndarray, sums: np.ndarray
) -> None:
    for i in range(len(offsets)):
        end = offsets[i + 1] if i + 1 < len(offsets) else len(index)
        total = sums[i]
        for k in range(offsets[i], end):
            row = table[rows[index[k]]]
            for j in range(len(total)):
                total[j] += row[j]


@njit(cache=True, nogil=True)
def _spread(
    gradient: np.ndarray, index: np.ndarray, offsets: np.ndarray, values: np.ndarray
) -> None:
    for i in range(len(offsets)):
        end = offsets[i + 1] if i + 1 < len(offsets) else len(index)
        own = gradient[i]
        for k in range(offsets[i], end):
            value = values[index[k]]
            for j in range(len(own)):
                value[j] += own[j]
