"""A linear SVM of many categories, fitted together, compiled for a CPU.

Operations and their order are fixed, and nothing is reassociated: the bytes are the same on every CPU
and for any number of threads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numba import njit
from scipy import sparse

from rubro.base.console import console
from rubro.base.parallel import in_parts

_NEW_RIVALS = 5  # categories that join the rivals of a title in a round
_MOST_RIVALS = 64
_MOST_PASSES = 10  # over the rivals of a round
_BLOCK = 4096  # titles of one compiled call: Ctrl-C waits for its end
# Rounding leaves a dual variable this far from its bound.
_AT_BOUND = np.float32(1 - 1e-5)


@dataclass(frozen=True)
class Margins:
    """A fitted linear SVM.

    Attributes:
        weights: Weights, float32 (inputs, classes).
        converged: Whether the tolerance was reached.
    """

    weights: np.ndarray
    converged: bool


class _Titles(NamedTuple):
    """Titles, and the dual variables of their rivals.

    The dual variable of a title and its own category is the sum of those of its rivals.

    Attributes:
        starts: Start of each title in inputs, int32 (titles + 1,).
        inputs: FeatureSizes of each title, int32.
        values: Value of each of these inputs, float32.
        targets: Class indices, int32 (titles,).
        costs: Upper bound of the sum of the dual variables of each title, float32 (titles,).
        rivals: Categories of which the dual variable may differ from zero, int32 (titles, most).
        duals: Dual variable of each rival, >= 0, float32 (titles, most).
        counts: Number of rivals of each title, int64 (titles,).
        violations: Distance of each title from optimality, float32 (titles,).
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


def fit_crammer_singer(
    inputs: sparse.csr_matrix,
    targets: np.ndarray,
    costs: np.ndarray,
    classes: int,
    tolerance: float,
    max_rounds: int,
    seed: int,
) -> Margins:
    """Fit weights with which the score of the right category exceeds all others by a margin.

    Half the sum of squares of the weights, plus the cost of each title times the most that another
    category lacks to a margin of 1, is minimised. Source: Crammer and Singer 2001, On the Algorithmic
    Implementation of Multiclass Kernel-based Vector Machines; dual coordinate ascent as in Keerthi et
    al. 2008, A Sequential Dual Method for Large Scale Multi-Class Linear SVMs.

    In each round, all threads look for the categories that violate the margin of each title most, and
    one thread then improves the dual variables of these rivals, title by title. A pass over the rivals
    takes a fraction of the time of one over all categories.

    Args:
        inputs: FeatureSizes of each title, float32 (titles, inputs).
        targets: Class indices, int (titles,).
        costs: Cost of a missing margin of each title, > 0, (titles,).
        classes: Number of categories, at least 2.
        tolerance: Largest violation of optimality of a title at the end, in units of the margin.
        max_rounds: Most rounds.
        seed: Seed of the first rivals and of the order of the titles.
    """
    random = np.random.default_rng(seed)
    number, first = len(targets), min(_NEW_RIVALS, classes - 1)
    most = min(_MOST_RIVALS, classes - 1)
    titles = _Titles(
        starts=inputs.indptr.astype(np.int32),
        inputs=inputs.indices.astype(np.int32),
        values=inputs.data.astype(np.float32),
        targets=targets.astype(np.int32),
        costs=costs.astype(np.float32),
        rivals=np.zeros((number, most), dtype=np.int32),
        duals=np.zeros((number, most), dtype=np.float32),
        counts=np.full(number, first),
        violations=np.zeros(number, dtype=np.float32),
    )
    places = random.integers(0, classes - 1, (number, 1)) + np.arange(first)
    titles.rivals[:, :first] = (titles.targets[:, None] + 1 + places % (classes - 1)) % classes
    weights = np.zeros((inputs.shape[1], classes), dtype=np.float32)
    with console().status("fitting") as status:
        for done in range(1, max_rounds + 1):
            _climb(titles, weights, tolerance, random)
            status.update(f"fitting, round {done} of at most {max_rounds}")
            _renew(titles, weights)
            if titles.violations.max(initial=0) < tolerance:
                return Margins(weights, converged=True)
    return Margins(weights, converged=False)


