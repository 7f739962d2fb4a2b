"""Batches of titles, gathered from features in memory."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch

from rubro.features.featurizer import Tokens
from rubro.features.ragged import Ragged
from rubro.features.titles import LabelledTitles

# Number of batches in a shuffled chunk. Titles of a chunk are sorted by length: batches have little
# padding, and titles still have other neighbours in each epoch.
_CHUNK = 20


class Batch(NamedTuple):
    """B titles of at most L tokens, with U distinct tokens made of R distinct embedding rows.

    Attributes:
        rows: Distinct rows of the embedding table, int64 (R,).
        row_index: Positions in rows, int64 (N,), token by token.
        row_offsets: Start of each token in row_index, int64 (U,).
        row_counts: Number of rows of each token, int64 (U,).
        token_weights: Relative inverse document frequency of each token, float32 (U,).
        token_index: Positions among the distinct tokens, int64 (T,), title by title.
        token_offsets: Start of each title in token_index, int64 (B,).
        tokens: Positions among the distinct tokens, int64 (B, L); U after a title's end.
        lengths: Number of tokens of each title, int64 (B,).
        bigrams: Distinct bigram buckets, int64 (P,).
        bigram_index: Positions in bigrams, int64 (M,), title by title.
        bigram_offsets: Start of each title in bigram_index, int64 (B,).
        bigram_counts: Number of bigrams of each title, int64 (B,).
        targets: Class indices, int64 (B,).
        weights: Weight of each title in the loss, float32 (B,).
    """

    rows: torch.Tensor
    row_index: torch.Tensor
    row_offsets: torch.Tensor
    row_counts: torch.Tensor
    token_weights: torch.Tensor
    token_index: torch.Tensor
    token_offsets: torch.Tensor
    tokens: torch.Tensor
    lengths: torch.Tensor
    bigrams: torch.Tensor
    bigram_index: torch.Tensor
    bigram_offsets: torch.Tensor
    bigram_counts: torch.Tensor
    targets: torch.Tensor
    weights: torch.Tensor


def gather(
    titles: LabelledTitles,
    distinct_tokens: Tokens,
    indices: np.ndarray,
    weights: np.ndarray,
    row_dropout: float = 0.0,
    random: np.random.Generator | None = None,
) -> Batch:
    """Gather titles into a batch.

    Args:
        titles: Titles of a split.
        distinct_tokens: Distinct tokens of all splits.
        indices: Positions of the titles to gather, int64 (B,).
        weights: Weight of every title of the split, float32 (titles,).
        row_dropout: Share of the rows of each token, and of the bigrams of each title, discarded
            at random.
        random: Source of the dropout; None = no dropout.
    """
    from rubro.kernels.ragged_lists import distinct_of  # compiled when first called

    features = titles.features
    tokens, bigrams = _taken(features.tokens, indices), _taken(features.bigrams, indices)
    distinct, token_index = distinct_of(tokens.values)
    rows = _taken(distinct_tokens, distinct)
    if random is not None and row_dropout:
        bigrams, rows = _thinned(bigrams, row_dropout, random), _thinned(rows, row_dropout, random)
    distinct_rows, row_index = distinct_of(rows.values)
    distinct_bigrams, bigram_index = distinct_of(bigrams.values)
    lengths = tokens.lengths
    padded = np.full((len(indices), max(int(lengths.max(initial=0)), 1)), len(distinct))
    padded[np.arange(padded.shape[1]) < lengths[:, None]] = token_index
    return Batch(
        rows=_int64(distinct_rows),
        row_index=_int64(row_index),
        row_offsets=_int64(rows.offsets[:-1]),
        row_counts=_int64(rows.lengths),
        token_weights=torch.from_numpy(distinct_tokens.weights[distinct]),
        token_index=_int64(token_index),
        token_offsets=_int64(tokens.offsets[:-1]),
        tokens=_int64(padded),
        lengths=_int64(lengths),
        bigrams=_int64(distinct_bigrams),
        bigram_index=_int64(bigram_index),
        bigram_offsets=_int64(bigrams.offsets[:-1]),
        bigram_counts=_int64(bigrams.lengths),
        targets=_int64(titles.labels.targets[indices]),
        weights=torch.from_numpy(weights[indices]),
    )


class Batches:
    """The batches of one pass over a split.

    Args:
        titles: Titles of the split.
        distinct_tokens: Distinct tokens of all splits.
        batch_size: Number of titles in a batch.
        weights: Weight of each title, float32 (titles,); 0 = left out; None = 1 for all.
        row_dropout: Share of the rows of each token, and of the bigrams of each title, discarded
            at random; none without a seed.
        seed: Seed of the order of the titles and of the dropout; None = the order of the split.
        share: Numbers i, from 0, and n: of each batch, every n-th title from the i-th on. A batch
            of fewer than n titles is not divided.
    """

    def __init__(
        self,
        titles: LabelledTitles,
        distinct_tokens: Tokens,
        batch_size: int,
        weights: np.ndarray | None = None,
        row_dropout: float = 0.0,
        seed: tuple[int, ...] | None = None,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        self._all = titles
        self._distinct_tokens = distinct_tokens
        self._batch_size = batch_size
        self._weights = np.ones(len(titles), np.float32) if weights is None else weights
        self._titles = np.flatnonzero(self._weights)
        self._row_dropout = row_dropout
        self._seed = seed
        self._share = share

    def __len__(self) -> int:
        return math.ceil(len(self._titles) / self._batch_size)

    def __iter__(self) -> Iterator[Batch]:
        if self._seed is None:
            random, chunks = None, cut(self._titles, self._batch_size)
        else:
            random = np.random.default_rng(self._seed)
            chunks = self._shuffled(random)
        first, step = self._share
        shares = (chunk[first::step] if len(chunk) >= step else chunk for chunk in chunks)
        given = self._weights, self._row_dropout, random
        yield from (gather(self._all, self._distinct_tokens, each, *given) for each in shares)

    def _shuffled(self, random: np.random.Generator) -> list[np.ndarray]:
        lengths = self._all.features.tokens.lengths
        batches: list[np.ndarray] = []
        for chunk in cut(random.permutation(self._titles), self._batch_size * _CHUNK):
            by_length = chunk[np.argsort(lengths[chunk], kind="stable")]
            batches.extend(cut(by_length, self._batch_size))
        return [batches[position] for position in random.permutation(len(batches))]


def cut(values: np.ndarray, size: int) -> list[np.ndarray]:
    """Return consecutive parts of an array of the given size; the last may be shorter."""
    return [values[start : start + size] for start in range(0, len(values), size)]


def _taken(lists: Ragged, indices: np.ndarray) -> Ragged:
    from rubro.kernels.ragged_lists import taken  # compiled when first called

    return Ragged(*taken(lists.values, lists.offsets, indices))


def _thinned(lists: Ragged, share: float, random: np.random.Generator) -> Ragged:
    from rubro.kernels.ragged_lists import kept_of  # compiled when first called

    draws = random.random(len(lists.values), dtype=np.float32)
    return Ragged(*kept_of(lists.values, lists.offsets, draws, np.float32(share)))


def _int64(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(values.astype(np.int64, copy=False))
