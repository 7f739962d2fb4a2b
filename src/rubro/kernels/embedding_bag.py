"""Sum rows of an embedding table without copying them, and compute the gradients of the sums."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor
from torch.nn import functional as F

from rubro.base.parallel import in_parts
from rubro.kernels.occurrences import occurrences


@dataclass(frozen=True)
class RowGradient:
    """Gradient of R rows of an embedding table, as weighted sums that are not yet computed.

    It is the attribute `row_gradient` of the table's parameter and replaces a sparse `grad`. The
    optimiser sums the vectors of a row and updates the row at once, which saves writing all sums to
    memory and reading them again.

    Attributes:
        rows: Distinct rows of the table, int64 (R,).
        index: Positions in vectors, int64 (N,), row by row.
        offsets: Bounds of the rows in index, int64 (R + 1,).
        vectors: Vectors to sum, float32 (V, size).
        factors: Factor of each vector, float32 (V,).
    """

    rows: Tensor
    index: Tensor
    offsets: Tensor
    vectors: Tensor
    factors: Tensor

    @classmethod
    def from_values(cls, rows: Tensor, values: Tensor) -> RowGradient:
        """Return the RowGradient of rows, int64 (R,), with known values, float32 (R, size)."""
        each = torch.arange(len(rows) + 1)
        return cls(rows, each[:-1], each, values, torch.ones(len(rows)))

    def to_sparse(self, shape: torch.Size) -> Tensor:
        """Compute the sums; return them as a sparse gradient of a table of the given shape."""
        arrays = self.vectors, self.factors, self.index, self.offsets
        values = _weighted_sums(*(array.numpy() for array in arrays))
        return torch.sparse_coo_tensor(
            self.rows.unsqueeze(0), values, shape, check_invariants=False
        )


def embedding_bag(
    table: Tensor, index: Tensor, offsets: Tensor, factors: Tensor, rows: Tensor | None = None
) -> Tensor:
    """Return the sum of the table rows in each list, times the list's factor.

    On a CPU, the gradient of the table is a RowGradient if rows are given.

    Args:
        table: Embedding table, float32 (table rows, size).
        index: Positions in rows, or in the table, int64 (N,), list by list.
        offsets: Bounds of the lists in index, int64 (lists + 1,).
        factors: Factor of each list, float32 (lists,).
        rows: Distinct rows of the table that the lists use, int64 (R,); None = all rows, with a
            dense gradient.

    Returns:
        Sums, float32 (lists, size).
    """
    if table.device.type == "cpu":
        result: Tensor = _EmbeddingBag.apply(table, index, offsets, factors, rows)  # type: ignore[no-untyped-call]
        return result
    if rows is not None:
        table = F.embedding(rows, table, sparse=True)
    sums = F.embedding_bag(index, table, offsets, mode="sum", include_last_offset=True)
    return sums * factors.unsqueeze(1)


class _EmbeddingBag(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        table: Tensor,
        index: Tensor,
        offsets: Tensor,
        factors: Tensor,
        rows: Tensor | None,
    ) -> Tensor:
        ctx.table = table if rows is not None else None
        ctx.count = len(table if rows is None else rows)
        ctx.save_for_backward(index, offsets, factors, rows)
        chosen = index.numpy() if rows is None else rows.numpy()[index.numpy()]
        sums = np.empty((len(factors), table.shape[1]), dtype=np.float32)
        arrays = table.detach().numpy(), chosen, offsets.numpy(), factors.numpy(), sums
        in_parts(partial(_sum_rows, *arrays), len(sums))
        return torch.from_numpy(sums)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        index, offsets, factors, rows = ctx.saved_tensors
        lists, _, bounds = occurrences(index.numpy(), offsets.numpy(), ctx.count)
        gradient = gradients[0].contiguous()
        if rows is None:
            values = _weighted_sums(gradient.numpy(), factors.numpy(), lists, bounds)
            return values, None, None, None, None
        ctx.table.row_gradient = RowGradient(
            rows, torch.from_numpy(lists), torch.from_numpy(bounds), gradient, factors
        )
        return None, None, None, None, None


@njit(
    "(float32[:, ::1], int64[::1], int64[::1], float32[::1], float32[:, ::1], int64, int64)",
    cache=True,
    nogil=True,
)
def _sum_rows(
    table: np.ndarray,
    index: np.ndarray,
    offsets: np.ndarray,
    factors: np.ndarray,
    sums: np.ndarray,
    start: int,
    end: int,
) -> None:
    """Write the sum of the table rows, times the factor, for each list from start to end."""
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
    """Return the sum of each list's vectors, each times its factor, float32 (lists, size)."""
    sums = np.empty((len(offsets) - 1, vectors.shape[1]), dtype=np.float32)
    in_parts(partial(_sum_lists, vectors, factors, index, offsets, sums), len(sums))
    return torch.from_numpy(sums)


@njit(cache=True, nogil=True)
def weighted_sum(
    vectors: np.ndarray, factors: np.ndarray, chosen: np.ndarray, total: np.ndarray
) -> None:
    """Write the sum of chosen vectors, each times its factor.

    Args:
        vectors: Vectors to sum, float32 (V, size).
        factors: Factor of each vector, float32 (V,).
        chosen: Positions in vectors, int64 (n,).
        total: Array that the sum is written to, float32 (size,).
    """
    total[:] = 0
    for position in chosen:
        vector, factor = vectors[position], factors[position]
        for j in range(len(total)):
            total[j] += factor * vector[j]


@njit(
    "(float32[:, ::1], float32[::1], int64[::1], int64[::1], float32[:, ::1], int64, int64)",
    cache=True,
    nogil=True,
)
def _sum_lists(
    vectors: np.ndarray,
    factors: np.ndarray,
    index: np.ndarray,
    offsets: np.ndarray,
    sums: np.ndarray,
    start: int,
    end: int,
) -> None:
    """Write the weighted sum of the vectors for each list from start to end."""
    for i in range(start, end):
        weighted_sum(vectors, factors, index[offsets[i] : offsets[i + 1]], sums[i])
