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
# In a tree, the level is spread over this many candidates if there are at least _MIN_SPREAD times
# the minimum number of titles.
_SPREAD = 5
_MIN_SPREAD = 4


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

    A level only accepts nodes with as many names as the level, because a node with fewer names also
    belongs to an upper level.

    Args:
        probabilities: Calibrated probabilities, float (titles, classes).
        targets: Index of the right node of each title, (titles,), at each level; -1 if the model
            does not know it.
        foreign: Whether the model does not know most of the words of each title, bool (titles,).
        reliable: Whether the label of each title is reliable, bool (titles,).
        levels: Levels of the tree, deepest first.
    """
    found = []
    for place, (level, nodes) in enumerate(zip(levels, targets, strict=True)):
        summed = level.summed(probabilities)
        never = foreign | (level.lengths[summed.argmax(axis=1)] != len(levels) - place)
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
    order, ranked, kept = _candidates(confidences, minimum_titles(precision, level))
    if not len(kept):
        return math.inf
    excess = np.cumsum(ranked)[kept - 1] / kept - precision
    first = int(np.argmax(np.sqrt(kept) * excess))
    shares = np.zeros(len(kept))
    shares[:first] = (1 - _FIRST_SHARE) / max(first, 1)
    shares[first] = _FIRST_SHARE if first else 1
    p_values = binom.sf(np.cumsum(right[order])[kept - 1] - 1, kept, precision)
    return _last_that_passes(ranked[kept - 1], p_values, level * shares)


def _candidates(confidences: np.ndarray, minimum: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the numbers of titles that the candidates for a threshold accept.

    Returns:
        Indices of the titles that can be accepted, highest confidence first; their confidences,
        rounded down to 6 digits; and the numbers of titles, ascending, none below the minimum.
    """
    order = np.argsort(-confidences, kind="stable")[: np.count_nonzero(confidences >= 0)]
    ranked = np.floor(confidences[order] * 1e6) / 1e6
    if len(order) < minimum:
        return order, ranked, np.zeros(0, dtype=np.int64)
    ranks = -(-len(order) * np.arange(1, _CANDIDATES + 1) // _CANDIDATES)
    # A threshold accepts all titles with the same confidence.
    kept = np.unique(np.searchsorted(-ranked, -ranked[ranks - 1], side="right"))
    return order, ranked, kept[kept >= minimum]


def _last_that_passes(
    thresholds: np.ndarray, p_values: np.ndarray, own_levels: np.ndarray
) -> float:
    """Return the last threshold that passes the fallback procedure; inf if there is none."""
    level, found = 0.0, math.inf
    for threshold, p_value, own_level in zip(thresholds, p_values, own_levels, strict=True):
        level += own_level
        if p_value < level:
            found = float(threshold)
        else:
            level = 0.0
    return found


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
    """Choose thresholds for the levels of a category tree, so that each level keeps the promise.

    A title is answered at the deepest level that accepts it, and each level has one threshold for all
    its nodes. There are two ways to choose the thresholds:

    - From the deepest level to the roots. Each level accepts as many titles as it can of the titles
      that the deeper levels reject.
    - From the roots to the deepest level. Each level takes over as many titles from the level above
      as it can, while the answers that remain there reach the precision as well (intersection-union
      test). This accepts more titles if the titles that are hard to classify are too few, or not
      precise enough, to keep the promise by themselves.

    The way whose answers are worth more is used. The first name of an answer is worth 1, and each
    further name half as much as the name before. Each way breaks the promise of a level with a
    probability of at most 2.5 %, so the chosen one breaks it with at most 5 %. The candidates for
    each threshold are corrected with the fallback procedure, as in choose_threshold.

    Without a tree, the only level has the thresholds of choose_thresholds.

    Source: Berger 1982, Multiparameter Hypothesis Testing and Acceptance Sampling.

    Args:
        levels: Predictions at each level for the same titles, deepest level first.
        precision: Promised precision, between 0 and 1.

    Returns:
        Thresholds of each level, deepest level first.
    """
    if len(levels) == 1:
        return [choose_thresholds(levels[0], precision)]
    deepest_first = range(len(levels))
    found = [
        _chosen_in_order(levels, order, precision) for order in (deepest_first, deepest_first[::-1])
    ]
    return max(found, key=lambda chosen: _worth(levels, chosen))


def _worth(levels: Sequence[Predictions], chosen: Sequence[ChosenThresholds]) -> float:
    places, _ = level_answers(levels, chosen)
    names = len(levels) - places[places >= 0]
    return float(np.sum(2 - 0.5 ** (names - 1)))


def _chosen_in_order(
    levels: Sequence[Predictions], order: Sequence[int], precision: float
) -> list[ChosenThresholds]:
    """Choose the thresholds of one level after another; see choose_level_thresholds."""
    places = np.full(len(levels[0].right), -1)
    bounds = [math.inf] * len(levels)
    for place in order:
        confidences = levels[place].confidences
        # The titles that this level accepts are then accepted by all upper levels.
        lowest = max((bound for bound in bounds[place + 1 :] if bound < math.inf), default=0.0)
        is_free = (confidences >= lowest) & ((places < 0) | (places > place))
        bounds[place] = _choose_at_level(levels, places, is_free, place, precision)
        places[is_free & (confidences >= bounds[place])] = place
    return [ChosenThresholds(bound, bound, {}) for bound in bounds]


def _choose_at_level(
    levels: Sequence[Predictions],
    places: np.ndarray,
    is_free: np.ndarray,
    place: int,
    precision: float,
) -> float:
    """Return the threshold of a level; inf if there is none.

    Args:
        levels: Predictions at each level for the same titles, deepest level first.
        places: Position in `levels` of the level that answers each title until now, (n,); -1 if
            there is none.
        is_free: Whether the level may accept each title, bool (n,).
        place: Position in `levels` of the level.
        precision: Promised precision, between 0 and 1.
    """
    minimum = minimum_titles(precision)
    order, ranked, kept = _candidates(np.where(is_free, levels[place].confidences, -1), minimum)
    if not len(kept):
        return math.inf
    rights = np.stack([predictions.right for predictions in levels])
    confidences = np.stack([predictions.confidences for predictions in levels])
    index, groups = np.arange(len(places)), len(levels) + 1  # the first group has no answer
    found = []
    for count in (0, *kept):
        after = places.copy()
        after[order[:count]] = place
        found.append(
            [
                np.bincount(after + 1, minlength=groups),
                *(
                    np.bincount(after + 1, values[after, index], groups)
                    for values in (rights, confidences)
                ),
            ]
        )
    (before, *titles), (_, *right), (_, *expected) = (
        np.array(values)[:, 1:] for values in zip(*found, strict=True)
    )
    counts = np.array(titles)
    is_tested = (counts != before) & (counts > 0)
    p_values = np.where(is_tested, binom.sf(np.array(right) - 1, counts, precision), 0).max(axis=1)
    divisors = np.maximum(counts, 1)
    margins = (np.array(expected) / divisors - precision) * np.sqrt(divisors)
    margins = np.where(is_tested, margins, np.inf).min(axis=1)
    shares = np.zeros(len(kept))
    if len(order) < _MIN_SPREAD * minimum:
        shares[np.argmax(margins)] = 1
    else:
        # The confidences of upper levels are too low, so they cannot show which candidate will pass.
        shares[np.linspace(0, len(kept) - 1, _SPREAD + 1)[1:].round().astype(int)] = 1 / _SPREAD
    return _last_that_passes(ranked[kept - 1], p_values, _LEVEL * shares)


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
    accepted = np.stack(
        [each.accepts(predictions) for each, predictions in zip(chosen, levels, strict=True)]
    )
    places = np.where(accepted.any(axis=0), accepted.argmax(axis=0), -1)
    rights = np.stack([predictions.right for predictions in levels])
    return places, rights[places, np.arange(len(places))] & (places >= 0)
