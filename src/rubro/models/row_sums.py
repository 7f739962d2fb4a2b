"""Sums of rows of a table, compiled for a CPU: rows are read where they are, not copied.

Operations and their order are fixed, and nothing is reassociated: the bytes are the same on every CPU
and for any number of threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor

from rubro.base.threads import in_parts

_COLUMNS = 8  # least number of columns of a thread


class RowSums(torch.autograd.Function):
    """Sums of rows of an embedding table, with a sparse gradient of the table."""

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
        return _sums(table, rows[index], offsets)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradient of the table."""
        rows, index, offsets = ctx.saved_tensors
        values = _sums_of_gradients(gradients[0], index, offsets, len(rows))
        gradient = torch.sparse_coo_tensor(
            rows.unsqueeze(0), values, ctx.shape, check_invariants=False
        )
        return gradient, None, None, None


class VectorSums(torch.autograd.Function):
    """Sums of vectors, with their gradient."""

    @staticmethod
    def forward(ctx: Any, vectors: Tensor, index: Tensor, offsets: Tensor) -> Tensor:
        """Return the sum of the vectors of each list, float32 (lists, size).

        Args:
            ctx: Context of the gradient.
            vectors: float32 (U, size).
            index: Positions of vectors, int64 (N,), list by list.
            offsets: Start of each list in index, int64 (lists,).
        """
        ctx.number = len(vectors)
        ctx.save_for_backward(index, offsets)
        return _sums(vectors, index, offsets)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradient of the vectors."""
        index, offsets = ctx.saved_tensors
        return _sums_of_gradients(gradients[0], index, offsets, ctx.number), None, None


def _sums(table: Tensor, index: Tensor, offsets: Tensor) -> Tensor:
    sums = np.zeros((len(offsets), table.shape[1]), dtype=np.float32)
    read = table.detach().numpy(), index.numpy(), offsets.numpy()
    in_parts(lambda start, end: _add_rows(*read, sums, start, end), len(offsets))
    return torch.from_numpy(sums)


def _sums_of_gradients(gradient: Tensor, index: Tensor, offsets: Tensor, number: int) -> Tensor:
    size = gradient.shape[1]
    values = np.zeros((number, size), dtype=np.float32)
    read = gradient.contiguous().numpy(), index.numpy(), offsets.numpy()

    def spread(start: int, end: int) -> None:
        _spread(*read, values, start * _COLUMNS, min(end * _COLUMNS, size))

    in_parts(spread, -(-size // _COLUMNS))
    return torch.from_numpy(values)


@njit(cache=True, nogil=True)
def _add_rows(
    table: np.ndarray,
    index: np.ndarray,
    offsets: np.ndarray,
    sums: np.ndarray,
    start: int,
    end: int,
) -> None:
    """Sum the rows of the lists from start to end."""
    for i in range(start, end):
        last = offsets[i + 1] if i + 1 < len(offsets) else len(index)
        total = sums[i]
        for k in range(offsets[i], last):
            row = table[index[k]]
            for j in range(len(total)):
                total[j] += row[j]


@njit(cache=True, nogil=True)
def _spread(
    gradient: np.ndarray,
    index: np.ndarray,
    offsets: np.ndarray,
    values: np.ndarray,
    start: int,
    end: int,
) -> None:
    """Add the gradient of each sum to its rows, in the columns from start to end."""
    for i in range(len(offsets)):
        last = offsets[i + 1] if i + 1 < len(offsets) else len(index)
        own = gradient[i, start:end]
        for k in range(offsets[i], last):
            value = values[index[k], start:end]
            for j in range(len(own)):
                value[j] += own[j]
