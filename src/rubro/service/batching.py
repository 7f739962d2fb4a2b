"""Titles of concurrent requests, answered together.

The model answers in the event loop: on one core, a thread beside it would only wait for the
interpreter's lock, and so would the loop.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from rubro.prediction.classifier import Classifier

Best = list[tuple[str, float]]
# A request with more titles waits for its turn after each so many, with those that came meanwhile.
MOST_TITLES = 128
_MOST_WAITING = 4096


class Overloaded(Exception):
    """Too many requests wait."""


class _Asked(NamedTuple):
    classifier: Classifier
    titles: Sequence[str]
    k: int
    answered: asyncio.Future[list[Best]]


class Batcher:
    """Answers the titles that wait together: one batch of many is faster than many of one.

    Args:
        observe: Function that takes the number of titles of each batch.
    """

    def __init__(self, observe: Callable[[int], None]) -> None:
        self._observe = observe
        self._waiting: deque[_Asked] = deque()

    async def top(self, classifier: Classifier, titles: Sequence[str], k: int) -> list[Best]:
        """Return the most probable categories of each title, best first.

        Args:
            classifier: Model that answers all of them.
            titles: Any texts.
            k: Number of categories, >= 1.

        Raises:
            Overloaded: Too many requests wait already.
        """
        loop = asyncio.get_running_loop()
        found: list[Best] = []
        for start in range(0, len(titles), MOST_TITLES):
            if len(self._waiting) >= _MOST_WAITING:
                raise Overloaded
            asked = _Asked(classifier, titles[start : start + MOST_TITLES], k, loop.create_future())
            if not self._waiting:
                loop.call_soon(self._answer)  # when all that has arrived has been read
            self._waiting.append(asked)
            found += await asked.answered
        return found

    def _answer(self) -> None:
        """Answer the next batch, and have the one after it answered in turn."""
        batch = [self._waiting.popleft()]
        count = len(batch[0].titles)
        while self._waiting and self._waiting[0].classifier is batch[0].classifier:
            count += len(self._waiting[0].titles)
            if count > MOST_TITLES:
                break
            batch.append(self._waiting.popleft())
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._answer)
        batch = [asked for asked in batch if not asked.answered.done()]  # cancelled requests
        if not batch:
            return
        try:
            answers = _answers(batch)
        except Exception as error:  # noqa: BLE001 (for the requests)
            for asked in batch:
                asked.answered.set_exception(error)
            return
        self._observe(sum(len(asked.titles) for asked in batch))
        for asked, best in zip(batch, answers, strict=True):
            asked.answered.set_result(best)


def _answers(batch: Sequence[_Asked]) -> list[list[Best]]:
    titles = [title for asked in batch for title in asked.titles]
    found = iter(batch[0].classifier.top(titles, max(asked.k for asked in batch)))
    return [[next(found)[: asked.k] for _ in asked.titles] for asked in batch]
