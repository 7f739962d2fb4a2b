"""Weights of training titles and selection of validation titles."""

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
LABELS = Labels(
    np.array([0, 0, 0, 1, 1, 3], np.int32), np.array([True, True, False, True, False, False])
)


@pytest.mark.parametrize(
    ("quality", "balance", "expected"),
    [
        ("ignore", "off", [1, 1, 1, 1, 1, 1]),
        ("weight", "off", [1, 1, 0.25, 1, 0.25, 0.25]),
        ("drop", "off", [1, 1, 0, 1, 0, 0]),
        ("drop", "balanced", [3 / 8, 3 / 8, 0, 3 / 4, 0, 0]),  # class 3 has no title left
    ],
)
def test_unreliable_titles_weigh_less(
    quality: str, balance: str, expected: list[float], hyperparameters: MakeHyperparameters
) -> None:
    params = hyperparameters(
        "mlp", label_quality=quality, class_weights=balance, unreliable_weight=0.25
    )
    weights = title_weights(LABELS, CLASSES, params)
    assert weights.dtype == np.float32
    assert weights.tolist() == pytest.approx(expected)


def test_balanced_class_weights_equal_the_weights_of_scikit_learn(
    hyperparameters: MakeHyperparameters,
) -> None:
    random = np.random.default_rng(0)
    targets = random.choice(CLASSES, 160, p=[0.6, 0.2, 0.15, 0.05]).astype(np.int32)
    labels = Labels(targets, random.random(160) < 0.7)
    for quality, kept in (("ignore", np.ones(160, dtype=bool)), ("drop", labels.reliable)):
        params = hyperparameters("mlp", class_weights="balanced", label_quality=quality)
        expected = compute_class_weight("balanced", classes=np.arange(CLASSES), y=targets[kept])
        np.testing.assert_allclose(
            title_weights(labels, CLASSES, params), np.where(kept, expected[targets], 0), rtol=1e-6
        )


@pytest.mark.parametrize("balance", ["off", "balanced"])
def test_dropping_all_titles_is_an_error(
    balance: str, hyperparameters: MakeHyperparameters
) -> None:
    labels = Labels(np.array([0, 1], np.int32), np.zeros(2, dtype=bool))
    params = hyperparameters("mlp", label_quality="drop", class_weights=balance)
    with pytest.raises(DataError, match="label_quality"):
        title_weights(labels, CLASSES, params)


@pytest.mark.parametrize(
    ("minimum", "selected"), [(1, [0, 1, 3]), (3, [0, 1, 3]), (4, [0, 1, 2, 3, 4, 5])]
)
def test_only_reliable_titles_are_selected_if_there_are_enough(
    minimum: int, selected: list[int]
) -> None:
    titles = selection_titles(LABELS, minimum)
    assert titles.dtype == np.int64
    assert titles.tolist() == selected
