"""Members of an ensemble with their weights, and the combination of models."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest

from rubro.base.errors import DataError
from rubro.base.metric_names import Objective
from rubro.prediction.classifier import Classifier
from rubro.prediction.folder import Decision, Model
from rubro.training.ensemble import combined, member_weights
from support.tiny_models import MakeModel

pytest_plugins = ["support.tiny_models"]

CLASSES = 5
WEIGHTS = {"svm": 1.0, "mlp": 1.0}
TITLES = ["apple drill", "", "zzz red boot", "new saw", "cherry"]


def targets_of(seed: int, titles: int = 400) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, CLASSES, titles)


def member(seed: int, targets: np.ndarray, strength: float) -> np.ndarray:
    """Return noisy logits whose accuracy grows with strength; a negative strength is misleading."""
    noise = np.random.default_rng(seed).normal(size=(len(targets), CLASSES))
    return np.asarray(noise + strength * np.eye(CLASSES)[targets])


EVEN = np.full(CLASSES, -np.log(CLASSES))


def test_members_have_the_same_influence_whatever_the_scale_of_their_logits() -> None:
    targets = targets_of(1, 2000)
    logits = {"a": member(1, targets, 2.0), "b": 5 * member(2, targets, 2.0)}
    weights = member_weights(logits, targets, EVEN, "accuracy")
    # With noise of standard deviation 1, the scale is the strength; it is shared by two members.
    assert weights["a"] == pytest.approx(2.0 / 2, abs=0.2)
    assert weights["b"] == pytest.approx(2.0 / 2 / 5, abs=0.04)
    shifted = {name: each + 500 for name, each in logits.items()}
    assert member_weights(shifted, targets, EVEN, "accuracy") == pytest.approx(weights, abs=0.01)


@pytest.mark.parametrize("objective", get_args(Objective))
def test_members_that_harm_are_left_out(objective: Objective) -> None:
    targets = targets_of(2, 2000)
    is_hard, place = np.arange(2000) % 10 == 0, np.arange(2000)
    wrong = (targets + 1) % CLASSES
    right = np.where(place % 200 == 1, wrong, targets)
    good = np.where(is_hard, 1, 8)[:, None] * np.eye(CLASSES)[right]
    harmful = 5 * np.eye(CLASSES)[np.where(is_hard, wrong, right)]  # more confident in hard cases
    found = member_weights({"good": good, "other": harmful}, targets, EVEN, objective)
    assert found == {"good": 1.0}
    found = member_weights({"good": good, "copy": 2 * good}, targets, EVEN, objective)
    assert found.keys() == {"good", "copy"}


@pytest.mark.parametrize("seed", range(5))
def test_a_member_that_is_not_better_by_more_than_noise_is_not_preferred(seed: int) -> None:
    targets = targets_of(seed, 300)
    logits = {name: member(seed + place, targets, 2.0) for place, name in enumerate("abc")}
    assert member_weights(logits, targets, EVEN, "balanced_accuracy").keys() == set("abc")


def test_a_single_member_is_the_ensemble() -> None:
    targets = targets_of(4)
    found = member_weights({"mlp": member(1, targets, 0.0)}, targets, EVEN, "accuracy")
    assert found == {"mlp": 1.0}


@pytest.mark.parametrize(
    "weights", [{"mlp": 1.0, "cnn": 1.0, "svm": 1.0}, {"mlp": 0.25, "svm": 3.5}]
)
def test_an_ensemble_sums_the_weighted_logits_of_its_members(
    weights: dict[str, float], make_model: MakeModel
) -> None:
    models = {name: make_model(name) for name in ("mlp", "cnn", "svm")}
    logits = {name: Classifier(model).logits(TITLES) for name, model in models.items()}
    together = Classifier(combined("both", list(models.values()), weights))
    assert together.name == "both"
    summed = sum(weight * logits[name] for name, weight in weights.items())
    np.testing.assert_allclose(together.logits(TITLES), summed, atol=1e-5)
    assert together.member_logits(TITLES).keys() == weights.keys()
    for name, found in together.member_logits(TITLES).items():
        np.testing.assert_array_equal(found, logits[name])
    for name, model in models.items():
        assert model.description.members[name].weight == 1.0


def test_an_ensemble_does_not_inherit_a_calibration(make_model: MakeModel) -> None:
    decisions = {"accuracy": Decision(shift=0.5)}
    model = changed(make_model("svm"), decisions=decisions, objective="accuracy")
    weights = {"svm": 1.0, "mlp": 1.0}
    found = combined("ensemble", [model, make_model("mlp")], weights)
    assert found.description.decisions == {}
    assert found.description.objective == "accuracy"


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
    combined("ensemble", [svm, mlp], WEIGHTS)
    for key, other in others.items():
        with pytest.raises(DataError, match=f"mlp.*svm.*{key}.*dvc repro"):
            combined("ensemble", [svm, other], WEIGHTS)
    another_count = replace(mlp, vocabulary={**mlp.vocabulary, words[0][0]: 50})
    with pytest.raises(DataError, match="vocabulary"):
        combined("ensemble", [svm, another_count], WEIGHTS)
