"""Weights of training titles, and choice of validation titles."""

from __future__ import annotations

import numpy as np

from rubro.base.errors import DataError
from rubro.base.params import TitleWeightParams
from rubro.features.titles import Labels


def title_weights(labels: Labels, classes: int, params: TitleWeightParams) -> np.ndarray:
    """Return the weight of each training title in the loss.

    Balanced class weights are titles / (classes * titles of the class), as in scikit-learn, times
    the weight of the label quality.

    Args:
        labels: Labels of the training titles.
        classes: Number of categories.
        params: Parameters of the weights.

    Returns:
        Weights, float32 (titles,); 0 = left out.

    Raises:
        DataError: No title is left.
    """
    weights = np.ones(len(labels), dtype=np.float32)
    if params.label_quality != "ignore":
        unreliable = params.unreliable_weight if params.label_quality == "weight" else 0.0
        weights[~labels.reliable] = unreliable
    if not weights.any():
        raise DataError(
            "label_quality is 'drop' and no training title is reliable; set it to weight or ignore"
        )
    if params.class_weights == "balanced":
        counts = np.bincount(labels.targets[weights > 0], minlength=classes)
        weights *= (weights > 0).sum() / (classes * np.maximum(counts, 1))[labels.targets]
    return weights


def selection_titles(labels: Labels, min_reliable_titles: int) -> np.ndarray:
    """Return the validation titles for choosing an epoch, weights or a calibration.

    Args:
        labels: Labels of the validation titles.
        min_reliable_titles: Least number of reliable titles for using them alone.

    Returns:
        Positions of the reliable titles, or of all where these are too few, int64 (n,).
    """
    reliable = np.flatnonzero(labels.reliable)
    return reliable if len(reliable) >= min_reliable_titles else np.arange(len(labels))
