"""Choose and measure confidence thresholds that keep a promised precision."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np

from rubro.cli.labelled_titles import Labelled
from rubro.evaluation.thresholds import (
    COVERAGE,
    ChosenThresholds,
    Predictions,
    choose_level_thresholds,
    estimate_precision,
    labelled_predictions,
    level_answers,
    level_predictions,
    minimum_titles,
)
from rubro.prediction.classifier import Classifier
from rubro.prediction.explanation import FOREIGN_SHARE
from rubro.prediction.thresholds import (
    AcceptedCounts,
    CategoryThreshold,
    ConfidenceThreshold,
    LevelThreshold,
    Thresholds,
)

C = TypeVar("C", bound=AcceptedCounts)

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
    targets, reliable = list(np.array(labelled.nodes).T), np.array(labelled.reliable)
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
    chosen = choose_level_thresholds(levels, precision)
    content: dict[str, Any] = {
        "model": classifier.name,
        "fingerprint": classifier.description.fingerprint,
        "precision": precision,
        "coverage": COVERAGE,
        "least_titles": minimum_titles(precision),
        "all": AcceptedCounts(**_NOT_MEASURED),
        "unknown": AcceptedCounts(**_NOT_MEASURED),
    }
    if classifier.tree:
        content["levels"] = [
            LevelThreshold(level=len(chosen) - place, **_unmeasured(each.common))
            for place, each in enumerate(chosen)
        ]
    else:
        content["single"] = ConfidenceThreshold(**_unmeasured(chosen[0].single))
        content["together"] = ConfidenceThreshold(**_unmeasured(chosen[0].common))
        content["categories"] = {
            name: CategoryThreshold(
                basis="own" if index in chosen[0].own else "together",
                **_unmeasured(chosen[0].own.get(index, chosen[0].common)),
            )
            for index, name in enumerate(classifier.classes_)
        }
    return measured(Thresholds(**content), levels, classifier)


def _unmeasured(threshold: float) -> dict[str, Any]:
    return {"confidence": None if threshold == math.inf else threshold, **_NOT_MEASURED}


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
    if thresholds.levels:
        return _measured_levels(thresholds, levels)
    (predictions,) = levels
    categories = [thresholds.categories[name] for name in classifier.classes_]
    bounds = np.array([_bound(threshold) for threshold in categories])
    is_shared = np.array([threshold.basis == "together" for threshold in categories])
    classes, right = predictions.classes, predictions.right
    accepted = predictions.confidences >= bounds[classes]
    changes: dict[str, Any] = {
        "categories": {
            name: _counted(
                thresholds.categories[name], accepted[classes == index], right[classes == index]
            )
            for index, name in enumerate(classifier.classes_)
        },
        **_measured_together(thresholds, accepted, right, predictions.known),
    }
    if thresholds.single is not None:
        by_single = predictions.confidences >= _bound(thresholds.single)
        changes["single"] = _counted(thresholds.single, by_single, right)
    if thresholds.together is not None:
        shared = is_shared[classes]
        changes["together"] = _counted(thresholds.together, accepted[shared], right[shared])
    return thresholds.model_copy(update=changes)


def _measured_levels(thresholds: Thresholds, levels: Sequence[Predictions]) -> Thresholds:
    bounds = [_bound(each) for each in thresholds.levels]
    chosen = [ChosenThresholds(bound, bound, {}) for bound in bounds]
    places, right = level_answers(levels, chosen)
    known = np.stack([predictions.known for predictions in levels])
    # A title without an answer would be answered at the root.
    is_known = known[places, np.arange(len(places))]
    changes = {
        "levels": [
            _counted(each, places == place, right) for place, each in enumerate(thresholds.levels)
        ],
        **_measured_together(thresholds, places >= 0, right, is_known),
    }
    return thresholds.model_copy(update=changes)


def _measured_together(
    thresholds: Thresholds, accepted: np.ndarray, right: np.ndarray, known: np.ndarray
) -> dict[str, AcceptedCounts]:
    return {
        "all": _counted(thresholds.all, accepted, right),
        "unknown": _counted(thresholds.unknown, accepted[~known], right[~known]),
    }


def _counted(counts: C, accepted: np.ndarray, right: np.ndarray) -> C:
    found = estimate_precision(accepted, right)
    return counts.model_copy(update={key: round(value, 6) for key, value in found.items()})


def _bound(threshold: ConfidenceThreshold) -> float:
    return math.inf if threshold.confidence is None else threshold.confidence
