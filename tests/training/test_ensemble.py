"""Weights of the members of an ensemble, and the combination of models."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax

from rubro.base.errors import DataError
from rubro.prediction.classifier import Classifier
from rubro.prediction.folder import Model
from rubro.training.ensemble import combined, fit_weights
from support.tiny_models import MakeModel

pytest_plugins = ["support.tiny_models"]

CLASSES = 5
TITLES = ["apple drill", "", "zzz red boot", "new saw", "cherry"]


def targets_of(seed: int, titles: int = 400) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, CLASSES, titles)


def member(seed: int, targets: np.ndarray, strength: float) -> np.ndarray:
    """Return noisy logits whose accuracy grows with strength; a negative strength is misleading."""
    noise = np.random.default_rng(seed).normal(size=(len(targets), CLASSES))
    return np.asarray(noise + strength * np.eye(CLASSES)[targets])


def cross_entropy(
    weights: dict[str, float], logits: dict[str, np.ndarray], targets: np.ndarray
) -> float:
    summed = sum(weights[name] * logits[name] for name in logits)
    return float(-log_softmax(summed, axis=1)[np.arange(len(targets)), targets].mean())


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    strengths=st.lists(st.sampled_from([-2.0, 0.0, 0.3, 2.0, 30.0]), min_size=2, max_size=4),
)
def test_weights_are_within_bounds_and_no_member_is_better_than_the_ensemble(
    seed: int, strengths: list[float]
) -> None:
    targets = targets_of(seed, 100)
    logits = {str(i): member(seed + i, targets, s) for i, s in enumerate(strengths)}
    weights = fit_weights(logits, targets)
    assert list(weights) == list(logits)
    assert all(0 <= weight <= 20 for weight in weights.values())
    assert all(weight == round(weight, 4) for weight in weights.values())
    best = cross_entropy(weights, logits, targets)
    for name in logits:
        single = {other: float(other == name) for other in logits}
        assert best <= cross_entropy(single, logits, targets) + 1e-3
    assert best <= np.log(CLASSES) + 1e-3


def test_no_weights_of_a_fine_grid_are_better() -> None:
    targets = targets_of(1)
    logits = {"a": member(1, targets, 2.0), "b": member(2, targets, 1.0)}
    grid = np.arange(0, 4, 0.05)
    best = min(cross_entropy({"a": a, "b": b}, logits, targets) for a in grid for b in grid)
    found = fit_weights(logits, targets)
    assert cross_entropy(found, logits, targets) <= best + 1e-6
    # With noise of standard deviation 1, the best weight is the strength.
    assert found["a"] == pytest.approx(2.0, abs=0.4)
    assert found["b"] == pytest.approx(1.0, abs=0.3)


def test_uninformative_and_misleading_members_get_no_weight() -> None:
    targets = targets_of(2, 4000)
    logits = {
        "good": member(1, targets, 3.0),
        "noise": member(2, targets, 0.0),
        "misleading": member(3, targets, -1.0),
        "constant": np.ones((4000, CLASSES)),
    }
    weights = fit_weights(logits, targets)
    assert weights["good"] > 2
    assert weights["noise"] < 0.1
    assert weights["misleading"] == 0
    assert cross_entropy({**weights, "constant": 0}, logits, targets) == pytest.approx(
        cross_entropy(weights, logits, targets)
    )


def test_a_duplicated_member_shares_its_weight() -> None:
    targets = targets_of(3)
    one, other = member(1, targets, 2.0), member(2, targets, 1.0)
    two = fit_weights({"one": one, "other": other}, targets)
    three = fit_weights({"one": one, "copy": one, "other": other}, targets)
    assert three["one"] + three["copy"] == pytest.approx(two["one"], abs=0.01)
    assert three["other"] == pytest.approx(two["other"], abs=0.01)


def test_a_single_member_has_weight_1() -> None:
    targets = targets_of(4)
    assert fit_weights({"mlp": member(1, targets, 0.0)}, targets) == {"mlp": 1.0}


@pytest.mark.parametrize("shift", [0.0, 500.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_constant_added_to_the_logits_of_a_title_changes_nothing(
    shift: float, dtype: type
) -> None:
    targets = targets_of(5)
    logits = {"a": member(1, targets, 2.0), "b": member(2, targets, 1.0)}
    shifts = shift * np.random.default_rng(0).normal(size=(len(targets), 1))
    shifted: dict[str, np.ndarray] = {
        name: (own + shifts).astype(dtype) for name, own in logits.items()
    }
    expected = fit_weights(logits, targets)
    assert fit_weights(shifted, targets) == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize("weights", [None, {"mlp": 0.25, "cnn": 0.0, "svm": 3.5}])
def test_an_ensemble_sums_the_weighted_logits_of_its_members(
    weights: dict[str, float] | None, make_model: MakeModel
) -> None:
    models = {name: make_model(name) for name in ("mlp", "cnn", "svm")}
    logits = {name: Classifier(model).logits(TITLES) for name, model in models.items()}
    together = Classifier(combined("both", list(models.values()), weights))
    assert together.name == "both"
    summed = sum((weights[name] if weights else 1.0) * own for name, own in logits.items())
    np.testing.assert_allclose(together.logits(TITLES), summed, atol=1e-5)
    for name, model in models.items():
        np.testing.assert_array_equal(together.member_logits(TITLES)[name], logits[name])
        assert model.description.members[name].weight == 1.0


def test_an_ensemble_does_not_inherit_a_calibration(make_model: MakeModel) -> None:
    model = make_model("svm")
    calibration = model.description.calibration.model_copy(update={"temperature": 0.3})
    description = model.description.model_copy(update={"calibration": calibration})
    found = combined("ensemble", [replace(model, description=description), make_model("mlp")])
    assert found.description.calibration.temperature == 1.0


def changed(model: Model, **changes: Any) -> Model:
    return replace(model, description=model.description.model_copy(update=changes))


def test_models_with_different_properties_are_an_error(make_model: MakeModel) -> None:
    svm, mlp = make_model("svm"), make_model("mlp")
    words = list(mlp.vocabulary.items())
    others = {
        "labels": changed(mlp, labels=mlp.description.labels[::-1]),
        "text": changed(mlp, text=mlp.description.text.model_copy(update={"max_tokens": 9})),
        "subwords": changed(mlp, subwords=mlp.description.subwords.model_copy(update={"min_n": 2})),
        "vocabulary": replace(mlp, vocabulary=dict(words[::-1])),
    }
    combined("ensemble", [svm, mlp])
    for key, other in others.items():
        with pytest.raises(DataError, match=f"mlp.*svm.*{key}.*dvc repro"):
            combined("ensemble", [svm, other])
    another_count = replace(mlp, vocabulary={**mlp.vocabulary, words[0][0]: 50})
    with pytest.raises(DataError, match="vocabulary"):
        combined("ensemble", [svm, another_count])
