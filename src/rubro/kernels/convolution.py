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

from rubro.base.parallel import in_parts


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
        of_parts = np.empty(ctx.shape, dtype=np.float32)
        read = gradient, places, *_occurrences(tokens, lengths, len(of_parts)), ctx.spans
        in_parts(lambda start, end: _add_gradients(*read, of_parts, start, end), len(of_parts))
        of_bias = torch.from_numpy(_of_bias(gradient, places))
        return torch.from_numpy(of_parts), of_bias, None, None, None


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
def _occurrences(
    tokens: np.ndarray, lengths: np.ndarray, distinct: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return title and position of each occurrence, token by token, and the tokens' bounds there."""
    bounds = np.zeros(distinct + 1, dtype=np.int64)
    for title in range(len(tokens)):
        for position in range(lengths[title]):
            bounds[tokens[title, position] + 1] += 1
    for token in range(distinct):
        bounds[token + 1] += bounds[token]
    titles = np.empty(bounds[-1], dtype=np.int64)
    positions, at = np.empty_like(titles), bounds.copy()
    for title in range(len(tokens)):
        for position in range(lengths[title]):
            token = tokens[title, position]
            titles[at[token]], positions[at[token]] = title, position
            at[token] += 1
    return titles, positions, bounds


@njit(cache=True, nogil=True)
def _add_gradients(
    gradient: np.ndarray,
    places: np.ndarray,
    titles: np.ndarray,
    positions: np.ndarray,
    bounds: np.ndarray,
    spans: np.ndarray,
    of_parts: np.ndarray,
    start: int,
    end: int,
) -> None:
    """Add up the gradients of the maxima that the tokens from start to end are part of."""
    width = gradient.shape[1] // len(spans)
    for token in range(start, end):
        of_parts[token, :] = 0
        for k in range(bounds[token], bounds[token + 1]):
            title, first = titles[k], 0
            for number in range(len(spans)):
                own = gradient[title, number * width : (number + 1) * width]
                place = places[title, number * width : (number + 1) * width]
                for i in range(min(spans[number], positions[k] + 1)):
                    window = np.int32(positions[k] - i)
                    total = of_parts[token, first + i * width : first + (i + 1) * width]
                    for j in range(width):
                        total[j] += own[j] if place[j] == window else np.float32(0)
                first += spans[number] * width


@njit(cache=True, nogil=True)
def _of_bias(gradient: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return the gradient of the bias of each filter: of its maxima that are not 0."""
    total = np.zeros(gradient.shape[1], dtype=np.float32)
    for title in range(len(gradient)):
        own, place = gradient[title], places[title]
        for j in range(len(total)):
            total[j] += own[j] if place[j] >= 0 else np.float32(0)
    return total
