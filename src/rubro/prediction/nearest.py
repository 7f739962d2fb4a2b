"""Index of the training titles in a model folder, for finding titles similar to a given one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from rubro.base.files import damaged, read_tensors
from rubro.base.text import tokenise
from rubro.features.ragged import check_ranges
from rubro.features.subwords import Subwords

_DTYPES = {
    "text": "U8",
    "text_starts": "I64",
    "categories": "I32",
    "lengths": "F32",
    "starts": "I64",
    "titles": "I32",
}


@dataclass(frozen=True)
class Neighbour:
    """A training title that is similar to another title.

    Attributes:
        title: Training title.
        category: Label of the training title.
        similarity: Cosine similarity of the two titles, 0 to 1.
    """

    title: str
    category: str
    similarity: float


def title_tensors(
    titles: Sequence[str], categories: np.ndarray, subwords: Subwords
) -> dict[str, np.ndarray]:
    """Build the index of the training titles.

    Args:
        titles: Training titles.
        categories: Class index of each title, (titles,).
        subwords: Vocabulary and IDF weights of the model.

    Returns:
        Tensors of a safetensors file, by name:

        - text and text_starts: all titles in UTF-8, and their bounds in the text
        - categories: class index of each title
        - lengths: Euclidean length of the TF-IDF vector of each title
        - titles and starts: an inverted index, that is, the positions of the titles that contain
          each word of the vocabulary, and the bounds of each word's list
    """
    encoded = [title.encode("utf-8", "replace") for title in titles]
    row_of = {word: row for row, word in enumerate(subwords.vocabulary)}
    distinct = [set(tokenise(title)) for title in titles]
    rows = [[row_of[word] for word in words if word in row_of] for words in distinct]
    counts = np.array(list(map(len, rows)), dtype=np.int64)
    all_rows = np.fromiter(chain.from_iterable(rows), np.int64, int(counts.sum()))
    order = np.argsort(all_rows, kind="stable")
    return {
        "text": np.frombuffer(b"".join(encoded), dtype=np.uint8),
        "text_starts": _bounds(map(len, encoded)),
        "categories": np.asarray(categories, dtype=np.int32),
        "lengths": np.array([_length(subwords, words) for words in distinct], dtype=np.float32),
        "starts": _bounds(np.bincount(all_rows, minlength=len(row_of))),
        "titles": np.repeat(np.arange(len(titles), dtype=np.int32), counts)[order],
    }


def _bounds(lengths: Iterable[int]) -> np.ndarray:
    return np.cumsum([0, *lengths], dtype=np.int64)


def _length(subwords: Subwords, words: Iterable[str]) -> float:
    return float(np.sqrt(sum(subwords.weight_of(word) ** 2 for word in sorted(words))))


def load_title_tensors(path: Path, words: int, classes: int, sha256: str) -> dict[str, np.ndarray]:
    """Read and check an index of training titles.

    Args:
        path: Path of the safetensors file.
        words: Number of words in the vocabulary of the model.
        classes: Number of categories of the model.
        sha256: Expected SHA-256 of the file, in hexadecimal digits.

    Returns:
        Tensors as title_tensors returns them.

    Raises:
        DataError: The file is missing, damaged or does not fit the model.
    """
    layout = {name: (dtype, (None,)) for name, dtype in _DTYPES.items()}
    tensors = read_tensors(path, layout, sha256)
    titles = len(tensors["categories"])
    if len(tensors["lengths"]) != titles or len(tensors["text_starts"]) != titles + 1:
        raise damaged(path, "its tensors differ in the number of titles")
    if len(tensors["starts"]) != words + 1:
        raise damaged(path, "it belongs to another vocabulary")
    limits = {"titles": titles, "categories": classes}
    check_ranges(path, tensors, {"text_starts": "text", "starts": "titles"}, limits)
    return tensors


class TitleIndex:
    """Index for finding the training titles that are most similar to a title.

    The similarity of two titles is the cosine of their TF-IDF vectors. Only the distinct words of a
    title count, each weighted by its inverse document frequency.
    Source: Salton and Buckley 1988, Term-weighting approaches in automatic text retrieval.

    Args:
        tensors: Tensors of the index; see title_tensors.
        subwords: Vocabulary and IDF weights of the model.
        classes: Categories, in the order of the class indices.
    """

    def __init__(
        self, tensors: Mapping[str, np.ndarray], subwords: Subwords, classes: Sequence[str]
    ) -> None:
        self._tensors = tensors
        self._subwords = subwords
        self._classes = classes

    def nearest(self, tokens: Sequence[str], count: int) -> list[Neighbour]:
        """Return the training titles most similar to a title.

        Titles that share no known word with it are not returned.

        Args:
            tokens: Tokens of the title.
            count: Maximum number of titles to return.

        Returns:
            Training titles, most similar first; ties keep the order of the training data.
        """
        words = set(tokens)
        starts, lengths = self._tensors["starts"], self._tensors["lengths"]
        shared = np.zeros(len(lengths))
        known = sorted(words & self._subwords.vocabulary.keys())
        rows = self._subwords.rows_of(known)
        for number, word in enumerate(known):
            row = rows[number][0]
            containing = self._tensors["titles"][starts[row] : starts[row + 1]]
            shared[containing] += self._subwords.weight_of(word) ** 2
        (near,) = shared.nonzero()
        similarities = shared[near] / (lengths[near] * _length(self._subwords, words))
        order = np.argsort(-similarities, kind="stable")[:count]
        found = []
        for title, similarity in zip(near[order], similarities[order].tolist(), strict=True):
            start, end = self._tensors["text_starts"][title : title + 2]
            text = self._tensors["text"][start:end].tobytes().decode("utf-8", "replace")
            category = self._classes[self._tensors["categories"][title]]
            found.append(Neighbour(text, category, similarity))
        return found
