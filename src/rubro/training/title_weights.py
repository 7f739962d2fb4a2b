"""Weights of the training titles, and selection of validation titles by label quality."""

from __future__ import annotations

import numpy as np

from rubro.base.errors import DataError
from rubro.base.params import TitleWeightParams
from rubro.features.titles import Labels


def title_weights(labels: Labels, classes: int, params: TitleWeightParams) -> np.ndarray:
    """Return the weight of each training title in the loss.

    The weight is the product of a weight for the label quality, the weight in the labels, and, if
    class_weights is "balanced", the class weight titles / (classes * titles of the class), as in
    scikit-learn.

    Args:
        labels: Labels of the training titles.
        classes: Number of categories.
        params: Parameters of the weights.

    Returns:
        Weights, float32 (titles,); titles with weight 0 are not used.

    Raises:
        DataError: All weights are 0.
    """
    weights = np.ones(len(labels), dtype=np.float32)
    if params.label_quality != "ignore":
        unreliable = params.unreliable_weight if params.label_quality == "weight" else 0.0
        weights[~labels.reliable] = unreliable
    if not weights.any():
        raise DataError(
            "label_quality is drop, but no training title is reliable; set it to weight or ignore"
        )
    if labels.weights is not None:
        weights *= labels.weights
    if params.class_weights == "balanced":
        counts = np.bincount(labels.targets[weights > 0], minlength=classes)
        weights *= (weights > 0).sum() / (classes * np.maximum(counts, 1))[labels.targets]
    return weights


def selection_titles(labels: Labels, min_reliable_titles: int) -> np.ndarray:
    """Return the validation titles that select epochs, members, shifts and calibrations.

    Args:
        labels: Labels of the validation titles.
        min_reliable_titles: Minimum number of reliable titles; if there are fewer, all titles are used.

    Returns:
        Positions of the reliable titles, or of all titles, int64 (n,).
    """
    reliable = np.flatnonzero(labels.reliable)
    return reliable if len(reliable) >= min_reliable_titles else np.arange(len(labels))
