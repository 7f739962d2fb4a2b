"""Choose the number of epochs and the batch size if params.yaml sets them to "auto"."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple


class EpochRule(NamedTuple):
    """Rule that trains for more epochs if there are fewer training titles.

    Attributes:
        titles: Number of titles to train on, counted over all epochs.
        minimum: Minimum number of epochs.
        maximum: Maximum number of epochs.
    """

    titles: int
    minimum: int
    maximum: int

    def epochs(self, titles: int, requested: int | Literal["auto"]) -> int:
        """Return the requested number of epochs, or a suitable one for the training titles.

        >>> EpochRule(480_000, 2, 48).epochs(40_000, "auto")
        12

        Args:
            titles: Number of training titles, >= 1.
            requested: Number of epochs set by the user; "auto" = apply the rule.
        """
        if requested != "auto":
            return requested
        return min(max(round(self.titles / titles), self.minimum), self.maximum)


_BASE_BATCH_SIZE = 256


def batch_size_for(titles: int, requested: int | Literal["auto"]) -> int:
    """Return the requested batch size, or a suitable one for the training titles.

    >>> batch_size_for(40_000, "auto")
    512

    Args:
        titles: Number of training titles.
        requested: Batch size set by the user; "auto" = larger, faster batches for more titles.
    """
    if requested != "auto":
        return requested
    return _BASE_BATCH_SIZE * (1 if titles < 32_000 else 2 if titles < 128_000 else 4)


def learning_rate_factor(batch_size: int) -> float:
    """Return the factor that adapts a learning rate for batches of 256 titles to another size.

    Source: Malladi et al. 2022, On the SDEs and Scaling Rules for Adaptive Gradient Algorithms.

    >>> learning_rate_factor(1024)
    2.0

    Args:
        batch_size: Number of titles in a batch.
    """
    return math.sqrt(batch_size / _BASE_BATCH_SIZE)
