"""Predictions for many titles, computed by several processes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

import numpy as np

from rubro.base.parallel import mapped
from rubro.base.text_columns import Product
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
    """Yield each chunk of titles with the result of a function that several processes call.

    The bytes of the results do not depend on the number of processes.

    Args:
        classifier: Classifier for the function; it caches only the tokens of the first chunk.
        chunks: Chunks of titles.
        answer: Function that uses the classifier to compute the result of a chunk.
        processes: Number of processes.
    """
    chunks = iter(chunks)
    for first in islice(chunks, 1):
        yield first, answer(first)
    classifier.freeze_cache()
    yield from mapped(answer, chunks, processes)


def member_logits_of(
    classifiers: Iterable[Classifier], products: Sequence[Product], processes: int
) -> dict[str, np.ndarray]:
    """Return the unweighted logits of the members of classifiers, float32 (products, classes).

    Members with the same name must be the same; their logits are computed only once. Each
    classifier caches only the tokens of the first products.

    Args:
        classifiers: Classifiers, those with the most members first.
        products: Products to classify.
        processes: Number of processes.

    Returns:
        Logits by the name of the member.
    """
    found: dict[str, np.ndarray] = {}
    starts = range(0, max(len(products), 1), _CHUNK)
    chunks = [products[start : start + _CHUNK] for start in starts]
    for classifier in classifiers:
        if classifier.description.members.keys() <= found.keys():
            continue
        parts = [
            part for _, part in answered(classifier, chunks, classifier.member_logits, processes)
        ]
        found |= {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return found
