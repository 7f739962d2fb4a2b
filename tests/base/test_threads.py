"""Work in parts covers everything once, and a part that fails is heard."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from threading import Event, current_thread, main_thread
from time import sleep

import pytest

from rubro.base import threads
from rubro.base.threads import VARIABLE, ahead, in_parts, thread_count


@pytest.mark.parametrize("threads", ["1", "2", "3", "7"])
@pytest.mark.parametrize("count", [0, 1, 2, 5, 100])
def test_the_parts_cover_everything_once(
    threads: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, threads)
    seen: list[int] = []
    in_parts(lambda start, end: seen.extend(range(start, end)), count)
    assert sorted(seen) == list(range(count))


def test_nothing_waits_for_a_thread_that_does_something_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(VARIABLE, "2")
    threads._pool.cache_clear()  # one made before may have more threads
    may_end = Event()

    def items() -> Iterator[int]:
        yield 0
        may_end.wait()
        yield 1

    seen: list[int] = []
    following = ahead(items())
    assert next(following) == 0  # the only other thread makes the next item, which takes long
    in_parts(lambda start, end: seen.extend(range(start, end)), 100)
    may_end.set()
    assert seen == list(range(100))
    assert list(following) == [1]


def test_after_an_error_no_other_range_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "2")
    begun: list[int] = []

    def work(start: int, _: int) -> None:
        begun.append(start)
        if current_thread() is main_thread():
            raise KeyboardInterrupt
        sleep(0.02)

    with pytest.raises(KeyboardInterrupt):
        in_parts(work, 1000)
    before = [*begun]
    sleep(0.1)
    assert begun == before
    assert len(begun) < 8


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system cannot copy a process")
def test_a_copy_of_this_process_has_threads_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "2")
    assert list(ahead(iter(range(3)))) == [0, 1, 2]
    context = multiprocessing.get_context("fork")
    child = context.Process(target=lambda: os._exit(sum(ahead(iter(range(3))))))
    child.start()
    child.join(20)
    code = child.exitcode  # None: it waits for a thread that it does not have
    child.kill()
    assert code == 3


@pytest.mark.parametrize("threads", ["1", "2"])
def test_items_made_ahead_come_in_order_up_to_an_error(
    threads: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, threads)
    assert list(ahead(iter(range(5)))) == [0, 1, 2, 3, 4]
    seen: list[float] = []
    with pytest.raises(ZeroDivisionError):
        seen.extend(ahead(1 / number for number in (1, 2, 0, 4)))
    assert seen == [1, 0.5]


@pytest.mark.parametrize(
    ("value", "threads"), [("", 1), ("0", 1), ("many", 1), ("-2", 1), ("3", 3)]
)
def test_what_is_no_number_is_one_thread(
    value: str, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, value)
    assert thread_count() == threads


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_the_error_of_a_part_is_raised(failing: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "3")

    def work(start: int, _: int) -> None:
        if start == failing:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        in_parts(work, 3)
