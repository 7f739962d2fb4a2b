"""Predict the titles of concurrent requests in common batches.

A batch of many titles is faster than many batches of one title: at saturation on one core of a busy
machine, batching answers 795 requests a second instead of 456 and takes 0.39 ms of CPU time for a
request instead of 0.89 ms (benchmarks/TRIED.md).

The model runs in the event loop, because on one core a thread and the loop would only wait for each
other's interpreter lock.
"""

from __future__ import annotations

import asyncio
import unicodedata
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from rubro.base.text_columns import MAX_TEXT_CHARACTERS, Product
from rubro.prediction.classifier import Classifier

Ranking = list[tuple[str, float]]  # categories with their probabilities, best first
# Longer requests are answered in parts of this size, and other requests are answered in between.
_MAX_BATCH_TITLES = 128
_MAX_BATCH_CHARACTERS = 4096
# Turns of the event loop between two batches; in each, it accepts at most one connection.
_TURNS = 16


def parts(classifier: Classifier, titles: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """Split the titles of a request into parts that a model predicts in a few hundredths of a second.

    Args:
        classifier: Model that will predict the titles.
        titles: Titles, or products with further columns; another item stays in its place.
    """
    start, characters = 0, 0
    for place, title in enumerate(titles):
        size = _characters(classifier, title)
        characters += size
        is_full = place - start == _MAX_BATCH_TITLES or characters > _MAX_BATCH_CHARACTERS
        if place > start and is_full:
            yield titles[start:place]
            start, characters = place, size
    yield titles[start:]


def _characters(classifier: Classifier, title: Any) -> int:
    """Return the number of characters of a title that the model reads, after decomposition."""
    if isinstance(title, str):
        return _length(title[: classifier.description.text.max_title_length])
    if isinstance(title, Mapping):
        return sum(_length(text[:MAX_TEXT_CHARACTERS]) for text in title.values())
    return 0


def _length(read: str) -> int:
    return len(read if read.isascii() else unicodedata.normalize("NFKD", read))


class _Part(NamedTuple):
    """Titles of one request, or a part of them, that wait for their predictions."""

    classifier: Classifier
    titles: Sequence[Product]
    k: int  # 0 = the probabilities of all categories
    characters: int
    answered: asyncio.Future[Any]


class Batcher:
    """Groups the titles of waiting requests into batches for the model.

    Args:
        observe: Function that is called with the number of titles of each batch.
    """

    def __init__(self, observe: Callable[[int], None]) -> None:
        self._observe = observe
        self._waiting: deque[_Part] = deque()

    async def top(self, classifier: Classifier, titles: Sequence[Product], k: int) -> list[Ranking]:
        """Return the most probable categories of each title, best first.

        Args:
            classifier: Model that predicts the titles.
            titles: One of the `parts` of a request.
            k: Number of categories per title, >= 1.
        """
        rankings: list[Ranking] = await self._predicted(classifier, titles, k) if titles else []
        return rankings

    async def probabilities(self, classifier: Classifier, titles: Sequence[Product]) -> np.ndarray:
        """Return the probability of each category, float32 (titles, classes).

        Args:
            classifier: Model that predicts the titles.
            titles: One of the `parts` of a request.
        """
        if not titles:
            return np.zeros((0, len(classifier.classes_)), dtype=np.float32)
        probabilities: np.ndarray = await self._predicted(classifier, titles, 0)
        return probabilities

    async def _predicted(self, classifier: Classifier, titles: Sequence[Product], k: int) -> Any:
        characters = sum(_characters(classifier, title) for title in titles)
        answered = asyncio.get_running_loop().create_future()
        self._waiting.append(_Part(classifier, titles, k, characters, answered))
        if len(self._waiting) == 1:
            self._wait(_TURNS)
        return await answered

    def _wait(self, turns: int) -> None:
        """Answer a batch after some turns of the event loop, in which more requests can arrive."""
        next_turn = (self._wait, turns - 1) if turns else (self._answer_batch,)
        asyncio.get_running_loop().call_soon(*next_turn)

    def _answer_batch(self) -> None:
        """Predict the requests at the front of the queue as one batch; schedule the next batch."""
        batch = [self._waiting.popleft()]
        classifier, is_ranked = batch[0].classifier, batch[0].k > 0
        count, characters = len(batch[0].titles), batch[0].characters
        while (
            self._waiting
            and self._waiting[0].classifier is classifier
            and (self._waiting[0].k > 0) == is_ranked
        ):
            count += len(self._waiting[0].titles)
            characters += self._waiting[0].characters
            if count > _MAX_BATCH_TITLES or characters > _MAX_BATCH_CHARACTERS:
                break
            batch.append(self._waiting.popleft())
        if self._waiting:
            self._wait(_TURNS)
        batch = [part for part in batch if not part.answered.done()]  # skip cancelled requests
        if batch:
            self._predict(classifier, batch)

    def _predict(self, classifier: Classifier, batch: Sequence[_Part]) -> None:
        """Predict some requests together, or separately if the titles of one of them fail."""
        titles = [title for part in batch for title in part.titles]
        k = max(part.k for part in batch)
        try:
            found: Any = classifier.top(titles, k) if k else classifier.predict_proba(titles)
        except Exception as error:  # noqa: BLE001 (passed on to the request)
            if len(batch) == 1:
                batch[0].answered.set_exception(error)
            else:
                for part in batch:
                    self._predict(classifier, [part])
            return
        self._observe(len(titles))
        start = 0
        for part in batch:
            own = found[start : start + len(part.titles)]
            start += len(part.titles)
            part.answered.set_result([ranking[: part.k] for ranking in own] if k else own)
