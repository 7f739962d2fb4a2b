"""Trained models in numpy, which compute logits from token rows and bigrams."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from itertools import chain
from typing import Protocol

import numpy as np

from rubro.features.featurizer import TitleFeatures, Tokens
from rubro.features.ragged import Ragged, sum_rows

Arrays = Mapping[str, np.ndarray]


class Scorer(Protocol):
    """Base class of trained models that compute logits in numpy.

    The state of a token is the part of the computation that depends only on the token. It is
    computed once for each distinct token and cached.

    Attributes:
        state_size: Length of a token state.
    """

    state_size: int

    def token_states(self, tokens: Tokens) -> np.ndarray:
        """Compute for each token the values that do not depend on the rest of its title.

        Returns:
            States of the tokens, float32 (tokens, state_size), which the caller caches.
        """

    def logits(self, features: TitleFeatures, states: np.ndarray) -> np.ndarray:
        """Return the logits of each title.

        Args:
            features: Tokens and bigrams of the titles.
            states: States of the distinct tokens of the titles, float32 (tokens or more,
                state_size).

        Returns:
            Logits, float32 (titles, classes).
        """


# If the SVM sums more than _MANY_INPUTS at once, it reads inputs with weights in more than _DENSE_SHARE
# of the classes from a dense table of at most _DENSE_VALUES numbers. With 632 classes, the scores of
# new tokens then take a third of the time.
_MANY_INPUTS = 512
_DENSE_SHARE = 0.1
_DENSE_VALUES = 2**22
_FEW_TITLES = 16  # read fewer titles one by one, more position by position


class Table:
    """An embedding table, stored as float32, float16, or int8 with a scale for each row.

    Args:
        arrays: Tensors of the member's file.
        name: Name of the table.

    Attributes:
        size: Length of a row.
    """

    def __init__(self, arrays: Arrays, name: str) -> None:
        self._rows = arrays[f"{name}.weight"]
        self._scales = arrays.get(f"{name}.scale")
        self.size = self._rows.shape[1]

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """Return the rows with the given numbers, float32 (n, size)."""
        values: np.ndarray = self._rows[rows].astype(np.float32)
        if self._scales is not None:
            values *= self._scales[rows]
        return values


class _Dense:
    """Linear layers with a ReLU between them."""

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
    """An MLP: dense layers on pooled token and bigram vectors; see models.mlp.Mlp.

    The cached state of a token is its vector, pooled from the rows of its word and n-grams.

    Args:
        arrays: Tensors of the member's file.
        pooling: Divisor of a sum of n vectors: n ("mean") or the square root of n ("sqrt").
        weighted: Whether token vectors are weighted by inverse document frequency.
    """

    def __init__(self, arrays: Arrays, pooling: str, weighted: bool) -> None:
        self._table = Table(arrays, "token_vectors.table")
        self._bigrams = Table(arrays, "bigrams") if "bigrams.weight" in arrays else None
        self._dense = _Dense(arrays, "dense")
        self._mean = pooling == "mean"
        self._weighted = weighted
        self.state_size = self._table.size

    def token_states(self, tokens: Tokens) -> np.ndarray:
        """Return the vector of each token, float32 (tokens, vector size)."""
        total = sum_rows(tokens, self._table, self._table.size)
        vectors = self._pooled(total, tokens.lengths)
        if self._weighted:
            vectors *= tokens.weights[:, None]
        return vectors

    def logits(self, features: TitleFeatures, states: np.ndarray) -> np.ndarray:
        """Return the logits of each title, float32 (titles, classes)."""
        total = sum_rows(features.tokens, states.__getitem__, self.state_size)
        return self._dense(self._title_vectors(features, total))

    def _title_vectors(self, features: TitleFeatures, total: np.ndarray) -> np.ndarray:
        """Pool the tokens and bigrams of each column of each title.

        Args:
            features: Tokens and bigrams of the titles.
            total: Sum of the token vectors of each text, float32 (titles * columns, vector size).

        Returns:
            Vectors of the columns of each title, one after another, float32 (titles, columns *
            vector size).
        """
        counts = features.tokens.lengths
        if self._bigrams is not None:
            total = total + sum_rows(features.bigrams, self._bigrams, self._bigrams.size)
            counts = counts + features.bigrams.lengths
        return _side_by_side(self._pooled(total, counts), features)

    def _pooled(self, total: np.ndarray, counts: np.ndarray) -> np.ndarray:
        divisors = np.maximum(counts, 1).astype(np.float32)
        return np.asarray(total / (divisors if self._mean else np.sqrt(divisors))[:, None])


def _side_by_side(values: np.ndarray, features: TitleFeatures) -> np.ndarray:
    """Concatenate the values of the columns of each title.

    Args:
        values: Values of each text, float32 (titles * columns, size).
        features: Features of the titles.

    Returns:
        Values of each title, float32 (titles, columns * size).
    """
    return values.reshape(len(features), features.columns * values.shape[1])


class CnnScorer(MlpScorer):
    """A CNN: filters over neighbouring tokens, next to a linear path; see models.cnn.Cnn.

    The cached state of a token is its vector followed by the products of the vector with each
    position of each filter.

    Args:
        arrays: Tensors of the member's file.
        pooling: Divisor of a sum of n vectors: n ("mean") or the square root of n ("sqrt").
        weighted: Whether token vectors are weighted by inverse document frequency.
        sizes: Numbers of neighbouring tokens that the filters cover.
    """

    def __init__(self, arrays: Arrays, pooling: str, weighted: bool, sizes: list[int]) -> None:
        super().__init__(arrays, pooling, weighted)
        self._linear = _Dense(arrays, "linear") if "linear.0.weight" in arrays else None
        vector = self._table.size
        filters = [arrays[f"filters.{i}.weight"] for i in range(len(sizes))]
        parts = [np.split(f, n, axis=1) for f, n in zip(filters, sizes, strict=True)]
        self._parts = np.ascontiguousarray(np.concatenate(list(chain(*parts))).T)
        self._bias = np.concatenate([arrays[f"filters.{i}.bias"] for i in range(len(sizes))])
        self._sizes = sizes
        self._width = len(filters[0])
        self.state_size = vector + self._parts.shape[1]

    def token_states(self, tokens: Tokens) -> np.ndarray:
        """Return each token's vector and filter products, float32 (tokens, state_size)."""
        vectors = super().token_states(tokens)
        return np.concatenate([vectors, vectors @ self._parts], axis=1)

    def logits(self, features: TitleFeatures, states: np.ndarray) -> np.ndarray:
        """Return the logits of each title, float32 (titles, classes)."""
        titles_only = features.tokens
        if features.columns > 1:
            titles_only = titles_only.take(np.arange(0, len(titles_only), features.columns))
        read = self._one_by_one if len(titles_only) <= _FEW_TITLES else self._position_by_position
        total, largest = read(titles_only, states)
        largest += self._bias
        logits = self._dense(np.maximum(largest, 0, out=largest))
        if self._linear is not None:
            if features.columns > 1:
                vector = self._table.size
                total = sum_rows(features.tokens, states[:, :vector].__getitem__, vector)
            logits += self._linear(self._title_vectors(features, total))
        return logits

    def _one_by_one(self, titles: Ragged, states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the same as _position_by_position, faster for few titles."""
        vector, width = self._table.size, self._width
        total = np.zeros((len(titles), vector), dtype=np.float32)
        largest = np.full((len(titles), len(self._bias)), -np.inf, dtype=np.float32)
        for title in range(len(titles)):
            own = states[titles[title]]
            np.add.reduce(own[:, :vector], axis=0, out=total[title])
            first = vector
            for number, size in enumerate(self._sizes):
                windows = own[:, first : first + width]
                for i in range(1, min(size, len(own))):
                    product = own[i:, first + i * width : first + (i + 1) * width]
                    windows[: len(product)] += product
                place = largest[title, number * width : (number + 1) * width]
                np.maximum.reduce(windows, axis=0, initial=-np.inf, out=place)
                first += size * width
        return total, largest

    def _position_by_position(
        self, titles: Ragged, states: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the sum of the token vectors and the largest output of each filter of each title.

        Returns:
            Float32 (titles, vector size) and (titles, filters). A title without tokens has zeros and
            -infinity.
        """
        n, vector, width = len(titles), self._table.size, self._width
        sorted_total = np.zeros((n, vector), dtype=np.float32)
        # Largest output of each filter up to the current position.
        sorted_largest = np.full((n, len(self._bias)), -np.inf, dtype=np.float32)
        positions = titles.by_position
        ahead: list[np.ndarray] = []  # states at this position and the following ones
        longest = max(self._sizes)
        for position, (lists, _) in enumerate(positions):
            while len(ahead) < longest and position + len(ahead) < len(positions):
                ahead.append(states[positions[position + len(ahead)][1]])
            count = len(lists)
            sorted_total[:count] += ahead[0][:, :vector]
            first = vector
            for number, size in enumerate(self._sizes):
                window = ahead[0][:, first : first + width]
                for i in range(1, min(size, len(ahead))):
                    product = ahead[i][:, first + i * width : first + (i + 1) * width]
                    window[: len(product)] += product
                place = sorted_largest[:count, number * width : (number + 1) * width]
                np.maximum(place, window, out=place)
                first += size * width
            ahead.pop(0)
        if not positions:
            return sorted_total, sorted_largest
        order = positions[0][0]
        total, largest = np.zeros_like(sorted_total), np.full_like(sorted_largest, -np.inf)
        total[order], largest[order] = sorted_total[: len(order)], sorted_largest[: len(order)]
        return total, largest


class SvmScorer:
    """A linear SVM on TF-IDF features of words, bigrams and character n-grams.

    The inputs of each column, the title first, are the rows of the embedding (words, then n-gram
    buckets) followed by the bigram buckets. Each occurrence of an input counts its inverse document
    frequency (IDF). The words and bigrams in a column of a title together are divided by the root
    of the sum of their squared IDF, and so are its n-grams. Most weights are zero and are not
    stored.

    The cached state of a token is the score of its word for each class and the squared IDF of the
    word, followed by the sums of the same values over its n-grams.

    Args:
        arrays: Tensors of the member's file: idf, float32 (inputs,); starts, int32 (inputs + 1,),
            the bounds of each input's weights in categories, int16 or int32, and weights, float16;
            bias, float32 (classes,).
        words: Number of words in the vocabulary.
        rows: Number of rows of the embedding, including n-gram buckets.
        columns: Number of columns of a title, including the title.
    """

    def __init__(self, arrays: Arrays, words: int, rows: int, columns: int = 1) -> None:
        self._idf = arrays["idf"]
        self._starts = arrays["starts"].astype(np.int64)
        self._categories = arrays["categories"]
        self._weights = arrays["weights"]
        self._bias = arrays["bias"]
        self._words, self._rows = words, rows
        self._column_inputs = len(self._idf) // columns
        self._classes = len(self._bias)
        self.state_size = 2 * (self._classes + 1)

    def token_states(self, tokens: Tokens) -> np.ndarray:
        """Return the class scores and squared IDF of each token, float32 (tokens, state_size)."""
        owner = np.repeat(np.arange(len(tokens)), tokens.lengths)
        is_ngram = tokens.values >= self._words
        inputs = tokens.values + tokens.columns[owner] * self._column_inputs
        return self._sums(2 * owner + is_ngram, inputs, 2 * len(tokens)).reshape(
            len(tokens), self.state_size
        )

    def logits(self, features: TitleFeatures, states: np.ndarray) -> np.ndarray:
        """Return the score of each class for each title, float32 (titles, classes).

        Training aims at a score of the right class that exceeds all other scores by at least 1.
        """
        texts, columns, half = len(features.tokens), features.columns, self._classes + 1
        total = sum_rows(features.tokens, states.__getitem__, self.state_size)
        owner = np.repeat(np.arange(texts), features.bigrams.lengths)
        first = self._rows + owner % columns * self._column_inputs
        total[:, :half] += self._sums(owner, first + features.bigrams.values, texts)
        scores = np.tile(self._bias, (len(features), 1))
        for column in range(columns):
            own = total[column::columns]
            for part in (own[:, :half], own[:, half:]):
                length = np.sqrt(np.maximum(part[:, -1:], np.finfo(np.float32).tiny))
                scores += part[:, :-1] / length
        return scores

    def leads(
        self, column: int, rows: np.ndarray, bigrams: np.ndarray, category: int, other: int
    ) -> np.ndarray:
        """Return the contribution of each input of a text to the lead of one class over another.

        The contributions in all columns and the bias sum up to the difference of the scores of the
        two classes.

        Args:
            column: Number of the text's column; 0 is the title.
            rows: Rows of the words and n-grams of the text, integers (m,).
            bigrams: Hash buckets of its bigrams, integers (b,).
            category: Index of the class.
            other: Index of the class to compare with.

        Returns:
            Contributions of the rows, then of the bigrams, float64 (m + b,).
        """
        inputs = np.concatenate([rows, self._rows + bigrams]) + column * self._column_inputs
        counts, places, idf = self._stored_weights(inputs)
        categories = self._categories[places]
        signs = (categories == category).astype(np.int8) - (categories == other)
        owner = np.repeat(np.arange(len(inputs)), counts)
        summed = np.bincount(owner, signs * self._weights[places], minlength=len(inputs))
        is_ngram = np.concatenate([rows >= self._words, np.zeros(len(bigrams), bool)])
        squares = np.bincount(is_ngram, idf**2, minlength=2)
        lengths = np.sqrt(np.maximum(squares, np.finfo(np.float32).tiny))
        return np.asarray(idf * summed / lengths[is_ngram.astype(np.int64)])

    def bias_lead(self, category: int, other: int) -> float:
        """Return the lead of one class over another for a title without inputs."""
        return float(self._bias[category] - self._bias[other])

    def _sums(self, owner: np.ndarray, inputs: np.ndarray, owners: int) -> np.ndarray:
        """Sum the weighted IDF for each class, and the squared IDF, over groups of inputs.

        Args:
            owner: Group of each input, in ascending order, integers (m,).
            inputs: Input numbers, integers (m,).
            owners: Number of groups.

        Returns:
            Sums, float32 (owners, classes + 1), with the squared IDF in the last column.
        """
        width = self._classes + 1
        of_dense = np.zeros((owners, width), dtype=np.float32)
        if len(inputs) > _MANY_INPUTS:
            row_of, rows = self._dense
            is_dense = row_of[inputs] >= 0
            sizes = np.bincount(owner[is_dense], minlength=owners)
            lists = Ragged.from_lengths(row_of[inputs[is_dense]], sizes)
            of_dense = sum_rows(lists, rows.__getitem__, width)
            owner, inputs = owner[~is_dense], inputs[~is_dense]
        counts, places, idf = self._stored_weights(inputs)
        cells = np.repeat(owner * width, counts) + self._categories[places]
        values = np.repeat(idf, counts) * self._weights[places]
        cells = np.concatenate([cells, owner * width + self._classes])
        values = np.concatenate([values, idf**2])
        summed = np.bincount(cells, values, minlength=owners * width)
        return summed.astype(np.float32).reshape(owners, width) + of_dense

    @cached_property
    def _dense(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the inputs with many weights as rows of a dense table.

        Returns:
            Row of each input, or -1; rows in the layout of _sums, float32 (rows, classes + 1).
        """
        width = self._classes + 1
        counts = np.diff(self._starts)
        dense = np.flatnonzero(counts > _DENSE_SHARE * self._classes)
        largest_first = np.argsort(-counts[dense], kind="stable")
        dense = np.sort(dense[largest_first[: _DENSE_VALUES // width]])
        counts, places, idf = self._stored_weights(dense)
        rows = np.zeros((len(dense), width), dtype=np.float32)
        of_weight = np.repeat(np.arange(len(dense)), counts)
        rows[of_weight, self._categories[places]] = idf[of_weight] * self._weights[places]
        rows[:, -1] = idf**2
        row_of = np.full(len(self._idf), -1)
        row_of[dense] = np.arange(len(dense))
        return row_of, rows

    def _stored_weights(self, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Find the stored weights and the IDF of inputs.

        Returns:
            Number of stored weights of each input, positions of all these weights, input by input,
            and IDF of each input.
        """
        first, counts = self._starts[inputs], self._starts[inputs + 1] - self._starts[inputs]
        before = np.cumsum(counts) - counts
        places = np.arange(int(counts.sum())) + np.repeat(first - before, counts)
        return counts, places, self._idf[inputs].astype(np.float64)
