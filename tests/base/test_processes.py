"""Work shared by processes: order, errors, ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rubro.base.errors import DataError, ProcessError
from rubro.base.processes import mapped

linux = pytest.mark.skipif(sys.platform != "linux", reason="processes are copied on Linux only")


@pytest.mark.parametrize("processes", [1, 2, 3, 8])
@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_results_are_in_the_order_of_the_items(processes: int, count: int) -> None:
    def late_if_even(number: int) -> int:
        time.sleep(0.02 if number % 2 == 0 else 0)
        return number**2

    found = list(mapped(late_if_even, range(count), processes))
    assert found == [(number, number**2) for number in range(count)]


@linux
def test_several_processes_work_and_none_of_them_is_left() -> None:
    workers = {worker for _, worker in mapped(lambda _: os.getpid(), range(6), 2)}
    assert len(workers) == 2
    assert os.getpid() not in workers
    for worker in workers:
        with pytest.raises(ProcessLookupError):
            os.kill(worker, 0)


def test_a_single_item_needs_no_other_process() -> None:
    assert list(mapped(lambda _: os.getpid(), ["only"], 4)) == [("only", os.getpid())]


@linux
def test_items_are_read_as_the_work_goes_on() -> None:
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


def test_large_items_and_results_pass_in_both_directions() -> None:
    large = "x" * 5_000_000
    for item, result in mapped(lambda text: text + "y", [large] * 5, 2):
        assert result == item + "y"


@pytest.mark.parametrize("processes", [1, 2])
def test_an_error_of_the_work_is_raised_here(processes: int) -> None:
    def refuse(number: int) -> int:
        if number == 3:
            raise DataError("file 3: damaged")
        return number

    with pytest.raises(DataError, match="file 3: damaged"):
        list(mapped(refuse, range(10), processes))


@linux
def test_a_process_that_is_killed_is_named_with_a_remedy() -> None:
    def die(number: int) -> int:
        if number == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    with pytest.raises(ProcessError, match=r"has ended \(exit code -9\).*OMP_NUM_THREADS=1"):
        list(mapped(die, range(10), 2))


ENDLESS = r"""
import os, sys, time
from rubro.base.console import reported_errors
from rubro.base.processes import mapped

def work(number):
    os.write(1, f"{os.getpid()}\n".encode())
    time.sleep(60)

with reported_errors():
    list(mapped(work, range(10), 2))
"""


@linux
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_when_the_command_ends_so_do_its_processes(number: signal.Signals) -> None:
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
        if number == signal.SIGINT:  # from a terminal it reaches all
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        process.wait(10)
        assert process.stderr.read() == "interrupted; run the same command again to resume\n"
    for worker in workers:
        wait_for_end(worker)


def wait_for_end(process: int) -> None:
    deadline = time.monotonic() + 10
    while Path(f"/proc/{process}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


ORPHAN = r"""
import os, sys, time
from rubro.base.processes import mapped

def work(number):
    os.write(1, f"{os.getpid()}\n".encode())
    time.sleep(0.5)

for _ in mapped(work, range(100), 3):
    pass
"""


@linux
def test_processes_of_a_killed_command_end_after_their_item() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", ORPHAN], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        workers = {int(process.stdout.readline()) for _ in range(3)}
        process.kill()
        for worker in workers:
            wait_for_end(worker)
