"""Batches of titles, gathered from features in memory."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch

from rubro.features.titles import TitleFeatures, Tokens

# Batches are cut from shuffled chunks of this many batches, sorted by length: little padding,
# and still other neighbours in each epoch.
_CHUNK = 20


class Batch(NamedTuple):
    """B titles of at most L tokens, with U distinct tokens made of R distinct embedding rows.

    Attributes:
        rows: int64 (R,), rows of the embedding table.
        row_index: int64 (N,), positions in rows; those of one token stand together.
        row_offsets: int64 (U,), where each token starts in row_index.
        row_counts: int64 (U,), rows of each token.
        token_weights: float32 (U,), how much each token says.
        tokens: int64 (B, L), positions among the distinct tokens; U where a title has ended.
        lengths: int64 (B,), tokens of each title.
        bigrams: int64 (P,), distinct bigram buckets.
        bigram_index: int64 (M,), positions in bigrams; those of one title stand together.
        bigram_offsets: int64 (B,), where each title starts in bigram_index.
        bigram_counts: int64 (B,), bigrams of each title.
        targets: int64 (B,), class indices.
        weights: float32 (B,), weight of each title in the loss.
    """

    rows: torch.Tensor
    row_index: torch.Tensor
    row_offsets: torch.Tensor
    row_counts: torch.Tensor
    token_weights: torch.Tensor
    tokens: torch.Tensor
    lengths: torch.Tensor
    bigrams: torch.Tensor
    bigram_index: torch.Tensor
    bigram_offsets: torch.Tensor
    bigram_counts: torch.Tensor
    targets: torch.Tensor
    weights: torch.Tensor


def gather(
    features: TitleFeatures,
    distinct_tokens: Tokens,
    indices: np.ndarray,
    weights: np.ndarray,
) -> Batch:
    """Gather titles into a batch.

    Args:
        features: of a split.
        distinct_tokens: of the features.
        indices: which titles, int64 (B,).
        weights: of every title of the split, float32.

    Returns:
        The batch.
    """
    tokens, bigrams = features.tokens.take(indices), features.bigrams.take(indices)
    distinct, token_index = np.unique(tokens.values, return_inverse=True)
    rows = distinct_tokens.take(distinct)
    distinct_rows, row_index = np.unique(rows.values, return_inverse=True)
    distinct_bigrams, bigram_index = np.unique(bigrams.values, return_inverse=True)
    lengths = tokens.lengths
    padded = np.full((len(indices), max(int(lengths.max(initial=0)), 1)), len(distinct))
    padded[np.arange(padded.shape[1]) < lengths[:, None]] = token_index
    return Batch(
        rows=_int64(distinct_rows),
        row_index=_int64(row_index),
        row_offsets=_int64(rows.offsets[:-1]),
        row_counts=_int64(rows.lengths),
        token_weights=torch.from_numpy(distinct_tokens.weights[distinct]),
        tokens=_int64(padded),
        lengths=_int64(lengths),
        bigrams=_int64(distinct_bigrams),
        bigram_index=_int64(bigram_index),
        bigram_offsets=_int64(bigrams.offsets[:-1]),
        bigram_counts=_int64(bigrams.lengths),
        targets=_int64(features.targets[indices]),
        weights=torch.from_numpy(weights[indices]),
    )


class Batches:
    """The batches of one pass over a split.

    Args:
        features: of the split.
        distinct_tokens: of the features.
        batch_size: titles a batch.
        weights: float32 (titles,); titles of weight 0 are left out. None = all ones.
        seed: of their order; None = the order of the split.
        share: i of n: of each batch, every n-th title from the i-th, i from 0. A batch of fewer
            than n titles is not shared out.
    """

    def __init__(
        self,
        features: TitleFeatures,
        distinct_tokens: Tokens,
        batch_size: int,
        weights: np.ndarray | None = None,
        seed: tuple[int, ...] | None = None,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        self._features = features
        self._distinct_tokens = distinct_tokens
        self._batch_size = batch_size
        self._weights = np.ones(len(features), np.float32) if weights is None else weights
        self._titles = np.flatnonzero(self._weights)
        self._seed = seed
        self._share = share

    def __len__(self) -> int:
        return math.ceil(len(self._titles) / self._batch_size)

    def __iter__(self) -> Iterator[Batch]:
        if self._seed is None:
            chunks = cut(self._titles, self._batch_size)
        else:
            chunks = self._shuffled(np.random.default_rng(self._seed))
        first, step = self._share
        for chunk in chunks:
            titles = chunk[first::step] if len(chunk) >= step else chunk
            yield gather(self._features, self._distinct_tokens, titles, self._weights)

    def _shuffled(self, random: np.random.Generator) -> list[np.ndarray]:
        lengths = self._features.tokens.lengths
        batches: list[np.ndarray] = []
        for chunk in cut(random.permutation(self._titles), self._batch_size * _CHUNK):
            by_length = chunk[np.argsort(lengths[chunk], kind="stable")]
            batches.extend(cut(by_length, self._batch_size))
        return [batches[position] for position in random.permutation(len(batches))]


def cut(values: np.ndarray, size: int) -> list[np.ndarray]:
    """Parts of an array, each of so many values; the last may have fewer."""
    return [values[start : start + size] for start in range(0, len(values), size)]


def _int64(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(values.astype(np.int64, copy=False))
