"""Probabilities from logits."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from rubro.base.schema import Section


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return exp(logits) over its sum, for each row.

    Args:
        logits: Finite logits, float (n, classes).

    Returns:
        Probabilities, float (n, classes).
    """
    exponentials: np.ndarray = np.exp(logits - logits.max(axis=1, keepdims=True))
    exponentials /= exponentials.sum(axis=1, keepdims=True)
    return exponentials


_Temperature = Annotated[float, Field(ge=0.001, le=1000.0)]


class Calibration(Section):
    """Mixture of two softmaxes with a temperature each.

    With a single temperature, predictions are overconfident for titles far from the training titles
    or underconfident for titles close to them. Calibration changes the confidence, not the
    predicted category.

    Source: Guo et al. 2017, On Calibration of Modern Neural Networks; mixtures of temperatures:
    Zhang, Kailkhura and Han 2020, Mix-n-Match.

    Attributes:
        low: Lower temperature.
        high: Higher temperature.
        low_share: Share of the softmax with the lower temperature in the mixture, 0 to 1.
    """

    low: _Temperature = 1.0
    high: _Temperature = 1.0
    low_share: Annotated[float, Field(ge=0.0, le=1.0)] = 1.0

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Return the probability of each class.

        Args:
            logits: Logits, float (n, classes).

        Returns:
            Probabilities, float (n, classes); each row sums to 1.
        """
        mixed = softmax(logits / self.low) * self.low_share
        if self.low_share < 1.0:
            mixed += softmax(logits / self.high) * (1 - self.low_share)
        return mixed
