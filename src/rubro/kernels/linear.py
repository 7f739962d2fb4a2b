"""Compute matrix products and linear layers with the same bytes for any number of threads.

A product is cut into parts by its shape only, and each part is computed by one thread, because the
threads of OpenBLAS would change the last bits. numpy's OpenBLAS computes the parts: MKL, which torch
calls, takes three times as long if it must use the same code path on every CPU
(MKL_CBWR=COMPATIBLE).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rubro.base.parallel import in_parts
from rubro.kernels.dropout import dropout

_MAXIMUM_PARTS = 8
_MINIMUM_SIZE = 128  # rows or columns of a part: OpenBLAS rearranges the other matrix for each part


def _multiply(*pairs: tuple[Tensor, Tensor]) -> list[Tensor]:
    """Return the float32 product of each pair of matrices, computed in parts by all threads."""
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    results = [torch.empty(len(left), right.shape[1]) for left, right in pairs]
    for pair, result in zip(pairs, results, strict=True):
        left, right, out = (matrix.detach().numpy() for matrix in (*pair, result))
        longer = max(out.shape)
        count = min(max(longer // _MINIMUM_SIZE, 1), _MAXIMUM_PARTS)
        for i in range(count):
            own = slice(longer * i // count, longer * (i + 1) // count)
            if out.shape[0] > out.shape[1]:
                parts.append((left[own], right, out[own]))
            else:
                parts.append((left, right[:, own], out[:, own]))

    def compute(start: int, end: int) -> None:
        for left, right, out in parts[start:end]:
            np.matmul(left, right, out=out)

    in_parts(compute, len(parts))
    return results


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, values: Tensor, weight: Tensor, bias: Tensor | None, is_hidden: bool
    ) -> Tensor:
        ctx.save_for_backward(values, weight)
        ctx.is_hidden = is_hidden
        (result,) = _multiply((values, weight.T))
        return result if bias is None else result.add_(bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        values, weight = ctx.saved_tensors
        gradient, needed = gradients[0], ctx.needs_input_grad
        pairs = []
        if needed[0]:
            pairs.append((gradient, weight))
        if needed[1]:
            pairs.append((gradient.T, values))
        products = iter(_multiply(*pairs))
        values_gradient, weight_gradient = (next(products) if need else None for need in needed[:2])
        if not needed[2]:
            return values_gradient, weight_gradient, None, None
        sums = torch.from_numpy(gradient.numpy().sum(0)) if ctx.is_hidden else gradient.sum(0)
        return values_gradient, weight_gradient, sums, None


def linear(
    values: Tensor, weight: Tensor, bias: Tensor | None = None, is_hidden: bool = False
) -> Tensor:
    """Return values times the transposed weight, plus the bias, float32 (n, outputs).

    Args:
        values: Input values of the layer, float32 (n, inputs).
        weight: Weights of the layer, float32 (outputs, inputs).
        bias: Bias of each output, float32 (outputs,); None = no bias.
        is_hidden: Whether to sum the gradient of the bias row by row, not in blocks as torch does.
            The last bits of trained models depend on it.
    """
    if values.device.type != "cpu":
        return F.linear(values, weight, bias)
    result: Tensor = _Linear.apply(values, weight, bias, is_hidden)  # type: ignore[no-untyped-call]
    return result


class Linear(nn.Linear):
    """Linear layer that gives the same bytes for any number of threads."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the outputs, float32 (n, outputs), for input values, float32 (n, inputs)."""
        return linear(input, self.weight, self.bias)

    def hidden(self, values: Tensor, dropout_rate: float) -> Tensor:
        """Return the outputs after ReLU and dropout, float32 (n, outputs).

        Args:
            values: Input values of the layer, float32 (n, inputs).
            dropout_rate: Share of the outputs that is set to zero.
        """
        outputs = linear(values, self.weight, self.bias, is_hidden=True)
        return dropout(F.relu(outputs), dropout_rate)
