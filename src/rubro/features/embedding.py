"""Word vectors as a table of rows, for words and for hashed character n-grams."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field
from safetensors.numpy import save_file

from rubro.base.files import damaged, read_json, read_tensors, write_json
from rubro.base.params import NotNegative, Positive, Section


class _Subwords(Section):
    """subwords.json."""

    min_n: Positive
    max_n: NotNegative
    buckets: Annotated[int, Field(ge=0, lt=2**31)]
    titles: Positive


@dataclass(frozen=True)
class Subwords:
    """Which rows of the table a token is made of, and how much it says.

    Attributes:
        vocabulary: the words that have a row of their own, the first rows of the table in this
            order, and in how many training titles each occurs.
        min_n: length of the shortest character n-gram, with the word marks < and >.
        max_n: length of the longest; 0 = words alone.
        buckets: rows that the hashed n-grams share, after those of the vocabulary.
        titles: number of training titles.
    """

    vocabulary: dict[str, int]
    min_n: int
    max_n: int
    buckets: int
    titles: int
    _row: dict[str, int] = field(init=False, repr=False, compare=False)
    _mean_idf: float = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        rows = {word: row for row, word in enumerate(self.vocabulary)}
        object.__setattr__(self, "_row", rows)
        total = sum(count * self._idf(count) for count in self.vocabulary.values())
        mean = total / max(sum(self.vocabulary.values()), 1)
        object.__setattr__(self, "_mean_idf", mean or 1.0)

    def _idf(self, count: int) -> float:
        return math.log((1 + self.titles) / (1 + count)) + 1

    @property
    def row_count(self) -> int:
        """Rows of the table: one a word, then the buckets."""
        return len(self.vocabulary) + self.buckets

    def __contains__(self, token: str) -> bool:
        return token in self._row

    def weight_of(self, token: str) -> float:
        """The token's inverse document frequency, over the mean of the training titles' tokens.

        A token that is not in the vocabulary counts as one that no training title has. Source:
        Sparck Jones 1972, A statistical interpretation of term specificity and its application in
        retrieval; smoothed as scikit-learn's TfidfTransformer does.

        Args:
            token: any token.

        Returns:
            The weight, > 0.
        """
        return self._idf(self.vocabulary.get(token, 0)) / self._mean_idf

    def rows_of(self, token: str) -> list[int]:
        """The rows whose mean is the token's vector.

        Args:
            token: any token, in the vocabulary or not.

        Returns:
            Row numbers: the word's own row, if it has one, then those of its n-grams. Empty for
            an out-of-vocabulary token without n-grams.
        """
        own = self._row.get(token)
        rows = [] if own is None else [own]
        if self.max_n:
            from gensim.models.fasttext import ft_ngram_hashes  # a second to import

            ngrams = ft_ngram_hashes(token, self.min_n, self.max_n, self.buckets)
            rows.extend(len(self.vocabulary) + bucket for bucket in ngrams)
        return rows

    def save(self, folder: Path) -> None:
        """Write vocabulary.json and subwords.json into an existing folder."""
        write_json(folder / "vocabulary.json", self.vocabulary)
        names = ("min_n", "max_n", "buckets", "titles")
        write_json(folder / "subwords.json", {name: getattr(self, name) for name in names})

    @classmethod
    def load(cls, folder: Path) -> Subwords:
        """Read what save wrote.

        Raises:
            DataError: a file is missing or not as save wrote it.
        """
        vocabulary = read_json(folder / "vocabulary.json", dict[str, Positive])
        ngrams = read_json(folder / "subwords.json", _Subwords)
        if not vocabulary:
            raise damaged(folder / "vocabulary.json", "no word")
        if max(vocabulary.values()) > ngrams.titles:
            raise damaged(folder / "vocabulary.json", "a word is in more titles than there are")
        if ngrams.max_n and (ngrams.max_n < ngrams.min_n or not ngrams.buckets):
            raise damaged(folder / "subwords.json", "n-grams of no length or without buckets")
        return cls(vocabulary, **ngrams.model_dump())


@dataclass(frozen=True)
class Embedding:
    """Word vectors.

    Attributes:
        subwords: which rows make a token.
        table: float32 (rows, vector size).
    """

    subwords: Subwords
    table: np.ndarray

    def vector(self, token: str) -> np.ndarray:
        """The vector of a token: the mean of its rows; zeros where it has none. float32 (size,)."""
        rows = self.subwords.rows_of(token)
        if not rows:
            return np.zeros(self.table.shape[1], dtype=np.float32)
        mean: np.ndarray = self.table[rows].mean(axis=0)
        return mean

    def randomised(self, seed: int) -> Embedding:
        """The same words and n-grams, with normal random numbers (mean 0, deviation 1) as rows."""
        random = np.random.default_rng(seed)
        return Embedding(self.subwords, random.standard_normal(self.table.shape, dtype=np.float32))

    def save(self, folder: Path) -> None:
        """Write table.safetensors, vocabulary.json and subwords.json; the same bytes each time."""
        folder.mkdir(parents=True, exist_ok=True)
        self.subwords.save(folder)
        save_file({"table": self.table}, folder / "table.safetensors")

    @classmethod
    def load(cls, folder: Path) -> Embedding:
        """Read what save wrote.

        Raises:
            DataError: a file is missing or not as save wrote it.
        """
        subwords, path = Subwords.load(folder), folder / "table.safetensors"
        table = read_tensors(path, {"table": ("F32", (subwords.row_count, None))})["table"]
        if not table.size:
            raise damaged(path, "the table is empty")
        return cls(subwords, table)
