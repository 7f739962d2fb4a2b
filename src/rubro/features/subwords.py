"""Embedding rows of tokens: a row for each known word, and shared rows for hashed n-grams."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

import numpy as np
from pydantic import Field

from rubro.base.schema import NotNegative, Positive, Section
from rubro.features.ngrams import ngram_buckets
from rubro.features.ragged import Ragged


def inverse_document_frequency(documents_with: int, documents: int) -> float:
    """Return the smoothed inverse document frequency of a term.

    It is log((1 + documents) / (1 + documents_with)) + 1.

    Source: Sparck Jones 1972, A statistical interpretation of term specificity and its application
    in retrieval; smoothed as in scikit-learn's TfidfTransformer.

    Args:
        documents_with: Number of documents that contain the term.
        documents: Number of documents.

    Returns:
        Weight of the term, >= 1.
    """
    return math.log((1 + documents) / (1 + documents_with)) + 1


class SubwordParams(Section):
    """Sizes that determine the embedding rows and the weight of a token.

    Attributes:
        min_n: Length of the shortest character n-gram, including the marks `<` and `>`.
        max_n: Length of the longest character n-gram; 0 = only words.
        buckets: Number of rows for hashed n-grams, which follow the rows of the vocabulary.
        titles: Number of training titles.
    """

    min_n: Positive
    max_n: NotNegative
    buckets: Annotated[int, Field(ge=0, lt=2**31)]
    titles: Annotated[int, Field(ge=1, lt=2**63)]

    def problem(self, vocabulary: dict[str, int]) -> str | None:
        """Return why these n-gram parameters do not fit a vocabulary, or None if they fit."""
        if not vocabulary:
            return "the vocabulary is empty"
        if max(vocabulary.values()) > self.titles:
            return "a word occurs in more titles than there are training titles"
        if self.max_n and (self.max_n < self.min_n or not self.buckets):
            return "n-grams have impossible lengths or no buckets"
        return None


@dataclass(frozen=True)
class Subwords:
    """Embedding rows and inverse document frequencies of all possible tokens.

    Attributes:
        vocabulary: Known words in the order of their rows, each with the number of training titles
            that contain it.
        params: Sizes that determine the rows and weights.
    """

    vocabulary: dict[str, int]
    params: SubwordParams

    @cached_property
    def _row(self) -> dict[str, int]:
        return {word: row for row, word in enumerate(self.vocabulary)}

    @cached_property
    def _mean_idf(self) -> float:
        words_of_count = Counter(self.vocabulary.values())
        total = sum(count * words for count, words in words_of_count.items())
        weighted = sum(count * words * self._idf(count) for count, words in words_of_count.items())
        return weighted / total if weighted else 1.0

    def _idf(self, titles_with: int) -> float:
        return inverse_document_frequency(titles_with, self.params.titles)

    @property
    def row_count(self) -> int:
        """Number of rows: one for each word, then the buckets."""
        return len(self.vocabulary) + self.params.buckets

    def __contains__(self, token: str) -> bool:
        return token in self._row

    def weight_of(self, token: str) -> float:
        """Return the inverse document frequency of a token, divided by the mean of all tokens.

        The mean is taken over the known tokens of the training titles. An out-of-vocabulary token
        has the weight of a word that occurs in no training title. Weights are positive.
        """
        return self._idf(self.vocabulary.get(token, 0)) / self._mean_idf

    def rows_of(self, tokens: Sequence[str]) -> Ragged:
        """Return the rows of each token: of its word, if it is in the vocabulary, and of its n-grams."""
        own = np.array([self._row.get(token, -1) for token in tokens], dtype=np.int32)
        is_known = own >= 0
        if not self.params.max_n:
            return Ragged.from_lengths(own[is_known], is_known)
        sizes = self.params.min_n, self.params.max_n, self.params.buckets
        ngrams = ngram_buckets(tokens, *sizes)
        first = np.int32(len(self.vocabulary))
        values = np.insert(first + ngrams.values, ngrams.offsets[:-1][is_known], own[is_known])
        return Ragged.from_lengths(values, ngrams.lengths + is_known)
