"""Sums of rows of a table, which are read in place, and their gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor

from rubro.base.parallel import in_parts
from rubro.kernels.occurrences import occurrences


@dataclass(frozen=True)
class RowGradient:
    """The gradient of R rows of a table, each a weighted sum of vectors that is not yet computed.

    It is the attribute `row_gradient` of the table's parameter and replaces a sparse `grad`. The
    optimiser sums the vectors of a row and updates the row at once, which saves writing all sums to
    memory and reading them again.

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
        """Return the gradient of rows from its values, float32 (R, size)."""
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
            offsets: Bounds of the lists in index, int64 (lists + 1,).
            factors: Factor of each list, float32 (lists,).
        """
        ctx.table = table
        ctx.save_for_backward(rows, index, offsets, factors)
        return _sums(table, rows.numpy()[index.numpy()], offsets, factors)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, ...]:
        """Set the gradient of the table."""
        rows, index, offsets, factors = ctx.saved_tensors
        lists, _, bounds = occurrences(index.numpy(), offsets.numpy(), len(rows))
        ctx.table.row_gradient = RowGradient(
            rows,
            torch.from_numpy(lists),
            torch.from_numpy(bounds),
            gradients[0].contiguous(),
            factors,
        )
        return None, None, None, None, None


class VectorSums(torch.autograd.Function):
    """Sums of vectors that are themselves results, and their gradient."""

    @staticmethod
    def forward(
        ctx: Any, vectors: Tensor, index: Tensor, offsets: Tensor, factors: Tensor
    ) -> Tensor:
        """Return the sum of the vectors of each list times its factor, float32 (lists, size).

        Args:
            ctx: Context of the gradient.
            vectors: float32 (U, size).
            index: Positions in vectors, int64 (N,), list by list.
            offsets: Bounds of the lists in index, int64 (lists + 1,).
            factors: Factor of each list, float32 (lists,).
        """
        ctx.number = len(vectors)
        ctx.save_for_backward(index, offsets, factors)
        return _sums(vectors, index.numpy(), offsets, factors)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradient of the vectors."""
        index, offsets, factors = (saved.numpy() for saved in ctx.saved_tensors)
        lists, _, bounds = occurrences(index, offsets, ctx.number)
        gradient = gradients[0].contiguous().numpy()
        return _weighted_sums(gradient, factors, lists, bounds), None, None, None


def _sums(table: Tensor, index: np.ndarray, offsets: Tensor, factors: Tensor) -> Tensor:
    sums = np.empty((len(factors), table.shape[1]), dtype=np.float32)
    read = table.detach().numpy(), index, offsets.numpy(), factors.numpy()
    in_parts(lambda start, end: _sum_rows(*read, sums, start, end), len(sums))
    return torch.from_numpy(sums)


@njit(cache=True, nogil=True)
def _sum_rows(
    table: np.ndarray,
    index: np.ndarray,
    offsets: np.ndarray,
    factors: np.ndarray,
    sums: np.ndarray,
    start: int,
    end: int,
) -> None:
    """Write the sums of the lists from start to end."""
    for i in range(start, end):
        total, factor = sums[i], factors[i]
        total[:] = 0
        for k in range(offsets[i], offsets[i + 1]):
            row = table[index[k]]
            for j in range(len(total)):
                total[j] += row[j]
        for j in range(len(total)):
            total[j] *= factor


def _weighted_sums(
    vectors: np.ndarray, factors: np.ndarray, index: np.ndarray, offsets: np.ndarray
) -> Tensor:
    """Return the weighted sum of the vectors of each list, float32 (lists, size)."""
    sums = np.empty((len(offsets) - 1, vectors.shape[1]), dtype=np.float32)
    read = vectors, factors, index, offsets
    in_parts(lambda start, end: _sum_lists(*read, sums, start, end), len(sums))
    return torch.from_numpy(sums)


@njit(cache=True, nogil=True)
def _sum_lists(
    vectors: np.ndarray,
    factors: np.ndarray,
    index: np.ndarray,
    offsets: np.ndarray,
    sums: np.ndarray,
    start: int,
    end: int,
) -> None:
    """Write the weighted sums of the lists from start to end."""
    for i in range(start, end):
        weighted_sum(vectors, factors, index[offsets[i] : offsets[i + 1]], sums[i])


@njit(cache=True, nogil=True)
def weighted_sum(
    vectors: np.ndarray, factors: np.ndarray, chosen: np.ndarray, total: np.ndarray
) -> None:
    """Write the sum of chosen vectors, each times its factor.

    Args:
        vectors: float32 (V, size).
        factors: Factor of each vector, float32 (V,).
        chosen: Positions in vectors, int64 (n,).
        total: Sum, float32 (size,); written.
    """
    total[:] = 0
    for position in chosen:
        vector, factor = vectors[position], factors[position]
        for j in range(len(total)):
            total[j] += factor * vector[j]
