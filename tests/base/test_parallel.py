"""Threads and processes do all of the work, in order, and their errors are raised."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from time import sleep

import pytest

from rubro.base.errors import DataError, RubroError
from rubro.base.parallel import THREADS_VARIABLE, in_parts, mapped, thread_count

linux = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux only")


@pytest.mark.parametrize("threads", ["1", "2", "7"])
@pytest.mark.parametrize("count", [0, 1, 5, 100])
def test_ranges_of_threads_cover_every_number_once(
    threads: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(THREADS_VARIABLE, threads)
    seen: list[int] = []
    in_parts(lambda start, end: seen.extend(range(start, end)), count)
    assert sorted(seen) == list(range(count))


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_an_error_in_a_range_is_raised_after_the_other_threads_have_ended(
    failing: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(THREADS_VARIABLE, "3")
    started: list[int] = []
    ended: list[int] = []

    def work(start: int, _: int) -> None:
        started.append(start)
        if start == failing:
            raise ZeroDivisionError
        sleep(0.02)
        ended.append(start)

    with pytest.raises(ZeroDivisionError):
        in_parts(work, 3)
    assert sorted([*ended, failing]) == sorted(started)


@linux
def test_a_forked_process_starts_threads_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(THREADS_VARIABLE, "2")

    def work() -> None:
        in_parts(lambda start, end: None, 2)

    work()
    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join(20)
    code = child.exitcode  # None if the child waits for a thread that it did not inherit
    child.kill()
    assert code == 0


@pytest.mark.parametrize(
    ("value", "threads"), [("", 1), ("0", 1), ("many", 1), ("-2", 1), ("3", 3)]
)
def test_an_invalid_number_of_threads_counts_as_one(
    value: str, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(THREADS_VARIABLE, value)
    assert thread_count() == threads


@pytest.mark.parametrize(("processes", "count"), [(1, 3), (2, 0), (2, 7), (8, 2), (8, 1)])
def test_results_of_processes_are_in_the_order_of_the_items(processes: int, count: int) -> None:
    def late_if_even(number: int) -> int:
        time.sleep(0.02 if number % 2 == 0 else 0)
        return number**2

    found = list(mapped(late_if_even, range(count), processes))
    assert found == [(number, number**2) for number in range(count)]


@linux
def test_all_processes_work_and_end_with_the_work() -> None:
    barrier = multiprocessing.get_context("fork").Barrier(2)

    def work(_: int) -> int:
        barrier.wait(10)  # for the other process
        return os.getpid()

    workers = {worker for _, worker in mapped(work, range(6), 2)}
    assert len(workers) == 2
    assert os.getpid() not in workers
    for worker in workers:
        with pytest.raises(ProcessLookupError):
            os.kill(worker, 0)


def test_a_single_item_starts_no_process() -> None:
    assert list(mapped(lambda _: os.getpid(), ["only"], 4)) == [("only", os.getpid())]


@linux
def test_items_are_read_as_the_work_proceeds() -> None:
    read = []

    def items() -> Iterator[int]:
        for number in range(100):
            read.append(number)
            yield number

    results = mapped(lambda number: number, items(), 2)
    assert next(results) == (0, 0)
    assert len(read) <= 3
    results.close()  # type: ignore[attr-defined]
    assert len(read) <= 3


def test_large_items_and_results_are_passed_between_processes() -> None:
    large = "x" * 5_000_000
    for item, result in mapped(lambda text: text + "y", [large] * 5, 2):
        assert result == item + "y"


@pytest.mark.parametrize("processes", [1, 2])
def test_an_error_of_the_work_is_raised_in_the_parent(processes: int) -> None:
    def refuse(number: int) -> int:
        if number == 3:
            raise DataError("file 3: damaged")
        return number

    with pytest.raises(DataError, match="file 3: damaged"):
        list(mapped(refuse, range(10), processes))


@linux
def test_the_error_of_a_killed_process_names_a_cause_and_a_remedy() -> None:
    def die(number: int) -> int:
        if number == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    with pytest.raises(RubroError, match=r"memory.*OMP_NUM_THREADS=1"):
        list(mapped(die, range(10), 2))


ENDLESS = r"""
import os, sys, time
from rubro.base.console import reported_errors
from rubro.base.parallel import mapped

def work(number):
    os.write(1, f"{os.getpid()}\n".encode())
    time.sleep(60)

with reported_errors():
    list(mapped(work, range(10), 2))
"""


@linux
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_processes_end_with_their_parent_and_print_no_traceback(number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", ENDLESS],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        workers = [int(process.stdout.readline()) for _ in range(2)]
        if number == signal.SIGINT:  # a terminal sends it to the whole process group
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        process.wait(10)
        printed = process.stderr.read().splitlines()
    assert len(printed) == (0 if number == signal.SIGKILL else 1)
    assert all("interrupted" in line and "resume" in line for line in printed)
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{worker}").exists() for worker in workers):
        assert time.monotonic() < deadline
        time.sleep(0.05)
