"""Decisions of a model for each objective: scale, shift and calibration of its logits."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

from rubro.base.metric_names import Objective
from rubro.evaluation.metrics import MEASURES
from rubro.training.calibration import fit_calibration
from rubro.training.decisions import fit_decisions, fit_scale, fit_shift

SHARES = np.array([0.85, 0.1, 0.04, 0.01])
LOG_SHARES = np.log(SHARES)


def skewed(titles: int, strength: float = 2.0, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Return logits that ignore the shares of the categories, float32, and class indices."""
    random = np.random.default_rng(seed)
    targets = random.choice(4, titles, p=SHARES)
    logits = strength * np.eye(4)[targets] + random.normal(size=(titles, 4))
    return logits.astype(np.float32), targets


@pytest.mark.parametrize("factor", [0.1, 1.0, 20.0])
def test_scaled_logits_are_log_probabilities_apart_from_a_shift(factor: float) -> None:
    logits, targets = skewed(20_000)
    # With noise of standard deviation 1, the scale is the strength.
    found = fit_scale(logits / factor, targets, LOG_SHARES)
    assert found == pytest.approx(2.0 * factor, rel=0.1)


def test_constant_logits_have_no_scale_that_matters() -> None:
    targets = skewed(50)[1]
    assert np.isfinite(fit_scale(np.zeros((50, 4), np.float32), targets, LOG_SHARES))


def test_each_objective_has_the_shift_that_serves_it() -> None:
    logits, targets = skewed(20_000)
    held_out, expected = skewed(20_000, seed=2)
    scores = {}
    for objective in get_args(Objective):
        shift, reached = fit_shift(2 * logits, targets, LOG_SHARES, objective)
        predictions = (2 * held_out + shift * LOG_SHARES).argmax(axis=1)
        scores[objective] = {name: of(expected, predictions) for name, of in MEASURES.items()}
        assert scores[objective][objective] == pytest.approx(reached, abs=0.03)
        if objective == "accuracy":  # the logarithm of the shares makes the logits posteriors
            assert shift == pytest.approx(1.0, abs=0.3)
        if objective == "balanced_accuracy":
            assert shift == pytest.approx(0.0, abs=0.3)
    for objective, own in scores.items():
        for other in scores.values():
            assert own[objective] >= other[objective] - 0.005


def test_even_categories_are_not_shifted() -> None:
    logits, targets = skewed(500)
    even = np.full(4, np.log(0.25))
    for objective in get_args(Objective):
        assert fit_shift(logits, targets, even, objective)[0] == 0


def test_decisions_have_shifts_in_the_scale_of_the_logits_and_their_own_calibration() -> None:
    logits, targets = skewed(3000)
    decisions = fit_decisions(logits, targets, LOG_SHARES)
    assert decisions.keys() == set(get_args(Objective))
    tenth = fit_decisions(logits / 10, targets, LOG_SHARES)
    for objective, decision in decisions.items():
        shifted = logits + np.float32(decision.shift) * LOG_SHARES.astype(np.float32)
        found = fit_calibration(shifted, targets).probabilities(shifted)
        np.testing.assert_allclose(found, decision.calibration.probabilities(shifted), atol=0.01)
        assert tenth[objective].shift == pytest.approx(decision.shift / 10, rel=0.05, abs=1e-3)


@pytest.mark.parametrize("factor", [1e-30, 1e4, 1e5, 1e30])
def test_logits_of_any_size_have_decisions(factor: float) -> None:
    logits, targets = skewed(300)
    logits *= np.float32(factor)
    for decision in fit_decisions(logits, targets, LOG_SHARES).values():
        assert np.isfinite(decision.calibration.probabilities(logits)).all()


@pytest.mark.parametrize("titles", [1, 2])
def test_a_few_titles_are_enough(titles: int) -> None:
    logits, targets = skewed(titles)
    for decision in fit_decisions(logits, targets, LOG_SHARES).values():
        assert np.isfinite(decision.calibration.probabilities(logits)).all()
