"""Matrix products with the same last bits on every x86-64 CPU.

Neither do they depend on the number of threads: a product is cut into parts by its shape alone, and
each part is computed on one thread. OpenBLAS' own threads would change the last bits.

MKL, which torch calls, chooses its code by the maker of the CPU; its own way to one code path
(MKL_CBWR=COMPATIBLE) takes three times as long. numpy's OpenBLAS takes one path where
OPENBLAS_CORETYPE names it, and is as fast as MKL.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rubro.base.threads import in_parts

_MOST_PARTS = 8
_LEAST = 32  # rows or columns of a part


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(values, weight)
        return _numpy_product(values, weight.T)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None]:
        (gradient,) = gradients
        values, weight = ctx.saved_tensors
        wanted_values, wanted_weight = ctx.needs_input_grad
        return (
            _numpy_product(gradient, weight) if wanted_values else None,
            _numpy_product(gradient.T, values) if wanted_weight else None,
        )


def _numpy_product(a: Tensor, b: Tensor) -> Tensor:
    left, right = a.detach().numpy(), b.detach().numpy()
    rows, columns = len(left), right.shape[1]
    result = np.empty((rows, columns), dtype=np.float32)
    longer = max(rows, columns)
    parts = min(max(longer // _LEAST, 1), _MOST_PARTS)

    def multiply(first: int, end: int) -> None:
        for part in range(first, end):
            own = slice(longer * part // parts, longer * (part + 1) // parts)
            if rows > columns:
                np.matmul(left[own], right, out=result[own])
            else:
                np.matmul(left, right[:, own], out=result[:, own])

    in_parts(multiply, parts)
    return torch.from_numpy(result)


def product(values: Tensor, weight: Tensor) -> Tensor:
    """Return values times the transposed weight, (n, outputs).

    Args:
        values: float32 (n, inputs).
        weight: float32 (outputs, inputs).
    """
    if values.device.type == "cpu":
        result: Tensor = _Product.apply(values, weight)  # type: ignore[no-untyped-call]
        return result
    return F.linear(values, weight)


class Linear(nn.Linear):
    """A linear layer."""

    def forward(self, input: Tensor) -> Tensor:
        """Return float32 (n, outputs), from float32 (n, inputs)."""
        return product(input, self.weight) + self.bias
