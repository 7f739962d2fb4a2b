"""Making probabilities mean what they say."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, softmax

_LOWEST, _HIGHEST = 0.05, 20.0
_MOST_TITLES = 10_000
_LEAST_PROBABILITY = 1e-12


@dataclass(frozen=True)
class Calibration:
    """Probabilities from logits: a mixture of two softmaxes, each of its own temperature.

    With one temperature, what is far from all training titles stays too sure or what is close to
    them too unsure. The prediction of a title is that of its logits; only its confidence moves.
    Source: Guo et al. 2017, On Calibration of Modern Neural Networks; mixtures of temperatures:
    Zhang, Kailkhura and Han 2020, Mix-n-Match.

    Attributes:
        low: the lower temperature.
        high: the higher temperature.
        low_share: of the softmax of the lower temperature in the mixture, 0 to 1.
    """

    low: float = 1.0
    high: float = 1.0
    low_share: float = 1.0

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """float (n, classes) -> float (n, classes); rows sum to 1."""
        mixed = self.low_share * softmax(logits / self.low, axis=1)
        return np.asarray(mixed + (1 - self.low_share) * softmax(logits / self.high, axis=1))


def fit_calibration(logits: np.ndarray, targets: np.ndarray) -> Calibration:
    """The calibration whose confidence says best whether a prediction is right.

    It has the least log loss of that yes or no. The cross-entropy of the labels would settle for
    too much confidence where labels are wrong, since a wrong label is not any category, but a
    likely one. Source: Gupta and Ramdas 2022, Top-label Calibration and Multiclass-to-binary
    Reductions.

    Args:
        logits: float (n, classes), n >= 1; log-probabilities serve as well. Of more than 10,000
            titles, 10,000 evenly spaced ones are used.
        targets: class indices (n,).

    Returns:
        Temperatures from 0.05 to 20; all numbers rounded to 4 digits.
    """
    spaced = np.unique(np.linspace(0, len(targets) - 1, _MOST_TITLES).astype(int))
    logits, targets = logits[spaced].astype(float), targets[spaced]
    right = logits.argmax(axis=1) == targets
    logits = logits - logits.max(axis=1, keepdims=True)

    def confidence(temperature: float) -> tuple[np.ndarray, np.ndarray]:
        """That of each prediction, and its derivative by log temperature."""
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
    return Calibration(*(round(float(value), 4) for value in (low, high, share)))
