"""Labels are judged by models that were not trained on their titles."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from rubro.features.featurizer import Featurizer
from rubro.features.titles import LabelledTitles, Labels
from rubro.features.vocabulary import count_subwords
from rubro.labelling import label_errors
from rubro.labelling.label_errors import LabelErrors, LabelInputs, find_label_errors, label_inputs

CLASSES, TITLES, BUCKETS = 5, 400, 1000
Problem = tuple[LabelledTitles, LabelInputs, np.ndarray]


@pytest.fixture(scope="module")
def problem(make_params: Callable[..., Any]) -> Problem:
    """Titles whose first word names their category, their inputs, and their right labels."""
    random = np.random.default_rng(1)
    right = np.arange(TITLES) % CLASSES
    words = ["alfa", "bravo", "charlie", "delta", "echo"]
    other = ["lima", "mike", "november", "oscar", "papa", "quebec", "romeo", "sierra"]
    tokens = [[words[n], *random.choice(other, 3, replace=False).tolist()] for n in right]
    params = make_params().featurize
    featurizer = Featurizer(params.max_tokens, BUCKETS)
    features = featurizer(tokens)
    subwords = count_subwords(featurizer.words(), features.tokens, params)
    inputs = label_inputs(features, featurizer.tokens(subwords), subwords, BUCKETS, CLASSES)
    labels = right.copy()
    labels[:60] = (right[:60] + 1) % CLASSES
    reliable = np.ones(TITLES, dtype=bool)
    return LabelledTitles(features, Labels(labels.astype(np.int32), reliable)), inputs, right


def found(problem: Problem, make_params: Callable[..., Any], **changes: Any) -> LabelErrors:
    titles, inputs, _ = problem
    arguments: dict[str, Any] = {"groups": np.arange(TITLES), "folds": 4, "seed": 1} | changes
    return find_label_errors(titles, inputs, CLASSES, params=make_params().train_svm, **arguments)


def test_wrong_labels_lead_the_ranking(problem: Problem, make_params: Callable[..., Any]) -> None:
    errors = found(problem, make_params)
    assert set(np.argsort(-errors.doubts)[:60]) == set(range(60))
    by_confidence = np.argsort(-errors.doubts, kind="stable")
    assert (np.diff(errors.label_confidences[by_confidence]) >= -1e-6).all()
    assert (errors.suggestions[:60] == problem[2][:60]).all()
    assert errors.errors[:60].all() and not errors.errors[60:].any()
    assert (errors.confidences[:60] > errors.label_confidences[:60]).all()
    assert set(errors.words) == set(np.flatnonzero(errors.leads > 0).tolist())
    assert all(0 in errors.words[title] for title in range(60))


def test_clear_errors_are_left_out_but_at_most_half_of_a_category() -> None:
    leads = np.array([0.5, 0.3, 0.25, -1.0, 0.9, 0.1])
    targets = np.array([0, 0, 0, 0, 1, 1])
    left_out = label_errors._clear_errors(leads, targets)
    assert left_out.tolist() == [True, True, False, False, True, False]


def test_many_scores_leave_out_ngrams_and_rare_inputs(
    make_params: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    params = make_params().featurize
    featurizer = Featurizer(params.max_tokens, BUCKETS)
    tokens = [["alfa", "bravo"], ["alfa", "charlie"], ["alfa", "charlie"], ["alfa", "bravo"]]
    features = featurizer([*tokens, ["alfa"]])
    subwords = count_subwords(featurizer.words(), features.tokens, params)
    distinct = featurizer.tokens(subwords)

    def count(**limits: float) -> int:
        for name, value in limits.items():
            monkeypatch.setattr(label_errors, name, value)
        return int(label_inputs(features, distinct, subwords, BUCKETS, 2).values.shape[1])

    everything = count()
    words_and_bigrams = count(_MAX_SCORES_WITH_NGRAMS=1)
    assert words_and_bigrams == 5 < everything
    assert count(_MAX_WEIGHTS=2 * 3) == 3


def test_results_do_not_depend_on_the_number_of_threads(
    problem: Problem, make_params: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    results = []
    for threads in ("1", "3"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        results.append(found(problem, make_params))
    one, other = results
    assert (one.leads == other.leads).all()
    assert (one.confidences == other.confidences).all()
