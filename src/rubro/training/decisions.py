"""Fit the decision for each objective, a shift and a calibration of logits, to validation titles."""

from __future__ import annotations

from typing import get_args

import numpy as np
from scipy.optimize import minimize

from rubro.base.metric_names import Objective
from rubro.evaluation.metrics import MEASURES
from rubro.prediction.folder import MAX_SHIFT, Decision
from rubro.training.calibration import evenly_spaced, fit_calibration

_MAX_SCALE_TITLES, _MAX_SHIFT_TITLES = 2000, 10_000  # used to fit a scale or a shift, to save time
_MAX_SCALE, _MAX_PRIOR = 50.0, 5.0
# Shifts of logits that have the scale of fit_scale: 1 adds the logarithm of a category's share.
_SHIFTS = np.linspace(-1.5, 1.5, 31)
_SMOOTHED = 3  # neighbouring shifts whose scores are averaged to reduce noise
_INDIFFERENCE = 0.3  # standard errors; scores this close to the best count as equal


def fit_scale(logits: np.ndarray, targets: np.ndarray, shares: np.ndarray) -> float:
    """Return the factor that turns logits into log-probabilities, except for a shift.

    The factor is the inverse of a temperature (Guo et al. 2017, On Calibration of Modern Neural
    Networks). It is fitted together with a shift, so that both minimise the cross-entropy.

    Args:
        logits: Logits, float (n, classes), n >= 1.
        targets: Class indices, (n,).
        shares: Logarithm of each category's share of the training titles, (classes,).

    Returns:
        Factor above 0 and up to 50, rounded to 4 decimal places; 1 if the best factor is 0.
    """
    chosen = evenly_spaced(len(targets), _MAX_SCALE_TITLES)
    logits, targets = logits[chosen].astype(np.float64), targets[chosen]
    rows = np.arange(len(targets))

    def cross_entropy(x: np.ndarray) -> tuple[float, np.ndarray]:
        surplus = x[0] * logits + x[1] * shares
        surplus -= surplus.max(axis=1, keepdims=True)
        own = surplus[rows, targets]
        totals = np.exp(surplus, out=surplus).sum(axis=1)
        surplus /= totals[:, None]
        surplus[rows, targets] -= 1
        gradient = [np.vdot(surplus, logits), surplus.sum(axis=0) @ shares]
        return float((np.log(totals) - own).mean()), np.array(gradient) / len(targets)

    bounds = [(0.0, _MAX_SCALE), (-_MAX_PRIOR, _MAX_PRIOR)]
    start = [1.0 / max(float(logits.std()), 1e-6), 0.0]
    options = {"ftol": 1e-7}  # enough for the decimal places that are kept
    found = minimize(
        cross_entropy, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options
    ).x
    return round(float(found[0]), 4) or 1.0


def fit_shift(
    logits: np.ndarray, targets: np.ndarray, shares: np.ndarray, objective: Objective
) -> tuple[float, float]:
    """Return the shift with the best value of a metric, and this value.

    If several shifts are about as good, the one closest to 0 is chosen.

    Args:
        logits: Logits in the scale of fit_scale, float (n, classes), n >= 1.
        targets: Class indices, (n,).
        shares: Logarithm of each category's share of the training titles, (classes,).
        objective: Metric.
    """
    titles = evenly_spaced(len(targets), _MAX_SHIFT_TITLES)
    logits, targets = logits[titles].astype(np.float64), targets[titles]
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
    scale = fit_scale(logits, targets, shares)
    decisions = {}
    for objective in get_args(Objective):
        shift, _ = fit_shift(scale * logits, targets, shares, objective)
        shift = min(max(round(shift / scale, 6), -MAX_SHIFT), MAX_SHIFT)
        shifted = logits + (shift * shares).astype(np.float32)
        decisions[objective] = Decision(shift=shift, calibration=fit_calibration(shifted, targets))
    return decisions
