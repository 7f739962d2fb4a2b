"""How much each training title counts."""

from __future__ import annotations

import numpy as np

from rubro.base.errors import DataError
from rubro.base.params import TitleWeightParams
from rubro.features.titles import TitleFeatures


def title_weights(features: TitleFeatures, classes: int, params: TitleWeightParams) -> np.ndarray:
    """The weight of each training title in the loss.

    Args:
        features: of the training split.
        classes: their number.
        params: of the weights.

    Returns:
        float32 (titles,); 0 = left out. Balanced class weights are scikit-learn's: titles /
        (classes * titles of the class), times the weight of the label's quality.

    Raises:
        DataError: no title is left.
    """
    weights = np.ones(len(features), dtype=np.float32)
    if params.label_quality != "ignore":
        unreliable = params.unreliable_weight if params.label_quality == "weight" else 0.0
        weights[~features.reliable] = unreliable
    if not weights.any():
        raise DataError(
            "label_quality is 'drop' and no training title is reliable; set it to weight or ignore"
        )
    if params.class_weights == "balanced":
        counts = np.bincount(features.targets[weights > 0], minlength=classes)
        weights *= (weights > 0).sum() / (classes * np.maximum(counts, 1))[features.targets]
    return weights
