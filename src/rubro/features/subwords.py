"""Tokens as rows of a table: one row per known word, and shared rows of hashed n-grams."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field

from rubro.base.schema import NotNegative, Positive, Section
from rubro.features.ngrams import ngram_bounds, ngram_buckets


def inverse_document_frequency(documents_with: int, documents: int) -> float:
    """Return log((1 + documents) / (1 + documents_with)) + 1.

    Source: Sparck Jones 1972, A statistical interpretation of term specificity and its application
    in retrieval; smoothed as in scikit-learn's TfidfTransformer.

    Args:
        documents_with: Number of documents that hold the term.
        documents: Number of documents.

    Returns:
        Weight of the term, >= 1.
    """
    return math.log((1 + documents) / (1 + documents_with)) + 1


class SubwordParams(Section):
    """Sizes that define the rows of a token.

    Attributes:
        min_n: Length of the shortest character n-gram, word marks included.
        max_n: Length of the longest character n-gram; 0 = words alone.
        buckets: Number of rows that hashed n-grams share, after the rows of the vocabulary.
        titles: Number of training titles.
    """

    min_n: Positive
    max_n: NotNegative
    buckets: Annotated[int, Field(ge=0, lt=2**31)]
    titles: Annotated[int, Field(ge=1, lt=2**63)]

    def problem(self, vocabulary: dict[str, int]) -> str | None:
        """Return the fault of sizes and a vocabulary from a file; None = no fault."""
        if not vocabulary:
            return "no word"
        if max(vocabulary.values()) > self.titles:
            return "a word has more titles than the training"
        if self.max_n and (self.max_n < self.min_n or not self.buckets):
            return "impossible lengths of n-grams, or no buckets"
        return None


@dataclass(frozen=True)
class Subwords:
    """Rows and weights of all possible tokens.

    Attributes:
        vocabulary: Number of training titles that hold each word, in the order of the rows.
        params: Sizes.
    """

    vocabulary: dict[str, int]
    params: SubwordParams
    _row: dict[str, int] = field(init=False, repr=False, compare=False)
    _mean_idf: float = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_row", {word: row for row, word in enumerate(self.vocabulary)})
        words_of_count = Counter(self.vocabulary.values())
        total = sum(count * words for count, words in words_of_count.items())
        weighted = sum(count * words * self._idf(count) for count, words in words_of_count.items())
        object.__setattr__(self, "_mean_idf", weighted / total if weighted else 1.0)

    def _idf(self, titles_with: int) -> float:
        return inverse_document_frequency(titles_with, self.params.titles)

    @property
    def row_count(self) -> int:
        """Number of rows: one for each word, then the buckets."""
        return len(self.vocabulary) + self.params.buckets

    def __contains__(self, token: str) -> bool:
        return token in self._row

    def weight_of(self, token: str) -> float:
        """Return the inverse document frequency of a token, relative to the mean token.

        An out-of-vocabulary token has the weight of a word in no training title.

        Args:
            token: Any token.

        Returns:
            Weight > 0; 1 for the mean token of the training titles.
        """
        return self._idf(self.vocabulary.get(token, 0)) / self._mean_idf

    def rows_of(self, token: str) -> list[int]:
        """Return the rows of a token.

        Args:
            token: Any token, in the vocabulary or not.

        Returns:
            Row of the word, if it is in the vocabulary, then the rows of its n-grams. Empty for an
            out-of-vocabulary token without n-grams.
        """
        own = self._row.get(token)
        rows = [] if own is None else [own]
        if self.params.max_n:
            first = len(self.vocabulary)
            buckets = ngram_buckets(
                token, self.params.min_n, self.params.max_n, self.params.buckets
            )
            rows.extend(first + bucket for bucket in buckets)
        return rows

    def bounds_of(self, token: str) -> list[tuple[int, int]]:
        """Return what part of `<token>` each of its rows stands for.

        Args:
            token: Any token, in the vocabulary or not.

        Returns:
            Beginning and end, in the order of rows_of; those of the token for the row of its word.
        """
        bounds = [(1, len(token) + 1)] if token in self else []
        if self.params.max_n:
            bounds += ngram_bounds(token, self.params.min_n, self.params.max_n)
        return bounds
