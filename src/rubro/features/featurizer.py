"""Featurizer, which turns the tokens of titles into arrays of integers."""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, islice

import numpy as np

from rubro.features.ragged import Ragged
from rubro.features.subwords import Subwords

_FIBONACCI = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Tokens(Ragged):
    """Distinct tokens, each as the list of its embedding rows.

    Attributes:
        weights: Relative inverse document frequency of each token, float32 (tokens,); see
            Subwords.weight_of.
    """

    weights: np.ndarray


@dataclass(frozen=True)
class TitleFeatures:
    """Tokens and bigrams of titles, as integers.

    Attributes:
        tokens: Tokens of each title, as positions among the distinct tokens.
        bigrams: Pairs of neighbouring tokens of each title, as hash buckets.
    """

    tokens: Ragged
    bigrams: Ragged

    def __len__(self) -> int:
        return len(self.tokens)

    @classmethod
    def concatenated(cls, parts: Sequence[TitleFeatures]) -> TitleFeatures:
        """Concatenate the features of several groups of titles."""
        return cls(
            Ragged.concatenated([part.tokens for part in parts]),
            Ragged.concatenated([part.bigrams for part in parts]),
        )

    def take(self, titles: np.ndarray) -> TitleFeatures:
        """Return the features of the titles at the given positions, integers (n,)."""
        return TitleFeatures(self.tokens.take(titles), self.bigrams.take(titles))


class Featurizer:
    """Turn tokens into integers, and remember the distinct tokens.

    Args:
        max_tokens: Number of tokens after which a title is cut off.
        bigram_buckets: Number of hash buckets of word bigrams; 0 = no bigrams.
    """

    def __init__(self, max_tokens: int, bigram_buckets: int) -> None:
        self._max_tokens = max_tokens
        self._bigram_buckets = bigram_buckets
        self._index: dict[str, int] = {}
        self._hashes = array("Q")

    def __len__(self) -> int:
        return len(self._index)

    def __call__(self, titles: Sequence[Sequence[str]]) -> TitleFeatures:
        """Return the features of titles, given their tokens. New tokens get the next positions."""
        limit = self._max_tokens
        cut = [tokens if len(tokens) <= limit else tokens[:limit] for tokens in titles]
        index = self._index
        for token in chain.from_iterable(cut):
            if token not in index:
                index[token] = len(index)
                self._hashes.append(zlib.crc32(token.encode("utf-8")))
        tokens = Ragged.from_lists([list(map(index.__getitem__, tokens)) for tokens in cut])
        return TitleFeatures(tokens, self._bigrams(tokens))

    def forget(self, kept: int) -> None:
        """Forget all distinct tokens except the `kept` first ones."""
        while len(self._index) > kept:
            self._index.popitem()
        del self._hashes[kept:]

    def words(self, first: int = 0) -> list[str]:
        """Return the distinct tokens from position `first` on, in order of first appearance."""
        return list(islice(self._index, first, None))

    def tokens(self, subwords: Subwords, first: int = 0) -> Tokens:
        """Return the embedding rows and weights of the distinct tokens from position `first` on."""
        tokens = self.words(first)
        rows = Ragged.from_lists([subwords.rows_of(token) for token in tokens])
        weights = [subwords.weight_of(token) for token in tokens]
        return Tokens(rows.values, rows.offsets, np.array(weights, dtype=np.float32))

    def _bigrams(self, tokens: Ragged) -> Ragged:
        buckets = self._bigram_buckets
        if buckets == 0:
            return Ragged(np.zeros(0, np.int32), np.zeros(len(tokens) + 1, np.int64))
        hashes = np.frombuffer(self._hashes, np.uint64)[tokens.values]
        # Fibonacci hashing; source: Knuth, The Art of Computer Programming, volume 3, section 6.4.
        pairs = ((hashes[:-1] * _FIBONACCI + hashes[1:]) * _FIBONACCI) >> np.uint64(32)
        # The last token of a title and the first token of the next title are not a bigram.
        within = np.ones(max(len(hashes) - 1, 0), dtype=bool)
        ends = tokens.offsets[1:-1]
        within[ends[(ends > 0) & (ends < len(hashes))] - 1] = False
        lengths = np.maximum(tokens.lengths - 1, 0)
        values = (pairs[within] % np.uint64(buckets)).astype(np.int32)
        return Ragged(values, np.concatenate([[0], np.cumsum(lengths)]))
