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

# Number of batches in a shuffled chunk. The titles of a chunk are sorted by length, so that batches
# have little padding, and titles still meet other titles in each epoch.
_CHUNK = 20


class Batch(NamedTuple):
    """Batch of B titles with U distinct tokens and R distinct embedding rows.

    Each title has C columns: the title itself and its further columns. A text is one column of a
    title, so there are B * C texts of at most L tokens. The texts of a title are consecutive.

    Attributes:
        rows: Distinct rows of the embedding table, int64 (R,).
        row_index: Positions in rows of the rows of each token, int64 (N,), token by token.
        row_offsets: Bounds of the tokens in row_index, int64 (U + 1,).
        token_weights: Relative inverse document frequency of each token, float32 (U,).
        token_index: Positions among the distinct tokens, int64 (T,), text by text.
        token_offsets: Bounds of the texts in token_index, int64 (B * C + 1,).
        tokens: Positions among the distinct tokens, int64 (B * C, L), padded with U.
        lengths: Number of tokens of each text, int64 (B * C,).
        bigrams: Distinct hash buckets of bigrams, int64 (P,).
        bigram_index: Positions in bigrams, int64 (M,), text by text.
        bigram_offsets: Bounds of the texts in bigram_index, int64 (B * C + 1,).
        targets: Class indices, int64 (B,).
        weights: Weight of each title in the loss, float32 (B,).
    """

    rows: torch.Tensor
    row_index: torch.Tensor
    row_offsets: torch.Tensor
    token_weights: torch.Tensor
    token_index: torch.Tensor
    token_offsets: torch.Tensor
    tokens: torch.Tensor
    lengths: torch.Tensor
    bigrams: torch.Tensor
    bigram_index: torch.Tensor
    bigram_offsets: torch.Tensor
    targets: torch.Tensor
    weights: torch.Tensor


def gather(
    titles: LabelledTitles,
    distinct_tokens: Tokens,
    indices: np.ndarray,
    weights: np.ndarray,
    row_dropout: float = 0.0,
    random: np.random.Generator | None = None,
    column_dropout: float = 0.0,
) -> Batch:
    """Build a batch from the titles at the given positions in a split.

    Args:
        titles: Titles of a split.
        distinct_tokens: Distinct tokens of all splits.
        indices: Positions of the titles to gather, int64 (B,).
        weights: Weight of every title of the split, float32 (titles,).
        row_dropout: Share of the rows of each token, and of the bigrams of each title, to discard
            at random.
        random: Random generator of the dropout; None = no dropout.
        column_dropout: Share of the titles whose further columns are left out at random.
    """
    features = titles.features.take(indices)
    if random is not None and column_dropout and features.columns > 1:
        hidden = random.random(len(features), dtype=np.float32) < np.float32(column_dropout)
        features = features.without_columns(hidden)
    tokens, bigrams = features.tokens, features.bigrams
    distinct, token_index = _distinct(tokens.values)
    rows = distinct_tokens.take(distinct)
    if random is not None and row_dropout:
        bigrams = _discard_values(bigrams, row_dropout, random)
        rows = _discard_values(rows, row_dropout, random)
    distinct_rows, row_index = _distinct(rows.values)
    distinct_bigrams, bigram_index = _distinct(bigrams.values)
    lengths = tokens.lengths
    padded = np.full((len(lengths), max(int(lengths.max(initial=0)), 1)), len(distinct))
    padded[np.arange(padded.shape[1]) < lengths[:, None]] = token_index
    return Batch(
        rows=_int64(distinct_rows),
        row_index=_int64(row_index),
        row_offsets=_int64(rows.offsets),
        token_weights=torch.from_numpy(distinct_tokens.weights[distinct]),
        token_index=_int64(token_index),
        token_offsets=_int64(tokens.offsets),
        tokens=_int64(padded),
        lengths=_int64(lengths),
        bigrams=_int64(distinct_bigrams),
        bigram_index=_int64(bigram_index),
        bigram_offsets=_int64(bigrams.offsets),
        targets=_int64(titles.labels.targets[indices]),
        weights=torch.from_numpy(weights[indices]),
    )


class Batches:
    """Iterable over the batches of one pass over the titles of a split.

    Args:
        titles: Titles of the split.
        distinct_tokens: Distinct tokens of all splits.
        batch_size: Number of titles in a batch.
        weights: Weight of each title, float32 (titles,); titles of weight 0 are skipped; None = 1
            for all titles.
        row_dropout: Share of the rows of each token, and of the bigrams of each title, to discard
            at random; ignored without a seed.
        seed: Seed of the order of the titles and of the dropout; None = the order of the split.
        share: Rank i of this process, from 0, and number n of processes. The process gets every
            n-th title of a batch, starting at the i-th. Batches of fewer than n titles are not
            divided.
        column_dropout: Share of the titles whose further columns are left out at random; ignored
            without a seed.
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
        column_dropout: float = 0.0,
    ) -> None:
        self._titles = titles
        self._distinct_tokens = distinct_tokens
        self._batch_size = batch_size
        self._weights = np.ones(len(titles), np.float32) if weights is None else weights
        self._chosen = np.flatnonzero(self._weights)
        self._row_dropout, self._column_dropout = row_dropout, column_dropout
        self._seed = seed
        self._share = share

    def __len__(self) -> int:
        return math.ceil(len(self._chosen) / self._batch_size)

    def __iter__(self) -> Iterator[Batch]:
        if self._seed is None:
            random, chunks = None, cut(self._chosen, self._batch_size)
        else:
            random = np.random.default_rng(self._seed)
            chunks = self._shuffled(random)
        first, step = self._share
        for chunk in chunks:
            own = chunk[first::step] if len(chunk) >= step else chunk
            yield gather(
                self._titles,
                self._distinct_tokens,
                own,
                self._weights,
                self._row_dropout,
                random,
                self._column_dropout,
            )

    def _shuffled(self, random: np.random.Generator) -> list[np.ndarray]:
        lengths = self._titles.features.joined_tokens.lengths
        batches: list[np.ndarray] = []
        for chunk in cut(random.permutation(self._chosen), self._batch_size * _CHUNK):
            by_length = chunk[np.argsort(lengths[chunk], kind="stable")]
            batches.extend(cut(by_length, self._batch_size))
        return [batches[position] for position in random.permutation(len(batches))]


def cut(values: np.ndarray, size: int) -> list[np.ndarray]:
    """Split an array into consecutive parts of the given size; the last part may be shorter."""
    return [values[start : start + size] for start in range(0, len(values), size)]


def _discard_values(lists: Ragged, share: float, random: np.random.Generator) -> Ragged:
    """Return a copy of lists without a given share of their values, chosen at random."""
    kept = random.random(len(lists.values), dtype=np.float32) >= np.float32(share)
    counts = np.concatenate([[0], np.cumsum(kept)])
    return Ragged(lists.values[kept], counts[lists.offsets])


def _distinct(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct values, sorted, and the position of each value among them.

    Like np.unique with return_inverse, but faster, because the values are small non-negative integers.
    """
    occurs = np.zeros(values.max(initial=-1) + 1, dtype=bool)
    occurs[values] = True
    distinct = np.flatnonzero(occurs)
    positions = np.empty(len(occurs), dtype=np.int32)
    positions[distinct] = np.arange(len(distinct), dtype=np.int32)
    return distinct, positions[values]


def _int64(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(values.astype(np.int64, copy=False))
