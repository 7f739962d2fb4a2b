"""Intervals cover the truth of simulated catalogues; p-values match values computed by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from rubro.evaluation.metrics import macro_f1
from rubro.evaluation.significance import METRICS, Metric, compare_classifiers, metric_interval
from support.catalogues import RECALLS, Catalogue, coverage, simulate


@pytest.mark.parametrize(
    ("sizes", "recalls"), [("1 to 100", "near 0.9"), ("1", "near 0.9"), ("50", "Beta(2, 1)")]
)
def test_most_intervals_contain_the_truth(sizes: str, recalls: str) -> None:
    shares = coverage(sizes, recalls, 30, 200)
    assert min(map(min, shares.values())) >= 0.9, shares


ALL = tuple(METRICS)
# Macro F1 of single titles has wider intervals; benchmarks/TRIED.md lists all limits.
SLOW = [
    *(("1 to 100", recalls, 100, ALL) for recalls in RECALLS),
    *(("1 to 100", recalls, 20, ALL) for recalls in RECALLS if recalls != "near 1"),
    ("1 to 100", "near 0.9", 400, ALL),
    ("Zipf", "a third near 0", 100, ALL),
    ("50", "Beta(2, 1)", 100, ALL),
    ("3", "near 0.9", 100, ALL[:2]),
    ("1", "near 0.9", 100, ALL[:2]),
]


@pytest.mark.slow
@pytest.mark.parametrize(("sizes", "recalls", "count", "metrics"), SLOW)
def test_95_percent_intervals_contain_the_truth_of_93_to_97_percent_of_catalogues(
    sizes: str, recalls: str, count: int, metrics: tuple[Metric, ...]
) -> None:
    shares = coverage(sizes, recalls, count, 1000)
    print(f"\n{sizes} titles, {count} classes, recalls {recalls}: {shares}")
    for name in metrics:
        for share in shares[name]:
            assert 0.93 <= share <= 0.97, (name, share)


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return simulate(np.random.default_rng(3), "1 to 100", "near 0.9", 20)


def test_equal_recalls_in_classes_of_one_title_give_the_interval_of_a_share() -> None:
    targets = np.arange(400)
    predictions = np.where(targets % 10, targets, 400)
    expected = binomtest(360, 400).proportion_ci(method="wilson")
    for name in ("balanced_accuracy", "accuracy"):
        interval = metric_interval(name, targets, predictions, 0.95)
        np.testing.assert_allclose(interval, (expected.low, expected.high), atol=0.003)


def test_a_class_with_one_title_is_as_uncertain_as_the_other_classes() -> None:
    targets = np.append(np.repeat([0, 1, 2, 3], 100), 4)
    predictions = np.where(np.arange(401) % 2, targets, 5)
    predictions[-1] = 4
    low, high = metric_interval("balanced_accuracy", targets, predictions, 0.95)
    assert low < (4 * 0.5 + 0) / 5 and high > (4 * 0.5 + 0.9) / 5


def plain_bootstrap(
    metric: Metric, targets: np.ndarray, predictions: np.ndarray, other: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the 95 % intervals of a bootstrap that draws the titles of each class."""
    random = np.random.default_rng(99)
    measure = METRICS[metric]
    found = []
    for _ in range(2000):
        drawn = np.concatenate(
            [random.choice(own, len(own)) for own in map(np.flatnonzero, np.eye(4)[:, targets])]
        )
        one, two = (measure(targets[drawn], each[drawn]) for each in (predictions, other))
        found.append((one, one - two))
    ends = np.quantile(found, [0.025, 0.975], axis=0)
    return ends[:, 0], ends[:, 1]


@pytest.mark.parametrize("metric", METRICS)
def test_intervals_of_large_classes_equal_those_of_a_plain_bootstrap(metric: Metric) -> None:
    random = np.random.default_rng(3)
    targets = np.repeat(np.arange(4), (150, 60, 90, 200))
    noise = random.integers(4, size=(2, len(targets)))
    is_right = random.random((2, len(targets))) < np.array([0.9, 0.6, 0.75, 0.5])[targets]
    predictions, other = np.where(is_right, targets, noise)
    expected, expected_difference = plain_bootstrap(metric, targets, predictions, other)
    interval = metric_interval(metric, targets, predictions, 0.95)
    difference = metric_interval(metric, targets, predictions, 0.95, other)
    np.testing.assert_allclose(interval, expected, atol=0.006)
    np.testing.assert_allclose(difference, expected_difference, atol=0.006)


