"""Work shared by several processes, with results in order.

Copies of this process do the work: what it holds, they hold too. Where the system cannot copy a
process, and for a single item, this process does the work alone.
"""

from __future__ import annotations

import multiprocessing
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from rubro.base.errors import ProcessError
from rubro.base.signals import ENDING

T = TypeVar("T")
R = TypeVar("R")


def mapped(work: Callable[[T], R], items: Iterable[T], processes: int) -> Iterator[tuple[T, R]]:
    """Yield each item with its result, in the order of the items.

    Args:
        work: Function of an item. Its result must not depend on the items before.
        items: Items, read as the work goes on.
        processes: Number of processes that work.

    Raises:
        ProcessError: One of the processes has ended, for want of memory for instance.
    """
    items = iter(items)
    first = list(islice(items, 2))
    items = chain(first, items)
    if processes < 2 or len(first) < 2 or sys.platform != "linux":
        yield from ((item, work(item)) for item in items)
        return
    workers: list[_Worker] = []
    asked: deque[tuple[T, _Worker]] = deque()
    try:
        for number, item in enumerate(items):
            if number < processes:
                workers.append(_Worker(work, workers))
                worker = workers[-1]
            else:
                done, worker = asked.popleft()
                yield done, worker.result()
            worker.ask(item)
            asked.append((item, worker))
        for done, worker in asked:
            yield done, worker.result()
    finally:
        for worker in workers:
            worker.end()


class _Worker:
    """A copy of this process that waits for items.

    Args:
        work: Function of an item.
        others: Workers that were started before.
    """

    def __init__(self, work: Callable[[Any], Any], others: list[_Worker]) -> None:
        self._connection, there = multiprocessing.Pipe()
        inherited = [self._connection, *(other._connection for other in others)]
        self._process = multiprocessing.get_context("fork").Process(
            target=_serve, args=(work, there, inherited), daemon=True
        )
        self._process.start()
        there.close()

    def ask(self, item: Any) -> None:
        self._exchange(lambda: self._connection.send(item))

    def result(self) -> Any:
        failed, value = self._exchange(self._connection.recv)
        if failed:
            raise value
        return value

    def end(self) -> None:
        self._connection.close()
        self._process.terminate()
        self._process.join()

    def _exchange(self, exchange: Callable[[], Any]) -> Any:
        try:
            return exchange()
        except (EOFError, BrokenPipeError, ConnectionResetError):
            self._process.join()
            raise ProcessError(
                f"a process that shared the work has ended (exit code {self._process.exitcode}), "
                "perhaps for want of memory; OMP_NUM_THREADS=1 works with one process"
            ) from None


def _serve(work: Callable[[Any], Any], asked: Connection, inherited: list[Connection]) -> None:
    """Answer until the process that asks has ended or closes the connection."""
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN if number != signal.SIGTERM else signal.SIG_DFL)
    for connection in inherited:
        connection.close()
    while True:
        try:
            item = asked.recv()
        except EOFError:
            return
        try:
            answer = (False, work(item))
        except Exception as error:  # noqa: BLE001 (for the process that asks)
            answer = (True, error)
        try:
            asked.send(answer)
        except BrokenPipeError:
            return
