"""Turn logits into calibrated probabilities."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from rubro.base.schema import Section

_MAX_LOG_ODDS = 14.0  # float32 rounds the confidence to 1 from log odds of about 17
_MIN_EXPONENT = -60.0  # keeps the probabilities of the other categories above 0 in float32
_MIN_WEIGHT = 1 + 1e-6  # of the predicted category; the second category has the weight 1


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return the softmax of each row of finite logits, float (n, classes)."""
    exponentials: np.ndarray = np.exp(logits - logits.max(axis=1, keepdims=True))
    exponentials /= exponentials.sum(axis=1, keepdims=True)
    return exponentials


def rival_weights(
    logits: np.ndarray, temperature: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compare the predicted category and all others with the second most probable category.

    Args:
        logits: Logits, float (n, classes), at least 2 classes.
        temperature: Divides the differences of the logits.

    Returns:
        The predicted class, int64 (n,); the exponential of each class's difference to the second
        logit, float (n, classes), which is almost 0 for the predicted class; and the margin, which
        is the difference of the two highest logits, float64 (n,).
    """
    rows, predicted = np.arange(len(logits)), logits.argmax(axis=1)
    weights = logits / temperature
    first = weights[rows, predicted].astype(np.float64)
    weights[rows, predicted] = -np.inf
    second = weights.max(axis=1)
    weights -= second[:, None]
    np.maximum(weights, _MIN_EXPONENT, out=weights)
    np.exp(weights, out=weights)
    return predicted, weights, first - second


def prediction_score(margin: np.ndarray, total: np.ndarray, decay: float) -> np.ndarray:
    """Return the score of each prediction, which increases with the confidence, float64 (n,).

    The score is the margin minus a penalty for categories that are close to the second one. The
    penalty decays exponentially as the margin grows.

    Args:
        margin: Margin from rival_weights, float (n,).
        total: Sum of the weights from rival_weights, float (n,), at least 1.
        decay: See Calibration.
    """
    score: np.ndarray = margin - np.log1p((total - 1) * np.exp(-decay * margin))
    return score


_Slope = Annotated[float, Field(gt=0.0)]


class Calibration(Section):
    """Confidence that increases with the score of a prediction, and a temperature for the others.

    The log odds of the confidence are a linear spline with one knot in the score, like logistic
    calibration with one slope for uncertain and one for certain predictions. The confidence therefore
    ranks titles in the same order as the score and has no maximum, even if labels are inconsistent.
    The other categories share the remaining probability by a softmax. Calibration does not change the
    order of the categories, and no probability is rounded to 0 or 1. The defaults are the softmax.

    Source: logistic calibration: Platt 1999, Probabilistic Outputs for Support Vector Machines; two
    slopes of the log odds: Kull, Silva Filho and Flach 2017, Beta Calibration; temperature: Guo et
    al. 2017, On Calibration of Modern Neural Networks.

    Attributes:
        temperature: Temperature of the softmax over the categories that are not predicted.
        decay: How fast the categories beyond the second lose their influence on the score as the
            margin grows. With 0, the score is the log odds of the softmax. The higher the value, the
            closer the score is to the margin.
        knot: Score at which the slope changes.
        log_odds: Log odds of the confidence at the knot.
        slope_below: Increase of the log odds for each unit of the score below the knot.
        slope_above: Increase of the log odds for each unit of the score above the knot.
    """

    temperature: Annotated[float, Field(ge=0.001, le=1000.0)] = 1.0
    decay: Annotated[float, Field(ge=0.0, le=1000.0)] = 0.0
    knot: float = 0.0
    log_odds: float = 0.0
    slope_below: _Slope = 1.0
    slope_above: _Slope = 1.0

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Return calibrated probabilities for logits, both float (n, classes)."""
        if logits.shape[1] == 1:
            return np.ones_like(logits)
        predicted, weights, margin = rival_weights(logits, self.temperature)
        total = weights.sum(axis=1)
        distance = prediction_score(margin, total, self.decay) - self.knot
        slope = np.where(distance < 0, self.slope_below, self.slope_above)
        odds = np.exp(np.minimum(self.log_odds + slope * distance, _MAX_LOG_ODDS))
        first = np.maximum(odds * total, _MIN_WEIGHT)
        weights[np.arange(len(logits)), predicted] = first
        weights /= (total + first).astype(weights.dtype)[:, None]
        return weights
