"""How much each training title counts, and which validation titles choose."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from rubro.base.errors import DataError
from rubro.features.titles import Labels
from rubro.training.title_weights import selection_titles, title_weights
from support.tiny_models import MakeHyperparameters

pytest_plugins = ["support.tiny_models"]

CLASSES = 4
# Of six titles, three are reliable.
LABELS = Labels(
    np.array([0, 0, 0, 1, 1, 3], np.int32), np.array([True, True, False, True, False, False])
)


@pytest.mark.parametrize(
    ("quality", "expected"),
    [
        ("ignore", [1, 1, 1, 1, 1, 1]),
        ("weight", [1, 1, 0.25, 1, 0.25, 0.25]),
        ("drop", [1, 1, 0, 1, 0, 0]),
    ],
)
def test_label_quality_weighs_unreliable_titles(
    quality: str, expected: list[float], hyperparameters: MakeHyperparameters
) -> None:
    params = hyperparameters("mlp", label_quality=quality, unreliable_weight=0.25)
    weights = title_weights(LABELS, CLASSES, params)
    assert weights.dtype == np.float32
    assert weights.tolist() == expected


def test_balanced_class_weights_are_those_of_scikit_learn(
    hyperparameters: MakeHyperparameters,
) -> None:
    random = np.random.default_rng(0)
    targets = random.choice(CLASSES, 160, p=[0.6, 0.2, 0.15, 0.05]).astype(np.int32)
    labels = Labels(targets, random.random(160) < 0.7)
    for quality, kept in (("ignore", np.ones(160, dtype=bool)), ("drop", labels.reliable)):
        params = hyperparameters("mlp", class_weights="balanced", label_quality=quality)
        own = compute_class_weight("balanced", classes=np.arange(CLASSES), y=targets[kept])
        np.testing.assert_allclose(
            title_weights(labels, CLASSES, params), np.where(kept, own[targets], 0), rtol=1e-6
        )


def test_balanced_weights_without_titles_of_a_class_are_finite(
    hyperparameters: MakeHyperparameters,
) -> None:
    params = hyperparameters("mlp", class_weights="balanced", label_quality="drop")
    weights = title_weights(LABELS, CLASSES, params)
    assert weights.tolist() == pytest.approx([3 / 8, 3 / 8, 0, 3 / 4, 0, 0])


def test_dropping_every_title_is_an_error_that_names_the_parameter(
    hyperparameters: MakeHyperparameters,
) -> None:
    labels = Labels(np.array([0, 1], np.int32), np.zeros(2, dtype=bool))
    for balance in ("off", "balanced"):
        params = hyperparameters("mlp", label_quality="drop", class_weights=balance)
        with pytest.raises(DataError, match="label_quality"):
            title_weights(labels, CLASSES, params)


@pytest.mark.parametrize(
    ("least", "chosen"),
    [(1, [0, 1, 3]), (3, [0, 1, 3]), (4, [0, 1, 2, 3, 4, 5]), (10**9, [0, 1, 2, 3, 4, 5])],
)
def test_reliable_titles_choose_alone_where_there_are_enough(least: int, chosen: list[int]) -> None:
    found = selection_titles(LABELS, least)
    assert found.dtype == np.int64
    assert found.tolist() == chosen


def test_without_a_reliable_title_all_choose() -> None:
    labels = Labels(LABELS.targets, np.zeros(6, dtype=bool))
    assert selection_titles(labels, 1).tolist() == list(range(6))
