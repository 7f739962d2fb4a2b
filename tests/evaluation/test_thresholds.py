"""Thresholds keep their promise however often they are chosen."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from rubro.evaluation.thresholds import CANDIDATES, choose, kept_by, least_titles

PRECISION, COVERAGE = 0.9, 0.95


def predictions(random: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Confidences, and whether each prediction is right: as often as its confidence says, less 3 %."""
    confidences = random.beta(4, 0.7, count)
    return confidences, random.random(count) < confidences - 0.03


def true_precision(threshold: float) -> float:
    confidences, right = predictions(np.random.default_rng(0), 1_000_000)
    return float(right[confidences >= threshold].mean())


def test_a_promise_is_broken_less_often_than_allowed() -> None:
    random = np.random.default_rng(5)
    precision_of = {candidate: true_precision(candidate) for candidate in CANDIDATES}
    chosen = [choose(*predictions(random, 2000), PRECISION, COVERAGE) for _ in range(400)]
    found = [each for each in chosen if each is not None]
    broken = sum(precision_of[each] < PRECISION for each in found)
    assert len(found) > 300
    assert len(set(found)) > 2
    assert broken / len(chosen) <= 1 - COVERAGE


def test_the_least_candidate_that_is_sure_is_chosen() -> None:
    confidences = np.repeat([0.4, 0.75, 0.97], [2000, 2000, 2000])
    right = np.concatenate([np.arange(2000) < count for count in (1000, 1900, 1990)])
    assert choose(confidences, right, 0.999, COVERAGE) is None
    assert choose(confidences, right, 0.98, COVERAGE) == 0.8  # the next after 0.75
    assert choose(confidences, right, 0.95, COVERAGE) == 0.5
    assert choose(confidences, right, 0.7, COVERAGE) == 0
    foreign = np.where(confidences < 0.5, -1.0, confidences)
    assert choose(foreign, right, 0.95, COVERAGE) == 0


@pytest.mark.parametrize("precision", [0.5, 0.9, 0.98, 0.999])
def test_fewer_titles_than_the_least_number_never_have_a_threshold(precision: float) -> None:
    least = least_titles(precision, COVERAGE)
    assert choose(np.ones(least), np.ones(least, bool), precision, COVERAGE) == 0
    assert choose(np.ones(least - 1), np.ones(least - 1, bool), precision, COVERAGE) is None


def test_what_is_kept_is_counted_with_its_interval() -> None:
    right = np.array([True] * 8 + [False] * 4)
    kept = kept_by(np.arange(12) < 10, right, 0.9)
    assert (kept.titles, kept.kept, kept.right) == (12, 10, 8)
    low, high = binomtest(8, 10).proportion_ci(0.9, method="exact")
    assert [kept.low, kept.high] == pytest.approx([low, high])
    nothing = kept_by(np.zeros(12, bool), right, 0.9)
    assert (nothing.kept, nothing.right, nothing.low, nothing.high) == (0, 0, 0, 1)
