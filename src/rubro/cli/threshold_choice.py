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
    foreign = classifier.out_of_vocabulary(labelled.titles) > FOREIGN_SHARE
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
    together = _finite(chosen.common)
    thresholds = Thresholds(
        model=classifier.name,
        fingerprint=classifier.description.fingerprint,
        precision=precision,
        coverage=COVERAGE,
        least_titles=minimum_titles(precision),
        single=ConfidenceThreshold(confidence=_finite(chosen.single), **_NOT_MEASURED),
        together=ConfidenceThreshold(confidence=together, **_NOT_MEASURED),
        categories={
            name: CategoryThreshold(
                confidence=chosen.own.get(index, together),
                basis="own" if index in chosen.own else "together",
                **_NOT_MEASURED,
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
    own = [thresholds.categories[name] for name in classifier.classes_]
    bounds = np.array([_bound(threshold) for threshold in own])
    shares_threshold = np.array([threshold.basis == "together" for threshold in own])
    classes, confidences = predictions.classes, predictions.confidences
    accepted = confidences >= bounds[classes]
    everything = slice(None)

    def counted(counts: T, titles: np.ndarray | slice, accepted: np.ndarray = accepted) -> T:
        found = estimate_precision(accepted[titles], predictions.right[titles])
        return counts.model_copy(update={key: round(value, 6) for key, value in found.items()})

    accepted_by_single = confidences >= _bound(thresholds.single)
    return thresholds.model_copy(
        update={
            "single": counted(thresholds.single, everything, accepted_by_single),
            "together": counted(thresholds.together, shares_threshold[classes]),
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


def _finite(threshold: float) -> float | None:
    return None if threshold == math.inf else threshold
