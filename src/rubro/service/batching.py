"""Predict the titles of concurrent requests in common batches.

A batch of many titles is faster than many batches of one title: at saturation on one core of a busy
machine, batching answers 795 requests a second instead of 456 and takes 0.39 ms of CPU time for a
request instead of 0.89 ms (benchmarks/TRIED.md).

The model runs in the event loop, because on one core a thread and the loop would only wait for each
other's interpreter lock.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from starlette.exceptions import HTTPException

from rubro.prediction.classifier import Classifier

Ranking = list[tuple[str, float]]  # categories with their probabilities, best first
# Longer requests are answered in parts of this size, and other requests are answered in between.
MAX_BATCH_TITLES = 128
_MAX_WAITING = 4096


class _Part(NamedTuple):
    """Titles of one request, or a part of them, that wait for their predictions."""

    classifier: Classifier
    titles: Sequence[str]
    k: int
    answered: asyncio.Future[list[Ranking]]


class Batcher:
    """Groups the titles of waiting requests into batches for the model.

    Args:
        observe: Function that is called with the number of titles of each batch.
    """

    def __init__(self, observe: Callable[[int], None]) -> None:
        self._observe = observe
        self._waiting: deque[_Part] = deque()

    async def top(self, classifier: Classifier, titles: Sequence[str], k: int) -> list[Ranking]:
        """Return the most probable categories of each title, best first.

        Args:
            classifier: Model that predicts all titles of the request.
            titles: Any texts.
            k: Number of categories per title, >= 1.

        Raises:
            HTTPException: Too many requests are waiting (status 503).
        """
        loop = asyncio.get_running_loop()
        rankings: list[Ranking] = []
        for start in range(0, len(titles), MAX_BATCH_TITLES):
            if len(self._waiting) >= _MAX_WAITING:
                detail = "too many requests are waiting; try again later"
                raise HTTPException(503, detail, {"Retry-After": "1"})
            part = titles[start : start + MAX_BATCH_TITLES]
            waiting = _Part(classifier, part, k, loop.create_future())
            if not self._waiting:
                loop.call_soon(self._answer_batch)  # after all requests that have arrived are read
            self._waiting.append(waiting)
            rankings += await waiting.answered
        return rankings

    def _answer_batch(self) -> None:
        """Predict the requests at the front of the queue as one batch; schedule the next batch."""
        batch = [self._waiting.popleft()]
        classifier, count = batch[0].classifier, len(batch[0].titles)
        while self._waiting and self._waiting[0].classifier is classifier:
            count += len(self._waiting[0].titles)
            if count > MAX_BATCH_TITLES:
                break
            batch.append(self._waiting.popleft())
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._answer_batch)
        batch = [part for part in batch if not part.answered.done()]  # skip cancelled requests
        if not batch:
            return
        titles = [title for part in batch for title in part.titles]
        try:
            rankings = iter(classifier.top(titles, max(part.k for part in batch)))
        except Exception as error:  # noqa: BLE001 (passed on to the requests)
            for part in batch:
                part.answered.set_exception(error)
            return
        self._observe(len(titles))
        for part in batch:
            part.answered.set_result([next(rankings)[: part.k] for _ in part.titles])
