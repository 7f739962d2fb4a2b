"""Answers at the levels of a category tree."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rubro.base.errors import DataError
from rubro.prediction.answers import answers
from rubro.prediction.classifier import Classifier
from rubro.prediction.thresholds import Thresholds
from support.tiny_models import PATHS, TREE, MakeModel, with_tree

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


def thresholds(levels: dict[int, dict[str, float | None]]) -> Thresholds:
    """Return thresholds of each level of TREE; nodes that are not given have none."""
    counts = {"titles": 0, "kept": 0, "right": 0, "low": 0.0, "high": 1.0}

    def entry(level: int) -> dict[str, Any]:
        given = levels.get(level, {})
        nodes = TREE.own_names(level)
        return {
            "single": {"confidence": None, **counts},
            "together": {"confidence": None, **counts},
            "categories": {
                name: {"confidence": given.get(name), "basis": "own", **counts} for name in nodes
            },
            "all": counts,
            "unknown": counts,
        }

    content = {
        "model": "svm",
        "fingerprint": "",
        "precision": 0.9,
        "coverage": 0.95,
        "least_titles": 10,
        **entry(3),
        "levels": [{"level": level, **entry(level)} for level in (2, 1)],
        "any_level": counts,
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


def test_each_level_has_its_own_thresholds(classifier: Classifier) -> None:
    given = thresholds(
        {
            3: {"Home > Garage > Tool": 0.4},
            2: {"Food > Fruit": 0.6, "Home > Garage": 0.4},
            1: {"Phone": 0.3, "Home": 0.1},
        }
    )
    found = answers(classifier, TITLES[:4], thresholds=given, probabilities=PROBABILITIES)
    assert [each.category for each in found] == [
        "Food > Fruit",
        "Home > Garage > Tool",
        "Phone",
        "Phone",
    ]
    assert [each.level for each in found] == [2, 3, 1, 1]
    both = answers(
        classifier, TITLES[:4], thresholds=given, min_confidence=0.5, probabilities=PROBABILITIES
    )
    assert [each.category for each in both] == ["Food > Fruit", "Home > Garage", None, "Phone"]


def test_foreign_products_are_rejected_by_thresholds_only(classifier: Classifier) -> None:
    given = thresholds({1: {"Food": 0.0, "Home": 0.0, "Phone": 0.0}})
    known, foreign = answers(classifier, ["boot", "zzz qqq"], thresholds=given)
    assert known.category is not None
    assert not known.is_foreign
    assert foreign.category is None
    assert foreign.is_foreign
    assert answers(classifier, ["zzz qqq"])[0].category is not None


def test_answers_at_one_level(classifier: Classifier) -> None:
    """Answers that a deeper level accepts are cut to this level."""
    any_confidence = answers(classifier, TITLES[:4], 2, level=1, probabilities=PROBABILITIES)
    assert [each.category for each in any_confidence] == ["Food", "Home", "Phone", "Phone"]
    assert {each.level for each in any_confidence} == {1}
    assert any_confidence[1].best == [("Home", pytest.approx(0.7)), ("Food", pytest.approx(0.2))]
    given = thresholds(
        {3: {"Home > Garage > Tool": 0.4}, 2: {"Food > Fruit": 0.6}, 1: {"Phone": 0.3}}
    )
    cut = answers(classifier, TITLES[:4], level=2, thresholds=given, probabilities=PROBABILITIES)
    assert [each.category for each in cut] == ["Food > Fruit", "Home > Garage", None, None]
    assert cut[1].confidence == pytest.approx(0.7)


def test_no_products_have_no_answers(classifier: Classifier) -> None:
    assert answers(classifier, []) == []
