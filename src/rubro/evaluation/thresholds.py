"""Confidences from which predictions are as precise as promised."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest

# Fixed before any title is seen: the choice among them costs no more than their number.
CANDIDATES = (
    *(0.0, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.92),
    *(0.94, 0.95, 0.96, 0.97, 0.98, 0.99, 0.995, 0.999),
)


@dataclass(frozen=True)
class Kept:
    """What a threshold keeps of predictions.

    Attributes:
        titles: Number of predictions.
        kept: Number of predictions that are kept.
        right: Number of right ones among them.
        low: Lower end of the interval of their precision, 0 to 1.
        high: Upper end of the interval of their precision, 0 to 1.
    """

    titles: int
    kept: int
    right: int
    low: float
    high: float


def kept_by(is_kept: np.ndarray, right: np.ndarray, coverage: float) -> Kept:
    """Count kept predictions, with the exact interval of their precision.

    Source: Clopper and Pearson 1934, The use of confidence or fiducial limits.

    Args:
        is_kept: Whether each prediction is kept, bool (n,).
        right: Whether each prediction is right, bool (n,).
        coverage: Coverage of the interval, between 0 and 1; where nothing is kept it is 0 to 1.
    """
    kept, right_ones = int(is_kept.sum()), int((is_kept & right).sum())
    low, high = 0.0, 1.0
    if kept:
        low, high = binomtest(right_ones, kept).proportion_ci(coverage, method="exact")
    return Kept(len(right), kept, right_ones, round(float(low), 6), round(float(high), 6))


def least_titles(precision: float, coverage: float) -> int:
    """Return the number of titles below which no threshold can be chosen, all right or not.

    Args:
        precision: Promised precision, between 0 and 1.
        coverage: Probability that the promise holds, between 0 and 1.
    """
    tail = (1 - _of_one_candidate(coverage)) / 2
    return math.ceil(math.log(tail) / math.log(precision))


def choose(
    confidences: np.ndarray, right: np.ndarray, precision: float, coverage: float
) -> float | None:
    """Return the least confidence from which predictions are surely as precise as promised.

    It is the least candidate whose interval of the precision is at or above the promise. All
    intervals hold at once with the given probability (Bonferroni): the choice among the candidates
    does not weaken the promise.
    Source: Angelopoulos et al. 2021, Learn then Test: Calibrating Predictive Algorithms to Achieve
    Risk Control.

    Args:
        confidences: Confidence of each prediction, float (n,); below 0 = it is never kept.
        right: Whether each prediction is right, bool (n,).
        precision: Promised precision, between 0 and 1.
        coverage: Probability that the promise holds, between 0 and 1.

    Returns:
        Confidence; None = none is enough.
    """
    for candidate in CANDIDATES:
        if kept_by(confidences >= candidate, right, _of_one_candidate(coverage)).low >= precision:
            return candidate
    return None


def _of_one_candidate(coverage: float) -> float:
    return 1 - (1 - coverage) / len(CANDIDATES)
