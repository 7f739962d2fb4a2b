"""Fitting calibrations to logits whose true probabilities are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.special import softmax

from rubro.prediction.calibration import Calibration
from rubro.prediction.classifier import Classifier
from rubro.training.calibration import calibrated, fit_calibration
from support.tiny_models import MakeModel

pytest_plugins = ["support.tiny_models"]

MIN_TEMPERATURE, MAX_TEMPERATURE = 0.05, 20.0


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


def within_bounds(calibration: Calibration) -> bool:
    ordered = MIN_TEMPERATURE <= calibration.low <= calibration.high <= MAX_TEMPERATURE
    return ordered and 0 <= calibration.low_share <= 1


@pytest.mark.parametrize("factor", [0.25, 0.5, 1.0, 2.0, 4.0])
def test_a_factor_on_the_logits_is_undone(factor: float) -> None:
    logits, targets = make_logits(seed=1)
    probabilities = fit_calibration(logits * factor, targets).probabilities(logits * factor)
    assert np.abs(probabilities - softmax(logits, axis=1)).mean() < 0.01


def test_a_mixture_of_two_temperatures_is_recovered() -> None:
    logits, _ = make_logits(6, scale=6.0)
    truth = Calibration(low=0.4, high=4.0, low_share=0.6)
    random = np.random.default_rng(0)
    below = truth.probabilities(logits).cumsum(axis=1) < random.uniform(size=(len(logits), 1))
    found = fit_calibration(logits, np.minimum(below.sum(axis=1), 5))
    assert found.high == pytest.approx(truth.high, rel=0.15)
    assert found.low_share == pytest.approx(truth.low_share, abs=0.05)


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
        assert within_bounds(calibration)
        after = log_loss(calibration.probabilities(logits), targets)
        assert after <= log_loss(softmax(logits, axis=1), targets) + 1e-5
        for temperature in np.geomspace(MIN_TEMPERATURE, MAX_TEMPERATURE, 50):
            single = log_loss(softmax(logits / temperature, axis=1), targets)
            assert after <= single * 1.01 + 1e-3


@pytest.mark.parametrize("size", [0.0, 1e-3, 1.0, 1e4])
@pytest.mark.parametrize("shift", [0, 1])
def test_logits_that_are_always_right_or_wrong_give_finite_parameters(
    size: float, shift: int
) -> None:
    targets = np.arange(40) % 4
    logits = np.eye(4)[(targets + shift) % 4] * size
    calibration = fit_calibration(logits, targets)
    assert within_bounds(calibration)
    assert np.isfinite(calibration.probabilities(logits)).all()


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


def test_a_model_gets_the_calibration_of_its_logits(make_model: MakeModel) -> None:
    texts = [
        f"{word} {other}" for word in ("apple", "saw", "zzz") for other in ("red", "boot", "x")
    ]
    targets = np.arange(9) % 4
    model = make_model("mlp", "svm")
    logits = Classifier(model).logits(texts)
    found = calibrated(model, logits, targets)
    assert found.description.calibration == fit_calibration(logits, targets)
    assert found.description.calibration != Calibration() == model.description.calibration
    np.testing.assert_array_equal(Classifier(found).logits(texts), logits)
    assert calibrated(found, logits, targets) == found  # its own calibration is ignored
