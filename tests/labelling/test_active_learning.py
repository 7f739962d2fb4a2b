"""Titles to label: uncertain ones, balanced over categories, different and typical."""

from __future__ import annotations

import tracemalloc
from itertools import product

import numpy as np

from rubro.labelling.active_learning import (
    BestCandidates,
    Candidate,
    by_key,
    by_uncertainty,
    most_uncertain,
    titles_to_label,
)


def candidate(title: str, category: str, margin: float, is_foreign: bool = False) -> Candidate:
    best = [(category, 0.5), ("OTHER", 0.5 - margin)]
    return Candidate(title, best=best, is_foreign=is_foreign, key=len(title))


def test_each_round_has_the_most_uncertain_title_of_each_category() -> None:
    margins = np.array([0.1, 0.2, 0.3, 0.4, 0.05])
    predicted = np.array([7, 7, 3, 3, 5])
    assert most_uncertain(margins, predicted).tolist() == [4, 0, 2, 1, 3]
    assert most_uncertain(np.zeros(0), np.zeros(0, int)).tolist() == []


def test_foreign_titles_come_last() -> None:
    candidates = [
        candidate("a", "A", 0.0, is_foreign=True),
        candidate("b", "A", 0.2),
        candidate("c", "B", 0.1),
    ]
    assert by_uncertainty(candidates) == [2, 1, 0]


def test_memory_holds_the_best_candidates_only() -> None:
    random = np.random.default_rng(1)
    candidates = [
        candidate(f"title {place}", str(place % 3), float(margin))
        for place, margin in enumerate(random.random(500))
    ]
    best = BestCandidates(by_uncertainty, 30)
    for start in range(0, 500, 25):
        best.add(candidates[start : start + 25])
        assert len(best._candidates) <= 60 + 25
    assert best.best() == [candidates[place] for place in by_uncertainty(candidates)[:30]]


def test_a_sample_does_not_depend_on_the_order_of_titles() -> None:
    candidates = [Candidate(f"{n}", key=n * 7919 % 1009) for n in range(300)]
    samples = []
    for part in (candidates, candidates[::-1]):
        best = BestCandidates(by_key, 20)
        for each in part:
            best.add([each])
        samples.append(best.best())
    assert samples[0] == samples[1]


def test_titles_with_the_same_normal_form_are_one_candidate() -> None:
    best = BestCandidates(by_key, 5)
    best.add([Candidate("Lámpara LED", key=1), Candidate("lampara led", key=1)])
    assert [each.title for each in best.best()] == ["Lámpara LED"]


def test_near_duplicates_are_not_chosen() -> None:
    titles = ["Zapato rojo 38", "zapato ROJO 39", "Mesa ratona", "Zapato rojo 40"]
    chosen = titles_to_label(titles, titles, np.ones(4), 4)
    assert sorted(chosen) == [0, 2]


def test_chosen_titles_represent_the_titles_with_large_weights() -> None:
    titles = ["mesa de pino", "silla de roble", "lampara de techo"]
    sample = ["silla alta", "silla gamer", "silla mecedora", "lampara led", "lampara solar", "mesa"]
    assert titles_to_label(titles, sample, np.ones(6), 3) == [1, 2, 0]
    assert titles_to_label(titles, sample, np.array([0, 0, 0, 1, 1, 3.0]), 2) == [0, 2]


def test_candidates_are_the_first_titles() -> None:
    words = ["uno", "dos", "tres", "cuatro", "cinco", "seis"]
    sample = ["seis", "seis", "seis", "cinco"]
    assert titles_to_label(words, sample, np.ones(4), 1) == [4]
    assert titles_to_label(words, sample, np.ones(4), 2) == [5, 4]


def test_no_titles_are_no_choice() -> None:
    assert titles_to_label([], [], np.ones(0), 3) == []
    assert titles_to_label([""], [""], np.ones(1), 3) == [0]


def test_memory_holds_only_the_similarities_that_matter() -> None:
    names = ["".join(letters) for letters in product("abcdefghijklmnop", repeat=3)]
    titles = [f"de {name}x {name}y {name}z" for name in names[:4000]]
    tracemalloc.start()
    assert len(titles_to_label(titles, titles[:3000], np.ones(3000), 800)) == 800
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 * len(titles) * 3000  # bytes of all similarities, without their positions
