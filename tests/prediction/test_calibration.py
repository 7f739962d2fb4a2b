"""Probabilities from logits: mixtures of softmaxes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pydantic import ValidationError
from scipy import special

from rubro.prediction.calibration import Calibration, softmax


def logits_of(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(scale=2.0, size=(50, 6))


@given(arrays.arrays(np.float32, (3, 4), elements=st.floats(-(2.0**100), 2.0**100, width=32)))
def test_the_softmax_is_that_of_scipy_however_large_the_logits(logits: np.ndarray) -> None:
    before = logits.copy()
    found = softmax(logits)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, special.softmax(logits, axis=1), atol=1e-6)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(logits, before)


def test_a_new_calibration_is_the_softmax() -> None:
    logits = logits_of(1)
    np.testing.assert_allclose(Calibration().probabilities(logits), special.softmax(logits, axis=1))


def test_probabilities_are_the_mixture_of_two_softmaxes() -> None:
    logits = logits_of(2)
    low, high = (special.softmax(logits / temperature, axis=1) for temperature in (0.5, 3))
    mixed = Calibration(low=0.5, high=3.0, low_share=0.7).probabilities(logits)
    np.testing.assert_allclose(mixed, 0.7 * low + 0.3 * high)
    np.testing.assert_allclose(mixed.sum(axis=1), 1)
    for share, expected in ((1.0, low), (0.0, high)):
        mixed = Calibration(low=0.5, high=3.0, low_share=share).probabilities(logits)
        np.testing.assert_allclose(mixed, expected)


@given(
    low=st.floats(0.001, 1000.0),
    high=st.floats(0.001, 1000.0),
    share=st.floats(0.0, 1.0),
    seed=st.integers(0, 99),
)
def test_any_calibration_gives_probabilities_and_keeps_the_prediction(
    low: float, high: float, share: float, seed: int
) -> None:
    logits = logits_of(seed).astype(np.float32)
    found = Calibration(low=low, high=high, low_share=share).probabilities(logits)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)
    assert (found >= 0).all()
    own = found[np.arange(len(logits)), logits.argmax(axis=1)]
    np.testing.assert_array_equal(own, found.max(axis=1))


@pytest.mark.parametrize(
    "values",
    [{"low": 0.0}, {"high": -1.0}, {"high": np.inf}, {"low": np.nan}, {"low_share": 1.1}, {"a": 1}],
    ids=str,
)
def test_a_calibration_that_cannot_be_is_refused(values: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        Calibration(**values)
