"""Answers to many titles, computed by several processes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

import numpy as np

from rubro.base.processes import mapped
from rubro.prediction.classifier import Classifier

C = TypeVar("C")
R = TypeVar("R")

_CHUNK = 4096


def answered(
    classifier: Classifier,
    chunks: Iterable[C],
    answer: Callable[[C], R],
    processes: int,
) -> Iterator[tuple[C, R]]:
    """Yield each chunk of titles with its answer, computed by several processes.

    The bytes of the answers do not depend on the number of processes.

    Args:
        classifier: Classifier that answers; it then remembers the tokens of the first chunk alone.
        chunks: Chunks of titles.
        answer: Function of a chunk that asks the classifier.
        processes: Number of processes.
    """
    chunks = iter(chunks)
    for first in islice(chunks, 1):
        yield first, answer(first)
    classifier.settle()
    yield from mapped(answer, chunks, processes)


def logits_of(classifier: Classifier, titles: Sequence[str], processes: int) -> np.ndarray:
    """Return Classifier.logits, computed by several processes.

    Args:
        classifier: Classifier; it then remembers the tokens of the first titles alone.
        titles: Any texts.
        processes: Number of processes.
    """
    chunks = [titles[start : start + _CHUNK] for start in range(0, max(len(titles), 1), _CHUNK)]
    return np.concatenate(
        [logits for _, logits in answered(classifier, chunks, classifier.logits, processes)]
    )
