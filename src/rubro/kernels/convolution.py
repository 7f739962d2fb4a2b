"""Compute the maximum output of each convolution filter over the tokens of a title."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor

from rubro.base.parallel import in_parts
from rubro.kernels.occurrences import occurrences


class FilterMaxima(torch.autograd.Function):
    """Autograd function of the maximum output of each filter in a title, at least 0.

    Only the maximum output of a filter is kept and gets a gradient (see models.cnn.Cnn).
    """

    @staticmethod
    def forward(
        ctx: Any, products: Tensor, bias: Tensor, index: Tensor, offsets: Tensor, sizes: list[int]
    ) -> Tensor:
        """Return each filter's maximum output in each title, float32 (B, filters of all sizes).

        Args:
            ctx: Context that stores values for the gradient.
            products: Product of each distinct token's vector with each token position of each
                filter, size by size, float32 (U, sum of sizes * filters of a size).
            bias: Bias of each filter, size by size, float32 (filters of all sizes,).
            index: Positions among the distinct tokens, int64 (T,), title by title.
            offsets: Bounds of the titles in index, int64 (B + 1,).
            sizes: Number of tokens that the filters of each size span.
        """
        titles = len(offsets) - 1
        ctx.shape, ctx.spans = products.shape, np.array(sizes)
        maxima = np.zeros((titles, len(bias)), dtype=np.float32)
        places = np.full((titles, len(bias)), -1, dtype=np.int32)
        inputs = (tensor.detach().numpy() for tensor in (products, bias, index, offsets))
        arrays: Any = [*inputs, ctx.spans, maxima, places]
        in_parts(partial(_find_maxima, *arrays), titles)
        ctx.save_for_backward(index, offsets, torch.from_numpy(places))
        return torch.from_numpy(maxima)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of products and bias, and None for the other arguments."""
        index, offsets, places = (saved.numpy() for saved in ctx.saved_tensors)
        gradient = gradients[0].contiguous().numpy()
        products_gradient = np.empty(ctx.shape, dtype=np.float32)
        arrays = gradient, places, *occurrences(index, offsets, len(products_gradient)), ctx.spans
        in_parts(partial(_sum_gradients, *arrays, products_gradient), len(products_gradient))
        bias_gradient = np.where(places >= 0, gradient, np.float32(0)).sum(0)
        return *map(torch.from_numpy, (products_gradient, bias_gradient)), None, None, None


@njit(
    "(float32[:, ::1], float32[::1], int64[::1], int64[::1], int64[::1], float32[:, ::1], "
    "int32[:, ::1], int64, int64)",
    cache=True,
    nogil=True,
)
def _find_maxima(
    products: np.ndarray,
    bias: np.ndarray,
    index: np.ndarray,
    offsets: np.ndarray,
    spans: np.ndarray,
    maxima: np.ndarray,
    places: np.ndarray,
    start: int,
    end: int,
) -> None:
    """Write the maximum output and its position for each filter and title from start to end."""
    width = len(bias) // len(spans)
    window = np.empty(width, dtype=np.float32)
    for title in range(start, end):
        tokens = index[offsets[title] : offsets[title + 1]]
        first = 0
        for number in range(len(spans)):
            best = maxima[title, number * width : (number + 1) * width]
            place = places[title, number * width : (number + 1) * width]
            window_bias = bias[number * width : (number + 1) * width]
            for position in range(len(tokens)):
                window[:] = window_bias
                for i in range(min(spans[number], len(tokens) - position)):
                    column = first + i * width
                    summand = products[tokens[position + i], column : column + width]
                    for j in range(width):
                        window[j] += summand[j]
                for j in range(width):
                    if window[j] > best[j]:
                        best[j] = window[j]
                        place[j] = position
            first += spans[number] * width


@njit(
    "(float32[:, ::1], int32[:, ::1], int64[::1], int64[::1], int64[::1], int64[::1], "
    "float32[:, ::1], int64, int64)",
    cache=True,
    nogil=True,
)
def _sum_gradients(
    gradient: np.ndarray,
    places: np.ndarray,
    titles: np.ndarray,
    positions: np.ndarray,
    bounds: np.ndarray,
    spans: np.ndarray,
    products_gradient: np.ndarray,
    start: int,
    end: int,
) -> None:
    """Sum the gradients of the token-filter products over all places of a token.

    Only the tokens from index start up to end are summed; results go to products_gradient.
    """
    width = gradient.shape[1] // len(spans)
    for token in range(start, end):
        products_gradient[token, :] = 0
        for k in range(bounds[token], bounds[token + 1]):
            title, first = titles[k], 0
            for number in range(len(spans)):
                own = gradient[title, number * width : (number + 1) * width]
                place = places[title, number * width : (number + 1) * width]
                for i in range(min(spans[number], positions[k] + 1)):
                    window = np.int32(positions[k] - i)
                    total = products_gradient[token, first + i * width : first + (i + 1) * width]
                    for j in range(width):
                        total[j] += own[j] if place[j] == window else np.float32(0)
                first += spans[number] * width
