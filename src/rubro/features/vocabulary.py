"""Vocabulary of the training titles, and the files that contain it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rubro.base.errors import DataError
from rubro.base.files import damaged, read_json, write_json
from rubro.base.params import FeaturizeParams
from rubro.base.schema import Positive
from rubro.features.ragged import Ragged
from rubro.features.subwords import SubwordParams, Subwords

_CHUNK = 2**16  # number of titles counted at once, to limit memory use


def count_subwords(words: Sequence[str], titles: Ragged, params: FeaturizeParams) -> Subwords:
    """Build the vocabulary of the training titles, most frequent words first.

    Args:
        words: Word of each distinct token; the same word in several columns is listed several times.
        titles: Tokens of all columns of each training title, as positions in words.
        params: Limits of the vocabulary, and lengths and buckets of n-grams.

    Raises:
        DataError: No word occurs at least min_count times.
    """
    index: dict[str, int] = {}
    positions = np.array([index.setdefault(word, len(index)) for word in words], np.int32)
    if len(index) < len(words):
        words, titles = list(index), Ragged(positions[titles.values], titles.offsets)
    occurrences = np.bincount(titles.values, minlength=len(words))
    frequent = np.flatnonzero(occurrences >= params.min_count).tolist()
    if not frequent:
        raise DataError(
            f"no word occurs at least {params.min_count} times in the training titles; "
            "lower featurize.min_count or add training titles"
        )
    frequent.sort(key=lambda word: (-occurrences[word], words[word]))
    del frequent[params.max_words or len(frequent) :]
    titles_with = _titles_with(len(words), titles)
    sizes = SubwordParams(
        min_n=params.min_n,
        max_n=params.max_n,
        buckets=params.ngram_buckets if params.max_n else 0,
        titles=len(titles),
    )
    return Subwords({words[word]: int(titles_with[word]) for word in frequent}, sizes)


def _titles_with(words: int, titles: Ragged) -> np.ndarray:
    """Return the number of titles that contain each word, int64 (words,)."""
    found = np.zeros(words, dtype=np.int64)
    for start in range(0, len(titles), _CHUNK):
        lengths = titles.lengths[start : start + _CHUNK]
        first = titles.offsets[start]
        values = titles.values[first : first + lengths.sum()]
        pairs = np.unique(np.repeat(np.arange(len(lengths)), lengths) * words + values)
        found += np.bincount(pairs % words, minlength=words)
    return found


def save_subwords(folder: Path, subwords: Subwords) -> None:
    """Write a vocabulary and its n-gram sizes to vocabulary.json and subwords.json.

    Args:
        folder: Path of the folder, created if missing.
        subwords: Vocabulary, with the sizes that determine rows and weights.
    """
    write_json(folder / "vocabulary.json", subwords.vocabulary)
    write_json(folder / "subwords.json", subwords.params.model_dump())


def load_subwords(folder: Path) -> Subwords:
    """Read a vocabulary and its n-gram sizes from vocabulary.json and subwords.json.

    Raises:
        DataError: A file is missing or damaged.
    """
    vocabulary = read_json(folder / "vocabulary.json", dict[str, Positive])
    params = read_json(folder / "subwords.json", SubwordParams)
    if problem := params.problem(vocabulary):
        raise damaged(folder / "subwords.json", problem)
    return Subwords(vocabulary, params)
