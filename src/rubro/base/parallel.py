"""Divide work among threads or processes.

The number of threads or processes never changes a result, because each item is computed entirely
by one thread or process, in the same order for any number of them.
"""

from __future__ import annotations

import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from functools import cache
from itertools import chain, islice, pairwise
from threading import Thread
from typing import TYPE_CHECKING, Any, TypeVar

from rubro.base.errors import RubroError
from rubro.base.signals import ENDING

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

_RANGES_PER_THREAD = 4
THREADS_VARIABLE = "RUBRO_THREADS"
T = TypeVar("T")
R = TypeVar("R")


def cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cores_to_use() -> int:
    """Return the number of cores to use: the environment variable OMP_NUM_THREADS, or all cores."""
    return _number_in("OMP_NUM_THREADS") or cores()


def thread_count() -> int:
    """Return the number of threads to use: the environment variable RUBRO_THREADS, or 1."""
    return _number_in(THREADS_VARIABLE) or 1


def _number_in(variable: str) -> int | None:
    """Return the number in an environment variable, at least 1, or None if it has no number."""
    number = os.environ.get(variable, "")
    return max(int(number), 1) if number.isdecimal() else None


def in_parts(work: Callable[[int, int], object], count: int) -> None:
    """Call a function in several threads, once for each of consecutive ranges from 0 to count.

    Each thread takes the next range when it has finished one, so no thread waits long for another.

    Args:
        work: Function of the start and the end (exclusive) of a range. Its result for an index must
            not depend on the range. Threads run in parallel only while it releases the GIL.
        count: End (exclusive) of the last range.
    """
    threads = min(thread_count(), count)
    if threads <= 1:
        work(0, count)
        return
    parts = min(threads * _RANGES_PER_THREAD, count)
    ranges = iter(list(pairwise(count * i // parts for i in range(parts + 1))))

    def take_ranges() -> None:
        for start, end in ranges:
            work(start, end)

    futures = [_pool().submit(take_ranges) for _ in range(threads - 1)]
    try:
        take_ranges()
    finally:
        started = [future for future in futures if not future.cancel()]
        wait(started)
    for future in started:
        future.result()


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(thread_count() - 1, thread_name_prefix="rubro")


if hasattr(os, "register_at_fork"):  # a forked process does not inherit the threads of the pool
    os.register_at_fork(after_in_child=_pool.cache_clear)


def interruptibly(work: Callable[[], T]) -> T:
    """Run a function in a thread, so that Ctrl-C interrupts long calls of C code in it."""
    outcome: Future[T] = Future()

    def run() -> None:
        try:
            outcome.set_result(work())
        except Exception as error:  # noqa: BLE001 (raised in the calling thread)
            outcome.set_exception(error)

    Thread(target=run, daemon=True).start()
    return outcome.result()


def mapped(work: Callable[[T], R], items: Iterable[T], processes: int) -> Iterator[tuple[T, R]]:
    """Apply a function to items in several processes, and yield each item with its result.

    The work is done by forked copies of this process, which share its data without pickling. For a
    single item or process, and on systems other than Linux, it is done in this process. Items
    keep their order.

    Args:
        work: Function of one item. Its result must not depend on earlier items.
        items: Items; at most `processes` of them are read ahead of the results.
        processes: Number of processes.

    Raises:
        RubroError: One of the processes ended unexpectedly.
    """
    items = iter(items)
    first = list(islice(items, processes))
    if len(first) < 2 or sys.platform != "linux":
        yield from ((item, work(item)) for item in chain(first, items))
        return
    # Imported when needed, because commands that answer single titles should start fast.
    import multiprocessing
    from concurrent.futures.process import BrokenProcessPool, ProcessPoolExecutor

    closed_at_end, held = multiprocessing.Pipe(duplex=False)
    pool = ProcessPoolExecutor(
        len(first),
        multiprocessing.get_context("fork"),
        _start_worker,
        (work, closed_at_end, held),
    )
    try:
        pending = deque((item, pool.submit(_call_work, item)) for item in first)
        while pending:
            item, future = pending.popleft()
            result = future.result()
            pending.extend((other, pool.submit(_call_work, other)) for other in islice(items, 1))
            yield item, result
    except BrokenProcessPool:
        raise RubroError(
            "a worker process ended unexpectedly, perhaps because memory ran out; "
            "with OMP_NUM_THREADS=1, a single process does the work"
        ) from None
    finally:
        held.close()
        pool.shutdown()
        closed_at_end.close()


_work: Callable[[Any], Any]  # in a worker process, the function given to mapped


def _start_worker(work: Callable[[Any], Any], closed_at_end: Connection, held: Connection) -> None:
    """Prepare a worker process that exits when its parent no longer needs it or has ended.

    Args:
        work: Function that the worker calls for each item.
        closed_at_end: End of a pipe on which the worker waits for the other end to be closed.
        held: Other end of the pipe, which the parent closes when it has all results or ends.
    """
    global _work
    _work = work
    for number in ENDING:  # Ctrl-C reaches all processes; the parent reacts to it
        signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.SIG_IGN)
    held.close()

    def end_with_parent() -> None:
        with suppress(EOFError):
            closed_at_end.recv()
        os._exit(1)

    try:
        Thread(target=end_with_parent, daemon=True).start()
    except RuntimeError:  # too little memory; the parent reports that its workers have ended
        os._exit(1)


def _call_work(item: Any) -> Any:
    return _work(item)
