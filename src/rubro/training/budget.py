"""What a training spends on a number of titles: passes, and titles in a batch."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple


class EpochRule(NamedTuple):
    """A rule for the number of passes: the fewer the titles, the more.

    Attributes:
        titles: Number of titles that all passes together are to see.
        least: Least number of passes.
        most: Greatest number of passes.
    """

    titles: int
    least: int
    most: int

    def epochs(self, titles: int, asked: int | Literal["auto"]) -> int:
        """Return the number of passes.

        >>> EpochRule(480_000, 2, 48).epochs(40_000, "auto")
        12

        Args:
            titles: Number of training titles, >= 1.
            asked: Number of passes that the user wants; "auto" = by the rule.
        """
        if asked != "auto":
            return asked
        return min(max(round(self.titles / titles), self.least), self.most)


_FEW, _MANY = 32_000, 128_000
_SMALLEST = 256


def batch_size_for(titles: int, asked: int | Literal["auto"]) -> int:
    """Return the number of titles in a batch; "auto" = larger batches for more titles, and faster.

    >>> batch_size_for(40_000, "auto")
    512

    Args:
        titles: Number of training titles.
        asked: Number of titles that the user wants; "auto" = by the rule.
    """
    if asked != "auto":
        return asked
    return _SMALLEST if titles < _FEW else 2 * _SMALLEST if titles < _MANY else 4 * _SMALLEST


def learning_rate_factor(batch_size: int) -> float:
    """Return the factor of learning rates that were chosen for batches of 256 titles.

    Source: Malladi et al. 2022, On the SDEs and Scaling Rules for Adaptive Gradient Algorithms.

    >>> learning_rate_factor(1024)
    2.0

    Args:
        batch_size: Number of titles in a batch.
    """
    return math.sqrt(batch_size / _SMALLEST)
