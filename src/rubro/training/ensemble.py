"""Combine trained models in an ensemble."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

from rubro.base.errors import DataError
from rubro.base.metric_names import Objective
from rubro.prediction.folder import Model, ModelDescription
from rubro.training.decisions import fit_scale, fit_shift

_NOISE = 3.0  # standard errors; a smaller ensemble must be better by more than this


def member_weights(
    logits: dict[str, np.ndarray], targets: np.ndarray, shares: np.ndarray, objective: Objective
) -> dict[str, float]:
    """Choose the members of an ensemble, and weights that give all of them the same influence.

    A weight is the scale that makes the member's logits log-probabilities, divided by the number of
    members, so that the ensemble is the geometric mean of its members' probabilities (Hinton 2002,
    Training Products of Experts by Minimizing Contrastive Divergence). Weights fitted to validation
    titles were not better, see benchmarks/TRIED.md. A member is left out only if the ensemble is
    better without it by more than noise.

    Args:
        logits: Logits for validation titles, float (n, classes), by the name of the member.
        targets: Class indices, (n,).
        shares: Logarithm of each category's share of the training titles, (classes,).
        objective: Metric that the ensemble is used for.

    Returns:
        Weights of the chosen members by name, rounded to 4 decimal places; 1 for a single member.
    """
    scales = {name: fit_scale(each, targets, shares) for name, each in logits.items()}

    def evaluated(members: tuple[str, ...]) -> tuple[float, np.ndarray]:
        """Return the metric of the ensemble of some members, and which predictions are right."""
        mean = np.mean([scales[name] * logits[name] for name in members], axis=0)
        shift, score = fit_shift(mean, targets, shares, objective)
        return score, (mean + shift * shares).argmax(axis=1) == targets

    counts = np.bincount(targets)[targets]
    title_weights = np.ones(len(targets)) if objective == "accuracy" else 1 / counts
    members = tuple(logits)
    best, right = evaluated(members)
    chosen = members
    for size in range(1, len(members)):
        for fewer in combinations(members, size):
            score, fewer_right = evaluated(fewer)
            gains = title_weights * (fewer_right.astype(float) - right)
            if score > best and gains.sum() > _NOISE * np.sqrt(np.square(gains).sum()):
                best, chosen = score, fewer
    if len(chosen) == 1:
        return dict.fromkeys(chosen, 1.0)
    return {name: round(scales[name] / len(chosen), 4) for name in chosen}


def combined(name: str, models: Sequence[Model], weights: dict[str, float]) -> Model:
    """Return a model that contains the members of several models.

    Args:
        name: Name of the new model.
        models: Models with the same titles, categories and embedding.
        weights: Weights by the name of the member; members without a weight are left out.

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
        key: member.model_copy(update={"weight": weights[key]})
        for model in models
        for key, member in model.description.members.items()
        if key in weights
    }
    tensors = {
        key: value for model in models for key, value in model.tensors.items() if key in weights
    }
    description = ModelDescription(
        name=name,
        labels=first.description.labels,
        text=first.description.text,
        subwords=first.description.subwords,
        members=members,
        objective=first.description.objective,
        final_fit=first.description.final_fit,
        category_titles=first.description.category_titles,
        tree=first.description.tree,
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
