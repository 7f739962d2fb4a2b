"""Fit to validation titles how logits are turned into answers for each objective."""

from __future__ import annotations

from typing import get_args

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax

from rubro.base.metric_names import Objective
from rubro.evaluation.metrics import MEASURES
from rubro.prediction.folder import MAX_SHIFT, Decision
from rubro.training.calibration import fit_calibration

_MAX_SCALE_TITLES, _MAX_SHIFT_TITLES = 2000, 10_000  # that are used, to save time
_MAX_SCALE, _MAX_PRIOR = 50.0, 5.0
# Shifts of logits that have the scale of fit_scale: 1 adds the logarithm of a category's share.
_SHIFTS = np.linspace(-1.5, 1.5, 31)
_SMOOTHED = 3  # neighbouring shifts whose scores are averaged, because validation titles are few
_INDIFFERENCE = 0.1  # standard errors of the best score, within which a smaller shift is preferred


def fit_scale(logits: np.ndarray, targets: np.ndarray, shares: np.ndarray) -> float:
    """Return the factor that makes logits log-probabilities, apart from a shift.

    The factor is the inverse of a temperature (Guo et al. 2017, On Calibration of Modern Neural
    Networks). It minimises the cross-entropy together with a multiple of the shares that is added.

    Args:
        logits: Logits, float (n, classes), n >= 1.
        targets: Class indices, (n,).
        shares: Logarithm of each category's share of the training titles, (classes,).

    Returns:
        Factor from 0 to 50, rounded to 4 decimal places.
    """
    logits, targets = _sample(logits, targets, _MAX_SCALE_TITLES)
    rows = np.arange(len(targets))

    def cross_entropy(x: np.ndarray) -> tuple[float, np.ndarray]:
        log_probabilities = log_softmax(x[0] * logits + x[1] * shares, axis=1)
        surplus = np.exp(log_probabilities)
        surplus[rows, targets] -= 1
        gradient = [np.vdot(surplus, logits), surplus.sum(axis=0) @ shares]
        return float(-log_probabilities[rows, targets].mean()), np.array(gradient) / len(targets)

    bounds = [(0.0, _MAX_SCALE), (-_MAX_PRIOR, _MAX_PRIOR)]
    start = [1.0 / max(float(logits.std()), 1e-6), 0.0]
    found = minimize(cross_entropy, start, jac=True, method="L-BFGS-B", bounds=bounds).x
    return round(float(found[0]), 4)


def fit_shift(
    logits: np.ndarray, targets: np.ndarray, shares: np.ndarray, objective: Objective
) -> tuple[float, float]:
    """Return the shift with the best value of a metric, and this value.

    Args:
        logits: Logits in the scale of fit_scale, float (n, classes), n >= 1.
        targets: Class indices, (n,).
        shares: Logarithm of each category's share of the training titles, (classes,).
        objective: Metric.
    """
    logits, targets = _sample(logits, targets, _MAX_SHIFT_TITLES)
    measure = MEASURES[objective]
    scores = np.array(
        [measure(targets, (logits + shift * shares).argmax(axis=1)) for shift in _SHIFTS]
    )
    padded = np.pad(scores, _SMOOTHED // 2, mode="edge")
    smoothed = np.convolve(padded, np.ones(_SMOOTHED) / _SMOOTHED, mode="valid")
    best = smoothed.max()
    tolerance = _INDIFFERENCE * np.sqrt(best * (1 - best) / len(targets))
    good = np.flatnonzero(smoothed >= best - tolerance)
    chosen = good[np.abs(_SHIFTS[good]).argmin()]
    return round(float(_SHIFTS[chosen]), 4), float(smoothed[chosen])


def fit_decisions(
    logits: np.ndarray, targets: np.ndarray, shares: np.ndarray
) -> dict[Objective, Decision]:
    """Return the decision for each objective.

    Args:
        logits: Logits, float32 (n, classes), n >= 1.
        targets: Class indices, (n,).
        shares: Logarithm of each category's share of the training titles, (classes,).
    """
    scale = fit_scale(logits, targets, shares) or 1.0
    decisions = {}
    for objective in get_args(Objective):
        shift, _ = fit_shift(scale * logits, targets, shares, objective)
        shift = min(max(round(shift / scale, 6), -MAX_SHIFT), MAX_SHIFT)
        shifted = logits + (shift * shares).astype(np.float32)
        decisions[objective] = Decision(shift=shift, calibration=fit_calibration(shifted, targets))
    return decisions


def _sample(logits: np.ndarray, targets: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a maximum number of evenly spaced titles, with logits as float64."""
    chosen = np.unique(np.linspace(0, len(targets) - 1, most).astype(int))
    return logits[chosen].astype(np.float64), targets[chosen]
