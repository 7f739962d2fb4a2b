"""Confidence intervals of shares of titles."""

from __future__ import annotations

from math import sqrt

_Z = 1.959964  # 97.5 % quantile of the normal distribution


def wilson_interval(share: float, count: int) -> tuple[float, float]:
    """Return the 95 % confidence interval of a share of successes.

    Source: Wilson 1927, Probable Inference, the Law of Succession, and Statistical Inference.

    Args:
        share: Share of successes, 0 to 1.
        count: Number of trials, 1 or more.

    Returns:
        Lower and upper end of the interval, 0 to 1.
    """
    square = _Z**2 / count
    middle = (share + square / 2) / (1 + square)
    reach = _Z * sqrt(share * (1 - share) / count + square / (4 * count)) / (1 + square)
    return max(0.0, middle - reach), min(1.0, middle + reach)
