"""The vocabulary of the training titles, and its files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Protocol

from rubro.base.errors import DataError
from rubro.base.files import damaged, read_json, write_json
from rubro.base.params import FeaturizeParams
from rubro.base.schema import Positive
from rubro.features.subwords import SubwordParams, Subwords


class Sentences(Protocol):
    """Tokens of each title, which can be read again and again."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[list[str]]: ...


def count_subwords(sentences: Sentences, params: FeaturizeParams) -> Subwords:
    """Count the words of the training titles, the most frequent ones first.

    Args:
        sentences: Tokens of each training title; read twice.
        params: Limits of the vocabulary, and lengths and buckets of n-grams.

    Raises:
        DataError: No word appears min_count times.
    """
    occurrences = Counter(chain.from_iterable(sentences))
    frequent = [word for word, count in occurrences.items() if count >= params.min_count]
    if not frequent:
        raise DataError(
            f"no word appears {params.min_count} times in the training titles; "
            "lower featurize.min_count or bring more data"
        )
    frequent.sort(key=lambda word: (-occurrences[word], word))
    del frequent[params.max_words or len(frequent) :]
    titles_with = Counter(chain.from_iterable(map(set, sentences)))
    sizes = SubwordParams(
        min_n=params.min_n,
        max_n=params.max_n,
        buckets=params.ngram_buckets if params.max_n else 0,
        titles=len(sentences),
    )
    return Subwords({word: titles_with[word] for word in frequent}, sizes)


def save_subwords(folder: Path, subwords: Subwords) -> None:
    """Write vocabulary.json and subwords.json.

    Args:
        folder: Path of the folder, created if missing.
        subwords: Rows and weight of each token.
    """
    write_json(folder / "vocabulary.json", subwords.vocabulary)
    write_json(folder / "subwords.json", subwords.params.model_dump())


def load_subwords(folder: Path) -> Subwords:
    """Read vocabulary.json and subwords.json.

    Raises:
        DataError: A file is missing or damaged.
    """
    vocabulary = read_json(folder / "vocabulary.json", dict[str, Positive])
    params = read_json(folder / "subwords.json", SubwordParams)
    if problem := params.problem(vocabulary):
        raise damaged(folder / "subwords.json", problem)
    return Subwords(vocabulary, params)