def _renew(titles: _Titles, weights: np.ndarray) -> None:
    """Drop the rivals without a dual variable and add those that violate the margin most."""
    for block in range(0, len(titles.targets), _BLOCK):
        end = min(block + _BLOCK, len(titles.targets))

        def find(first: int, last: int, block: int = block) -> None:
            _find_rivals(titles, weights, block + first, block + last)

        in_parts(find, end - block)


def _climb(
    titles: _Titles, weights: np.ndarray, tolerance: float, random: np.random.Generator
) -> None:
    """Improve the dual variables of the rivals until few titles are far from optimal."""
    remaining = np.flatnonzero(titles.counts)
    for _ in range(_MOST_PASSES):
        order = random.permutation(remaining)
        for block in range(0, len(order), _BLOCK):
            _improve(titles, weights, order[block : block + _BLOCK])
        remaining = remaining[titles.violations[remaining] > tolerance / 2]
        if not len(remaining):
            break


@njit(cache=True, nogil=True)
def _find_rivals(
    titles: _Titles,
    weights: np.ndarray,
    first: int,
    last: int,
) -> None:
    """Score all categories of the titles from first to last, and choose the rivals of each."""
    starts, inputs, values, targets, costs, rivals, duals, counts, violations = titles
    classes = weights.shape[1]
    gradient = np.empty(classes, dtype=np.float32)
    for title in range(first, last):
        gradient[:] = 1
        own = targets[title]
        gradient[own] = 0
        for at in range(starts[title], starts[title + 1]):
            row, value = weights[inputs[at]], values[at]
            for category in range(classes):
                gradient[category] += value * row[category]
        kept, total, least = 0, np.float32(0), np.float32(np.inf)
        for at in range(counts[title]):
            dual = duals[title, at]
            if dual > 0:
                rivals[title, kept], duals[title, kept] = rivals[title, at], dual
                kept += 1
                total += dual
                least = min(least, gradient[rivals[title, at]])
        if total < costs[title] * _AT_BOUND:
            least = min(least, gradient[own])
        violations[title] = gradient.max() - least
        gradient[own] = -np.inf
        gradient[rivals[title, :kept]] = -np.inf
        for _ in range(min(_NEW_RIVALS, rivals.shape[1] - kept)):
            greatest = np.argmax(gradient)
            if gradient[greatest] <= least:
                break
            rivals[title, kept], duals[title, kept] = greatest, 0
            kept += 1
            gradient[greatest] = -np.inf
        counts[title] = kept


@njit(cache=True, nogil=True)
def _improve(
    titles: _Titles,
    weights: np.ndarray,
    order: np.ndarray,
) -> None:
    """Solve the dual problem of each title in turn, among its rivals, and move the weights."""
    starts, inputs, values, targets, costs, rivals, duals, counts, violations = titles
    most = rivals.shape[1]
    gradient = np.empty(most, dtype=np.float32)
    levels = np.empty(most + 1, dtype=np.float32)
    for title in order:
        count, own, cost = counts[title], targets[title], costs[title]
        gradient[:count] = 1
        of_own, square = np.float32(0), np.float32(0)
        for at in range(starts[title], starts[title + 1]):
            row, value = weights[inputs[at]], values[at]
            for rival in range(count):
                gradient[rival] += value * row[rivals[title, rival]]
            of_own += value * row[own]
            square += value * value
        total, least, greatest = np.float32(0), np.float32(np.inf), of_own
        for rival in range(count):
            total += duals[title, rival]
            greatest = max(greatest, gradient[rival])
            if duals[title, rival] > 0:
                least = min(least, gradient[rival])
        if total < cost * _AT_BOUND:
            least = min(least, of_own)
        violations[title] = greatest - least
        if greatest <= least or square == 0:
            violations[title] = 0
            continue
        # Keerthi et al. 2008, section 3: the threshold at which the dual variables add up to zero.
        for rival in range(count):
            gradient[rival] += square * duals[title, rival]
            levels[rival] = gradient[rival]
        levels[count] = of_own - square * total + square * cost
        falling = np.sort(levels[: count + 1])[::-1]
        threshold, above = falling[0] - square * cost, 1
        while above <= count and threshold < above * falling[above]:
            threshold += falling[above]
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
