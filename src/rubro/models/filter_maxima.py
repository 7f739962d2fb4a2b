"""The maximum of each filter over a title, compiled for a CPU.

Of a filter only its greatest value is kept, and only its gradient is computed. Operations and their
order are fixed, and nothing is reassociated: the bytes are the same on every CPU and for any number
of threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor

from rubro.base.threads import in_parts


class FilterMaxima(torch.autograd.Function):
    """Maxima of filters over neighbouring tokens, at least 0; see models.cnn.Cnn."""

    @staticmethod
    def forward(
        ctx: Any, parts: Tensor, bias: Tensor, tokens: Tensor, lengths: Tensor, sizes: list[int]
    ) -> Tensor:
        """Return the maxima, float32 (B, filters of all sizes).

        Args:
            ctx: Context of the gradient.
            parts: Products of each distinct token and each token of each filter, size by size,
                float32 (U, sum of sizes * filters of a size).
            bias: Bias of each filter, size by size, float32 (filters of all sizes,).
            tokens: Positions among the distinct tokens, int64 (B, L).
            lengths: Number of tokens of each title, int64 (B,).
            sizes: Number of tokens that the filters of each size span.
        """
        spans = np.array(sizes)
        maxima = np.zeros((len(tokens), len(bias)), dtype=np.float32)
        places = np.full((len(tokens), len(bias)), -1, dtype=np.int32)
        read = (
            parts.detach().numpy(),
            bias.detach().numpy(),
            tokens.numpy(),
            lengths.numpy(),
            spans,
        )
        in_parts(lambda start, end: _maxima(*read, maxima, places, start, end), len(tokens))
        ctx.shape, ctx.spans = parts.shape, spans
        ctx.save_for_backward(tokens, lengths, torch.from_numpy(places))
        return torch.from_numpy(maxima)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of parts and bias."""
        tokens, lengths, places = (saved.numpy() for saved in ctx.saved_tensors)
        gradient = gradients[0].contiguous().numpy()
        of_parts = np.zeros(ctx.shape, dtype=np.float32)
        of_bias = np.zeros(gradient.shape[1], dtype=np.float32)
        read = gradient, places, tokens, lengths, ctx.spans
        width = len(of_bias) // len(ctx.spans)
        in_parts(lambda start, end: _spread(*read, of_parts, of_bias, start, end), width)
        return torch.from_numpy(of_parts), torch.from_numpy(of_bias), None, None, None


@njit(cache=True, nogil=True)
def _maxima(
    parts: np.ndarray,
    bias: np.ndarray,
    tokens: np.ndarray,
    lengths: np.ndarray,
    spans: np.ndarray,
    maxima: np.ndarray,
    places: np.ndarray,
    start: int,
    end: int,
) -> None:
    """Find the maxima of the titles from start to end, from zeros, and the position of each."""
    width = len(bias) // len(spans)
    window = np.empty(width, dtype=np.float32)
    for title in range(start, end):
        first = 0
        for number in range(len(spans)):
            best = maxima[title, number * width : (number + 1) * width]
            place = places[title, number * width : (number + 1) * width]
            window_bias = bias[number * width : (number + 1) * width]
            for position in range(lengths[title]):
                window[:] = window_bias
                for i in range(min(spans[number], lengths[title] - position)):
                    at = first + i * width
                    part = parts[tokens[title, position + i], at : at + width]
                    for j in range(width):
                        window[j] += part[j]
                for j in range(width):
                    if window[j] > best[j]:
                        best[j] = window[j]
                        place[j] = position
            first += spans[number] * width


@njit(cache=True, nogil=True)
def _spread(
    gradient: np.ndarray,
    places: np.ndarray,
    tokens: np.ndarray,
    lengths: np.ndarray,
    spans: np.ndarray,
    of_parts: np.ndarray,
    of_bias: np.ndarray,
    start: int,
    end: int,
) -> None:
    """Add the gradient of each maximum to what it was made of: filters start to end of each size."""
    width = len(of_bias) // len(spans)
    for title in range(len(tokens)):
        first = 0
        for number in range(len(spans)):
            for j in range(start, end):
                position = places[title, number * width + j]
                if position < 0:
                    continue
                own = gradient[title, number * width + j]
                of_bias[number * width + j] += own
                for i in range(min(spans[number], lengths[title] - position)):
                    of_parts[tokens[title, position + i], first + i * width + j] += own
            first += spans[number] * width
