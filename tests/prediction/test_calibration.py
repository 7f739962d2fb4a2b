"""Calibration maps the score of a prediction to its confidence and keeps the order of categories."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pydantic import ValidationError
from scipy import special

from rubro.prediction.calibration import Calibration, softmax

CALIBRATIONS = st.builds(
    Calibration,
    temperature=st.floats(0.01, 100.0),
    decay=st.floats(0.0, 100.0),
    knot=st.floats(-20.0, 20.0),
    log_odds=st.floats(-12.0, 12.0),
    slope_below=st.floats(1e-3, 100.0),
    slope_above=st.floats(1e-3, 100.0),
)


def logits_of(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(scale=2.0, size=(50, 6))


@given(arrays.arrays(np.float32, (3, 4), elements=st.floats(-(2.0**100), 2.0**100, width=32)))
def test_softmax_agrees_with_scipy_for_logits_of_any_size(logits: np.ndarray) -> None:
    before = logits.copy()
    found = softmax(logits)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, special.softmax(logits, axis=1), atol=1e-6)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(logits, before)


def test_the_default_is_the_softmax() -> None:
    logits = logits_of(2)
    before = logits.copy()
    found = Calibration().probabilities(logits)
    np.testing.assert_allclose(found, special.softmax(logits, axis=1), atol=1e-6)
    np.testing.assert_array_equal(logits, before)


@pytest.mark.parametrize("decay", [0.0, 0.7, 50.0])
@pytest.mark.parametrize("knot", [-1.0, 2.0])
def test_the_log_odds_are_a_spline_in_the_score(decay: float, knot: float) -> None:
    logits = logits_of(3)
    logits = logits[(np.diff(np.sort(logits, axis=1)[:, -2:])[:, 0] > 0.5)]
    calibration = Calibration(
        temperature=0.5, decay=decay, knot=knot, log_odds=1.2, slope_below=0.3, slope_above=0.1
    )
    found = calibration.probabilities(logits)
    for row, probabilities in zip(logits / 0.5, found, strict=True):
        first, *others = np.sort(row)[::-1]
        margin = first - others[0]
        beyond_second = np.exp(np.array(others[1:]) - others[0]).sum()
        score = margin - np.log(1 + beyond_second * np.exp(-decay * margin))
        slope = 0.3 if score < knot else 0.1
        confidence = special.expit(1.2 + slope * (score - knot))
        expected = np.r_[confidence, (1 - confidence) * special.softmax(others)]
        np.testing.assert_allclose(np.sort(probabilities)[::-1], expected, rtol=1e-9)


@given(calibration=CALIBRATIONS, seed=st.integers(0, 99), scale=st.sampled_from([1e-3, 1.0, 1e3]))
def test_probabilities_keep_the_order_of_the_categories(
    calibration: Calibration, seed: int, scale: float
) -> None:
    logits = (logits_of(seed) * scale).astype(np.float32)
    found = calibration.probabilities(logits)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)
    assert ((found > 0) & (found < 1)).all()
    np.testing.assert_array_equal(found.argmax(axis=1), logits.argmax(axis=1))
    ordered = np.take_along_axis(found, logits.argsort(axis=1), axis=1)
    assert (np.diff(ordered, axis=1) >= 0).all()


def test_the_first_of_two_equal_categories_stays_the_prediction() -> None:
    logits = np.array([[1.0, 3.0, 3.0], [3.0, 1.0, 3.0], [0.0, 0.0, 0.0]], dtype=np.float32)
    for log_odds in (-12.0, 0.0):
        found = Calibration(log_odds=log_odds).probabilities(logits)
        np.testing.assert_array_equal(found.argmax(axis=1), [1, 0, 0])
        np.testing.assert_allclose(found[2], 1 / 3, atol=0.05 if log_odds == -12.0 else 1e-6)


@given(calibration=CALIBRATIONS)
def test_the_confidence_has_no_plateau(calibration: Calibration) -> None:
    calibration = calibration.model_copy(
        update={"temperature": 1.0, "slope_below": 0.2, "slope_above": 0.2, "log_odds": 0.0}
    )
    margins = np.linspace(calibration.knot + 8, calibration.knot + 60, 300).clip(0.5)
    margins = np.unique(margins)
    confidence = calibration.probabilities(np.stack([margins, 0 * margins], axis=1))[:, 0]
    assert (np.diff(confidence) > 0).all()


def test_a_model_with_one_category_is_certain() -> None:
    np.testing.assert_array_equal(Calibration().probabilities(np.zeros((2, 1))), [[1], [1]])


@pytest.mark.parametrize(
    "values",
    [
        *({"temperature": 0.0}, {"temperature": np.nan}, {"decay": -0.1}, {"decay": np.inf}),
        *({"slope_below": 0.0}, {"slope_above": -1.0}, {"knot": np.inf}, {"log_odds": np.nan}),
        {"low": 1.0},
    ],
    ids=str,
)
def test_an_invalid_calibration_is_rejected(values: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        Calibration(**values)
