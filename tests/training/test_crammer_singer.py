"""The solver of the linear SVM: optimality, threads, costs."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from sklearn.svm import LinearSVC

from rubro.base.parallel import THREADS_VARIABLE
from rubro.training.crammer_singer import fit_crammer_singer

CLASSES = 30


def problem(titles: int = 600, inputs: int = 400) -> tuple[sparse.csr_matrix, np.ndarray]:
    """Titles of words that tell their category, and of words that do not."""
    random = np.random.default_rng(3)
    targets = random.integers(0, CLASSES, titles)
    words = random.integers(0, inputs, (titles, 8))
    told = random.random(titles) < 0.9
    words[told, 0] = targets[told] * 3 + random.integers(0, 3, told.sum())
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


def test_the_minimum_is_that_of_scikit_learn() -> None:
    inputs, targets = problem()
    costs = np.random.default_rng(4).uniform(0.2, 2, len(targets))
    found = fit_crammer_singer(inputs, targets, costs, CLASSES, 1e-3, 100, seed=1)
    reference = LinearSVC(
        multi_class="crammer_singer", tol=1e-4, max_iter=10_000, fit_intercept=False
    ).fit(inputs, targets, sample_weight=costs)
    least = objective(reference.coef_.T, inputs, targets, costs)
    assert found.converged
    assert objective(found.weights, inputs, targets, costs) == pytest.approx(least, rel=1e-3)
    np.testing.assert_allclose(found.weights, reference.coef_.T, atol=0.01)


def test_the_weights_are_the_same_for_any_number_of_threads_and_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    inputs, targets = problem()
    found = []
    for threads in ("1", "2", "4", "1"):
        monkeypatch.setenv(THREADS_VARIABLE, threads)
        found.append(
            fit_crammer_singer(inputs, targets, np.ones(len(targets)), CLASSES, 0.1, 50, seed=1)
        )
    for other in found[1:]:
        np.testing.assert_array_equal(other.weights, found[0].weights)


def test_more_categories_than_a_title_may_have_rivals_are_fitted() -> None:
    classes = 200
    targets = np.arange(classes).repeat(3)
    inputs = sparse.csr_matrix(np.ones((len(targets), 1)))  # no input tells them apart
    found = fit_crammer_singer(inputs, targets, np.ones(len(targets)), classes, 0.1, 20, seed=1)
    assert np.isfinite(found.weights).all()
    assert np.abs(found.weights).max() < 1


def test_a_title_without_inputs_changes_nothing() -> None:
    inputs, targets = problem()
    empty = sparse.vstack([inputs, sparse.csr_matrix((1, inputs.shape[1]))], format="csr")
    costs = np.ones(len(targets) + 1)
    found = fit_crammer_singer(empty, np.append(targets, 0), costs, CLASSES, 1e-3, 100, seed=1)
    without = fit_crammer_singer(inputs, targets, costs[:-1], CLASSES, 1e-3, 100, seed=1)
    np.testing.assert_allclose(found.weights, without.weights, atol=0.01)


def test_a_fit_that_is_cut_off_has_not_converged() -> None:
    inputs, targets = problem()
    found = fit_crammer_singer(inputs, targets, np.ones(len(targets)), CLASSES, 1e-4, 1, seed=1)
    assert not found.converged
