"""Turn logits into calibrated probabilities."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from rubro.base.schema import Section


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return the softmax of each row of finite logits, float (n, classes)."""
    exponentials: np.ndarray = np.exp(logits - logits.max(axis=1, keepdims=True))
    exponentials /= exponentials.sum(axis=1, keepdims=True)
    return exponentials


_Temperature = Annotated[float, Field(ge=0.001, le=1000.0)]


class Calibration(Section):
    """Temperature scaling with a mixture of two softmaxes, each with its own temperature.

    With a single temperature, predictions are overconfident for titles far from the training titles
    or underconfident for titles close to them. Calibration changes the confidence, but not the
    predicted category.

    Source: Guo et al. 2017, On Calibration of Modern Neural Networks; mixtures of temperatures:
    Zhang, Kailkhura and Han 2020, Mix-n-Match.

    Attributes:
        low: Lower temperature.
        high: Higher temperature.
        low_share: Weight of the softmax with the lower temperature in the mixture, 0 to 1.
    """

    low: _Temperature = 1.0
    high: _Temperature = 1.0
    low_share: Annotated[float, Field(ge=0.0, le=1.0)] = 1.0

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Return calibrated probabilities for logits, both float (n, classes)."""
        mixed = softmax(logits / self.low) * self.low_share
        if self.low_share < 1.0:
            mixed += softmax(logits / self.high) * (1 - self.low_share)
        return mixed
