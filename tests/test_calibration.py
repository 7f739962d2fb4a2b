"""Temperature scaling, on logits whose true probabilities are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.special import log_softmax, softmax

from rubro.calibration import fit_temperature
from rubro.metrics import expected_calibration_error

LOWEST, HIGHEST = 0.05, 20.0


def honest(
    seed: int, titles: int = 10_000, classes: int = 6, scale: float = 2.0
) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and targets drawn from their softmax: the right temperature is 1."""
    random = np.random.default_rng(seed)
    logits = random.normal(scale=scale, size=(titles, classes))
    below = softmax(logits, axis=1).cumsum(axis=1) < random.uniform(size=(titles, 1))
    return logits, np.minimum(below.sum(axis=1), classes - 1)


def cross_entropy(logits: np.ndarray, targets: np.ndarray) -> float:
    return float(-log_softmax(logits, axis=1)[np.arange(len(targets)), targets].mean())


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("factor", [0.25, 0.5, 1.0, 2.0, 4.0])
def test_the_temperature_undoes_a_factor_on_honest_logits(factor: float, seed: int) -> None:
    logits, targets = honest(seed)
    assert fit_temperature(logits * factor, targets) == pytest.approx(factor, rel=0.05)


@pytest.mark.parametrize("scale", [0.2, 1.0, 5.0, 30.0])
@pytest.mark.parametrize("noise", [0.0, 0.3, 1.0])
def test_the_cross_entropy_never_rises(scale: float, noise: float) -> None:
    for seed in range(5):
        logits, targets = honest(seed, titles=200)
        random = np.random.default_rng(seed)
        wrong = random.uniform(size=200) < noise
        targets[wrong] = random.integers(0, 6, wrong.sum())
        temperature = fit_temperature(logits * scale, targets)
        assert LOWEST <= temperature <= HIGHEST
        scaled = cross_entropy(logits * scale / temperature, targets)
        assert scaled <= cross_entropy(logits * scale, targets) + 1e-8


@pytest.mark.parametrize("factor", [0.01, 0.1, 0.7, 3.0, 15.0, 200.0])
def test_no_other_temperature_does_better(factor: float) -> None:
    logits, targets = honest(4, titles=500)
    found = cross_entropy(logits * factor / fit_temperature(logits * factor, targets), targets)
    grid = np.geomspace(LOWEST, HIGHEST, 1000)
    best = min(cross_entropy(logits * factor / temperature, targets) for temperature in grid)
    assert found <= best * (1 + 1e-5)


@pytest.mark.parametrize("size", [1e-3, 1.0, 10.0, 1e4])
def test_logits_that_separate_the_classes_get_a_temperature_within_bounds(size: float) -> None:
    targets = np.arange(40) % 4
    temperature = fit_temperature(np.eye(4)[targets] * size, targets)
    assert LOWEST <= temperature <= HIGHEST
    if size <= 1:
        assert temperature == pytest.approx(LOWEST, rel=0.01)


@pytest.mark.parametrize("titles", [1, 30])
def test_constant_logits_get_a_temperature_within_bounds(titles: int) -> None:
    temperature = fit_temperature(np.full((titles, 3), 2.5), np.arange(titles) % 3)
    assert LOWEST <= temperature <= HIGHEST


def test_logits_that_are_always_wrong_are_taken_for_as_little_as_possible() -> None:
    targets = np.arange(40) % 4
    assert fit_temperature(np.eye(4)[(targets + 1) % 4] * 9, targets) == pytest.approx(
        HIGHEST, rel=0.01
    )


def test_the_calibration_error_of_over_confident_logits_falls_to_nearly_nothing() -> None:
    logits, targets = honest(8, titles=20_000)
    confident = logits * 3
    before, _ = expected_calibration_error(softmax(confident, axis=1), targets, 15)
    scaled = confident / fit_temperature(confident, targets)
    after, _ = expected_calibration_error(softmax(scaled, axis=1), targets, 15)
    assert before > 0.15
    assert after < 0.015


@pytest.mark.parametrize("factor", [0.5, 1.0, 4.0])
def test_log_probabilities_serve_as_well_as_logits(factor: float) -> None:
    logits, targets = honest(5, titles=2000)
    logits *= factor
    assert fit_temperature(log_softmax(logits, axis=1), targets) == pytest.approx(
        fit_temperature(logits, targets), rel=1e-3
    )


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    factor=st.floats(0.3, 5),
    shifts=arrays.arrays(np.float64, (80, 1), elements=st.floats(-100, 100)),
)
def test_a_constant_added_to_the_logits_of_a_title_changes_nothing(
    seed: int, factor: float, shifts: np.ndarray
) -> None:
    logits, targets = honest(seed, titles=80)
    logits *= factor
    temperature = fit_temperature(logits, targets)
    assert fit_temperature(logits + shifts, targets) == pytest.approx(temperature, rel=1e-3)
    np.testing.assert_array_equal(
        (logits / temperature).argmax(axis=1), softmax(logits, axis=1).argmax(axis=1)
    )
