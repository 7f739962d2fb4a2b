"""Fitting calibrations to logits whose true probabilities are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.special import softmax
from sklearn.metrics import roc_auc_score

from rubro.evaluation.metrics import expected_calibration_error
from rubro.prediction.calibration import Calibration
from rubro.training.calibration import fit_calibration


def make_logits(
    seed: int, titles: int = 10_000, classes: int = 6, scale: float = 2.0
) -> tuple[np.ndarray, np.ndarray]:
    """Return logits and targets drawn from their softmax, so that the right temperature is 1."""
    random = np.random.default_rng(seed)
    logits = random.normal(scale=scale, size=(titles, classes))
    below = softmax(logits, axis=1).cumsum(axis=1) < random.uniform(size=(titles, 1))
    return logits, np.minimum(below.sum(axis=1), classes - 1)


def log_loss(probabilities: np.ndarray, targets: np.ndarray) -> float:
    """Return the log loss of the confidence as the probability that a prediction is right."""
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == targets
    likelihood = np.where(right, confidence, 1 - confidence)
    return float(-np.log(np.maximum(likelihood, 1e-12)).mean())


def auroc(confidence: np.ndarray, logits: np.ndarray, targets: np.ndarray) -> float:
    return float(roc_auc_score(logits.argmax(axis=1) == targets, confidence))


def margin(logits: np.ndarray) -> np.ndarray:
    ordered = np.sort(logits, axis=1)
    difference: np.ndarray = ordered[:, -1] - ordered[:, -2]
    return difference


@pytest.mark.parametrize("factor", [0.25, 0.5, 1.0, 2.0, 4.0])
def test_a_factor_on_the_logits_is_undone(factor: float) -> None:
    logits, targets = make_logits(seed=1)
    probabilities = fit_calibration(logits * factor, targets).probabilities(logits * factor)
    assert np.abs(probabilities - softmax(logits, axis=1)).mean() < 0.01
    for k in (1, 3):
        assert expected_calibration_error(probabilities, targets, 15, k)[0] < 0.02


@pytest.mark.parametrize("scale", [0.2, 1.0, 5.0, 30.0])
@pytest.mark.parametrize("noise", [0.0, 0.3, 1.0])
def test_the_log_loss_is_as_low_as_with_any_single_temperature(scale: float, noise: float) -> None:
    for seed in range(3):
        logits, targets = make_logits(seed, titles=200)
        logits *= scale
        random = np.random.default_rng(seed)
        wrong = random.uniform(size=200) < noise
        targets[wrong] = random.integers(0, 6, wrong.sum())
        calibration = fit_calibration(logits, targets)
        after = log_loss(calibration.probabilities(logits), targets)
        assert after <= log_loss(softmax(logits, axis=1), targets) + 0.01
        for temperature in np.geomspace(0.05, 20.0, 50):
            single = log_loss(softmax(logits / temperature, axis=1), targets)
            assert after <= single + 0.01


@pytest.mark.parametrize("titles", [300, 5000])
def test_inconsistent_labels_do_not_limit_the_confidence(titles: int) -> None:
    logits, targets = make_logits(4, titles=titles + 10_000, scale=6.0)
    random = np.random.default_rng(4)
    others = np.where(np.arange(6) == targets[:, None], -np.inf, logits)
    wrong = random.uniform(size=len(targets)) < 0.25
    targets[wrong] = others.argmax(axis=1)[wrong]  # the second category
    calibration = fit_calibration(logits[:titles], targets[:titles])
    logits, targets = logits[titles:], targets[titles:]
    probabilities = calibration.probabilities(logits)
    confidence = probabilities.max(axis=1)
    assert (confidence > confidence.max() - 3e-4).mean() < 0.01
    best = max(
        auroc(margin(logits), logits, targets),
        auroc(softmax(logits, axis=1).max(axis=1), logits, targets),
    )
    assert auroc(confidence, logits, targets) >= best - 0.002
    for k in (1, 3):
        error, _ = expected_calibration_error(probabilities, targets, 15, k)
        assert error < (0.02 if titles == 5000 else 0.06)


@pytest.mark.parametrize("decay", [0.0, 1.0, 2.0])
def test_the_score_that_ranks_right_predictions_best_is_chosen(decay: float) -> None:
    random = np.random.default_rng(0)
    logits = random.normal(size=(20_000, 40)) + 2 * np.eye(40)[random.integers(0, 40, 20_000)]
    truth = Calibration(decay=decay, slope_below=3.0, slope_above=3.0, knot=1.0 - decay)
    right = truth.probabilities(logits).max(axis=1) > random.uniform(size=20_000)
    targets = np.where(right, logits.argmax(axis=1), logits.argmin(axis=1))
    assert fit_calibration(logits, targets).decay == decay


def test_the_temperature_fits_wrong_predictions() -> None:
    logits, targets = make_logits(5, classes=10, scale=1.0)
    other = logits.copy()
    other[np.arange(len(logits)), logits.argmax(axis=1)] = -np.inf
    random = np.random.default_rng(5)
    for temperature in (0.3, 1.2):
        below = softmax(other / temperature, axis=1).cumsum(axis=1)
        drawn = (below < random.uniform(size=(len(logits), 1))).sum(axis=1)
        right = random.uniform(size=len(logits)) < 0.8
        targets = np.where(right, logits.argmax(axis=1), drawn)
        assert fit_calibration(logits, targets).temperature == pytest.approx(temperature, rel=0.1)


@pytest.mark.parametrize("size", [0.0, 1e-3, 1.0, 1e4])
@pytest.mark.parametrize("shift", [0, 1])
def test_logits_that_are_always_right_or_wrong_give_probabilities_between_0_and_1(
    size: float, shift: int
) -> None:
    targets = np.arange(40) % 4
    logits = np.eye(4)[(targets + shift) % 4] * size
    probabilities = fit_calibration(logits, targets).probabilities(logits)
    assert ((probabilities > 0) & (probabilities < 1)).all()
    if shift == 0 and size:
        assert (probabilities.max(axis=1) > 0.9).all()


def test_a_single_title_and_a_single_category_can_be_calibrated() -> None:
    probabilities = fit_calibration(np.array([[2.0, 1.0]]), np.array([0]))
    assert 0.5 < probabilities.probabilities(np.array([[2.0, 1.0]])).max() < 1
    assert fit_calibration(np.zeros((3, 1)), np.zeros(3, dtype=int)) == Calibration()


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    factor=st.floats(0.3, 5),
    shifts=arrays.arrays(np.float64, (80, 1), elements=st.floats(-100, 100)),
)
def test_a_constant_added_to_the_logits_of_a_title_changes_nothing(
    seed: int, factor: float, shifts: np.ndarray
) -> None:
    logits, targets = make_logits(seed, titles=80)
    logits *= factor
    probabilities = fit_calibration(logits, targets).probabilities(logits)
    shifted = fit_calibration(logits + shifts, targets).probabilities(logits + shifts)
    np.testing.assert_allclose(shifted, probabilities, atol=0.01)
    np.testing.assert_array_equal(probabilities.argmax(axis=1), logits.argmax(axis=1))


def test_a_large_sample_is_thinned_evenly() -> None:
    logits, targets = make_logits(3, titles=30_000)
    chosen = np.linspace(0, 29_999, 10_000).astype(int)
    assert fit_calibration(logits, targets) == fit_calibration(logits[chosen], targets[chosen])


def test_a_model_without_errors_is_not_certain_of_a_tie() -> None:
    random = np.random.default_rng(0)
    targets = random.integers(0, 5, 300)
    logits = (np.eye(5)[targets] * random.uniform(6, 9, (300, 1))).astype(np.float32)
    logits += random.normal(size=logits.shape).astype(np.float32) / 10
    calibration = fit_calibration(logits, targets)
    assert calibration.probabilities(logits).max(axis=1).min() > 0.95
    unknown = np.array([[0.1, 0.0, 0.0, 0.0, 0.0]], dtype=np.float32)
    assert calibration.probabilities(unknown).max() < 0.7
