"""Titles of concurrent requests, answered together in one thread beside the event loop."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

from rubro.prediction.classifier import Classifier

T = TypeVar("T")
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
        self._is_busy = False
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="rubro")

    async def top(self, classifier: Classifier, titles: Sequence[str], k: int) -> list[Best]:
        """Return the most probable categories of each title, best first.

        Args:
            classifier: Model that answers all of them.
            titles: Any texts.
            k: Number of categories, >= 1.

        Raises:
            Overloaded: Too many requests wait already.
        """
        found: list[Best] = []
        for start in range(0, len(titles), MOST_TITLES):
            if len(self._waiting) >= _MOST_WAITING:
                raise Overloaded
            answered = asyncio.get_running_loop().create_future()
            part = titles[start : start + MOST_TITLES]
            self._waiting.append(_Asked(classifier, part, k, answered))
            self._start()
            found += await answered
        return found

    async def run(self, work: Callable[[], T]) -> T:
        """Return the result of a function, called in the same thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def close(self) -> None:
        """Wait for the batch at work, and end the thread."""
        self._thread.shutdown()

    def _start(self) -> None:
        """Begin the next batch, unless one is at work."""
        if self._is_busy or not self._waiting:
            return
        batch = [self._waiting.popleft()]
        count = len(batch[0].titles)
        while self._waiting and self._waiting[0].classifier is batch[0].classifier:
            count += len(self._waiting[0].titles)
            if count > MOST_TITLES:
                break
            batch.append(self._waiting.popleft())
        self._is_busy = True
        running = asyncio.get_running_loop().run_in_executor(self._thread, _answers, batch)
        running.add_done_callback(lambda done: self._finish(batch, done))

    def _finish(self, batch: list[_Asked], done: asyncio.Future[list[list[Best]]]) -> None:
        self._is_busy = False
        self._observe(sum(len(asked.titles) for asked in batch))
        error = done.exception()
        for position, asked in enumerate(batch):
            if asked.answered.done():  # its request was cancelled
                continue
            if error is None:
                asked.answered.set_result(done.result()[position])
            else:
                asked.answered.set_exception(error)
        self._start()


def _answers(batch: Sequence[_Asked]) -> list[list[Best]]:
    titles = [title for asked in batch for title in asked.titles]
    found = iter(batch[0].classifier.top(titles, max(asked.k for asked in batch)))
    return [[next(found)[: asked.k] for _ in asked.titles] for asked in batch]
