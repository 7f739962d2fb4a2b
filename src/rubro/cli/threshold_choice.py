"""Choose and measure confidence thresholds that keep a promised precision."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from rubro.base.console import say
from rubro.base.errors import DataError
from rubro.cli.labelled_titles import Labelled
from rubro.evaluation.thresholds import choose_threshold, estimate_precision, minimum_titles
from rubro.prediction.classifier import Classifier
from rubro.prediction.explanation import FOREIGN_SHARE
from rubro.prediction.thresholds import (
    AcceptedCounts,
    CategoryThreshold,
    ConfidenceThreshold,
    Thresholds,
)

T = TypeVar("T", bound=AcceptedCounts)

_COVERAGE = 0.95
_NOT_MEASURED: dict[str, Any] = {"titles": 0, "kept": 0, "right": 0, "low": 0.0, "high": 1.0}


@dataclass(frozen=True)
class Predictions:
    """Predictions for reliable labelled titles.

    Attributes:
        categories: Predicted category of each title, object (n,).
        confidences: Confidence of each prediction, float (n,); -1 if the model
            does not know most of the title's words.
        right: Whether each prediction is right, bool (n,); False if the model does not know the
            category of the title.
        known: Whether the model knows the category of each title, bool (n,).
    """

    categories: np.ndarray
    confidences: np.ndarray
    right: np.ndarray
    known: np.ndarray


def predictions_for(labelled: Labelled, classifier: Classifier, file: str) -> Predictions:
    """Return the predictions for the reliable titles of a file.

    Args:
        labelled: Labelled titles with the logits of the classifier.
        classifier: Classifier that computed the logits.
        file: Name of the file, for messages.

    Raises:
        DataError: All titles are marked as unreliable.
    """
    reliable = np.array(labelled.reliable)
    if not reliable.any():
        raise DataError(f"{file}: all rows are unreliable; use a file with reliable rows")
    if not reliable.all():
        say(f"{file}: {reliable.sum():,} of {len(reliable):,} titles are reliable")
    calibration = classifier.calibration
    probabilities = calibration.probabilities(np.concatenate(labelled.logits))
    classes = probabilities.argmax(axis=1)
    confidences = probabilities.max(axis=1).astype(float)
    confidences[classifier.out_of_vocabulary(labelled.titles) > FOREIGN_SHARE] = -1
    targets = np.array(labelled.targets)
    right = classes == targets
    names = np.array(classifier.classes_, dtype=object)[classes]
    arrays = names, confidences, right, targets >= 0
    return Predictions(*(array[reliable] for array in arrays))


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

    def chosen(selected: np.ndarray) -> float | None:
        confidences, right = predictions.confidences[selected], predictions.right[selected]
        return choose_threshold(confidences, right, precision, _COVERAGE)

    minimum = minimum_titles(precision, _COVERAGE)
    # Categories are grouped by their number of titles only. Grouping them by precision would weaken
    # the promise.
    counts = Counter(predictions.categories)
    few = np.array([counts[name] < minimum for name in predictions.categories])
    together = chosen(few)
    categories = {}
    for name in classifier.classes_:
        is_own = counts[name] >= minimum
        confidence = chosen(predictions.categories == name) if is_own else together
        categories[name] = CategoryThreshold(
            confidence=confidence, basis="own" if is_own else "together", **_NOT_MEASURED
        )
    thresholds = Thresholds(
        model=classifier.name,
        fingerprint=classifier.description.fingerprint,
        precision=precision,
        coverage=_COVERAGE,
        least_titles=minimum,
        single=ConfidenceThreshold(confidence=chosen(np.ones_like(few)), **_NOT_MEASURED),
        together=ConfidenceThreshold(confidence=together, **_NOT_MEASURED),
        categories=categories,
        all=AcceptedCounts(**_NOT_MEASURED),
        unknown=AcceptedCounts(**_NOT_MEASURED),
    )
    return measured(thresholds, predictions)


def measured(thresholds: Thresholds, predictions: Predictions) -> Thresholds:
    """Return a copy of thresholds with new counts of the predictions that they accept.

    Args:
        thresholds: Thresholds, whose own counts are replaced.
        predictions: Predictions of the model that the thresholds are for.
    """
    names = predictions.categories
    own = [thresholds.categories[name] for name in names]
    bounds = np.array([_bound(threshold) for threshold in own])
    few = np.array([threshold.basis == "together" for threshold in own])
    everything = np.ones(len(names), dtype=bool)

    def counted(counts: T, selected: np.ndarray, bounds: np.ndarray = bounds) -> T:
        is_kept, right = predictions.confidences >= bounds, predictions.right
        found = estimate_precision(is_kept[selected], right[selected], thresholds.coverage)
        return counts.model_copy(update={key: round(value, 6) for key, value in found.items()})

    single_bounds = np.full(len(names), _bound(thresholds.single))
    return thresholds.model_copy(
        update={
            "single": counted(thresholds.single, everything, single_bounds),
            "together": counted(thresholds.together, few),
            "categories": {
                name: counted(threshold, names == name)
                for name, threshold in thresholds.categories.items()
            },
            "all": counted(thresholds.all, everything),
            "unknown": counted(thresholds.unknown, ~predictions.known),
        }
    )


def _bound(threshold: ConfidenceThreshold) -> float:
    return np.inf if threshold.confidence is None else threshold.confidence
