"""Fit the temperatures that turn logits into calibrated probabilities."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from rubro.prediction.calibration import Calibration

_MIN_TEMPERATURE, _MAX_TEMPERATURE = 0.05, 20.0
_MAX_TITLES = 10_000
_MIN_PROBABILITY = 1e-12


def fit_calibration(logits: np.ndarray, targets: np.ndarray) -> Calibration:
    """Fit a mixture of two temperatures by top-label calibration.

    The fit minimises the log loss of the confidence as the probability that a prediction is right.
    Minimising the cross-entropy of the labels instead would make the model overconfident if labels
    are wrong, because wrong labels tend to be probable categories.
    Source: Gupta and Ramdas 2022, Top-label Calibration and Multiclass-to-binary Reductions.

    Args:
        logits: Logits or log-probabilities, float (n, classes), n >= 1. If there are more than
            10,000 rows, only 10,000 evenly spaced rows are used.
        targets: Class indices, (n,).

    Returns:
        Calibration with temperatures from 0.05 to 20, rounded to 4 decimal places.
    """
    chosen = np.unique(np.linspace(0, len(targets) - 1, _MAX_TITLES).astype(int))
    logits, targets = logits[chosen].astype(np.float64), targets[chosen]
    right = logits.argmax(axis=1) == targets
    logits = logits - logits.max(axis=1, keepdims=True)

    def confidence(temperature: float) -> tuple[np.ndarray, np.ndarray]:
        """Return each prediction's confidence and its derivative by the temperature's logarithm."""
        exponentials = np.exp(logits / temperature)
        totals = exponentials.sum(axis=1)
        mean_logits = np.einsum("nc,nc->n", exponentials, logits) / totals
        return 1 / totals, mean_logits / totals / temperature

    def log_loss(x: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the mean log loss and its gradient.

        Args:
            x: Logarithms of both temperatures, and logit of the first one's weight, float (3,).
        """
        share = float(expit(x[2]))
        (low, low_slope), (high, high_slope) = map(confidence, np.exp(x[:2]))
        mixed = share * low + (1 - share) * high
        likelihood = np.maximum(np.where(right, mixed, 1 - mixed), _MIN_PROBABILITY)
        slope = np.where(right, -1, 1) / likelihood
        slopes = [
            slope * share * low_slope,
            slope * (1 - share) * high_slope,
            slope * (low - high) * share * (1 - share),
        ]
        return float(-np.log(likelihood).mean()), np.array([each.mean() for each in slopes])

    bounds = np.log([_MIN_TEMPERATURE, _MAX_TEMPERATURE])
    found = minimize(
        log_loss, [-0.5, 0.5, 0.0], jac=True, method="L-BFGS-B", bounds=[bounds, bounds, (-4, 4)]
    ).x
    (low, share), (high, _) = sorted(
        [(np.exp(found[0]), expit(found[2])), (np.exp(found[1]), expit(-found[2]))]
    )
    low, high, share = (round(float(value), 4) for value in (low, high, share))
    return Calibration(low=low, high=high, low_share=share)
