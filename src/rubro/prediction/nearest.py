"""Training titles in a model folder, and those that are nearest to a title."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from rubro.base.text import tokenise
from rubro.features.subwords import Subwords

LAYOUT: dict[str, tuple[str, tuple[int | None, ...]]] = {
    "text": ("U8", (None,)),
    "text_starts": ("I64", (None,)),
    "categories": ("I32", (None,)),
    "lengths": ("F32", (None,)),
    "starts": ("I64", (None,)),
    "titles": ("I32", (None,)),
}


@dataclass(frozen=True)
class Neighbour:
    """A training title near another title.

    Attributes:
        title: Training title.
        category: Label of the training title.
        similarity: Cosine of both titles, 0 to 1.
    """

    title: str
    category: str
    similarity: float


def title_tensors(
    titles: Sequence[str], categories: np.ndarray, subwords: Subwords
) -> dict[str, np.ndarray]:
    """Return training titles as the tensors of a file of a model folder.

    Args:
        titles: Texts.
        categories: Class indices, (titles,).
        subwords: Rows and weights of words.

    Returns:
        text, all titles in UTF-8, and text_starts, their bounds; categories; lengths, the norms of
        the titles' weights; and the numbers of the titles that hold each word, titles, with their
        bounds, starts.
    """
    encoded = [title.encode("utf-8", "replace") for title in titles]
    row_of = {word: row for row, word in enumerate(subwords.vocabulary)}
    distinct = [set(tokenise(title)) for title in titles]
    rows = [[row_of[word] for word in words if word in row_of] for words in distinct]
    counts = np.array(list(map(len, rows)), dtype=np.int64)
    of_titles = np.fromiter(chain.from_iterable(rows), np.int64, int(counts.sum()))
    order = np.argsort(of_titles, kind="stable")
    return {
        "text": np.frombuffer(b"".join(encoded), dtype=np.uint8),
        "text_starts": _bounds(map(len, encoded)),
        "categories": np.asarray(categories, dtype=np.int32),
        "lengths": np.array([_length(subwords, words) for words in distinct], dtype=np.float32),
        "starts": _bounds(np.bincount(of_titles, minlength=len(row_of))),
        "titles": np.repeat(np.arange(len(titles), dtype=np.int32), counts)[order],
    }


def _bounds(lengths: Iterable[int]) -> np.ndarray:
    return np.cumsum([0, *lengths], dtype=np.int64)


def _length(subwords: Subwords, words: Iterable[str]) -> float:
    return float(np.sqrt(sum(subwords.weight_of(word) ** 2 for word in sorted(words))))


def problem(tensors: Mapping[str, np.ndarray], words: int, classes: int) -> str | None:
    """Return the fault of the tensors of a file; None = no fault.

    Args:
        tensors: Tensors of title_tensors.
        words: Number of words of the vocabulary.
        classes: Number of categories.
    """
    count = len(tensors["categories"])
    if len(tensors["lengths"]) != count or len(tensors["text_starts"]) != count + 1:
        return "its tensors differ in the number of titles"
    if len(tensors["starts"]) != words + 1:
        return "it is of another vocabulary"
    for bounds, values in (("text_starts", "text"), ("starts", "titles")):
        found, end = tensors[bounds], len(tensors[values])
        if found[0] != 0 or found[-1] != end or (found[1:] < found[:-1]).any():
            return f"{bounds} is out of range"
    for name, most in (("titles", count), ("categories", classes)):
        if len(tensors[name]) and not 0 <= tensors[name].min() <= tensors[name].max() < most:
            return f"{name} is out of range"
    return None


class TitleIndex:
    """Finds the training titles nearest to a title.

    Nearness is the cosine of the titles' words, each weighted by its inverse document frequency.
    Source: Salton and Buckley 1988, Term-weighting approaches in automatic text retrieval.

    Args:
        tensors: Tensors of title_tensors.
        subwords: Rows and weights of words.
        classes: Categories.
    """

    def __init__(
        self, tensors: Mapping[str, np.ndarray], subwords: Subwords, classes: Sequence[str]
    ) -> None:
        self._tensors = tensors
        self._subwords = subwords
        self._classes = classes

    def nearest(self, tokens: Sequence[str], count: int) -> list[Neighbour]:
        """Return the nearest titles, nearest first; of equally near ones, the first of the training.

        Args:
            tokens: Tokens of a title.
            count: Most titles to return.
        """
        words = set(tokens)
        starts, lengths = self._tensors["starts"], self._tensors["lengths"]
        shared = np.zeros(len(lengths))
        for word in sorted(words & self._subwords.vocabulary.keys()):
            (row, *_) = self._subwords.rows_of(word)
            holders = self._tensors["titles"][starts[row] : starts[row + 1]]
            shared[holders] += self._subwords.weight_of(word) ** 2
        (near,) = shared.nonzero()
        similarities = shared[near] / (lengths[near] * _length(self._subwords, words))
        order = np.argsort(-similarities, kind="stable")[:count]
        return [
            Neighbour(
                self._text(title), self._classes[self._tensors["categories"][title]], nearness
            )
            for title, nearness in zip(near[order], similarities[order].tolist(), strict=True)
        ]

    def _text(self, title: int) -> str:
        start, end = self._tensors["text_starts"][title : title + 2]
        return self._tensors["text"][start:end].tobytes().decode("utf-8", "replace")
