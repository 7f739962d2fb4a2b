"""Titles as ragged arrays of integers, ready to be gathered into batches."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors.numpy import save_file

from rubro.base.errors import DataError
from rubro.base.files import damaged, read_tensors
from rubro.base.params import FeaturizeParams
from rubro.features.embedding import Subwords


@dataclass(frozen=True)
class Ragged:
    """Lists of integers of different lengths, end to end.

    Attributes:
        values: int32 (sum of lengths,).
        offsets: int64 (lists + 1,); list i is values[offsets[i]:offsets[i + 1]].
    """

    values: np.ndarray
    offsets: np.ndarray

    @classmethod
    def from_lists(cls, lists: list[list[int]]) -> Ragged:
        """Put lists end to end."""
        lengths = np.fromiter(map(len, lists), dtype=np.int64, count=len(lists))
        values = np.fromiter((v for items in lists for v in items), np.int32, int(lengths.sum()))
        return cls(values, np.concatenate([[0], np.cumsum(lengths)]))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> np.ndarray:
        return self.values[self.offsets[index] : self.offsets[index + 1]]

    @property
    def lengths(self) -> np.ndarray:
        """int64 (lists,)."""
        return np.diff(self.offsets)

    def take(self, indices: np.ndarray) -> Ragged:
        """The lists at these positions, in this order.

        Args:
            indices: integers (n,).

        Returns:
            n lists.
        """
        lengths = self.offsets[indices + 1] - self.offsets[indices]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        shift = np.repeat(self.offsets[indices] - offsets[:-1], lengths)
        return Ragged(self.values[np.arange(offsets[-1]) + shift], offsets)


@dataclass(frozen=True)
class Tokens(Ragged):
    """The distinct tokens of all splits: the embedding rows of each, as lists.

    Attributes:
        weights: float32 (tokens,), how much each says: see Subwords.weight_of.
    """

    weights: np.ndarray


@dataclass(frozen=True)
class TitleFeatures:
    """A split, as integers.

    Attributes:
        tokens: for each title the indices of its tokens in Tokens.
        bigrams: for each title the hash buckets of its pairs of neighbouring tokens.
        targets: int32 (titles,), class indices.
        reliable: bool (titles,), label quality.
        has_oov: bool (titles,), whether a token is out of the embedding's vocabulary.
    """

    tokens: Ragged
    bigrams: Ragged
    targets: np.ndarray
    reliable: np.ndarray
    has_oov: np.ndarray

    def __len__(self) -> int:
        return len(self.targets)

    def save(self, path: Path) -> None:
        """Write one safetensors file."""
        arrays = {"targets": self.targets, "reliable": self.reliable, "has_oov": self.has_oov}
        for name, ragged in (("tokens", self.tokens), ("bigrams", self.bigrams)):
            arrays |= {f"{name}.values": ragged.values, f"{name}.offsets": ragged.offsets}
        save_file(arrays, path)

    @classmethod
    def load(cls, path: Path) -> TitleFeatures:
        """Read what save wrote.

        Raises:
            DataError: the file is missing or not as save wrote it.
        """
        layout = {"targets": "I32", "reliable": "BOOL", "has_oov": "BOOL"}
        for name in ("tokens", "bigrams"):
            layout |= {f"{name}.values": "I32", f"{name}.offsets": "I64"}
        arrays = read_tensors(path, {name: (dtype, (None,)) for name, dtype in layout.items()})
        tokens = _checked(path, arrays["tokens.values"], arrays["tokens.offsets"])
        bigrams = _checked(path, arrays["bigrams.values"], arrays["bigrams.offsets"])
        targets, reliable, has_oov = (arrays[name] for name in ("targets", "reliable", "has_oov"))
        if len({len(each) for each in (tokens, bigrams, targets, reliable, has_oov)}) > 1:
            raise damaged(path, "its tensors are not of the same number of titles")
        if targets.min(initial=0) < 0:
            raise damaged(path, "a class is negative")
        return cls(tokens, bigrams, targets, reliable, has_oov)


def _checked(path: Path, values: np.ndarray, offsets: np.ndarray) -> Ragged:
    """A ragged array whose offsets lead nowhere but into its values."""
    whole = len(offsets) > 0 and offsets[0] == 0 and offsets[-1] == len(values)
    if not whole or (offsets[1:] < offsets[:-1]).any() or values.min(initial=0) < 0:
        raise damaged(path, "lists that are no lists")
    return Ragged(values, offsets)


class Featurizer:
    """Turns tokens into integers; each distinct token is looked up once.

    Attributes:
        tokens: the distinct tokens seen so far, in order of appearance.
    """

    def __init__(self, subwords: Subwords, params: FeaturizeParams) -> None:
        self._subwords = subwords
        self._params = params
        self._index: dict[str, int] = {}
        self._rows: list[list[int]] = []
        self._weights: list[float] = []
        self._hashes: list[int] = []
        self._known: list[bool] = []

    @property
    def tokens(self) -> Tokens:
        rows = Ragged.from_lists(self._rows)
        return Tokens(rows.values, rows.offsets, np.array(self._weights, dtype=np.float32))

    def __call__(self, titles: list[list[str]]) -> tuple[Ragged, Ragged, np.ndarray]:
        """Look up the tokens of titles.

        Args:
            titles: the tokens of each title; those beyond featurize.max_tokens are cut.

        Returns:
            tokens and bigrams as TitleFeatures has them, and has_oov.
        """
        limit = self._params.max_tokens
        tokens = Ragged.from_lists(
            [[self._index_of(token) for token in title[:limit]] for title in titles]
        )
        known = np.append(np.array(self._known, dtype=bool), True)[tokens.values]
        unknown = np.concatenate([[0], np.cumsum(~known)])
        has_oov = np.diff(unknown[tokens.offsets]) > 0
        return tokens, self._bigrams(tokens), has_oov

    def _index_of(self, token: str) -> int:
        index = self._index.get(token)
        if index is None:
            index = self._index[token] = len(self._index)
            self._rows.append(self._subwords.rows_of(token))
            self._weights.append(self._subwords.weight_of(token))
            self._hashes.append(zlib.crc32(token.encode("utf-8")))
            self._known.append(token in self._subwords)
        return index

    def _bigrams(self, tokens: Ragged) -> Ragged:
        buckets = self._params.bigram_buckets
        if buckets == 0:
            return Ragged(np.zeros(0, np.int32), np.zeros(len(tokens) + 1, np.int64))
        hashes = np.array(self._hashes, dtype=np.uint64)[tokens.values]
        odd = np.uint64(0x9E3779B97F4A7C15)  # Fibonacci hashing: Knuth, TAOCP 3, 6.4
        pairs = ((hashes[:-1] * odd + hashes[1:]) * odd) >> np.uint64(32)
        # A pair that starts at the last token of a title would reach into the next title.
        within = np.ones(max(len(hashes) - 1, 0), dtype=bool)
        ends = tokens.offsets[1:-1]
        within[ends[(ends > 0) & (ends < len(hashes))] - 1] = False
        lengths = np.maximum(tokens.lengths - 1, 0)
        values = (pairs[within] % np.uint64(buckets)).astype(np.int32)
        return Ragged(values, np.concatenate([[0], np.cumsum(lengths)]))


def featurize(
    table: pd.DataFrame, titles: list[list[str]], labels: list[str], featurizer: Featurizer
) -> TitleFeatures:
    """A split as integers.

    Args:
        table: category and label_quality of each title.
        titles: the tokens of each title.
        labels: the class names in order.
        featurizer: shared by all splits.

    Returns:
        The features.

    Raises:
        DataError: a category is not among the labels.
    """
    unknown = set(table["category"]) - set(labels)
    if unknown:
        raise DataError(f"category {min(unknown)!a} is not among the labels; `dvc repro` mends it")
    tokens, bigrams, has_oov = featurizer(titles)
    class_of = {label: index for index, label in enumerate(labels)}
    return TitleFeatures(
        tokens,
        bigrams,
        targets=np.array([class_of[name] for name in table["category"]], dtype=np.int32),
        reliable=(table["label_quality"] == "reliable").to_numpy(dtype=bool),
        has_oov=has_oov,
    )


def save_features(folder: Path, splits: dict[str, TitleFeatures], tokens: Tokens) -> None:
    """Write tokens.safetensors and one file a split; the same bytes each time."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(vars(tokens), folder / "tokens.safetensors")
    for name, split in splits.items():
        split.save(folder / f"{name}.safetensors")


def load_features(folder: Path, *splits: str) -> tuple[list[TitleFeatures], Tokens]:
    """Read what save_features wrote.

    Args:
        folder: of the features.
        splits: the names of those to read.

    Returns:
        The splits in the order asked for, and their distinct tokens.

    Raises:
        DataError: a file is missing or not as save_features wrote it.
    """
    path = folder / "tokens.safetensors"
    layout = {"values": ("I32", (None,)), "offsets": ("I64", (None,)), "weights": ("F32", (None,))}
    arrays = read_tensors(path, layout)
    rows, weights = _checked(path, arrays["values"], arrays["offsets"]), arrays["weights"]
    if len(rows) != len(weights):
        raise damaged(path, "its tensors are not of the same number of tokens")
    tokens = Tokens(rows.values, rows.offsets, weights)
    loaded = []
    for name in splits:
        path = folder / f"{name}.safetensors"
        features = TitleFeatures.load(path)
        if features.tokens.values.max(initial=-1) >= len(tokens):
            raise damaged(path, "a token is not in tokens.safetensors")
        loaded.append(features)
    return loaded, tokens
