"""The solver of the linear SVM: minimum, threads and special cases."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pytest
from scipy import sparse
from sklearn.svm import LinearSVC

from rubro.base.parallel import THREADS_VARIABLE
from rubro.training.crammer_singer import fit_crammer_singer

CLASSES = 30


def problem(titles: int = 600, inputs: int = 400) -> tuple[sparse.csr_matrix, np.ndarray]:
    """Return titles with a word of their category, in nine of ten titles, and random words."""
    random = np.random.default_rng(3)
    targets = random.integers(0, CLASSES, titles)
    words = random.integers(0, inputs, (titles, 8))
    informative = random.random(titles) < 0.9
    words[informative, 0] = targets[informative] * 3 + random.integers(0, 3, informative.sum())
    rows = np.repeat(np.arange(titles), 8)
    values = random.uniform(0.3, 1, titles * 8)
    return sparse.csr_matrix((values, (rows, words.ravel())), (titles, inputs)), targets


def objective(
    weights: np.ndarray, inputs: sparse.csr_matrix, targets: np.ndarray, costs: np.ndarray
) -> float:
    scores = inputs @ weights
    own = scores[np.arange(len(targets)), targets]
    scores += 1
    scores[np.arange(len(targets)), targets] -= 1
    return float((weights**2).sum() / 2 + (costs * (scores.max(axis=1) - own)).sum())


def fit(inputs: Any, targets: np.ndarray, tolerance: float, rounds: int = 100) -> np.ndarray:
    """Return weights fitted with equal costs."""
    costs = np.ones(len(targets))
    return fit_crammer_singer(inputs, targets, costs, targets.max() + 1, tolerance, rounds, 1)[0]


def test_the_fit_reaches_the_minimum_that_scikit_learn_finds() -> None:
    inputs, targets = problem()
    costs = np.random.default_rng(4).uniform(0.2, 2, len(targets))
    weights, converged = fit_crammer_singer(inputs, targets, costs, CLASSES, 1e-3, 100, seed=1)
    reference = LinearSVC(
        multi_class="crammer_singer", tol=1e-4, max_iter=10_000, fit_intercept=False
    ).fit(inputs, targets, sample_weight=costs)
    minimum = objective(reference.coef_.T, inputs, targets, costs)
    assert converged
    assert objective(weights, inputs, targets, costs) == pytest.approx(minimum, rel=1e-3)
    np.testing.assert_allclose(weights, reference.coef_.T, atol=0.01)


def test_weights_are_reproducible_with_any_number_of_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fits = []
    for threads in ("1", "2", "4", "1"):
        monkeypatch.setenv(THREADS_VARIABLE, threads)
        fits.append(fit(*problem(), 0.1, 50))
    for other in fits[1:]:
        np.testing.assert_array_equal(other, fits[0])


def test_there_can_be_more_categories_than_rivals_of_a_title() -> None:
    targets = np.arange(200).repeat(3)
    weights = fit(sparse.csr_matrix(np.ones((600, 1))), targets, 0.1, 20)  # all titles are equal
    assert np.isfinite(weights).all()
    assert np.abs(weights).max() < 1


def test_a_title_without_inputs_changes_nothing() -> None:
    inputs, targets = problem()
    empty = sparse.vstack([inputs, sparse.csr_matrix((1, inputs.shape[1]))], format="csr")
    weights = fit(empty, np.append(targets, 0), 1e-3)
    np.testing.assert_allclose(weights, fit(inputs, targets, 1e-3), atol=0.01)


ENDLESS = """
import numpy as np
from scipy import sparse
from rubro.base.console import reported_errors, say
from rubro.training.crammer_singer import fit_crammer_singer

titles, words, classes = 20_000, 3000, 500
random = np.random.default_rng(0)
rows, columns = np.arange(titles).repeat(30), random.integers(0, words, titles * 30)
inputs = sparse.csr_matrix((np.ones(titles * 30), (rows, columns)), (titles, words))
targets = random.integers(0, classes, titles)
with reported_errors():
    say("fitting")
    fit_crammer_singer(inputs, targets, np.full(titles, 1e3), classes, 1e-9, 10**6, seed=1)
"""


@pytest.mark.slow
def test_ctrl_c_interrupts_a_fit() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", ENDLESS], stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert "fitting" in process.stderr.readline()
        time.sleep(1)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        message = process.stderr.read()
    assert process.returncode == 130
    assert "interrupted" in message and "Traceback" not in message
