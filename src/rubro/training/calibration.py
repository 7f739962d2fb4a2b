"""Fit the function that turns logits into calibrated probabilities."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit

from rubro.prediction.calibration import Calibration, prediction_score, rival_weights

_MAX_TITLES = 10_000
_MAX_TITLES_OF_PRIOR = 2_000
_TEMPERATURES = (0.01, 100.0)
_KNOTS = (0.1, 0.5)  # quantiles of the score
_MIN_RISE = 0.25  # log odds from the 5th to the 95th percentile of the score
_MAX_RISE = 100.0
_MAX_LOG_ODDS = 12.0
_DECAYS = (1.0, 2.0, 0.0)  # the first one is usually the best
_MIN_GAIN = 0.005  # in AUROC; the first decay is used unless another one is better by this


def fit_calibration(logits: np.ndarray, targets: np.ndarray) -> Calibration:
    """Fit the confidence by top-label calibration, and the temperature to wrong predictions.

    The confidence minimises the log loss of whether the prediction is right, with the smoothed
    targets of Platt 1999, which keep it below 1 if all predictions are right. The temperature
    minimises the cross-entropy of the labels of wrong predictions without the predicted category.
    Minimising the cross-entropy of all labels with one temperature instead would make the model
    overconfident if labels are wrong, because wrong labels tend to be probable categories.

    Source: Gupta and Ramdas 2022, Top-label Calibration and Multiclass-to-binary Reductions.

    Args:
        logits: Logits or log-probabilities, float (n, classes), n >= 1. If there are more than
            10,000 rows, only 10,000 evenly spaced rows are used.
        targets: Class indices, (n,).

    Returns:
        Calibration with a knot rounded to 4 decimal places and other parameters rounded to 4
        significant digits.
    """
    if logits.shape[1] == 1:
        return Calibration()
    chosen = evenly_spaced(len(targets), _MAX_TITLES)
    logits, targets = logits[chosen].astype(np.float64), targets[chosen]
    temperature = _rival_temperature(logits, targets)
    predicted, weights, margin = rival_weights(logits, temperature)
    right = predicted == targets
    total = weights.sum(axis=1)
    scores = {decay: prediction_score(margin, total, decay) for decay in _DECAYS}
    aurocs = {decay: _auroc(scores[decay], right) for decay in _DECAYS}
    decay = max(_DECAYS, key=lambda decay: aurocs[decay] - _MIN_GAIN * (decay != _DECAYS[0]))
    knots = np.quantile(scores[decay], _KNOTS).round(4).tolist()
    fits = [(knot, *_fit_confidence(scores[decay], knot, right)) for knot in knots]
    knot, _, parameters = min(fits, key=lambda fit: fit[1])
    return Calibration(temperature=temperature, decay=decay, knot=knot, **parameters)


def _auroc(score: np.ndarray, right: np.ndarray) -> float:
    """Return the probability that a right prediction has a higher score than a wrong one.

    Equal scores count as half.
    """
    if right.all() or not right.any():
        return 0.5
    wrong_scores = np.sort(score[~right])
    lower = np.searchsorted(wrong_scores, score[right], "left").mean()
    lower_or_equal = np.searchsorted(wrong_scores, score[right], "right").mean()
    return float((lower + lower_or_equal) / 2 / len(wrong_scores))


def _fit_confidence(
    score: np.ndarray, knot: float, right: np.ndarray
) -> tuple[float, dict[str, float]]:
    """Fit the log odds of right predictions as a function of the score's distance to the knot.

    A tie of the two best categories, which has the score 0, counts as one more title that is right
    with probability 1/2. Otherwise a model without errors on validation would be certain of titles
    without any known word.

    Returns:
        Mean log loss, and the parameters of Calibration for the knot.
    """
    low, high = np.quantile(score, [0.05, 0.95])
    distance = np.append(score, 0.0) - knot
    unit = max(high - low, 1e-3)
    features = np.column_stack(
        [np.ones(len(distance)), np.minimum(distance, 0) / unit, np.maximum(distance, 0) / unit]
    )
    expected = np.where(right, (right.sum() + 1) / (right.sum() + 2), 1 / ((~right).sum() + 2))
    expected = np.append(expected, 0.5)

    def log_loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the mean log loss and its gradient."""
        log_odds = features @ parameters
        loss = np.logaddexp(0, log_odds) - expected * log_odds
        return float(loss.mean()), features.T @ (expit(log_odds) - expected) / len(expected)

    slopes = (_MIN_RISE, _MAX_RISE)
    bounds = [(-_MAX_LOG_ODDS, _MAX_LOG_ODDS), slopes, slopes]
    found = minimize(log_loss, [0.0, 4.0, 4.0], jac=True, method="L-BFGS-B", bounds=bounds)
    values = (_rounded(value) for value in found.x / [1, unit, unit])
    names = ("log_odds", "slope_below", "slope_above")
    return float(found.fun), dict(zip(names, values, strict=True))


def _rival_temperature(logits: np.ndarray, targets: np.ndarray) -> float:
    """Return the temperature that fits wrong predictions, near the one that fits all titles."""
    chosen = evenly_spaced(len(targets), _MAX_TITLES_OF_PRIOR)
    prior = _fit_temperature(logits[chosen], targets[chosen])
    predicted = logits.argmax(axis=1)
    wrong = np.flatnonzero(predicted != targets)
    rivals = logits[wrong]
    rivals[np.arange(len(wrong)), predicted[wrong]] = -np.inf
    return _rounded(_fit_temperature(rivals, targets[wrong], prior))


def _fit_temperature(logits: np.ndarray, targets: np.ndarray, prior: float | None = None) -> float:
    """Return the temperature that minimises the total cross-entropy.

    Args:
        logits: Logits, float64 (n, classes); n may be 0 if there is a prior.
        targets: Class indices, (n,).
        prior: Mean of a normal distribution of the logarithm with variance 1; None = none.
    """
    highest = logits.max(axis=1, initial=-np.inf)
    behind = (highest - logits[np.arange(len(targets)), targets]).sum()
    logits = logits - highest[:, None]  # so that exp cannot overflow
    scaled = np.empty_like(logits)

    def cross_entropy(log_temperature: float) -> float:
        temperature = np.exp(log_temperature)
        np.exp(np.divide(logits, temperature, out=scaled), out=scaled)
        loss = float(behind / temperature + np.log(scaled.sum(axis=1)).sum())
        return loss if prior is None else loss + (log_temperature - np.log(prior)) ** 2 / 2

    bounds = np.log(_TEMPERATURES)
    options = {"xatol": 1e-5}
    return float(
        np.exp(minimize_scalar(cross_entropy, bounds=bounds, method="bounded", options=options).x)
    )


def evenly_spaced(count: int, limit: int) -> np.ndarray:
    """Return at most `limit` evenly spaced positions below `count`, int64 (n,)."""
    return np.unique(np.linspace(0, count - 1, limit).astype(int))


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
