"""Matrix products and dense layers with the same last bits on every x86-64 CPU.

Neither do they depend on the number of threads: a product is cut into parts by its shape alone, and
each part is computed on one thread. OpenBLAS' own threads would change the last bits.

MKL, which torch calls, chooses its code by the maker of the CPU; its own way to one code path
(MKL_CBWR=COMPATIBLE) takes three times as long. numpy's OpenBLAS takes one path where
OPENBLAS_CORETYPE names it, and is as fast as MKL.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rubro.base.parallel import in_parts

_MOST_PARTS = 8
_LEAST = 128  # rows or columns of a part: OpenBLAS rearranges the other matrix for each part
_DRAWS = 2**16  # number of values of a random draw
_DRAWS_OF_RAW = 4  # 16-bit draws in the 64 bits of a raw number


class _Cut:
    """A product of two matrices, cut into parts.

    Args:
        left: float32 (rows, n).
        right: float32 (n, columns).
        finish: Function of the result and of a part's first row, end row, first column and end
            column; it is called when the part is computed, while it is in the CPU's cache.
    """

    def __init__(
        self, left: Tensor, right: Tensor, finish: Callable[..., object] | None = None
    ) -> None:
        self._left, self._right = left.detach().numpy(), right.detach().numpy()
        self._finish = finish
        self._shape = len(left), right.shape[1]
        self.result = np.empty(self._shape, dtype=np.float32)
        self.parts = min(max(max(self._shape) // _LEAST, 1), _MOST_PARTS)

    def compute(self, part: int) -> None:
        rows, columns = self._shape
        longer = max(rows, columns)
        first, end = longer * part // self.parts, longer * (part + 1) // self.parts
        if rows > columns:
            np.matmul(self._left[first:end], self._right, out=self.result[first:end])
            where = first, end, 0, columns
        else:
            own = slice(first, end)
            np.matmul(self._left, self._right[:, own], out=self.result[:, own])
            where = 0, rows, first, end
        if self._finish is not None:
            self._finish(self.result, *where)


def _computed(*products: _Cut) -> list[Tensor]:
    """Compute products side by side."""
    parts = sorted(
        ((part, number) for number, each in enumerate(products) for part in range(each.parts))
    )

    def compute(first: int, end: int) -> None:
        for part, number in parts[first:end]:
            products[number].compute(part)

    in_parts(compute, len(parts))
    return [torch.from_numpy(each.result) for each in products]


def _gradients(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """Return the gradients of both factors of a product, where they are wanted."""
    values, weight = ctx.saved_tensors[:2]
    wanted = ctx.needs_input_grad[:2]
    products = (gradient, weight), (gradient.T, values)
    computed = iter(
        _computed(*(_Cut(*each) for each, of in zip(products, wanted, strict=True) if of))
    )
    of_values, of_weight = (next(computed) if of else None for of in wanted)
    return of_values, of_weight


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(values, weight)
        return _computed(_Cut(values, weight.T))[0]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return _gradients(ctx, gradients[0])


class _Affine(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(values, weight)
        add = partial(_add_bias, bias.detach().numpy())
        return _computed(_Cut(values, weight.T, add))[0]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return *_gradients(ctx, gradients[0]), gradients[0].sum(0)


def _add_bias(
    bias: np.ndarray, result: np.ndarray, first_row: int, end_row: int, first: int, end: int
) -> None:
    result[first_row:end_row, first:end] += bias[first:end]


class _Hidden(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, weight: Tensor, bias: Tensor, dropout: float) -> Tensor:
        from rubro.kernels.activation import activate  # compiled when first called

        draws, least, factor = _drawn((len(values), len(weight)), dropout)
        read = bias.detach().numpy(), draws, least, factor
        (result,) = _computed(
            _Cut(values, weight.T, lambda result, *where: activate(result, *read, *where))
        )
        ctx.save_for_backward(values, weight, result)
        ctx.factor = factor
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        from rubro.kernels.activation import gradient_before  # compiled when first called

        *_, result = ctx.saved_tensors
        gradient = gradients[0].contiguous().numpy()
        before, of_bias = gradient_before(gradient, result.numpy(), ctx.factor)
        return *_gradients(ctx, torch.from_numpy(before)), torch.from_numpy(of_bias), None


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
        if input.device.type != "cpu":
            return super().forward(input)
        result: Tensor = _Affine.apply(input, self.weight, self.bias)  # type: ignore[no-untyped-call]
        return result

    def hidden(self, values: Tensor, dropout: float) -> Tensor:
        """Return the outputs after ReLU and dropout, float32 (n, outputs).

        Args:
            values: float32 (n, inputs).
            dropout: Share of the outputs that is set to zero.
        """
        if values.device.type != "cpu":
            return F.dropout(F.relu(self(values)), dropout)
        result: Tensor = _Hidden.apply(values, self.weight, self.bias, dropout)  # type: ignore[no-untyped-call]
        return result


def without_some(values: Tensor, dropout: float) -> Tensor:
    """Return values after dropout: a share of them is zero, the others are greater by a factor.

    Args:
        values: float32 (n, size).
        dropout: Share.
    """
    if not dropout or values.device.type != "cpu":
        return F.dropout(values, dropout)
    draws, least, factor = _drawn(values.shape, dropout)
    return values * torch.from_numpy((draws >= least) * factor)


def _drawn(shape: tuple[int, ...], dropout: float) -> tuple[np.ndarray, np.uint16, np.float32]:
    """Return random draws, the least draw of a value that is kept, and the factor of such values.

    F.dropout draws more slowly on a CPU, one number after another.
    """
    least = min(round(dropout * _DRAWS), _DRAWS - 1)
    factor = np.float32(_DRAWS / (_DRAWS - least))
    if not least:
        return np.zeros(shape, np.uint16), np.uint16(0), factor
    number = math.prod(shape)
    raw = np.random.SFC64(int(torch.randint(2**62, ()))).random_raw(-(-number // _DRAWS_OF_RAW))
    draws = raw.view(np.uint16)[:number]
    return draws.reshape(shape), np.uint16(least), factor