def test_a_larger_confidence_gives_a_wider_interval(catalogue: Catalogue) -> None:
    for other in (None, catalogue.predictions[1]):
        narrow, wide = (
            metric_interval("macro_f1", catalogue.targets, catalogue.predictions[0], each, other)
            for each in (0.8, 0.99)
        )
        assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_swapped_classifiers_negate_the_interval_of_the_difference(catalogue: Catalogue) -> None:
    first, second = catalogue.predictions
    for name in METRICS:
        low, high = metric_interval(name, catalogue.targets, first, 0.9, second)
        swapped = metric_interval(name, catalogue.targets, second, 0.9, first)
        np.testing.assert_allclose(swapped, (-high, -low), rtol=1e-9)


@pytest.mark.parametrize("titles", [1, 2, 30])
@pytest.mark.parametrize("is_right", [True, False])
def test_intervals_have_a_width_and_stay_in_range_without_any_variation(
    titles: int, is_right: bool
) -> None:
    for classes in (1, 5):
        targets = np.repeat(np.arange(classes), titles)
        predictions = targets if is_right else np.full(len(targets), classes)
        for name in METRICS:
            low, high = metric_interval(name, targets, predictions, 0.95)
            assert 0 <= low < high <= 1
            assert (high if is_right else low) == is_right
            low, high = metric_interval(name, targets, predictions, 0.95, predictions)
            assert -1 <= low < 0 < high <= 1


def test_the_interval_of_macro_f1_contains_it_although_it_is_too_low_on_small_classes() -> None:
    targets = np.arange(300)
    predictions = np.where(targets % 2, targets, 300)
    assert macro_f1(targets, predictions) == 0.5  # 2 * 0.5 / 1.5 on infinitely many titles
    low, high = metric_interval("macro_f1", targets, predictions, 0.95)
    assert low == 0.5 and high > 2 / 3


def test_classes_without_titles_and_the_order_of_the_titles_do_not_matter(
    catalogue: Catalogue,
) -> None:
    spread = np.arange(21) * 3 + 1
    order = np.random.default_rng(1).permutation(len(catalogue.targets))
    for name in METRICS:
        expected = metric_interval(name, catalogue.targets, catalogue.predictions[0], 0.9)
        targets = spread[catalogue.targets[order]]
        predictions = spread[catalogue.predictions[0][order]]
        found = metric_interval(name, targets, predictions, 0.9)
        np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_a_comparison_matches_values_computed_by_hand() -> None:
    # Only the first is right 10 times, only the second 2 times, both 5 times, neither 3 times.
    right = np.array([True] * 10 + [False] * 2 + [True] * 5 + [False] * 3)
    other = np.array([False] * 10 + [True] * 2 + [True] * 5 + [False] * 3)
    targets = np.array([0] * 12 + [1] * 8)
    compared = compare_classifiers(
        targets, np.where(right, targets, 2), np.where(other, targets, 2), 0.95
    )
    assert compared["balanced_accuracy"] == pytest.approx((10 / 12 - 2 / 12 + 0) / 2, abs=1e-6)
    assert compared["accuracy"] == pytest.approx(8 / 20)
    f1 = [2 * 10 / 22, 2 * 2 / 14]  # of class 0; both have the same F1 of class 1
    assert compared["macro_f1"] == pytest.approx((f1[0] - f1[1]) / 2, abs=1e-6)
    for name, prefix in (("balanced_accuracy", ""), ("accuracy", "accuracy_")):
        assert compared[f"{prefix}low"] < compared[name] < compared[f"{prefix}high"]
    assert compared["macro_f1_low"] <= compared["macro_f1"] <= compared["macro_f1_high"]
    # Twice the probability of at most 2 heads in 12 throws of a coin.
    assert compared["p_value"] == pytest.approx(2 * (1 + 12 + 66) / 2**12, abs=1e-6)


def test_the_p_value_is_1_if_each_classifier_wins_equally_often() -> None:
    targets = np.array([0, 0, 1, 1, 1])
    one, two = np.array([0, 2, 1, 2, 1]), np.array([2, 0, 2, 1, 1])
    assert compare_classifiers(targets, one, two, 0.9)["p_value"] == 1


def test_identical_predictions_do_not_differ(catalogue: Catalogue) -> None:
    predictions = catalogue.predictions[0]
    compared = compare_classifiers(catalogue.targets, predictions, predictions.copy(), 0.95)
    assert compared["p_value"] == 1
    assert all(compared[name] == 0 for name in METRICS)
    assert compared["low"] == -compared["high"]


def test_a_difference_of_zero_has_no_sign() -> None:
    targets = np.repeat([0, 1, 2], 10)
    one, two = targets.copy(), targets.copy()
    one[[0, 10, 11]] = 3  # in floating point, 0.1 + 0.2 - 0.3 is not 0
    two[[20, 21, 22]] = 3
    for pair in ((one, two), (two, one)):
        compared = compare_classifiers(targets, *pair, 0.95)
        assert str(compared["balanced_accuracy"]) == "0.0"
