"""Choose and measure confidence thresholds that keep a promised precision."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np

from rubro.base.category_tree import Level
from rubro.cli.labelled_titles import Labelled
from rubro.evaluation.thresholds import (
    COVERAGE,
    ChosenThresholds,
    Predictions,
    choose_level_thresholds,
    estimate_precision,
    labelled_predictions,
    level_predictions,
    minimum_titles,
)
from rubro.prediction.classifier import Classifier
from rubro.prediction.explanation import FOREIGN_SHARE
from rubro.prediction.thresholds import (
    AcceptedCounts,
    CategoryThreshold,
    ConfidenceThreshold,
    LevelThresholds,
    Thresholds,
)

C = TypeVar("C", bound=AcceptedCounts)
T = TypeVar("T", Thresholds, LevelThresholds)

_NOT_MEASURED: dict[str, Any] = {"titles": 0, "kept": 0, "right": 0, "low": 0.0, "high": 1.0}


def predictions_for(
    labelled: Labelled, classifier: Classifier, probabilities: np.ndarray
) -> tuple[Predictions, list[Predictions]]:
    """Return the predictions for the reliable titles of a file, and those at each level.

    Args:
        labelled: Labelled titles of the file.
        classifier: Classifier that made the predictions.
        probabilities: Calibrated probabilities of the titles, float (titles, classes).

    Returns:
        Predictions of categories; and the result of level_predictions.
    """
    foreign = classifier.out_of_vocabulary(labelled.products) > FOREIGN_SHARE
    targets, reliable = np.array(labelled.nodes).T, np.array(labelled.reliable)
    predictions = labelled_predictions(probabilities, targets[0], foreign, reliable)
    levels = level_predictions(probabilities, targets, foreign, reliable, classifier.levels)
    return predictions, levels


def chosen_thresholds(
    levels: Sequence[Predictions], classifier: Classifier, precision: float
) -> Thresholds:
    """Choose thresholds for a promised precision.

    Args:
        levels: Predictions at each level for titles that the model was not trained on; see
            level_predictions.
        classifier: Classifier that made the predictions.
        precision: Promised precision of the accepted answers, between 0 and 1.

    Returns:
        Thresholds with the counts of the predictions that they accept.
    """
    deepest, *upper = map(
        _unmeasured,
        choose_level_thresholds(levels, precision),
        classifier.levels,
        range(len(levels), 0, -1),
    )
    thresholds = Thresholds(
        model=classifier.name,
        fingerprint=classifier.description.fingerprint,
        precision=precision,
        coverage=COVERAGE,
        least_titles=minimum_titles(precision),
        **deepest,
        levels=[
            LevelThresholds(level=len(upper) - place, **each) for place, each in enumerate(upper)
        ],
        any_level=AcceptedCounts(**_NOT_MEASURED) if classifier.tree else None,
    )
    return measured(thresholds, levels, classifier)


def _unmeasured(chosen: ChosenThresholds, level: Level, number: int) -> dict[str, Any]:
    """Return the fields of the Thresholds or LevelThresholds of a level without the counts."""
    bounds = np.full(len(level.nodes), chosen.common)
    bounds[list(chosen.own)] = list(chosen.own.values())
    bounds[~level.is_own] = math.inf

    def fields(threshold: float) -> dict[str, Any]:
        return {"confidence": None if threshold == math.inf else threshold, **_NOT_MEASURED}

    return {
        "single": ConfidenceThreshold(**fields(chosen.single)),
        "together": ConfidenceThreshold(**fields(chosen.common)),
        "categories": {
            level.nodes[index]: CategoryThreshold(
                basis="own" if index in chosen.own else "together", **fields(float(bounds[index]))
            )
            for index in np.flatnonzero(level.lengths == number).tolist()
        },
        "all": AcceptedCounts(**_NOT_MEASURED),
        "unknown": AcceptedCounts(**_NOT_MEASURED),
    }


def measured(
    thresholds: Thresholds, levels: Sequence[Predictions], classifier: Classifier
) -> Thresholds:
    """Return a copy of thresholds with new counts of the predictions that they accept.

    Args:
        thresholds: Thresholds, whose own counts are replaced.
        levels: Predictions at each level of the model that the thresholds are for; see
            level_predictions.
        classifier: Classifier that made the predictions.
    """
    right, waiting = np.zeros_like(levels[0].right), np.arange(len(levels[0].right))
    counted: list[Any] = []
    for each, predictions, level in zip(
        (thresholds, *thresholds.levels), levels, classifier.levels, strict=True
    ):
        predictions = predictions.selected(waiting)
        found, accepted = _measured_level(each, predictions, level.nodes)
        counted.append(found)
        right[waiting] = predictions.right & accepted
        waiting = waiting[~accepted]
    changes: dict[str, Any] = {"levels": counted[1:]}
    if thresholds.any_level is not None:
        accepted = np.ones(len(right), dtype=bool)
        accepted[waiting] = False
        changes["any_level"] = _counted(thresholds.any_level, accepted, right)
    result: Thresholds = counted[0].model_copy(update=changes)
    return result


def _measured_level(
    thresholds: T, predictions: Predictions, names: Sequence[str]
) -> tuple[T, np.ndarray]:
    """Return the thresholds of a level with new counts, and whether they accept each prediction."""
    found = [thresholds.categories.get(name) for name in names]
    bounds = np.array([_bound(each) if each else math.inf for each in found])
    is_shared = np.array([each is None or each.basis == "together" for each in found])
    classes, confidences = predictions.classes, predictions.confidences
    accepted = confidences >= bounds[classes]
    accepted_by_single = confidences >= _bound(thresholds.single)

    def counted(counts: C, titles: np.ndarray) -> C:
        return _counted(counts, accepted[titles], predictions.right[titles])

    changes = {
        "single": _counted(thresholds.single, accepted_by_single, predictions.right),
        "together": counted(thresholds.together, is_shared[classes]),
        "categories": {
            name: counted(thresholds.categories[name], classes == index)
            for index, name in enumerate(names)
            if name in thresholds.categories
        },
        "all": _counted(thresholds.all, accepted, predictions.right),
        "unknown": counted(thresholds.unknown, ~predictions.known),
    }
    return thresholds.model_copy(update=changes), accepted


def _counted(counts: C, accepted: np.ndarray, right: np.ndarray) -> C:
    found = estimate_precision(accepted, right)
    return counts.model_copy(update={key: round(value, 6) for key, value in found.items()})


def _bound(threshold: ConfidenceThreshold) -> float:
    return math.inf if threshold.confidence is None else threshold.confidence
