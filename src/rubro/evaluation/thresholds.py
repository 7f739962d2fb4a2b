"""Confidence thresholds above which predictions reach a promised precision."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.stats import beta

# Fixed in advance, so that the correction for multiple tests counts only these candidates.
CANDIDATES = (
    *(0.0, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.92),
    *(0.94, 0.95, 0.96, 0.97, 0.98, 0.99, 0.995, 0.999),
)


def estimate_precision(accepted: np.ndarray, right: np.ndarray, coverage: float) -> dict[str, Any]:
    """Estimate the precision of the accepted predictions, with an exact confidence interval.

    Source: Clopper and Pearson 1934, The use of confidence or fiducial limits.

    Args:
        accepted: Whether each prediction is accepted, bool (n,).
        right: Whether each prediction is right, bool (n,).
        coverage: Probability that the interval contains the precision, between 0 and 1.

    Returns:
        Numbers of predictions (titles), accepted predictions (kept) and right ones among the
        accepted (right); lower and upper end of the interval (low and high), which are 0 and 1 if
        no prediction is accepted.
    """
    kept, kept_right = int(accepted.sum()), int((accepted & right).sum())
    wrong, tail = kept - kept_right, (1 - coverage) / 2
    low = float(beta.ppf(tail, kept_right, wrong + 1)) if kept_right else 0.0
    high = float(beta.ppf(1 - tail, kept_right + 1, wrong)) if wrong else 1.0
    return {"titles": len(right), "kept": kept, "right": kept_right, "low": low, "high": high}


def minimum_titles(precision: float, coverage: float) -> int:
    """Return the minimum number of titles that a threshold can be chosen on.

    With fewer titles, the promise cannot be kept even if all predictions are right.

    Args:
        precision: Promised precision, between 0 and 1.
        coverage: Probability that the promise holds, between 0 and 1.
    """
    tail = (1 - _coverage_of_each(coverage)) / 2
    return math.ceil(math.log(tail) / math.log(precision))


def choose_threshold(
    confidences: np.ndarray, right: np.ndarray, precision: float, coverage: float
) -> float | None:
    """Return the lowest candidate threshold that reaches a promised precision.

    A candidate reaches the precision if the confidence interval of its precision lies at or above
    it. The intervals of all candidates hold at once with the given probability (Bonferroni
    correction), so choosing among them does not weaken the promise.
    Source: Angelopoulos et al. 2021, Learn then Test: Calibrating Predictive Algorithms to Achieve
    Risk Control.

    Args:
        confidences: Confidence of each prediction, float (n,); a negative one is never accepted.
        right: Whether each prediction is right, bool (n,).
        precision: Promised precision, between 0 and 1.
        coverage: Probability that the promise holds, between 0 and 1.

    Returns:
        Threshold; None if no candidate reaches the precision.
    """
    for candidate in CANDIDATES:
        estimate = estimate_precision(confidences >= candidate, right, _coverage_of_each(coverage))
        if estimate["low"] >= precision:
            return candidate
    return None


def _coverage_of_each(coverage: float) -> float:
    """Return the coverage that each candidate's interval needs so that all hold at once."""
    return 1 - (1 - coverage) / len(CANDIDATES)
