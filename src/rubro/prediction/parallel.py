"""Predictions for many titles, computed by several processes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TypeVar

import numpy as np

from rubro.base.parallel import mapped
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


def logits_of(
    classifiers: Mapping[str, Classifier], titles: Sequence[str], processes: int
) -> dict[str, np.ndarray]:
    """Return the logits of an ensemble and of single models, float32 (titles, classes), by name.

    The logits of a model that is a member of the ensemble are computed only once. Each classifier
    caches only the tokens of the first titles.

    Args:
        classifiers: Classifiers by name: "ensemble", and the names of single models.
        titles: Any texts.
        processes: Number of processes.
    """
    ensemble = classifiers["ensemble"]
    members = _member_logits(ensemble, titles, processes)
    found = {}
    for name, classifier in classifiers.items():
        if classifier is ensemble:
            found[name] = ensemble.weighted_sum(members)
        elif name in members:
            found[name] = members[name]
        else:
            found |= _member_logits(classifier, titles, processes)
    return found


def _member_logits(
    classifier: Classifier, titles: Sequence[str], processes: int
) -> dict[str, np.ndarray]:
    chunks = [titles[start : start + _CHUNK] for start in range(0, max(len(titles), 1), _CHUNK)]
    parts = [part for _, part in answered(classifier, chunks, classifier.member_logits, processes)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
