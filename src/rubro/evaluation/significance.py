"""How sure a balanced accuracy, or the difference of two, is."""

from __future__ import annotations

import numpy as np
from scipy.stats import binomtest


def balanced_accuracy_interval(
    targets: np.ndarray, right: np.ndarray, samples: int, confidence: float, seed: int
) -> tuple[float, float]:
    """Percentile bootstrap interval of a balanced accuracy.

    Titles are drawn with replacement within each class. What a class then gets right follows a
    binomial distribution, which is drawn from directly.
    Source: Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 13.

    Args:
        targets: class indices (n,).
        right: bool (n,), whether the prediction is.
        samples: number of bootstrap samples.
        confidence: of the interval, 0 to 1.
        seed: of the samples.

    Returns:
        Lower and upper end, 0 to 1.
    """
    everywhere_wrong = np.zeros_like(right)
    return _difference_interval(targets, right, everywhere_wrong, samples, confidence, seed)


def compare(
    targets: np.ndarray,
    right: np.ndarray,
    other_right: np.ndarray,
    samples: int,
    confidence: float,
    seed: int,
) -> dict[str, float]:
    """Is one classifier better than another on the same titles?

    Args:
        targets: class indices (n,).
        right: bool (n,), whether the first one's prediction is.
        other_right: bool (n,), the second one's.
        samples: number of bootstrap samples.
        confidence: of the interval, 0 to 1.
        seed: of the samples.

    Returns:
        balanced_accuracy: the first's minus the second's; low and high: its percentile bootstrap
        interval, titles paired; p_value: of McNemar's exact test on the titles that only one of
        them gets right (McNemar 1947).
    """
    low, high = _difference_interval(targets, right, other_right, samples, confidence, seed)
    only, only_other = int((right & ~other_right).sum()), int((other_right & ~right).sum())
    p_value = binomtest(only, only + only_other).pvalue if only + only_other else 1.0
    gain = right.astype(float) - other_right
    totals = np.bincount(targets)
    present = totals > 0
    return {
        "balanced_accuracy": float(
            (np.bincount(targets, weights=gain)[present] / totals[present]).mean()
        ),
        "low": low,
        "high": high,
        "p_value": float(p_value),
    }


def _difference_interval(
    targets: np.ndarray,
    right: np.ndarray,
    other_right: np.ndarray,
    samples: int,
    confidence: float,
    seed: int,
) -> tuple[float, float]:
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
