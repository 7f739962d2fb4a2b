"""Answers at the levels of a category tree."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from rubro.base.category_tree import CategoryTree
from rubro.base.errors import DataError
from rubro.prediction.answers import Answer, answers
from rubro.prediction.classifier import Classifier
from rubro.prediction.thresholds import Thresholds
from support.tiny_models import PATHS, MakeModel, with_tree

pytest_plugins = ["support.tiny_models"]

TITLES = ["new apple", "hammer drill", "boot", "red nokia", "unheard words here"]
# Each row has another deepest level with a probability of at least 0.6.
PROBABILITIES = np.array(
    [[0.7, 0.1, 0.1, 0.1], [0.2, 0.4, 0.3, 0.1], [0.3, 0.2, 0.1, 0.4], [0.1, 0.1, 0.1, 0.7]],
    dtype=np.float32,
)


@pytest.fixture(scope="module")
def flat(make_model: MakeModel) -> Classifier:
    """Classifier whose categories are not paths."""
    return Classifier(make_model("svm"))


@pytest.fixture(scope="module")
def classifier(make_model: MakeModel) -> Classifier:
    """Classifier of the categories of TREE."""
    return Classifier(with_tree(make_model("svm")))


def thresholds(*levels: float | None) -> Thresholds:
    """Return thresholds of the levels of TREE, deepest level first."""
    counts = {"titles": 0, "kept": 0, "right": 0, "low": 0.0, "high": 1.0}
    content: dict[str, Any] = {
        "model": "svm",
        "fingerprint": "",
        "precision": 0.9,
        "coverage": 0.95,
        "least_titles": 10,
        "all": counts,
        "unknown": counts,
        "levels": [
            {"level": level, "confidence": confidence, **counts}
            for level, confidence in zip((3, 2, 1), levels, strict=True)
        ],
    }
    return Thresholds.model_validate(content)


def test_nodes_are_ranked_by_the_sum_of_their_categories(classifier: Classifier) -> None:
    food, tool, shoe, phone = classifier.predict_proba(TITLES).T
    for row, ranking in enumerate(classifier.top(TITLES, 9, level=1)):
        expected = {"Food": food[row], "Home": tool[row] + shoe[row], "Phone": phone[row]}
        assert dict(ranking) == pytest.approx(expected)
        assert [p for _, p in ranking] == sorted(expected.values(), reverse=True)
    assert classifier.top(TITLES, 2, level=3) == classifier.top(TITLES, 2)
    names = {name for name, _ in classifier.top(TITLES, 9, level=2)[0]}
    assert names == {"Food > Fruit", "Home > Garage", "Phone"}


def test_a_level_must_exist(classifier: Classifier, flat: Classifier) -> None:
    for level in (0, 4):
        with pytest.raises(ValueError, match=f"{level}.* 3"):
            classifier.top(TITLES, level=level)
    with pytest.raises(DataError, match="category_separator"):
        flat.top(TITLES, level=1)


def test_an_answer_is_the_deepest_node_that_reaches_the_minimum_confidence(
    classifier: Classifier,
) -> None:
    found = answers(classifier, TITLES[:4], min_confidence=0.6, probabilities=PROBABILITIES)
    assert [(each.category, each.level) for each in found] == [
        ("Food > Fruit", 2),
        ("Home > Garage", 2),
        (None, 0),
        ("Phone", 1),
    ]
    assert [each.confidence for each in found] == pytest.approx([0.7, 0.7, 0.4, 0.7])
    assert [each.best[0][0] for each in found] == [PATHS[0], PATHS[1], PATHS[3], PATHS[3]]


def test_without_a_minimum_the_best_category_is_accepted(
    classifier: Classifier, flat: Classifier
) -> None:
    for each, level in ((classifier, (1, 2, 3)), (flat, (1,))):
        found = answers(each, TITLES, 2)
        assert [(answer.category, answer.confidence) for answer in found] == [
            best for best, _ in each.top(TITLES, 2)
        ]
        assert [answer.best for answer in found] == each.top(TITLES, 2)
        assert {answer.level for answer in found} <= set(level)


def test_a_product_is_answered_at_the_deepest_level_that_accepts_it(classifier: Classifier) -> None:
    def categories(given: Thresholds, min_confidence: float = 0.0) -> list[str | None]:
        found = answers(
            *(classifier, TITLES[:4]),
            min_confidence=min_confidence,
            thresholds=given,
            probabilities=PROBABILITIES,
        )
        for each in found:
            assert each.level == (each.category.count(" > ") + 1 if each.category else 0)
        return [each.category for each in found]

    fruit, tool, _, phone = PATHS
    assert categories(thresholds(0.4, 0.4, 0.4)) == [fruit, tool, phone, phone]
    assert categories(thresholds(0.5, 0.4, 0.4)) == [fruit, "Home > Garage", phone, phone]
    assert categories(thresholds(0.5, 0.8, 0.4)) == ["Food", "Home", phone, phone]
    assert categories(thresholds(0.4, 0.6, 0.8)) == [fruit, tool, None, None]
    assert categories(thresholds(0.4, 0.4, 0.4), min_confidence=0.5) == [
        *(fruit, "Home > Garage", None, phone)
    ]
    assert categories(thresholds(0.4, None, 0.4)) == ["Food", tool, phone, phone]
    assert categories(thresholds(None, None, None)) == [None] * 4


def test_the_threshold_is_the_one_of_the_best_category(classifier: Classifier) -> None:
    for level, expected in ((None, 0.25), (3, 0.25), (2, 0.5), (1, None)):
        given = thresholds(0.25, 0.5, None)
        found = answers(classifier, TITLES, thresholds=given, level=level)
        assert {each.threshold for each in found} == {expected}
    assert {each.threshold for each in answers(classifier, TITLES)} == {None}


def test_foreign_products_are_rejected_by_thresholds_only(classifier: Classifier) -> None:
    known, foreign = answers(classifier, ["boot", "zzz qqq"], thresholds=thresholds(0, 0, 0))
    assert known.category is not None
    assert not known.is_foreign
    assert foreign.category is None
    assert foreign.is_foreign
    assert answers(classifier, ["zzz qqq"])[0].category is not None


def test_answers_at_one_level(classifier: Classifier) -> None:
    """Answers of deeper levels are cut to this level."""

    def at_level(level: int, given: Thresholds | None = None) -> list[Answer]:
        return answers(
            *(classifier, TITLES[:4], 2), level=level, thresholds=given, probabilities=PROBABILITIES
        )

    found = at_level(1)
    assert [each.category for each in found] == ["Food", "Home", "Phone", "Phone"]
    assert {each.level for each in found} == {1}
    assert [name for name, _ in found[1].best] == ["Home", "Food"]
    assert [p for _, p in found[1].best] == pytest.approx([0.7, 0.2])
    cut = at_level(2, thresholds(0.4, 0.6, 0.35))
    assert [each.category for each in cut] == ["Food > Fruit", "Home > Garage", "Phone", "Phone"]
    assert cut[1].confidence == pytest.approx(0.7)
    rejected = at_level(2, thresholds(0.5, 0.8, 0.35))
    assert [each.category for each in rejected] == [None, None, "Phone", "Phone"]


def test_no_products_have_no_answers(classifier: Classifier) -> None:
    assert answers(classifier, []) == []


@pytest.mark.parametrize("order", ["root_first", "leaf_first", "unordered"])
def test_every_tree_gives_answers(make_model: MakeModel, order: str) -> None:
    """Paths have up to 50 names, which are repeated and are also names of categories."""
    random = np.random.default_rng(3)
    model = make_model("svm")
    for _ in range(50):
        lengths = random.choice([1, 2, 3, 50], 4)
        given = [random.choice(["a", "b", "c", "a b"], length).tolist() for length in lengths]
        paths = {">".join(names): names for names in given}
        if order == "leaf_first":
            paths = {name: names[::-1] for name, names in paths.items()}
        elif order == "unordered":
            paths = {name: sorted(set(names)) for name, names in paths.items()}
        if len(set(map(tuple, paths.values()))) < 4:
            continue
        tree = CategoryTree(separator=">", order=order, paths=paths)  # type: ignore[arg-type]
        description = model.description.model_copy(update={"labels": list(paths), "tree": tree})
        classifier = Classifier(replace(model, description=description))
        for minimum in (0.0, 0.5, 0.9):
            for answer in answers(classifier, TITLES, min_confidence=minimum):
                assert (answer.category is None) == (answer.level == 0)
                assert answer.confidence >= minimum or answer.category is None
                if answer.category is not None:
                    assert answer.category in classifier.level(answer.level).nodes
        for level in range(1, tree.depth + 1):
            found = answers(classifier, TITLES, level=level)
            best = classifier.top(TITLES, 1, level)
            assert [answer.category for answer in found] == [name for ((name, _),) in best]
