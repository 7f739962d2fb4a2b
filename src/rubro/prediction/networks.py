"""Trained models in numpy: from token rows and bigrams to logits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from rubro.features.featurizer import TitleFeatures, Tokens
from rubro.features.ragged import sum_rows

Arrays = Mapping[str, np.ndarray]


class Scorer(Protocol):
    """A model in numpy.

    A token state is the part of the computation that depends on a token alone: it is computed once
    per distinct token and cached.

    Attributes:
        state_size: Length of a token state.
    """

    state_size: int

    def token_states(self, tokens: Tokens) -> np.ndarray:
        """Return the state of each token, float32 (tokens, state size)."""

    def logits(self, features: TitleFeatures, states: np.ndarray) -> np.ndarray:
        """Return the logits of titles.

        Args:
            features: Titles.
            states: States of the distinct tokens, float32 (tokens or more, state size).

        Returns:
            Logits, float32 (titles, classes).
        """


class Table:
    """An embedding table of a file: float32, float16, or int8 with a scale for each row.

    Args:
        arrays: Tensors of the model file.
        name: Name of the table.
    """

    def __init__(self, arrays: Arrays, name: str) -> None:
        self._rows = arrays[f"{name}.weight"]
        self._scales = arrays.get(f"{name}.scale")
        self.size = self._rows.shape[1]

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """Return rows as float32 (n, size)."""
        values: np.ndarray = self._rows[rows].astype(np.float32)
        if self._scales is not None:
            values *= self._scales[rows]
        return values


class _Pooled:
    """Divides a sum of n vectors by n ("mean") or by the square root of n ("sqrt")."""

    def __init__(self, pooling: str) -> None:
        self._mean = pooling == "mean"

    def __call__(self, total: np.ndarray, counts: np.ndarray) -> np.ndarray:
        divisors = np.maximum(counts, 1).astype(np.float32)
        return np.asarray(total / (divisors if self._mean else np.sqrt(divisors))[:, None])


class _TokenVectors:
    """Vectors of tokens from the rows of their words and n-grams."""

    def __init__(self, arrays: Arrays, pooling: str, weighted: bool) -> None:
        self._table = Table(arrays, "token_vectors.table")
        self._pooled = _Pooled(pooling)
        self._weighted = weighted
        self.size = self._table.size

    def __call__(self, tokens: Tokens) -> np.ndarray:
        vectors = self._pooled(sum_rows(tokens, self._table, self.size), tokens.lengths)
        if self._weighted:
            vectors *= tokens.weights[:, None]
        return vectors


class _TitleVectors:
    """Vectors of titles, pooled from the vectors of their tokens and bigrams."""

    def __init__(self, arrays: Arrays, pooling: str) -> None:
        self._bigrams = Table(arrays, "bigrams") if "bigrams.weight" in arrays else None
        self._pooled = _Pooled(pooling)

    def __call__(self, features: TitleFeatures, total: np.ndarray) -> np.ndarray:
        counts = features.tokens.lengths
        if self._bigrams is not None:
            total = total + sum_rows(features.bigrams, self._bigrams, self._bigrams.size)
            counts = counts + features.bigrams.lengths
        return self._pooled(total, counts)


class _Dense:
    """Linear layers with ReLU in between."""

    def __init__(self, arrays: Arrays, name: str) -> None:
        count = sum(key.startswith(f"{name}.") and key.endswith(".weight") for key in arrays)
        self._layers = [
            (arrays[f"{name}.{i}.weight"].T, arrays[f"{name}.{i}.bias"]) for i in range(count)
        ]

    def __call__(self, values: np.ndarray) -> np.ndarray:
        for position, (weights, bias) in enumerate(self._layers):
            if position:
                np.maximum(values, 0, out=values)
            values = values @ weights
            values += bias
        return values


class MlpScorer:
    """The MLP: pooled token and bigram vectors, then dense layers. See models.mlp.Mlp."""

    def __init__(self, arrays: Arrays, pooling: str, weighted: bool) -> None:
        self._vectors = _TokenVectors(arrays, pooling, weighted)
        self._titles = _TitleVectors(arrays, pooling)
        self._dense = _Dense(arrays, "dense")
        self.state_size = self._vectors.size

    def token_states(self, tokens: Tokens) -> np.ndarray:
        """Return token vectors."""
        return self._vectors(tokens)

    def logits(self, features: TitleFeatures, states: np.ndarray) -> np.ndarray:
        """Return logits, float32 (n, classes)."""
        total = sum_rows(features.tokens, states.__getitem__, self.state_size)
        return self._dense(self._titles(features, total))


class CnnScorer:
    """The CNN: filters over neighbouring tokens, beside a linear path. See models.cnn.Cnn.

    The state of a token is its vector and the products of the vector with each position of each
    filter.
    """

    def __init__(self, arrays: Arrays, pooling: str, weighted: bool, sizes: list[int]) -> None:
        self._vectors = _TokenVectors(arrays, pooling, weighted)
        self._titles = _TitleVectors(arrays, pooling)
        self._dense = _Dense(arrays, "dense")
        self._linear = _Dense(arrays, "linear") if "linear.0.weight" in arrays else None
        vector = self._vectors.size
        filters = [arrays[f"filters.{i}.weight"] for i in range(len(sizes))]
        parts = [
            f[:, vector * i : vector * (i + 1)]
            for f, n in zip(filters, sizes, strict=True)
            for i in range(n)
        ]
        self._parts = np.ascontiguousarray(np.concatenate(parts).T)
        self._bias = np.concatenate([arrays[f"filters.{i}.bias"] for i in range(len(sizes))])
        self._sizes = sizes
        self._width = len(filters[0])
        self.state_size = vector + self._parts.shape[1]

    def token_states(self, tokens: Tokens) -> np.ndarray:
        """Return token vectors and their products with every position of every filter."""
        vectors = self._vectors(tokens)
        return np.concatenate([vectors, vectors @ self._parts], axis=1)

    def logits(self, features: TitleFeatures, states: np.ndarray) -> np.ndarray:
        """Return logits, float32 (n, classes)."""
        n, vector, width = len(features), self._vectors.size, self._width
        total = np.zeros((n, vector), dtype=np.float32)
        # Largest sum of each filter up to the current position.
        largest = np.full((n, len(self._bias)), -np.inf, dtype=np.float32)
        positions = features.tokens.by_position
        ahead: list[np.ndarray] = []  # states at this position and the following ones
        longest = max(self._sizes)
        for position, (titles, _) in enumerate(positions):
            while len(ahead) < longest and position + len(ahead) < len(positions):
                ahead.append(states[positions[position + len(ahead)][1]])
            count = len(titles)
            total[:count] += ahead[0][:, :vector]
            first = vector
            for number, size in enumerate(self._sizes):
                window = ahead[0][:, first : first + width]
                for i in range(1, min(size, len(ahead))):
                    if i == 1:
                        window = window.copy()
                    share = ahead[i][:, first + i * width : first + (i + 1) * width]
                    window[: len(share)] += share
                place = largest[:count, number * width : (number + 1) * width]
                np.maximum(place, window, out=place)
                first += size * width
            ahead.pop(0)
        order = positions[0][0] if positions else np.zeros(0, dtype=np.int64)
        maxima = np.zeros_like(largest)
        maxima[order] = np.maximum(largest[: len(order)] + self._bias, 0)
        logits = self._dense(maxima)
        if self._linear is not None:
            sorted_total = total
            total = np.zeros_like(total)
            total[order] = sorted_total[: len(order)]
            logits += self._linear(self._titles(features, total))
        return logits


class SvmScorer:
    """A linear SVM over TF-IDF of words, bigrams and character n-grams; most weights are zero.

    Inputs are the rows of the embedding (words, then n-gram buckets) followed by the bigram buckets,
    each times its inverse document frequency. The words and bigrams of a title together are divided
    by the root of the sum of their squared frequencies, and so are its n-grams.

    Args:
        arrays: Tensors of the model file: idf, float32 (inputs,); starts, int32 (inputs + 1,);
            categories, int16 or int32, and weights, float16, of each input one after another;
            bias, float32 (classes,).
        words: Number of rows of the vocabulary.
        rows: Number of rows of the embedding, n-gram buckets included.
    """

    def __init__(self, arrays: Arrays, words: int, rows: int) -> None:
        self._idf = arrays["idf"]
        self._starts = arrays["starts"].astype(np.int64)
        self._categories = arrays["categories"]
        self._weights = arrays["weights"]
        self._bias = arrays["bias"]
        self._words, self._rows = words, rows
        self._classes = len(self._bias)
        # Scores and sum of squares of the word, then of the n-grams.
        self.state_size = 2 * (self._classes + 1)

    def token_states(self, tokens: Tokens) -> np.ndarray:
        """Return sums over a token's word, and over its n-grams, of weighted scores and squares."""
        owner = np.repeat(np.arange(len(tokens)), tokens.lengths)
        is_ngram = tokens.values >= self._words
        return self._sums(2 * owner + is_ngram, tokens.values, 2 * len(tokens)).reshape(
            len(tokens), self.state_size
        )

    def logits(self, features: TitleFeatures, states: np.ndarray) -> np.ndarray:
        """Return scores, float32 (n, classes), trained for a lead of 1 of the right category."""
        n, half = len(features), self._classes + 1
        total = sum_rows(features.tokens, states.__getitem__, self.state_size)
        owner = np.repeat(np.arange(n), features.bigrams.lengths)
        total[:, :half] += self._sums(owner, self._rows + features.bigrams.values, n)
        scores = np.tile(self._bias, (n, 1))
        for part in (total[:, :half], total[:, half:]):
            length = np.sqrt(np.maximum(part[:, -1:], np.finfo(np.float32).tiny))
            scores += part[:, :-1] / length
        return scores

    def leads(
        self, rows: np.ndarray, bigrams: np.ndarray, category: int, other: int
    ) -> tuple[np.ndarray, float]:
        """Return what each input of a title adds to the lead of a category over another one.

        All together are the difference of the scores of both.

        Args:
            rows: Rows of the words and n-grams of a title, integers (m,).
            bigrams: Hash buckets of its bigrams, integers (b,).
            category: Class index.
            other: Class index.

        Returns:
            Leads by row, then by bigram, float64 (m + b,), and the lead of a title without inputs.
        """
        inputs = np.concatenate([rows, self._rows + bigrams])
        counts, places, idf = self._entries(inputs)
        categories = self._categories[places]
        signs = (categories == category).astype(np.int8) - (categories == other)
        owner = np.repeat(np.arange(len(inputs)), counts)
        summed = np.bincount(owner, signs * self._weights[places], minlength=len(inputs))
        is_ngram = (inputs >= self._words) & (inputs < self._rows)
        squares = np.bincount(is_ngram, idf**2, minlength=2)
        lengths = np.sqrt(np.maximum(squares, np.finfo(np.float32).tiny))
        leads = idf * summed / lengths[is_ngram.astype(np.int64)]
        return leads, float(self._bias[category] - self._bias[other])

    def _sums(self, owner: np.ndarray, inputs: np.ndarray, owners: int) -> np.ndarray:
        """Sum IDF * weights and, last, the squared IDF of inputs for each owner: (owners, C + 1)."""
        counts, places, idf = self._entries(inputs)
        width = self._classes + 1
        cells = np.repeat(owner * width, counts) + self._categories[places]
        values = np.repeat(idf, counts) * self._weights[places]
        cells = np.concatenate([cells, owner * width + self._classes])
        values = np.concatenate([values, idf**2])
        summed = np.bincount(cells, values, minlength=owners * width)
        return summed.astype(np.float32).reshape(owners, width)

    def _entries(self, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the number of weights of each input, the places of all, and the inputs' IDF."""
        first, counts = self._starts[inputs], self._starts[inputs + 1] - self._starts[inputs]
        before = np.cumsum(counts) - counts
        places = np.arange(int(counts.sum())) + np.repeat(first - before, counts)
        return counts, places, self._idf[inputs].astype(np.float64)
