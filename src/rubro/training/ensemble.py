"""Combine trained models in an ensemble, with fitted weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax

from rubro.base.errors import DataError
from rubro.prediction.folder import Model, ModelDescription

_MAX_WEIGHT = 20.0


def fit_weights(logits: dict[str, np.ndarray], targets: np.ndarray) -> dict[str, float]:
    """Fit the weights that minimise the cross-entropy of the weighted sum of the members' logits.

    The softmax of a weighted sum of logits is a product of experts: Hinton 2002, Training Products
    of Experts by Minimizing Contrastive Divergence.

    Args:
        logits: Logits, float (n, classes), by the name of the member.
        targets: Class indices, (n,).

    Returns:
        Weights from 0 to 20, rounded to 4 decimal places, by name; 1 for a single member.
    """
    if len(logits) == 1:
        return dict.fromkeys(logits, 1.0)
    stacked = np.stack([log_softmax(each.astype(np.float64), axis=1) for each in logits.values()])
    rows = np.arange(len(targets))
    target_means = stacked[:, rows, targets].mean(axis=1)

    def cross_entropy(weights: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the cross-entropy of the weighted ensemble and its gradient."""
        summed = np.tensordot(weights, stacked, axes=1)
        log_probabilities = log_softmax(summed, axis=1)
        expected = np.einsum("nc,mnc->m", np.exp(log_probabilities), stacked) / len(targets)
        return float(-log_probabilities[rows, targets].mean()), expected - target_means

    start = np.full(len(logits), 1 / len(logits))
    bounds = [(0.0, _MAX_WEIGHT)] * len(logits)
    found = minimize(cross_entropy, start, jac=True, method="L-BFGS-B", bounds=bounds).x
    return {name: round(float(weight), 4) for name, weight in zip(logits, found, strict=True)}


def combined(name: str, models: Sequence[Model], weights: dict[str, float] | None = None) -> Model:
    """Return a model that contains the members of several models.

    Args:
        name: Name of the new model.
        models: Models with the same titles, categories and embedding.
        weights: Weights by the name of the member; None = 1 for all members.

    Raises:
        DataError: The models do not have the same categories, vocabulary or text settings.
    """
    first, expected = models[0], _shared(models[0])
    for model in models[1:]:
        for key, value in _shared(model).items():
            if value != expected[key]:
                raise DataError(
                    f"{model.description.name} and {first.description.name} differ in {key}; "
                    "`dvc repro` trains both on the same titles"
                )
    members = {
        key: member.model_copy(update={"weight": weights[key] if weights else 1.0})
        for model in models
        for key, member in model.description.members.items()
    }
    tensors = {key: value for model in models for key, value in model.tensors.items()}
    description = ModelDescription(
        name=name,
        labels=first.description.labels,
        text=first.description.text,
        subwords=first.description.subwords,
        members=members,
    )
    return Model(description, first.vocabulary, tensors)


def _shared(model: Model) -> dict[str, Any]:
    """Return the properties that must be the same in all members of an ensemble, by name."""
    return {
        "labels": model.description.labels,
        "text": model.description.text,
        "subwords": model.description.subwords,
        "vocabulary": list(model.vocabulary.items()),  # the order matters
    }
