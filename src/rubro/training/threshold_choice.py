"""Choose and measure confidence thresholds that keep a promised precision."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np

from rubro.base.text_columns import Product
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
    classifier: Classifier,
    products: Sequence[Product],
    targets: Sequence[np.ndarray],
    reliable: np.ndarray,
    probabilities: np.ndarray,
) -> tuple[Predictions, list[Predictions]]:
    """Return the predictions for the reliable titles among labelled products, and at each level.

    Args:
        classifier: Classifier that made the predictions.
        products: Labelled products.
        targets: Index of the right node of each product, (products,), at each level, deepest first;
            -1 if the model does not know it.
        reliable: Whether the label of each product is reliable, bool (products,).
        probabilities: Calibrated probabilities of the products, float (products, classes).

    Returns:
        Predictions of categories; and the result of level_predictions.
    """
    foreign = classifier.out_of_vocabulary(products) > FOREIGN_SHARE
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
    categories: dict[str, CategoryThreshold] = {}
    if thresholds.levels:
        minima = [each.minimum for each in thresholds.levels]
        chosen = [ChosenThresholds(minimum, minimum, {}) for minimum in minima]
    else:
        # The file may list the categories in another order.
        categories = {name: thresholds.categories[name] for name in classifier.classes_}
        own = {index: each.minimum for index, each in enumerate(categories.values())}
        chosen = [ChosenThresholds(math.inf, math.inf, own)]
    places, right = level_answers(levels, chosen)
    accepted = places >= 0
    # A title without an answer would be answered at the root, which is the last level.
    known = np.stack([predictions.known for predictions in levels])[places, np.arange(len(places))]
    changes: dict[str, Any] = {
        "all": _counted(thresholds.all, accepted, right),
        "unknown": _counted(thresholds.unknown, accepted[~known], right[~known]),
        "levels": [
            _counted(each, places == place, right) for place, each in enumerate(thresholds.levels)
        ],
    }
    classes = levels[0].classes
    changes["categories"] = {
        name: _counted(each, accepted[classes == index], right[classes == index])
        for index, (name, each) in enumerate(categories.items())
    }
    if thresholds.single is not None:
        by_single = levels[0].confidences >= thresholds.single.minimum
        changes["single"] = _counted(thresholds.single, by_single, levels[0].right)
    if thresholds.together is not None:
        is_shared = [each.basis == "together" for each in categories.values()]
        shared = np.array(is_shared)[classes]
        changes["together"] = _counted(thresholds.together, accepted[shared], right[shared])
    return thresholds.model_copy(update=changes)


def _counted(counts: C, accepted: np.ndarray, right: np.ndarray) -> C:
    found = estimate_precision(accepted, right)
    return counts.model_copy(update={key: round(value, 6) for key, value in found.items()})
