"""Confidence thresholds keep the promised precision however often they are chosen."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from rubro.evaluation.thresholds import (
    CANDIDATES,
    choose_threshold,
    estimate_precision,
    minimum_titles,
)

PRECISION, COVERAGE = 0.9, 0.95


def predictions(random: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return confidences, and outcomes that are right 3 % less often than the confidences claim."""
    confidences = random.beta(4, 0.7, count)
    return confidences, random.random(count) < confidences - 0.03


def test_the_promise_is_broken_no_more_often_than_allowed() -> None:
    random = np.random.default_rng(5)
    confidences, right = predictions(np.random.default_rng(0), 1_000_000)
    true_precision = {each: right[confidences >= each].mean() for each in CANDIDATES}
    chosen = [choose_threshold(*predictions(random, 2000), PRECISION, COVERAGE) for _ in range(400)]
    found = [each for each in chosen if each is not None]
    broken = sum(true_precision[each] < PRECISION for each in found)
    assert len(found) > 300
    assert len(set(found)) > 2
    assert broken / len(chosen) <= 1 - COVERAGE


def test_the_lowest_candidate_that_reaches_the_precision_is_chosen() -> None:
    confidences = np.repeat([0.4, 0.75, 0.97], [2000, 2000, 2000])
    right = np.concatenate([np.arange(2000) < count for count in (1000, 1900, 1990)])
    assert choose_threshold(confidences, right, 0.999, COVERAGE) is None
    assert choose_threshold(confidences, right, 0.98, COVERAGE) == 0.8  # the next after 0.75
    assert choose_threshold(confidences, right, 0.95, COVERAGE) == 0.5
    assert choose_threshold(confidences, right, 0.7, COVERAGE) == 0
    out_of_vocabulary = np.where(confidences < 0.5, -1.0, confidences)
    assert choose_threshold(out_of_vocabulary, right, 0.95, COVERAGE) == 0


@pytest.mark.parametrize("precision", [0.5, 0.9, 0.98, 0.999])
def test_no_threshold_is_chosen_from_fewer_titles_than_the_minimum(precision: float) -> None:
    minimum = minimum_titles(precision, COVERAGE)
    assert choose_threshold(np.ones(minimum), np.ones(minimum, bool), precision, COVERAGE) == 0
    fewer = np.ones(minimum - 1)
    assert choose_threshold(fewer, fewer.astype(bool), precision, COVERAGE) is None


def test_accepted_predictions_are_counted_with_an_exact_interval() -> None:
    right = np.array([True] * 8 + [False] * 4)
    found = estimate_precision(np.arange(12) < 10, right, 0.9)
    low, high = binomtest(8, 10).proportion_ci(0.9, method="exact")
    assert found == pytest.approx({"titles": 12, "kept": 10, "right": 8, "low": low, "high": high})
    none = estimate_precision(np.zeros(12, bool), right, 0.9)
    assert none == {"titles": 12, "kept": 0, "right": 0, "low": 0, "high": 1}
