"""Confidence thresholds keep the promised precision however often they are chosen."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binomtest

from rubro.evaluation.thresholds import (
    Predictions,
    choose_level_thresholds,
    choose_threshold,
    choose_thresholds,
    estimate_precision,
    level_answers,
    minimum_titles,
)

Catalogue = tuple[np.ndarray, np.ndarray]


def calibrated(random: np.random.Generator, count: int) -> Catalogue:
    """Return confidences, and outcomes that are right 3 % less often than the confidences claim."""
    confidences = random.beta(4, 0.7, count)
    return confidences, random.random(count) < confidences - 0.03


def limited(random: np.random.Generator, count: int) -> Catalogue:
    """Return outcomes whose confidences lie within 0.0003 for the best quarter of the titles."""
    confidences, right = calibrated(random, count)
    limit = np.quantile(confidences, 0.75)
    return np.minimum(confidences, limit) + 3e-4 * confidences, right


def overconfident(random: np.random.Generator, count: int) -> Catalogue:
    """Return outcomes whose confidences are higher than the precision, and which may be equal."""
    confidences, right = calibrated(random, count)
    return np.round(np.sqrt(confidences), 2), right


@pytest.mark.parametrize(("titles", "minimum"), [(100, 5), (500, 50), (3000, 190)])
@pytest.mark.parametrize("catalogue", [calibrated, limited, overconfident])
def test_the_promise_is_broken_in_at_most_5_percent_of_catalogues(
    catalogue: Callable[[np.random.Generator, int], Catalogue], titles: int, minimum: int
) -> None:
    random = np.random.default_rng(5)
    confidences, right = catalogue(random, 100_000)
    broken = accepted = 0
    for _ in range(200):
        sample = random.integers(len(right), size=titles)
        threshold = choose_threshold(confidences[sample], right[sample], 0.9)
        kept = confidences >= threshold
        broken += int(kept.any() and right[kept].mean() < 0.9)
        accepted += int(kept.any())
    assert broken <= 10
    assert accepted >= minimum


def test_the_threshold_is_near_the_lowest_that_reaches_the_precision() -> None:
    confidences, right = calibrated(np.random.default_rng(0), 30_000)
    order = np.argsort(-confidences)
    precisions = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    for precision in (0.85, 0.9, 0.95):
        possible = np.flatnonzero(precisions >= precision)[-1] / len(order)
        kept = (confidences >= choose_threshold(confidences, right, precision)).mean()
        assert possible - 0.05 < kept <= possible


def test_a_threshold_is_found_where_too_few_titles_have_higher_confidences() -> None:
    """One error among the first titles does not end the search."""
    confidences = np.linspace(0.99, 0.91, 1000)
    right = np.arange(1000) != 5
    assert choose_threshold(confidences, right, 0.9) == 0.91


def test_a_threshold_is_found_above_confidences_that_are_too_high() -> None:
    """The candidate that the confidences recommend fails, and a higher one passes."""
    confidences = np.linspace(0.99, 0.97, 2000)
    right = (np.arange(2000) < 1000) | (np.arange(2000) % 2 == 0)
    threshold = choose_threshold(confidences, right, 0.9)
    assert 0.97 < threshold < math.inf
    assert right[confidences >= threshold].mean() >= 0.9


def test_out_of_vocabulary_titles_are_never_accepted() -> None:
    confidences = np.repeat([-1.0, 0.75, 0.97], [2000, 2000, 2000])
    right = confidences > 0
    assert choose_threshold(confidences, right, 0.95) == 0.75
    assert choose_threshold(confidences[:2000], ~right[:2000], 0.95) == math.inf
    assert choose_threshold(confidences[:0], right[:0], 0.95) == math.inf


@pytest.mark.parametrize("precision", [0.5, 0.9, 0.98, 0.999])
def test_no_threshold_is_chosen_from_fewer_titles_than_the_minimum(precision: float) -> None:
    minimum = minimum_titles(precision)
    assert choose_threshold(np.ones(minimum), np.ones(minimum, bool), precision) == 1
    fewer = np.ones(minimum - 1)
    assert choose_threshold(fewer, fewer.astype(bool), precision) == math.inf


def test_accepted_predictions_are_counted_with_an_exact_interval() -> None:
    right = np.array([True] * 8 + [False] * 4)
    found = estimate_precision(np.arange(12) < 10, right)
    low, high = binomtest(8, 10).proportion_ci(0.95, method="exact")
    assert found == pytest.approx({"titles": 12, "kept": 10, "right": 8, "low": low, "high": high})
    none = estimate_precision(np.zeros(12, bool), right)
    assert none == {"titles": 12, "kept": 0, "right": 0, "low": 0, "high": 1}


def many_small_categories(random: np.random.Generator, count: int) -> Predictions:
    """Return predictions of 390 small categories, a large easy one and a large difficult one."""
    classes = random.choice(392, count, p=np.repeat([0.7 / 390, 0.15, 0.15], [390, 1, 1]))
    confidences = random.beta(8, 0.7, count)
    errors = np.select([classes == 390, classes == 391], [-0.03, 0.08], 0.01)
    right = random.random(count) < confidences - errors
    return Predictions(classes, confidences, right, np.ones(count, dtype=bool))


def uneven_confidences(random: np.random.Generator, count: int) -> Predictions:
    """Return predictions of 30 categories with confidences from 12 % too high to 4 % too low."""
    classes = random.integers(30, size=count)
    confidences = random.beta(6, 0.6, count)
    right = random.random(count) < confidences + np.linspace(-0.12, 0.04, 30)[classes]
    return Predictions(classes, confidences, right, np.ones(count, dtype=bool))


def not_precise_enough(random: np.random.Generator, count: int) -> Predictions:
    """Return predictions of 30 categories, none of which reaches the precision of 0.95."""
    right, known = random.random(count) < 0.945, np.ones(count, dtype=bool)
    return Predictions(random.integers(30, size=count), random.random(count), right, known)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("catalogue", "titles", "minimum_promises"),
    [
        (many_small_categories, 1500, 50),
        (uneven_confidences, 6000, 300),
        (not_precise_enough, 6000, 0),
    ],
)
def test_promises_by_category_together_and_overall_are_kept_in_95_percent_of_catalogues(
    catalogue: Callable[[np.random.Generator, int], Predictions],
    titles: int,
    minimum_promises: int,
) -> None:
    random = np.random.default_rng(7)
    whole = catalogue(random, 100_000)
    broken: Counter[str | int] = Counter()
    promises = 0
    for _ in range(200):
        sample = whole.selected(random.integers(100_000, size=titles))
        thresholds = choose_thresholds(sample, 0.95)
        accepted = thresholds.accepts(whole)
        common = ~np.isin(whole.classes, list(thresholds.own))
        groups: dict[str | int, np.ndarray] = {"all": accepted, "together": accepted & common}
        groups |= {index: accepted & (whole.classes == index) for index in thresholds.own}
        for name, kept in groups.items():
            broken[name] += int(kept.any() and whole.right[kept].mean() < 0.95)
        promises += len(thresholds.own)
        by_single = sample.confidences >= thresholds.single
        assert thresholds.accepts(sample).sum() >= by_single.sum()
    assert max(broken.values()) <= 10
    assert promises >= minimum_promises
    by_category = broken.total() - broken["all"] - broken["together"]
    assert by_category <= max(10, 0.05 * promises)


def test_small_categories_keep_as_many_titles_as_a_single_threshold() -> None:
    predictions = many_small_categories(np.random.default_rng(3), 2000)
    thresholds = choose_thresholds(predictions, 0.9)
    accepted = thresholds.accepts(predictions)
    single = predictions.confidences >= thresholds.single
    assert accepted.sum() >= single.sum() > 0.5 * len(single)
    assert thresholds.common < math.inf
    assert set(thresholds.own) <= {390, 391}


def test_a_category_keeps_its_own_threshold_if_that_accepts_more_titles() -> None:
    """Confidences are too low for the first category and too high for the second one."""
    classes = np.repeat([0, 1], 1000)
    confidences = np.concatenate([np.linspace(0.9, 0.3, 1000), np.linspace(0.99, 0.6, 1000)])
    right = np.concatenate([np.ones(1000, bool), np.arange(1000) < 600])
    predictions = Predictions(classes, confidences, right, np.ones(2000, bool))
    thresholds = choose_thresholds(predictions, 0.95)
    assert thresholds.own[0] == 0.3
    accepted = thresholds.accepts(predictions)
    assert accepted[:1000].all()
    assert 500 < accepted[1000:].sum() < 700
    assert accepted.sum() > (confidences >= thresholds.single).sum()


def test_a_category_without_a_threshold_of_its_own_shares_one() -> None:
    """The confidences say nothing about one difficult category, which the others make up for."""
    random = np.random.default_rng(1)
    classes = random.integers(5, size=3000)
    right = random.random(3000) < np.where(classes == 4, 0.85, 0.98)
    predictions = Predictions(classes, random.random(3000), right, np.ones(3000, bool))
    thresholds = choose_thresholds(predictions, 0.9)
    assert thresholds.accepts(predictions).all()
    assert 4 not in thresholds.own
    assert thresholds.common == thresholds.single


def tree_catalogue(
    random: np.random.Generator, count: int, depth: int, errors: tuple[float, ...]
) -> list[Predictions]:
    """Return predictions at each level of a tree with four children per node, deepest level first.

    Args:
        random: Random number generator.
        count: Number of titles.
        depth: Number of levels.
        errors: How much less often than their confidences claim the predictions of each level are
            right, deepest level first; the last value also counts for the levels above.
    """
    classes = random.integers(4**depth, size=count)
    confidences, limit = random.beta(3, 0.9, count), random.random(count)
    levels: list[Predictions] = []
    for place in range(depth):
        error = errors[min(place, len(errors) - 1)]
        right = limit < confidences - error - 0.04 * np.sin(classes)
        if levels:
            right |= levels[-1].right  # the ancestor of a right node is right
        known = np.ones(count, dtype=bool)
        levels.append(Predictions(classes, confidences, right, known))
        # The siblings of the node have a part of the remaining probability.
        confidences = confidences + (1 - confidences) * random.beta(2, 2, count)
        classes = classes // 4
    return levels


@pytest.mark.slow
@pytest.mark.parametrize("titles", [300, 1500])
@pytest.mark.parametrize(
    ("depth", "errors"), [(3, (0.02,)), (3, (-0.02, 0.03)), (3, (0.05, -0.02, 0.04)), (5, (0.02,))]
)
def test_the_promise_at_each_level_and_overall_is_kept_in_95_percent_of_catalogues(
    titles: int, depth: int, errors: tuple[float, ...]
) -> None:
    random = np.random.default_rng(7)
    whole = tree_catalogue(random, 100_000, depth, errors)
    broken, given = Counter[int | str](), Counter[int]()
    for _ in range(200):
        sample = random.integers(100_000, size=titles)
        labelled = [predictions.selected(sample) for predictions in whole]
        places, right = level_answers(whole, choose_level_thresholds(labelled, 0.9))
        for place in range(depth):
            precision = right[places == place].mean() if (places == place).any() else 1.0
            broken[place] += int(precision < 0.9)
            given[place] += int((places == place).any())
        broken["all"] += int((places >= 0).any() and right[places >= 0].mean() < 0.9)
    assert max(broken.values()) <= 10
    assert given.total() >= 100


def certain_levels(leaf: int, root: int, count: int = 1000) -> list[Predictions]:
    """Return predictions whose leaf is right for so many titles, and whose root for so many.

    Confidences are highest where both are right, and lowest where both are wrong.
    """
    index, known = np.arange(count), np.ones(count, dtype=bool)
    confidences = np.where(index < leaf, 0.99, np.where(index < root, 0.8, 0.3)) - index / 1e5
    levels = [(confidences - 0.1, leaf), (confidences, root)]
    return [Predictions(index * 0, each, index < right, known) for each, right in levels]


def test_a_title_is_answered_at_the_deepest_level_that_accepts_it() -> None:
    levels = certain_levels(leaf=400, root=800)
    places, right = level_answers(levels, choose_level_thresholds(levels, 0.95))
    assert 380 <= np.flatnonzero(places == 0).max() <= 420
    assert 780 <= np.flatnonzero(places == 1).max() <= 820
    assert right[:380].all()
    assert not right[places < 0].any()


def test_easy_titles_remain_at_the_root_if_the_others_do_not_keep_the_promise_alone() -> None:
    """The root is right for 97 % of all titles, but only for 90 % of those without a certain leaf."""
    levels = certain_levels(leaf=700, root=970)
    places, right = level_answers(levels, choose_level_thresholds(levels, 0.95))
    assert np.count_nonzero(places >= 0) > 950
    assert np.count_nonzero(places == 0) > 100
    for place in (0, 1):
        assert right[places == place].mean() >= 0.95


def test_a_level_without_titles_is_skipped() -> None:
    leaf, root = certain_levels(leaf=400, root=800)
    never = replace(root, confidences=np.full(1000, -1.0))
    chosen = choose_level_thresholds([leaf, never, root], 0.95)
    assert chosen[1].common == math.inf
    places, _ = level_answers([leaf, never, root], chosen)
    expected, _ = level_answers([leaf, root], choose_level_thresholds([leaf, root], 0.95))
    assert np.where(places == 2, 1, places).tolist() == expected.tolist()
