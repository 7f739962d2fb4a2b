"""Choose and measure confidence thresholds that keep a promised precision."""

from __future__ import annotations

import math
from typing import Any, TypeVar

import numpy as np

from rubro.cli.labelled_titles import Labelled
from rubro.evaluation.thresholds import (
    COVERAGE,
    Predictions,
    choose_thresholds,
    estimate_precision,
    labelled_predictions,
    minimum_titles,
)
from rubro.prediction.classifier import Classifier
from rubro.prediction.explanation import FOREIGN_SHARE
from rubro.prediction.thresholds import (
    AcceptedCounts,
    CategoryThreshold,
    ConfidenceThreshold,
    Thresholds,
)

T = TypeVar("T", bound=AcceptedCounts)

_NOT_MEASURED: dict[str, Any] = {"titles": 0, "kept": 0, "right": 0, "low": 0.0, "high": 1.0}


def predictions_for(
    labelled: Labelled, classifier: Classifier, probabilities: np.ndarray
) -> Predictions:
    """Return the predictions for the reliable titles of a file.

    Args:
        labelled: Labelled titles of the file.
        classifier: Classifier that made the predictions.
        probabilities: Calibrated probabilities of the titles, float (titles, classes).
    """
    foreign = classifier.out_of_vocabulary(labelled.products) > FOREIGN_SHARE
    targets, reliable = np.array(labelled.targets), np.array(labelled.reliable)
    return labelled_predictions(probabilities, targets, foreign, reliable)


def chosen_thresholds(
    predictions: Predictions, classifier: Classifier, precision: float
) -> Thresholds:
    """Choose thresholds for a promised precision.

    Args:
        predictions: Predictions for titles that the model was not trained on.
        classifier: Classifier that made the predictions.
        precision: Promised precision of the accepted answers, between 0 and 1.

    Returns:
        Thresholds with the counts of the predictions that they accept.
    """
    chosen = choose_thresholds(predictions, precision)

    def unmeasured(threshold: float) -> dict[str, Any]:
        return {"confidence": None if threshold == math.inf else threshold, **_NOT_MEASURED}

    thresholds = Thresholds(
        model=classifier.name,
        fingerprint=classifier.description.fingerprint,
        precision=precision,
        coverage=COVERAGE,
        least_titles=minimum_titles(precision),
        single=ConfidenceThreshold(**unmeasured(chosen.single)),
        together=ConfidenceThreshold(**unmeasured(chosen.common)),
        categories={
            name: CategoryThreshold(
                basis="own" if index in chosen.own else "together",
                **unmeasured(chosen.own.get(index, chosen.common)),
            )
            for index, name in enumerate(classifier.classes_)
        },
        all=AcceptedCounts(**_NOT_MEASURED),
        unknown=AcceptedCounts(**_NOT_MEASURED),
    )
    return measured(thresholds, predictions, classifier)


def measured(
    thresholds: Thresholds, predictions: Predictions, classifier: Classifier
) -> Thresholds:
    """Return a copy of thresholds with new counts of the predictions that they accept.

    Args:
        thresholds: Thresholds, whose own counts are replaced.
        predictions: Predictions of the model that the thresholds are for.
        classifier: Classifier that made the predictions.
    """
    categories = [thresholds.categories[name] for name in classifier.classes_]
    bounds = np.array([_bound(threshold) for threshold in categories])
    is_shared = np.array([threshold.basis == "together" for threshold in categories])
    classes, confidences = predictions.classes, predictions.confidences
    accepted = confidences >= bounds[classes]
    accepted_by_single = confidences >= _bound(thresholds.single)
    everything = slice(None)

    def counted(counts: T, titles: np.ndarray | slice, accepted: np.ndarray = accepted) -> T:
        found = estimate_precision(accepted[titles], predictions.right[titles])
        return counts.model_copy(update={key: round(value, 6) for key, value in found.items()})

    return thresholds.model_copy(
        update={
            "single": counted(thresholds.single, everything, accepted_by_single),
            "together": counted(thresholds.together, is_shared[classes]),
            "categories": {
                name: counted(thresholds.categories[name], classes == index)
                for index, name in enumerate(classifier.classes_)
            },
            "all": counted(thresholds.all, everything),
            "unknown": counted(thresholds.unknown, ~predictions.known),
        }
    )


def _bound(threshold: ConfidenceThreshold) -> float:
    return math.inf if threshold.confidence is None else threshold.confidence
