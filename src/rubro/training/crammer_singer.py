"""Solver for the multiclass linear SVM of Crammer and Singer, compiled for CPUs.

All operations run in a fixed order, without reassociation, so the result has the same bytes on every
CPU and for any number of threads.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np
from numba import float32, int32, int64, njit, types
from scipy import sparse

from rubro.base.console import console
from rubro.base.parallel import in_parts

_NEW_RIVALS = 5  # categories added to the rivals of a title in a round
_MAX_RIVALS = 64
_MAX_PASSES = 10  # over the rivals of all titles, in a round
_BLOCK = 4096  # titles per compiled call, after which Ctrl-C is noticed
# A sum of dual variables above this share of its bound counts as at the bound, despite rounding.
_AT_BOUND = np.float32(1 - 1e-5)


class _Problem(NamedTuple):
    """Titles of the dual problem, and the rival categories of each title with their dual variables.

    An input of a title is a feature with a nonzero value. The dual variable of a title's own
    category is minus the sum of its rivals' dual variables and is not stored.

    Attributes:
        starts: Bounds of the titles in inputs and values, int32 (titles + 1,).
        inputs: Column of each input in the feature matrix, title by title, int32 (total inputs,).
        values: Value of each input, title by title, float32 (total inputs,).
        targets: Class indices, int32 (titles,).
        costs: Upper bound of the sum of the dual variables of each title, float32 (titles,).
        rivals: Categories whose dual variable may differ from zero, int32 (titles, max rivals).
        duals: Dual variable of each rival, >= 0, float32 (titles, max rivals).
        counts: Number of rivals of each title, int64 (titles,).
        violations: Violation of the optimality conditions by each title, float32 (titles,).
    """

    starts: np.ndarray
    inputs: np.ndarray
    values: np.ndarray
    targets: np.ndarray
    costs: np.ndarray
    rivals: np.ndarray
    duals: np.ndarray
    counts: np.ndarray
    violations: np.ndarray


_PROBLEM = types.NamedTuple(  # type: ignore[no-untyped-call]
    (
        *(int32[::1], int32[::1], float32[::1], int32[::1], float32[::1]),
        *(int32[:, ::1], float32[:, ::1], int64[::1], float32[::1]),
    ),
    _Problem,
)


def fit_crammer_singer(
    inputs: sparse.csr_matrix,
    targets: np.ndarray,
    costs: np.ndarray,
    classes: int,
    tolerance: float,
    max_rounds: int,
    seed: int,
    task: str = "fitting",
) -> tuple[np.ndarray, bool]:
    """Fit a linear SVM to all categories at once.

    The weights w minimise

        sum of w ** 2 / 2 + sum over titles of cost * max(0, 1 + rival - own)

    where own is the score of the title's category and rival the highest score of another category
    (Crammer and Singer 2001, On the Algorithmic Implementation of Multiclass Kernel-based Vector
    Machines). The solver is the dual coordinate ascent of Keerthi et al. 2008, A Sequential Dual
    Method for Large Scale Multi-Class Linear SVMs, with a small working set per title, its rivals.
    In each round, all threads add to the rivals of each title the categories that violate its margin
    most. Then one thread solves the dual problem of one title after the other among its rivals. A
    pass over the rivals takes a fraction of the time of a pass over all categories.

    Args:
        inputs: Feature values of each title, float32 (titles, inputs).
        targets: Class indices, int (titles,).
        costs: Cost of each title's margin violation, > 0, (titles,).
        classes: Number of categories, at least 2.
        tolerance: Largest allowed violation of a title's optimality conditions, in margins.
        max_rounds: Maximum number of rounds.
        seed: Seed of the first rivals and of the order of the titles.
        task: Description of the fit, shown with its rounds if standard error is a terminal.

    Returns:
        Weights, float32 (inputs, classes), and whether the tolerance was reached.
    """
    random = np.random.default_rng(seed)
    number, first = len(targets), min(_NEW_RIVALS, classes - 1)
    max_rivals = min(_MAX_RIVALS, classes - 1)
    problem = _Problem(
        starts=inputs.indptr.astype(np.int32),
        inputs=inputs.indices.astype(np.int32),
        values=inputs.data.astype(np.float32),
        targets=targets.astype(np.int32),
        costs=costs.astype(np.float32),
        rivals=np.zeros((number, max_rivals), dtype=np.int32),
        duals=np.zeros((number, max_rivals), dtype=np.float32),
        counts=np.full(number, first),
        violations=np.zeros(number, dtype=np.float32),
    )
    offsets = random.integers(0, classes - 1, (number, 1)) + np.arange(first)
    problem.rivals[:, :first] = (problem.targets[:, None] + 1 + offsets % (classes - 1)) % classes
    weights = np.zeros((inputs.shape[1], classes), dtype=np.float32)
    with console().status(task) as status:
        for done in range(1, max_rounds + 1):
            _optimise(problem, weights, tolerance, random)
            status.update(f"{task}, round {done} of at most {max_rounds}")
            for block in range(0, number, _BLOCK):
                titles = np.arange(block, min(block + _BLOCK, number))
                in_parts(partial(_update_rivals, problem, weights, titles), len(titles))
            if problem.violations.max(initial=0) < tolerance:
                return weights, True
    return weights, False


def _optimise(
    problem: _Problem, weights: np.ndarray, tolerance: float, random: np.random.Generator
) -> None:
    """Solve the dual problems of all titles repeatedly, but skip nearly optimal titles."""
    remaining = np.flatnonzero(problem.counts)
    for _ in range(_MAX_PASSES):
        order = random.permutation(remaining)
        for block in range(0, len(order), _BLOCK):
            _solve_titles(problem, weights, order[block : block + _BLOCK])
        remaining = remaining[problem.violations[remaining] > tolerance / 2]
        if not len(remaining):
            break


@njit(cache=True, nogil=True)
def _add_scores(
    weights: np.ndarray, inputs: np.ndarray, values: np.ndarray, scores: np.ndarray
) -> None:
    """Add a title's score for each category to scores, input by input.

    Four inputs at a time take 30 % less time than one, because the loads of their weights overlap.
    """
    in_fours = len(inputs) // 4 * 4
    for at in range(0, in_fours, 4):
        a, b, c, d = values[at], values[at + 1], values[at + 2], values[at + 3]
        of_a, of_b = weights[inputs[at]], weights[inputs[at + 1]]
        of_c, of_d = weights[inputs[at + 2]], weights[inputs[at + 3]]
        for i in range(len(scores)):
            scores[i] = scores[i] + a * of_a[i] + b * of_b[i] + c * of_c[i] + d * of_d[i]
    for at in range(in_fours, len(inputs)):
        value, row = values[at], weights[inputs[at]]
        for i in range(len(scores)):
            scores[i] += value * row[i]


@njit((_PROBLEM, float32[:, ::1], int64[::1], int64, int64), cache=True, nogil=True)
def _update_rivals(
    problem: _Problem, weights: np.ndarray, titles: np.ndarray, start: int, end: int
) -> None:
    """Drop rivals with zero dual variables, and add categories that violate a margin most."""
    starts, inputs, values, targets, costs, rivals, duals, counts, violations = problem
    classes = weights.shape[1]
    gradient = np.empty(classes, dtype=np.float32)
    for title in titles[start:end]:
        gradient[:] = 1
        own = targets[title]
        gradient[own] = 0
        title_inputs = slice(starts[title], starts[title + 1])
        _add_scores(weights, inputs[title_inputs], values[title_inputs], gradient)
        kept, total, lowest = 0, np.float32(0), np.float32(np.inf)
        for at in range(counts[title]):
            dual = duals[title, at]
            if dual > 0:
                rivals[title, kept], duals[title, kept] = rivals[title, at], dual
                kept += 1
                total += dual
                lowest = min(lowest, gradient[rivals[title, at]])
        if total < costs[title] * _AT_BOUND:
            lowest = min(lowest, gradient[own])
        violations[title] = gradient.max() - lowest
        gradient[own] = -np.inf
        gradient[rivals[title, :kept]] = -np.inf
        for _ in range(min(_NEW_RIVALS, rivals.shape[1] - kept)):
            rival = np.argmax(gradient)
            if gradient[rival] <= lowest:
                break
            rivals[title, kept], duals[title, kept] = rival, 0
            kept += 1
            gradient[rival] = -np.inf
        counts[title] = kept


@njit((_PROBLEM, float32[:, ::1], int64[::1]), cache=True, nogil=True)
def _solve_titles(problem: _Problem, weights: np.ndarray, order: np.ndarray) -> None:
    """Solve each title's dual problem for its rivals in turn, and update the weights in place."""
    starts, inputs, values, targets, costs, rivals, duals, counts, violations = problem
    max_rivals = rivals.shape[1]
    gradient = np.empty(max_rivals, dtype=np.float32)
    levels = np.empty(max_rivals + 1, dtype=np.float32)
    for title in order:
        count, own, cost = counts[title], targets[title], costs[title]
        gradient[:count] = 1
        own_score, square = np.float32(0), np.float32(0)
        for at in range(starts[title], starts[title + 1]):
            row, value = weights[inputs[at]], values[at]
            for rival in range(count):
                gradient[rival] += value * row[rivals[title, rival]]
            own_score += value * row[own]
            square += value * value
        total, lowest, highest = np.float32(0), np.float32(np.inf), own_score
        for rival in range(count):
            total += duals[title, rival]
            highest = max(highest, gradient[rival])
            if duals[title, rival] > 0:
                lowest = min(lowest, gradient[rival])
        if total < cost * _AT_BOUND:
            lowest = min(lowest, own_score)
        violations[title] = highest - lowest
        if highest <= lowest or square == 0:
            violations[title] = 0
            continue
        # Keerthi et al. 2008, section 3: at the threshold, all dual variables sum to zero.
        for rival in range(count):
            gradient[rival] += square * duals[title, rival]
            levels[rival] = gradient[rival]
        levels[count] = own_score - square * total + square * cost
        descending = np.sort(levels[: count + 1])[::-1]
        threshold, above = descending[0] - square * cost, 1
        while above <= count and threshold < above * descending[above]:
            threshold += descending[above]
            above += 1
        threshold /= above
        moved = np.float32(0)
        for rival in range(count):
            dual = max((gradient[rival] - threshold) / square, np.float32(0))
            levels[rival] = dual - duals[title, rival]
            duals[title, rival] = dual
            moved += levels[rival]
        for at in range(starts[title], starts[title + 1]):
            row, value = weights[inputs[at]], values[at]
            for rival in range(count):
                row[rivals[title, rival]] -= levels[rival] * value
            row[own] += moved * value
