"""Work in parts covers everything once, and a part that fails is heard."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Event

import pytest

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
    may_end = Event()

    def items() -> Iterator[int]:
        yield 0
        may_end.wait()
        yield 1

    seen: list[int] = []
    following = ahead(items())
    assert next(following) == 0  # the only other thread makes the next item, which takes long
    in_parts(lambda start, end: seen.extend(range(start, end)), 100)
    assert seen == list(range(100))
    may_end.set()
    assert list(following) == [1]


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
