"""Confidence thresholds above which predictions reach a promised precision."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import beta, binom

from rubro.base.category_tree import Level

COVERAGE = 0.95  # of the confidence intervals whose lower end must reach the promised precision
_LEVEL = (1 - COVERAGE) / 2  # probability that the lower end is above the true precision
_CANDIDATES = 50  # quantiles of the confidences
_FIRST_SHARE = 0.9  # of the level, for the candidate that is most likely to pass


@dataclass(frozen=True)
class Predictions:
    """Predictions for labelled titles.

    Attributes:
        classes: Index of the predicted class of each title, (n,).
        confidences: Confidence of each prediction, float64 (n,); a negative one is never accepted.
        right: Whether each prediction is right, bool (n,); False if the model does not know the
            category of the title.
        known: Whether the model knows the category of each title, bool (n,).
    """

    classes: np.ndarray
    confidences: np.ndarray
    right: np.ndarray
    known: np.ndarray

    def selected(self, titles: np.ndarray) -> Predictions:
        """Return the predictions for some titles, given as a mask or as indices."""
        return Predictions(*(values[titles] for values in vars(self).values()))


@dataclass(frozen=True)
class ChosenThresholds:
    """Minimum confidences of accepted predictions; inf = accept no prediction.

    Attributes:
        single: Threshold for the predictions of all categories.
        common: Threshold for the predictions of the categories without a threshold of their own.
        own: Threshold of each class that has its own, by class index.
    """

    single: float
    common: float
    own: dict[int, float]

    def accepts(self, predictions: Predictions) -> np.ndarray:
        """Return whether `own` and `common` accept each prediction, bool (n,)."""
        bounds = np.full(len(predictions.classes), self.common)
        for index, threshold in self.own.items():
            bounds[predictions.classes == index] = threshold
        return predictions.confidences >= bounds


def labelled_predictions(
    probabilities: np.ndarray, targets: np.ndarray, foreign: np.ndarray, reliable: np.ndarray
) -> Predictions:
    """Return the predictions for the reliable titles. Thresholds are chosen from them.

    Args:
        probabilities: Calibrated probabilities, float (titles, classes).
        targets: Index of the right class of each title, (titles,); -1 if the model does not know
            its category.
        foreign: Whether the model does not know most of the words of each title, bool (titles,).
            The predictions for these titles are never accepted.
        reliable: Whether the label of each title is reliable, bool (titles,).
    """
    classes = probabilities.argmax(axis=1)
    confidences = np.where(foreign, -1.0, probabilities.max(axis=1).astype(np.float64))
    return Predictions(classes, confidences, classes == targets, targets >= 0).selected(reliable)


def level_predictions(
    probabilities: np.ndarray,
    targets: Sequence[np.ndarray],
    foreign: np.ndarray,
    reliable: np.ndarray,
    levels: Sequence[Level],
) -> list[Predictions]:
    """Return the predictions for the reliable titles at each level of a category tree.

    A level only accepts nodes that are answers of this level. A node with fewer names is an answer of
    an upper level, and a node with the same categories as a node of the next level would repeat its
    answer.

    Args:
        probabilities: Calibrated probabilities, float (titles, classes).
        targets: Index of the right node of each title, (titles,), at each level; -1 if the model
            does not know it.
        foreign: As for labelled_predictions.
        reliable: As for labelled_predictions.
        levels: Levels of the tree, deepest first.
    """
    found = []
    for level, nodes in zip(levels, targets, strict=True):
        summed = level.summed(probabilities)
        never = foreign | ~level.is_own[summed.argmax(axis=1)]
        found.append(labelled_predictions(summed, nodes, never, reliable))
    return found


def estimate_precision(accepted: np.ndarray, right: np.ndarray) -> dict[str, Any]:
    """Estimate the precision of the accepted predictions, with an exact 95 % confidence interval.

    Source: Clopper and Pearson 1934, The use of confidence or fiducial limits.

    Args:
        accepted: Whether each prediction is accepted, bool (n,).
        right: Whether each prediction is right, bool (n,).

    Returns:
        Numbers of predictions (titles), accepted predictions (kept) and right ones among the
        accepted (right); lower and upper end of the interval (low and high), which are 0 and 1 if
        no prediction is accepted.
    """
    kept, kept_right = int(accepted.sum()), int((accepted & right).sum())
    wrong = kept - kept_right
    low = float(beta.ppf(_LEVEL, kept_right, wrong + 1)) if kept_right else 0.0
    high = float(beta.ppf(1 - _LEVEL, kept_right + 1, wrong)) if wrong else 1.0
    return {"titles": len(right), "kept": kept, "right": kept_right, "low": low, "high": high}


def minimum_titles(precision: float, level: float = _LEVEL) -> int:
    """Return the minimum number of titles that a threshold can be chosen on.

    With fewer titles, the promise cannot be kept even if all predictions are right.

    Args:
        precision: Promised precision, between 0 and 1.
        level: Maximum probability that the promise is broken.
    """
    return math.ceil(math.log(level) / math.log(precision))


def choose_threshold(
    confidences: np.ndarray, right: np.ndarray, precision: float, level: float = _LEVEL
) -> float:
    """Return the lowest threshold that reaches a promised precision.

    The candidates are quantiles of the confidences. Each of them is tested with an exact binomial
    test. The tests are corrected with the fallback procedure, which visits the candidates from the
    highest to the lowest one: each candidate has a share of the level, and a candidate that passes
    hands the level that it was tested with to the next one. The candidate that is most likely to
    pass if the confidences are right has the largest share. The candidates below it have none, so
    the search ends with the first of them that fails. The order and the shares do not depend on
    `right`, so the choice does not weaken the promise.

    Sources: Wiens 2003, A fixed sequence Bonferroni procedure for testing multiple endpoints;
    Angelopoulos et al. 2021, Learn then Test: Calibrating Predictive Algorithms to Achieve Risk
    Control.

    Args:
        confidences: Confidence of each prediction, float64 (n,); a negative one is never accepted.
        right: Whether each prediction is right, bool (n,).
        precision: Promised precision, between 0 and 1.
        level: Maximum probability that the precision is lower than promised.

    Returns:
        Threshold, rounded down to 6 digits; inf if no candidate reaches the precision.
    """
    order = np.argsort(-confidences, kind="stable")[: np.count_nonzero(confidences >= 0)]
    titles, minimum = len(order), minimum_titles(precision, level)
    if titles < minimum:
        return math.inf
    ranked = np.floor(confidences[order] * 1e6) / 1e6
    ranks = -(-titles * np.arange(1, _CANDIDATES + 1) // _CANDIDATES)
    # A threshold accepts all titles with the same confidence.
    kept = np.unique(np.searchsorted(-ranked, -ranked[ranks - 1], side="right"))
    kept = kept[kept >= minimum]
    excess = np.cumsum(ranked)[kept - 1] / kept - precision
    first = int(np.argmax(np.sqrt(kept) * excess))
    shares = np.zeros(len(kept))
    shares[:first] = (1 - _FIRST_SHARE) / max(first, 1)
    shares[first] = _FIRST_SHARE if first else 1
    p_values = binom.sf(np.cumsum(right[order])[kept - 1] - 1, kept, precision)
    own_level, threshold = 0.0, math.inf
    for count, share, p_value in zip(kept, shares, p_values, strict=True):
        own_level += level * share
        if p_value < own_level:
            threshold = float(ranked[count - 1])
        else:
            own_level = 0.0
    return threshold


def choose_thresholds(predictions: Predictions, precision: float) -> ChosenThresholds:
    """Choose thresholds so that the accepted predictions together reach a promised precision.

    A category has a threshold of its own if its predictions reach the precision by themselves. The
    level of these tests is corrected with the procedure of Benjamini and Hochberg, because if only a
    few of many categories pass, most of them may have passed by chance. The other categories share a
    threshold that reaches the precision for these categories together.

    The own thresholds must not accept fewer predictions than a single threshold for all categories
    does. While they do, the category that loses the most predictions joins the others.

    Source: Benjamini and Yekutieli 2005, False Discovery Rate-Adjusted Multiple Confidence
    Intervals for Selected Parameters.

    Args:
        predictions: Predictions for titles that the model was not trained on.
        precision: Promised precision, between 0 and 1.
    """
    ranked = predictions.selected(np.argsort(-predictions.confidences, kind="stable"))
    classes, confidences, right = ranked.classes, ranked.confidences, ranked.right

    def chosen(titles: np.ndarray, level: float = _LEVEL) -> float:
        return choose_threshold(confidences[titles], right[titles], precision, level)

    def gain(titles: np.ndarray, threshold: float) -> int:
        """Return how many more of some predictions a threshold accepts than the single one."""
        accepted, by_single = (confidences[titles] >= bound for bound in (threshold, single))
        return int(accepted.sum() - by_single.sum())

    single = chosen(np.ones(len(classes), dtype=bool))
    names, counts = np.unique(classes, return_counts=True)
    large = names[counts >= minimum_titles(precision)]
    own: dict[int, float] = {}
    expected = len(large)
    while expected:
        level = _LEVEL * expected / len(large)
        found = {int(index): chosen(classes == index, level) for index in large}
        own = {index: threshold for index, threshold in found.items() if threshold < math.inf}
        if len(own) == expected:
            break
        expected = len(own)
    gains = {index: gain(classes == index, threshold) for index, threshold in own.items()}
    while True:
        rest = ~np.isin(classes, list(own))
        common = chosen(rest)
        if not own or gain(rest, common) + sum(gains[index] for index in own) >= 0:
            return ChosenThresholds(single, common, own)
        del own[min(own, key=gains.__getitem__)]


def choose_level_thresholds(
    levels: Sequence[Predictions], precision: float
) -> list[ChosenThresholds]:
    """Choose thresholds for each level of a category tree, one level after another.

    A title is answered at the deepest level that accepts it. The thresholds of a level are therefore
    chosen on the titles that all deeper levels reject, so the promise of choose_thresholds holds for
    the answers of each level, and not only for all answers together. A level with fewer than
    minimum_titles of these titles accepts none.

    Args:
        levels: Predictions at each level for the same titles, deepest level first.
        precision: Promised precision, between 0 and 1.

    Returns:
        Thresholds of each level, deepest level first.
    """
    chosen = []
    waiting = np.ones(len(levels[0].right), dtype=bool)
    for predictions in levels:
        chosen.append(choose_thresholds(predictions.selected(waiting), precision))
        waiting &= ~chosen[-1].accepts(predictions)
    return chosen


def level_answers(
    levels: Sequence[Predictions], chosen: Sequence[ChosenThresholds]
) -> tuple[np.ndarray, np.ndarray]:
    """Return where each title is answered, and whether the answer is right.

    Args:
        levels: Predictions at each level for the same titles, deepest level first.
        chosen: Thresholds of each level, deepest level first.

    Returns:
        Position in `levels` of the first level that accepts the title, int64 (n,), -1 if there is
        none; and whether the prediction of this level is right, bool (n,), False if there is none.
    """
    places = np.full(len(levels[0].right), -1)
    right = np.zeros(len(places), dtype=bool)
    for place, (predictions, thresholds) in enumerate(zip(levels, chosen, strict=True)):
        accepted = (places < 0) & thresholds.accepts(predictions)
        places[accepted] = place
        right[accepted] = predictions.right[accepted]
    return places, right
