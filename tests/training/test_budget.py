"""The rule for the number of passes over the training titles."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rubro.training.budget import Passes

RULE = Passes(titles=480_000, least=2, most=20)


@pytest.mark.parametrize(
    ("titles", "passes"),
    [
        (1, 20),
        (24_000, 20),
        (24_615, 20),
        (24_616, 19),
        (48_000, 10),
        (100_000, 5),
        (240_000, 2),
        (10**7, 2),
    ],
)
def test_few_titles_are_passed_over_more_often(titles: int, passes: int) -> None:
    assert RULE.over(titles, "auto") == passes


@given(st.integers(1, 10**8), st.integers(1, 1000))
def test_what_the_user_asks_for_counts(titles: int, asked: int) -> None:
    assert RULE.over(titles, asked) == asked
