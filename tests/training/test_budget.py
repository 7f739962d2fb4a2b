"""Automatic numbers of epochs and batch sizes."""

from __future__ import annotations

import pytest

from rubro.training.budget import EpochRule, batch_size_for, learning_rate_factor

RULE = EpochRule(titles=480_000, minimum=2, maximum=20)


@pytest.mark.parametrize(
    ("titles", "epochs"),
    [(1, 20), (24_000, 20), (24_615, 20), (24_616, 19), (100_000, 5), (240_000, 2), (10**7, 2)],
)
def test_fewer_titles_get_more_epochs(titles: int, epochs: int) -> None:
    assert RULE.epochs(titles, "auto") == epochs
    assert RULE.epochs(titles, 7) == 7


@pytest.mark.parametrize(
    ("titles", "batch_size", "factor"),
    [(1, 256, 1.0), (31_999, 256, 1.0), (32_000, 512, 2**0.5), (128_000, 1024, 2.0)],
)
def test_more_titles_get_larger_batches_and_higher_learning_rates(
    titles: int, batch_size: int, factor: float
) -> None:
    assert batch_size_for(titles, "auto") == batch_size
    assert batch_size_for(titles, 7) == 7
    assert learning_rate_factor(batch_size) == pytest.approx(factor)
