"""Sums of rows of a table, compiled for a CPU: rows are read where they are, not copied.

Operations and their order are fixed, and nothing is reassociated: the bytes are the same on every CPU
and for any number of threads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor

from rubro.base.parallel import in_parts


@dataclass(frozen=True)
class RowGradient:
    """The gradient of R rows of a table: sums of vectors that are not added up yet.

    The table's parameter has it as the attribute `row_gradient`, in place of a sparse `grad`. The
    optimiser adds up the vectors of a row and moves the row at once: the sums of all rows would be
    written to memory and read again.

    Attributes:
        rows: Distinct rows of the table, int64 (R,).
        index: Positions in vectors, int64 (N,), row by row.
        offsets: Bounds of the rows in index, int64 (R + 1,).
        vectors: float32 (V, size).
        factors: Factor of each vector, float32 (V,).
    """

    rows: Tensor
    index: Tensor
    offsets: Tensor
    vectors: Tensor
    factors: Tensor

    @classmethod
    def from_values(cls, rows: Tensor, values: Tensor) -> RowGradient:
        """Return the gradient of rows from their values, float32 (R, size)."""
        each = torch.arange(len(rows) + 1)
        return cls(rows, each[:-1], each, values, torch.ones(len(rows)))

    def to_sparse(self, shape: torch.Size) -> Tensor:
        """Return the gradient of a table of the given shape as a sparse tensor."""
        arrays = self.vectors, self.factors, self.index, self.offsets
        values = _weighted_sums(*(array.numpy() for array in arrays))
        return torch.sparse_coo_tensor(
            self.rows.unsqueeze(0), values, shape, check_invariants=False
        )


class RowSums(torch.autograd.Function):
    """Sums of rows of an embedding table; backward gives the table's parameter a RowGradient."""

    @staticmethod
    def forward(
        ctx: Any, table: Tensor, rows: Tensor, index: Tensor, offsets: Tensor, factors: Tensor
    ) -> Tensor:
        """Return the sum of the rows of each list times its factor, float32 (lists, size).

        Args:
            ctx: Context of the gradient.
            table: float32 (table rows, size).
            rows: Distinct rows of the table, int64 (R,).
            index: Positions in rows, int64 (N,), list by list.
            offsets: Start of each list in index, int64 (lists,).
            factors: Factor of each list, float32 (lists,).
        """
        ctx.table = table
        ctx.save_for_backward(rows, index, offsets, factors)
        numbers = torch.from_numpy(rows.numpy()[index.numpy()])  # several times as fast as torch's
        return _sums(table, numbers, offsets, factors)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, ...]:
        """Give the table its gradient."""
        rows, index, offsets, factors = ctx.saved_tensors
        lists, bounds = _transposed(index.numpy(), offsets.numpy(), len(rows))
        ctx.table.row_gradient = RowGradient(
            rows,
            torch.from_numpy(lists),
            torch.from_numpy(bounds),
            gradients[0].contiguous(),
            factors,
        )
        return None, None, None, None, None


class VectorSums(torch.autograd.Function):
    """Sums of vectors, with their gradient."""

    @staticmethod
    def forward(
        ctx: Any, vectors: Tensor, index: Tensor, offsets: Tensor, factors: Tensor
    ) -> Tensor:
        """Return the sum of the vectors of each list times its factor, float32 (lists, size).

        Args:
            ctx: Context of the gradient.
            vectors: float32 (U, size).
            index: Positions of vectors, int64 (N,), list by list.
            offsets: Start of each list in index, int64 (lists,).
            factors: Factor of each list, float32 (lists,).
        """
        ctx.number = len(vectors)
        ctx.save_for_backward(index, offsets, factors)
        return _sums(vectors, index, offsets, factors)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradient of the vectors."""
        gradient = gradients[0].contiguous().numpy()
        index, offsets, factors = (saved.numpy() for saved in ctx.saved_tensors)
        values = _weighted_sums(gradient, factors, *_transposed(index, offsets, ctx.number))
        return values, None, None, None


def _sums(table: Tensor, index: Tensor, offsets: Tensor, factors: Tensor) -> Tensor:
    sums = np.empty((len(offsets), table.shape[1]), dtype=np.float32)
    read = table.detach().numpy(), index.numpy(), offsets.numpy(), factors.numpy()
    in_parts(lambda start, end: _add_rows(*read, sums, start, end), len(offsets))
    return torch.from_numpy(sums)


def _weighted_sums(
    vectors: np.ndarray, factors: np.ndarray, index: np.ndarray, bounds: np.ndarray
) -> Tensor:
    """Return the sum of the vectors of each list, each vector times its factor.

    Args:
        vectors: float32 (V, size).
        factors: Factor of each vector, float32 (V,).
        index: Positions of vectors, int64 (N,), list by list.
        bounds: Bounds of the lists in index, int64 (lists + 1,).
    """
    sums = np.empty((len(bounds) - 1, vectors.shape[1]), dtype=np.float32)
    read = vectors, factors, index, bounds
    in_parts(lambda start, end: _add_weighted(*read, sums, start, end), len(sums))
    return torch.from_numpy(sums)


@njit(cache=True, nogil=True)
def _add_rows(
    table: np.ndarray,
    index: np.ndarray,
    offsets: np.ndarray,
    factors: np.ndarray,
    sums: np.ndarray,
    start: int,
    end: int,
) -> None:
    """Sum the rows of the lists from start to end."""
    for i in range(start, end):
        last = offsets[i + 1] if i + 1 < len(offsets) else len(index)
        total, factor = sums[i], factors[i]
        total[:] = 0
        for k in range(offsets[i], last):
            row = table[index[k]]
            for j in range(len(total)):
                total[j] += row[j]
        for j in range(len(total)):
            total[j] *= factor


@njit(cache=True, nogil=True)
def _add_weighted(
    vectors: np.ndarray,
    factors: np.ndarray,
    index: np.ndarray,
    bounds: np.ndarray,
    sums: np.ndarray,
    start: int,
    end: int,
) -> None:
    """Sum the vectors times their factors of the lists from start to end."""
    for i in range(start, end):
        total = sums[i]
        total[:] = 0
        for k in range(bounds[i], bounds[i + 1]):
            vector, factor = vectors[index[k]], factors[index[k]]
            for j in range(len(total)):
                total[j] += factor * vector[j]


@njit(cache=True, nogil=True)
def _transposed(index: np.ndarray, offsets: np.ndarray, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the lists that hold each row, row by row, int64 (N,), and the rows' bounds there."""
    bounds = np.zeros(rows + 1, dtype=np.int64)
    for row in index:
        bounds[row + 1] += 1
    for row in range(rows):
        bounds[row + 1] += bounds[row]
    lists, at = np.empty(len(index), dtype=np.int64), bounds.copy()
    for i in range(len(offsets)):
        last = offsets[i + 1] if i + 1 < len(offsets) else len(index)
        for k in range(offsets[i], last):
            row = index[k]
            lists[at[row]] = i
            at[row] += 1
    return lists, bounds
