"""Threads of the compiled steps, of matrix products, and of the next batch.

Each part of a result is computed by one thread, in the same order whatever the number of threads is:
that number never changes a byte.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from itertools import islice, pairwise
from threading import Lock, Thread
from typing import TypeVar

VARIABLE = "RUBRO_THREADS"
_PARTS_PER_THREAD = 4
T = TypeVar("T")


def cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cores_to_use() -> int:
    """Return the number of cores to use: that of the environment's OMP_NUM_THREADS, or all."""
    number = os.environ.get("OMP_NUM_THREADS", "")
    return max(int(number), 1) if number.isdecimal() else cores()


def thread_count() -> int:
    """Return the number of threads of this process: that of the environment's RUBRO_THREADS, or 1."""
    number = os.environ.get(VARIABLE, "")
    return max(int(number), 1) if number.isdecimal() else 1


def in_parts(work: Callable[[int, int], object], count: int) -> None:
    """Call a function for consecutive ranges that cover 0 to count.

    Each thread takes the next range when it has done one: where a core is slower, its thread does
    less of the work, and nothing waits for a thread that has not started.

    Args:
        work: Function of start and end of a range. What it computes for one number must not depend
            on the range; it runs beside others only while it releases Python's lock.
        count: End of the last range.
    """
    threads = min(thread_count(), count)
    if threads <= 1:
        work(0, count)
        return
    parts = min(threads * _PARTS_PER_THREAD, count)
    ranges = pairwise(count * i // parts for i in range(parts + 1))
    lock = Lock()

    def take() -> tuple[int, int] | None:
        with lock:
            return next(ranges, None)

    def take_turns() -> None:
        try:
            while own := take():
                work(*own)
        except BaseException:
            while take():  # no other range begins
                pass
            raise

    others = [_pool().submit(take_turns) for _ in range(1, threads)]
    try:
        take_turns()
    finally:
        begun = [other for other in others if not other.cancel()]
        errors = [other.exception() for other in begun]  # waits for each
    for error in filter(None, errors):
        raise error


def ahead(items: Iterator[T]) -> Iterator[T]:
    """Yield items; the next one is made in another thread, if there is one, while one is used."""
    if thread_count() <= 1:
        yield from items
        return
    following = _pool().submit(list, islice(items, 1))
    while made := following.result():
        following = _pool().submit(list, islice(items, 1))
        yield from made


def interruptibly(work: Callable[[], T]) -> T:
    """Return the result of long work outside Python, in a thread: Ctrl-C need not wait for it."""
    outcome: Future[T] = Future()

    def run() -> None:
        try:
            outcome.set_result(work())
        except Exception as error:  # noqa: BLE001 (for the caller)
            outcome.set_exception(error)

    Thread(target=run, daemon=True).start()
    return outcome.result()


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(thread_count() - 1, thread_name_prefix="rubro")


if hasattr(os, "register_at_fork"):  # a copy of this process has no threads but its own
    os.register_at_fork(after_in_child=_pool.cache_clear)
