"""Making probabilities mean what they say."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, softmax

_LOWEST, _HIGHEST = 0.05, 20.0
_MOST_TITLES = 10_000


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
    """The calibration with the least cross-entropy.

    Args:
        logits: float (n, classes), n >= 1; log-probabilities serve as well. Of more than 10,000
            titles, 10,000 evenly spaced ones are used.
        targets: class indices (n,).

    Returns:
        Temperatures from 0.05 to 20; all numbers rounded to 4 digits.
    """
    spaced = np.unique(np.linspace(0, len(targets) - 1, _MOST_TITLES).astype(int))
    logits, targets = logits[spaced].astype(float), targets[spaced]
    logits = logits - logits.max(axis=1, keepdims=True)
    own = logits[np.arange(len(targets)), targets]

    def own_probability(temperature: float) -> tuple[np.ndarray, np.ndarray]:
        """That of the right class, and the derivative of its logarithm by log temperature."""
        exponentials = np.exp(logits / temperature)
        totals = exponentials.sum(axis=1)
        mean_logits = np.einsum("nc,nc->n", exponentials, logits) / totals
        return np.exp(own / temperature) / totals, (mean_logits - own) / temperature

    def cross_entropy(x: np.ndarray) -> tuple[float, np.ndarray]:
        share = float(expit(x[2]))
        (low, low_slope), (high, high_slope) = map(own_probability, np.exp(x[:2]))
        mixed = np.maximum(share * low + (1 - share) * high, np.finfo(float).tiny)
        slopes = [
            share * low / mixed * low_slope,
            (1 - share) * high / mixed * high_slope,
            (low - high) / mixed * share * (1 - share),
        ]
        return float(-np.log(mixed).mean()), -np.array([slope.mean() for slope in slopes])

    ends = np.log([_LOWEST, _HIGHEST])
    found = minimize(
        cross_entropy, [-0.5, 0.5, 0.0], jac=True, method="L-BFGS-B", bounds=[ends, ends, (-4, 4)]
    ).x
    (low, share), (high, _) = sorted(
        [(np.exp(found[0]), expit(found[2])), (np.exp(found[1]), expit(-found[2]))]
    )
    return Calibration(*(round(float(value), 4) for value in (low, high, share)))
