"""Calibration mixes two softmaxes with different temperatures."""

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
def test_softmax_agrees_with_scipy_for_logits_of_any_size(logits: np.ndarray) -> None:
    before = logits.copy()
    found = softmax(logits)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, special.softmax(logits, axis=1), atol=1e-6)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(logits, before)


def test_probabilities_are_a_mixture_of_two_softmaxes() -> None:
    logits = logits_of(2)
    low, high = (special.softmax(logits / temperature, axis=1) for temperature in (0.5, 3))
    for share in (0.7, 1.0, 0.0):
        mixed = Calibration(low=0.5, high=3.0, low_share=share).probabilities(logits)
        np.testing.assert_allclose(mixed, share * low + (1 - share) * high)
    default = Calibration().probabilities(logits)
    np.testing.assert_allclose(default, special.softmax(logits, axis=1))


@given(
    low=st.floats(0.001, 1000.0),
    high=st.floats(0.001, 1000.0),
    share=st.floats(0.0, 1.0),
    seed=st.integers(0, 99),
)
def test_calibration_returns_probabilities_and_keeps_the_prediction(
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
def test_an_invalid_calibration_is_rejected(values: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        Calibration(**values)
