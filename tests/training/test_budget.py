"""The rules for the number of passes over the training titles and for the size of batches."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rubro.training.budget import EpochRule, batch_size_for, learning_rate_factor

RULE = EpochRule(titles=480_000, minimum=2, maximum=20)


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
    assert RULE.epochs(titles, "auto") == passes


@given(st.integers(1, 10**8), st.integers(1, 1000))
def test_what_the_user_asks_for_counts(titles: int, asked: int) -> None:
    assert RULE.epochs(titles, asked) == asked


@pytest.mark.parametrize(
    ("titles", "batch_size", "factor"),
    [(1, 256, 1.0), (31_999, 256, 1.0), (32_000, 512, 2**0.5), (128_000, 1024, 2.0)],
)
def test_more_titles_come_in_larger_batches_with_higher_rates(
    titles: int, batch_size: int, factor: float
) -> None:
    assert batch_size_for(titles, "auto") == batch_size
    assert batch_size_for(titles, 7) == 7
    assert learning_rate_factor(batch_size) == pytest.approx(factor)
