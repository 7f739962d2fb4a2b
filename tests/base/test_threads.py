"""Work in parts covers everything once, and a part that fails is heard."""

from __future__ import annotations

import pytest

from rubro.base.threads import VARIABLE, in_parts, thread_count


@pytest.mark.parametrize("threads", ["1", "2", "3", "7"])
@pytest.mark.parametrize("count", [0, 1, 2, 5, 100])
def test_the_parts_cover_everything_once(
    threads: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, threads)
    seen: list[int] = []
    in_parts(lambda start, end: seen.extend(range(start, end)), count)
    assert sorted(seen) == list(range(count))


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
