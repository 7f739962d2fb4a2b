"""Intervals and p-values agree with a plain bootstrap, simulations and values computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from rubro.evaluation.metrics import balanced_accuracy
from rubro.evaluation.significance import balanced_accuracy_interval, compare_classifiers


def simulated(
    seed: int, sizes: tuple[int, ...], accuracies: tuple[float, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Return shuffled targets and whether each prediction is right, given accuracies by class."""
    random = np.random.default_rng(seed)
    targets = random.permutation(np.repeat(np.arange(len(sizes)), sizes))
    return targets, random.uniform(size=len(targets)) < np.array(accuracies)[targets]


def balanced(targets: np.ndarray, right: np.ndarray) -> float:
    return balanced_accuracy(targets, np.where(right, targets, targets + 1))


@pytest.mark.parametrize("outcome", [True, False])
def test_the_interval_is_a_point_if_all_predictions_are_right_or_all_wrong(outcome: bool) -> None:
    targets = np.array([0, 1, 1, 2, 2, 2])
    right = np.full(6, outcome)
    assert balanced_accuracy_interval(targets, right, 100, 0.95, 0) == (outcome, outcome)


def plain_bootstrap(
    targets: np.ndarray, gain: np.ndarray, samples: int, confidence: float
) -> np.ndarray:
    """Return the interval of a bootstrap that draws the titles of each class with replacement."""
    random = np.random.default_rng(99)
    by_class = [gain[targets == index] for index in np.unique(targets)]
    means = []
    for _ in range(samples):
        drawn = [random.choice(own, size=len(own), replace=True) for own in by_class]
        means.append(np.mean([own.mean() for own in drawn]))
    tail = (1 - confidence) / 2
    quantiles: np.ndarray = np.quantile(means, [tail, 1 - tail])
    return quantiles


SIZES = (150, 40, 90, 200)


@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_an_interval_equals_that_of_a_plain_bootstrap(confidence: float) -> None:
    targets, right = simulated(3, SIZES, (0.9, 0.6, 0.75, 0.5))
    interval = balanced_accuracy_interval(targets, right, 8000, confidence, 1)
    expected = plain_bootstrap(targets, right.astype(float), 4000, confidence)
    np.testing.assert_allclose(interval, expected, atol=0.005)


@pytest.mark.parametrize("agreement", [0.0, 0.8])
def test_the_interval_of_a_difference_equals_that_of_a_paired_bootstrap(agreement: float) -> None:
    targets, right = simulated(3, SIZES, (0.9, 0.6, 0.75, 0.5))
    other = np.random.default_rng(4).permutation(right)
    other = np.where(np.random.default_rng(5).uniform(size=len(right)) < agreement, right, other)
    compared = compare_classifiers(targets, right, other, 8000, 0.95, 1)
    expected = plain_bootstrap(targets, right.astype(float) - other, 4000, 0.95)
    np.testing.assert_allclose([compared["low"], compared["high"]], expected, atol=0.005)
    assert compared["low"] < compared["balanced_accuracy"] < compared["high"]
    assert compared["balanced_accuracy"] == pytest.approx(
        balanced(targets, right) - balanced(targets, other), abs=1e-6
    )


def test_a_comparison_matches_values_computed_by_hand() -> None:
    # Only the first is right 10 times, only the second 2 times, both 5 times, neither 3 times.
    right = np.array([True] * 10 + [False] * 2 + [True] * 5 + [False] * 3)
    other = np.array([False] * 10 + [True] * 2 + [True] * 5 + [False] * 3)
    targets = np.array([0] * 10 + [1] * 10)
    compared = compare_classifiers(targets, right, other, 200, 0.95, 0)
    assert compared["balanced_accuracy"] == pytest.approx((10 / 10 - 2 / 10) / 2)
    # Twice the probability of at most 2 heads in 12 throws of a coin.
    assert compared["p_value"] == pytest.approx(2 * (1 + 12 + 66) / 2**12, abs=1e-6)


def test_the_p_value_is_1_if_each_classifier_wins_equally_often() -> None:
    right = np.array([True, False, True, False, True])
    other = np.array([False, True, False, True, True])
    assert compare_classifiers(np.array([0, 0, 1, 1, 1]), right, other, 100, 0.9, 0)["p_value"] == 1


def test_identical_predictions_do_not_differ() -> None:
    targets, right = simulated(2, SIZES, (0.9, 0.6, 0.75, 0.5))
    compared = compare_classifiers(targets, right, right.copy(), 100, 0.95, 3)
    assert compared == {"balanced_accuracy": 0, "low": 0, "high": 0, "p_value": 1}


def test_a_difference_of_zero_has_no_sign() -> None:
    targets = np.repeat([0, 1, 2], 10)
    right, other = np.ones(30, dtype=bool), np.ones(30, dtype=bool)
    right[[0, 10, 11]] = False  # in floating point, 0.1 + 0.2 - 0.3 is not 0
    other[[20, 21, 22]] = False
    for pair in ((right, other), (other, right)):
        compared = compare_classifiers(targets, *pair, 100, 0.95, 3)
        assert str(compared["balanced_accuracy"]) == "0.0"


def test_classes_without_titles_are_ignored() -> None:
    targets, right = simulated(2, (30, 50, 20), (0.9, 0.6, 0.75))
    _, other = simulated(3, (30, 50, 20), (0.5, 0.6, 0.75))

    def measure(targets: np.ndarray) -> object:
        interval = balanced_accuracy_interval(targets, right, 300, 0.9, 5)
        return interval, compare_classifiers(targets, right, other, 300, 0.9, 5)

    assert measure(np.array([1, 4, 9])[targets]) == measure(targets)


def test_the_seed_determines_the_interval() -> None:
    targets, right = simulated(2, SIZES, (0.9, 0.6, 0.75, 0.5))
    one, again, other = (balanced_accuracy_interval(targets, right, 99, 0.9, s) for s in (5, 5, 6))
    assert one == again != other
