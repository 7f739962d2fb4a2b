"""Fit of the temperatures that turn logits into probabilities."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from rubro.prediction.calibration import Calibration
from rubro.prediction.folder import Model

_LOWEST, _HIGHEST = 0.05, 20.0
_MOST_TITLES = 10_000
_LEAST_PROBABILITY = 1e-12


def fit_calibration(logits: np.ndarray, targets: np.ndarray) -> Calibration:
    """Fit the calibration whose confidence best predicts whether a prediction is right.

    The fit minimises the log loss of whether a prediction is right. With wrong labels, which tend
    to be probable categories, the cross-entropy of the labels would lead to too much confidence.
    Source: Gupta and Ramdas 2022, Top-label Calibration and Multiclass-to-binary Reductions.

    Args:
        logits: Logits or log-probabilities, float (n, classes), n >= 1; above 10,000 rows, 10,000
            evenly spaced ones are used.
        targets: Class indices, (n,).

    Returns:
        Calibration with temperatures from 0.05 to 20, rounded to 4 digits.
    """
    spaced = np.unique(np.linspace(0, len(targets) - 1, _MOST_TITLES).astype(int))
    logits, targets = logits[spaced].astype(np.float64), targets[spaced]
    right = logits.argmax(axis=1) == targets
    logits = logits - logits.max(axis=1, keepdims=True)

    def confidence(temperature: float) -> tuple[np.ndarray, np.ndarray]:
        """Return the confidence of each prediction and its derivative by log temperature."""
        exponentials = np.exp(logits / temperature)
        totals = exponentials.sum(axis=1)
        mean_logits = np.einsum("nc,nc->n", exponentials, logits) / totals
        return 1 / totals, mean_logits / totals / temperature

    def log_loss(x: np.ndarray) -> tuple[float, np.ndarray]:
        share = float(expit(x[2]))
        (low, low_slope), (high, high_slope) = map(confidence, np.exp(x[:2]))
        mixed = share * low + (1 - share) * high
        of_outcome = np.maximum(np.where(right, mixed, 1 - mixed), _LEAST_PROBABILITY)
        slope = np.where(right, -1, 1) / of_outcome
        slopes = [
            slope * share * low_slope,
            slope * (1 - share) * high_slope,
            slope * (low - high) * share * (1 - share),
        ]
        return float(-np.log(of_outcome).mean()), np.array([each.mean() for each in slopes])

    ends = np.log([_LOWEST, _HIGHEST])
    found = minimize(
        log_loss, [-0.5, 0.5, 0.0], jac=True, method="L-BFGS-B", bounds=[ends, ends, (-4, 4)]
    ).x
    (low, share), (high, _) = sorted(
        [(np.exp(found[0]), expit(found[2])), (np.exp(found[1]), expit(-found[2]))]
    )
    low, high, share = (round(float(value), 4) for value in (low, high, share))
    return Calibration(low=low, high=high, low_share=share)


def calibrated(model: Model, logits: np.ndarray, targets: np.ndarray) -> Model:
    """Return a model with a calibration fitted to its logits.

    Args:
        model: Model with any calibration.
        logits: Logits of validation titles, float32 (titles, classes).
        targets: Class indices, (titles,).
    """
    calibration = fit_calibration(logits, targets)
    description = model.description.model_copy(update={"calibration": calibration})
    return replace(model, description=description)
