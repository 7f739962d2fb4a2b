"""Featurizer, which turns the tokens of titles into arrays of integers."""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, cycle

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
        columns: Number of the column that each token occurs in, int32 (tokens,); 0 is the title. A
            word that occurs in several columns is a distinct token in each of them.
    """

    weights: np.ndarray
    columns: np.ndarray


@dataclass(frozen=True)
class TitleFeatures:
    """Tokens and bigrams of titles and of the texts in their further columns, as integers.

    A title has one list for each column: list `title * columns + column` belongs to a column of a
    title, and column 0 is the title itself.

    Attributes:
        tokens: Tokens of each text, as positions among the distinct tokens.
        bigrams: Pairs of neighbouring tokens of each text, as hash buckets.
        columns: Number of columns, including the title.
    """

    tokens: Ragged
    bigrams: Ragged
    columns: int = 1

    def __len__(self) -> int:
        return len(self.tokens) // self.columns

    @property
    def joined_tokens(self) -> Ragged:
        """Tokens of all columns of each title."""
        return Ragged(self.tokens.values, self.tokens.offsets[:: self.columns])

    @classmethod
    def concatenated(cls, parts: Sequence[TitleFeatures]) -> TitleFeatures:
        """Concatenate the features of several groups of titles."""
        return cls(
            Ragged.concatenated([part.tokens for part in parts]),
            Ragged.concatenated([part.bigrams for part in parts]),
            parts[0].columns,
        )

    def take(self, titles: np.ndarray) -> TitleFeatures:
        """Return the features of the titles at the given positions, integers (n,)."""
        lists = titles
        if self.columns > 1:
            lists = (titles[:, None] * self.columns + np.arange(self.columns)).ravel()
        return TitleFeatures(self.tokens.take(lists), self.bigrams.take(lists), self.columns)

    def without_columns(self, where: np.ndarray) -> TitleFeatures:
        """Return the features without the further columns of titles in a mask, bool (titles,)."""
        lists = np.repeat(where, self.columns)
        lists[:: self.columns] = False
        return TitleFeatures(self.tokens.emptied(lists), self.bigrams.emptied(lists), self.columns)


class Featurizer:
    """Turn tokens into integers, and remember the distinct tokens.

    Args:
        max_tokens: Number of tokens after which a title is cut off.
        bigram_buckets: Number of hash buckets of word bigrams; 0 = no bigrams.
        column_limits: Number of tokens after which the text of each further column is cut off.
    """

    def __init__(
        self, max_tokens: int, bigram_buckets: int, column_limits: Sequence[int] = ()
    ) -> None:
        self._limits = [max_tokens, *column_limits]
        self._bigram_buckets = bigram_buckets
        # The position of each word among the distinct tokens, for each column.
        self._indices: list[dict[str, int]] = [{} for _ in self._limits]
        self._words: list[str] = []
        self._columns = array("i")
        self._hashes = array("Q")

    def __len__(self) -> int:
        return len(self._words)

    def __call__(self, texts: Sequence[Sequence[str]]) -> TitleFeatures:
        """Return the features of titles. New tokens get the next positions.

        Args:
            texts: Tokens of each text: of the first title, of each of its further columns, of the
                second title, and so on.
        """
        cut = [
            tokens if len(tokens) <= limit else tokens[:limit]
            for tokens, limit in zip(texts, cycle(self._limits), strict=False)
        ]
        columns = len(self._limits)
        for column, index in enumerate(self._indices):
            for token in chain.from_iterable(cut[column::columns]):
                if token not in index:
                    self._add(token, column)
        positions = [
            list(map(index.__getitem__, tokens))
            for tokens, index in zip(cut, cycle(self._indices), strict=False)
        ]
        tokens = Ragged.from_lists(positions)
        return TitleFeatures(tokens, self._bigrams(tokens), columns)

    def _add(self, token: str, column: int) -> None:
        self._indices[column][token] = len(self._words)
        self._words.append(token)
        self._columns.append(column)
        self._hashes.append(zlib.crc32(token.encode("utf-8")))

    def forget(self, kept: int) -> None:
        """Forget all distinct tokens except the `kept` first ones."""
        for word, column in zip(self._words[kept:], self._columns[kept:], strict=True):
            del self._indices[column][word]
        for stored in (self._words, self._columns, self._hashes):
            del stored[kept:]

    def with_tokens(self, kept: np.ndarray) -> Featurizer:
        """Return a featurizer that only remembers the distinct tokens at positions, integers (n,)."""
        limit, *column_limits = self._limits
        featurizer = Featurizer(limit, self._bigram_buckets, column_limits)
        for position in kept.tolist():
            featurizer._add(self._words[position], self._columns[position])
        return featurizer

    def words(self, first: int = 0) -> list[str]:
        """Return the word of each distinct token from position `first` on."""
        return self._words[first:]

    def tokens(self, subwords: Subwords, first: int = 0) -> Tokens:
        """Return the embedding rows and weights of the distinct tokens from position `first` on."""
        tokens = self.words(first)
        rows = subwords.rows_of(tokens)
        weights = [subwords.weight_of(token) for token in tokens]
        columns = np.array(self._columns[first:], dtype=np.int32)
        return Tokens(rows.values, rows.offsets, np.array(weights, dtype=np.float32), columns)

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
        return Ragged.from_lengths(values, lengths)
