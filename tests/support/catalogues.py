"""Synthetic test sets with known true metrics, to measure how often intervals contain them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from rubro.evaluation.significance import METRICS, metric_interval

_CONFUSED = 3  # wrong classes that are predicted for each class

_Draw = Callable[[np.random.Generator, int], np.ndarray]
SIZES: dict[str, _Draw] = {
    "1 to 100": lambda random, count: np.exp(random.uniform(0, np.log(101), count)).astype(int),
    "uniform": lambda random, count: random.integers(1, 101, count),
    "1": lambda random, count: np.full(count, 1),
    "3": lambda random, count: np.full(count, 3),
    "50": lambda random, count: np.full(count, 50),
    "Zipf": lambda random, count: 2 * count // np.arange(1, count + 1),
}
RECALLS: dict[str, _Draw] = {
    "near 0.9": lambda random, count: random.beta(45, 5, count),
    "Beta(2, 1)": lambda random, count: random.beta(2, 1, count),
    "a third near 0": lambda random, count: np.where(
        random.random(count) < 1 / 3, random.beta(1, 30, count), random.beta(9, 1, count)
    ),
    "near 1": lambda random, count: random.beta(98, 2, count),
}


@dataclass
class Catalogue:
    """Test titles of a catalogue, predictions of two classifiers and their true metrics.

    Attributes:
        targets: Class indices, (n,).
        predictions: Predictions of each classifier, (2, n).
        true: True metrics of each classifier on infinitely many titles with the same class shares.
    """

    targets: np.ndarray
    predictions: np.ndarray
    true: list[dict[str, float]]


def simulate(random: np.random.Generator, sizes: str, recalls: str, count: int) -> Catalogue:
    """Return a catalogue with `count` classes.

    The second classifier has other recalls and agrees with the first one on many titles. The mean
    recalls differ by 5 % in half of the catalogues, and by little in the other half.

    Args:
        random: Source of random numbers.
        sizes: Key of SIZES.
        recalls: Key of RECALLS.
        count: Number of classes.
    """
    titles = SIZES[sizes](random, count)
    first = RECALLS[recalls](random, count)
    lower = random.choice([1.0, 0.95])
    second = lower * first + 0.3 * random.normal(size=count) * first * (1 - first)
    targets = np.repeat(np.arange(count), titles)
    attraction = np.append(np.sqrt(titles), 0.05 * np.sqrt(titles).sum())
    attraction /= attraction.sum()
    number, choice = random.random((2, 2, len(targets)))
    same = random.random(len(targets)) < 0.6
    number[1, same], choice[1, same] = number[0, same], choice[0, same]
    predictions, true = [], []
    # Class `count` has no test titles.
    confused = random.choice(count + 1, (count, _CONFUSED), p=attraction)
    confused[confused == np.arange(count)[:, None]] = count
    for index, recall in enumerate((first, np.clip(second, 0, 1))):
        shares = random.dirichlet(np.ones(_CONFUSED), count)
        drawn = (shares.cumsum(axis=1)[targets] < choice[index][:, None]).sum(axis=1)
        wrong = confused[targets, np.minimum(drawn, _CONFUSED - 1)]
        predictions.append(np.where(number[index] < recall[targets], targets, wrong))
        errors = (titles * (1 - recall))[:, None] * shares
        false = np.bincount(confused.ravel(), errors.ravel(), count + 1)[:count]
        right = titles * recall
        true.append(
            {
                "balanced_accuracy": recall.mean(),
                "accuracy": right.sum() / titles.sum(),
                "macro_f1": (2 * right / (titles + right + false)).mean(),
            }
        )
    return Catalogue(targets, np.array(predictions), true)


def coverage(
    sizes: str, recalls: str, count: int, catalogues: int
) -> dict[str, tuple[float, float]]:
    """Return how often 95 % intervals contain the true metric, and the true difference.

    Args:
        sizes: Key of SIZES.
        recalls: Key of RECALLS.
        count: Number of classes.
        catalogues: Number of simulated catalogues.
    """
    random = np.random.default_rng(5)
    hits: dict[str, list[tuple[bool, bool]]] = {name: [] for name in METRICS}
    for _ in range(catalogues):
        drawn = simulate(random, sizes, recalls, count)
        first, second = drawn.predictions
        for name in METRICS:
            true, other = (each[name] for each in drawn.true)
            low, high = metric_interval(name, drawn.targets, first, 0.95)
            least, most = metric_interval(name, drawn.targets, first, 0.95, second)
            hits[name].append((low <= true <= high, least <= true - other <= most))
    shares = {name: np.mean(found, axis=0).round(3).tolist() for name, found in hits.items()}
    return {name: (own, difference) for name, (own, difference) in shares.items()}
