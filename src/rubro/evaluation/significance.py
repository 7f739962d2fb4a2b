"""Confidence intervals and tests for balanced accuracies and their differences."""

from __future__ import annotations

import numpy as np
from scipy.stats import binomtest


def balanced_accuracy_interval(
    targets: np.ndarray,
    right: np.ndarray,
    samples: int,
    confidence: float,
    seed: int,
    other_right: np.ndarray | None = None,
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of a balanced accuracy, or of a difference of two.

    Titles are drawn with replacement within each class. The numbers of right predictions of a class
    then follow a multinomial distribution, so they are drawn directly.
    Source: Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 13.

    Args:
        targets: Class indices, (n,).
        right: Whether each prediction is right, bool (n,).
        samples: Number of bootstrap samples.
        confidence: Coverage of the interval, 0 to 1.
        seed: Seed of the samples.
        other_right: Whether each prediction of another classifier is right, bool (n,). If given,
            return the interval of the difference, with the same titles drawn for both classifiers.

    Returns:
        Lower and upper end of the interval.
    """
    if other_right is None:
        other_right = np.zeros_like(right)
    random = np.random.default_rng(seed)
    gains = np.zeros(samples)
    classes = np.unique(targets)
    for index in classes:
        own = targets == index
        won, lost = (right & ~other_right)[own].mean(), (other_right & ~right)[own].mean()
        drawn = random.multinomial(own.sum(), [won, lost, max(1 - won - lost, 0.0)], samples)
        gains += (drawn[:, 0] - drawn[:, 1]) / own.sum()
    tail = (1 - confidence) / 2
    low, high = np.quantile(gains / len(classes), [tail, 1 - tail])
    return float(low), float(high)


def compare_classifiers(
    targets: np.ndarray,
    right: np.ndarray,
    other_right: np.ndarray,
    samples: int,
    confidence: float,
    seed: int,
) -> dict[str, float]:
    """Compare the predictions of two classifiers for the same titles.

    Args:
        targets: Class indices, (n,).
        right: Whether each prediction of the first classifier is right, bool (n,).
        other_right: Whether each prediction of the second classifier is right, bool (n,).
        samples: Number of bootstrap samples.
        confidence: Coverage of the interval, 0 to 1.
        seed: Seed of the samples.

    Returns:
        Values of balanced_accuracy, the first classifier's minus the second one's; low and high,
        the paired percentile bootstrap interval of this difference; and p_value, the p-value of
        McNemar's exact test (McNemar 1947) on the titles that only one of them classifies right.
        They are rounded to 6 digits.
    """
    low, high = balanced_accuracy_interval(targets, right, samples, confidence, seed, other_right)
    only, only_other = int((right & ~other_right).sum()), int((other_right & ~right).sum())
    p_value = binomtest(only, only + only_other).pvalue if only + only_other else 1.0
    gain = right.astype(float) - other_right
    totals = np.bincount(targets)
    present = totals > 0
    difference = (np.bincount(targets, weights=gain)[present] / totals[present]).mean()
    compared = {"balanced_accuracy": difference, "low": low, "high": high, "p_value": p_value}
    return {name: round(float(value), 6) + 0.0 for name, value in compared.items()}  # never -0.0
