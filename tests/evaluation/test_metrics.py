"""Metrics agree with scikit-learn and with values computed by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, log_loss, top_k_accuracy_score

from rubro.evaluation.metrics import (
    accuracy,
    balanced_accuracy,
    classification_metrics,
    expected_calibration_error,
)


def random_case(seed: int, classes: int, absent: int) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities and targets; the last `absent` classes never occur in the targets."""
    random = np.random.default_rng(seed)
    targets = random.integers(0, classes - absent, 200)
    scores = random.normal(size=(200, classes))
    scores[np.arange(200), targets] += 1
    scores = np.exp(scores)
    return scores / scores.sum(axis=1, keepdims=True), targets


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("classes", "absent"), [(8, 0), (8, 3), (12, 11)])
def test_metrics_agree_with_scikit_learn(seed: int, classes: int, absent: int) -> None:
    probabilities, targets = random_case(seed, classes, absent)
    predictions = probabilities.argmax(axis=1)
    if absent:
        assert (predictions >= classes - absent).any()
    every = np.arange(classes)
    expected = {
        "accuracy": accuracy_score(targets, predictions),
        "macro_f1": f1_score(
            targets, predictions, labels=np.unique(targets), average="macro", zero_division=0
        ),
        "loss": log_loss(targets, probabilities, labels=every),
        **{
            f"top{k}_accuracy": top_k_accuracy_score(targets, probabilities, k=k, labels=every)
            for k in (3, 5)
        },
    }
    found = classification_metrics(probabilities, targets, 10)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-6), name
    recalls = [(predictions == index)[targets == index].mean() for index in np.unique(targets)]
    assert found["balanced_accuracy"] == pytest.approx(np.mean(recalls), abs=1e-6)
    assert found.keys() == expected.keys() | {"balanced_accuracy", "ece", "top3_ece"}


def test_classes_without_titles_do_not_change_the_accuracies() -> None:
    targets = np.array([0, 0, 0, 0, 2])
    assert balanced_accuracy(targets, np.array([0, 0, 1, 1, 2])) == pytest.approx(0.75)
    assert balanced_accuracy(targets, np.array([0, 0, 9, 9, 2])) == pytest.approx(0.75)
    assert balanced_accuracy(targets, np.array([0, 0, 0, 0, 1])) == pytest.approx(0.5)
    assert accuracy(targets, np.array([0, 0, 0, 0, 1])) == pytest.approx(0.8)


def test_the_loss_of_a_certain_prediction_is_zero_if_right_and_finite_if_wrong() -> None:
    probabilities = np.array([[1.0, 0.0], [1.0, 0.0]])
    assert classification_metrics(probabilities, np.array([0, 0]), 5)["loss"] == 0
    loss = classification_metrics(probabilities, np.array([1, 1]), 5)["loss"]
    assert 20 < loss < 40


def test_metrics_of_a_single_title() -> None:
    found = classification_metrics(np.array([[0.2, 0.8, 0.0]]), np.array([1]), 5)
    assert found["accuracy"] == found["balanced_accuracy"] == found["macro_f1"] == 1
    assert found["loss"] == pytest.approx(-np.log(0.8), abs=1e-6)
    assert found["ece"] == pytest.approx(0.2)


def test_ties_do_not_improve_the_top3_accuracy() -> None:
    found = classification_metrics(np.full((100, 100), 0.01), np.arange(100), 10)
    assert found["top3_accuracy"] == pytest.approx(0.03)


def test_the_calibration_error_weights_each_bin_by_its_titles() -> None:
    # Two bins: three titles at 0.9, one of them right, and one title at 0.6, which is right.
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.9, 0.1], [0.6, 0.4]])
    error, curve = expected_calibration_error(probabilities, np.array([0, 1, 1, 0]), 4)
    assert error == pytest.approx(0.75 * (0.9 - 1 / 3) + 0.25 * 0.4)
    assert [b["titles"] for b in curve] == [1, 3]
    assert [b["confidence"] for b in curve] == pytest.approx([0.6, 0.9])
    assert [b["accuracy"] for b in curve] == pytest.approx([1, 1 / 3])


def test_calibration_errors_cancel_within_a_bin_but_not_across_bins() -> None:
    probabilities = np.array([[0.55, 0.45], [0.95, 0.05]])
    targets = np.array([0, 1])  # mean confidence 0.75, accuracy 0.5
    assert expected_calibration_error(probabilities, targets, 1)[0] == pytest.approx(0.25)
    assert expected_calibration_error(probabilities, targets, 10)[0] == pytest.approx(0.7)


def test_the_top3_calibration_error_compares_three_probabilities_with_the_top3_accuracy() -> None:
    # The confidence is 0.91; the target is the third, the second, the fourth and the first category.
    probabilities = np.tile([0.11, 0.5, 0.3, 0.09], (4, 1))
    targets = np.array([0, 2, 3, 1])
    found, curve = expected_calibration_error(probabilities, targets, 10, k=3)
    assert found == pytest.approx(0.91 - 0.75)
    assert curve == [{"confidence": pytest.approx(0.91), "accuracy": 0.75, "titles": 4}]
    assert classification_metrics(probabilities, targets, 10)["top3_ece"] == pytest.approx(0.16)


def test_three_of_three_categories_have_no_top3_calibration_error() -> None:
    found = classification_metrics(np.array([[0.2, 0.8], [0.6, 0.4]]), np.array([1, 1]), 5)
    assert found["top3_ece"] == pytest.approx(0)


@pytest.mark.parametrize("bins", [1, 5, 15])
def test_full_confidence_falls_into_the_last_bin(bins: int) -> None:
    probabilities = np.array([[1.0, 0.0], [0.99, 0.01]])
    error, curve = expected_calibration_error(probabilities, np.array([0, 0]), bins)
    assert error == pytest.approx(0.005)
    assert [b["titles"] for b in curve] == [2]
