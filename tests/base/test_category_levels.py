"""Nodes of each level of a category tree, and sums of probabilities."""

from __future__ import annotations

import json

import numpy as np
import pytest

from rubro.base.category_tree import CategoryOrder, CategoryTree

PATHS = [
    ["Food", "Dry", "Rice"],
    ["Drinks", "Wine"],
    ["Food", "Dry"],
    ["Food", "Fresh", "Fish", "Cod"],
    ["Toys"],
]
PROBABILITIES = np.array([[0.1, 0.2, 0.3, 0.15, 0.25], [0.0, 1.0, 0.0, 0.0, 0.0]])


def tree(order: CategoryOrder = "root_first", paths: list[list[str]] = PATHS) -> CategoryTree:
    step = -1 if order == "leaf_first" else 1
    named = {" > ".join(path[::step]): path for path in paths}
    return CategoryTree(separator=" > ", order=order, paths=named)


def test_nodes_of_each_level() -> None:
    found = tree()
    assert found.depth == 4
    first, second, third, last = map(found.level, (1, 2, 3, 4))
    assert first.nodes == ["Food", "Drinks", "Toys"]
    assert list(first.node_of) == [0, 1, 0, 0, 2]
    assert second.nodes == ["Food > Dry", "Drinks > Wine", "Food > Fresh", "Toys"]
    assert list(second.lengths) == [2, 2, 2, 1]
    assert list(second.node_of) == [0, 1, 0, 2, 3]
    assert third.nodes == [
        *("Food > Dry > Rice", "Drinks > Wine", "Food > Dry", "Food > Fresh > Fish", "Toys")
    ]
    assert last.nodes == list(found.paths)
    assert list(last.node_of) == [0, 1, 2, 3, 4]


def test_probabilities_are_summed_by_node() -> None:
    found = tree()
    np.testing.assert_allclose(
        found.level(1).summed(PROBABILITIES), [[0.55, 0.2, 0.25], [0.0, 1.0, 0.0]]
    )
    np.testing.assert_allclose(
        found.level(2).summed(PROBABILITIES)[0], [0.4, 0.2, 0.15, 0.25], rtol=1e-12
    )
    np.testing.assert_array_equal(found.level(4).summed(PROBABILITIES), PROBABILITIES)


def test_nodes_of_leaf_first_paths_are_named_leaf_first() -> None:
    found = tree("leaf_first")
    assert next(iter(found.paths)) == "Rice > Dry > Food"
    assert found.level(2).nodes == ["Dry > Food", "Wine > Drinks", "Fresh > Food", "Toys"]
    assert found.level(1).nodes == ["Food", "Drinks", "Toys"]


def test_nodes_of_unordered_paths_keep_the_notation_of_their_category() -> None:
    paths = {"Rice > Food > Dry": ["Food", "Dry", "Rice"], "Wine > Drinks": ["Drinks", "Wine"]}
    found = CategoryTree(separator=" > ", order="unordered", paths=paths)
    assert found.level(2).nodes == ["Food > Dry", "Wine > Drinks"]


@pytest.mark.parametrize("first", ["Rice > Food > Dry", "A > Food > Dry"])
def test_a_node_that_is_a_category_has_its_name(first: str) -> None:
    paths = {first: ["Food", "Dry", first[: first.index(" ")]], "Dry > Food": ["Food", "Dry"]}
    found = CategoryTree(separator=" > ", order="unordered", paths=paths)
    assert found.level(2).nodes == ["Dry > Food"]
    assert list(found.level(2).node_of) == [0, 0]


def test_names_may_be_repeated_in_a_path_and_under_several_parents() -> None:
    found = tree(paths=[["A", "A", "Other"], ["A", "A"], ["B", "Other"], ["B", "A"]])
    assert found.level(1).nodes == ["A", "B"]
    assert found.level(2).nodes == ["A > A", "B > Other", "B > A"]
    assert found.level(3).nodes == list(found.paths)


@pytest.mark.parametrize("category", ["Food > Dry > Rice", "Food>Dry>Rice", " Food >> Dry > Rice"])
def test_white_space_and_empty_names_are_ignored_when_a_category_is_found(category: str) -> None:
    found = tree()
    nodes = [found.level(level).nodes[node] for level, node in enumerate(found.find(category), 1)]
    assert nodes == ["Food", "Food > Dry", "Food > Dry > Rice", "Food > Dry > Rice"]


def test_a_level_that_does_not_exist_is_refused() -> None:
    for level in (0, 5):
        with pytest.raises(ValueError, match=f"level is {level}"):
            tree().level(level)


def test_a_tree_is_stored_as_json() -> None:
    found = tree("leaf_first")
    assert CategoryTree.model_validate(json.loads(found.model_dump_json())) == found
