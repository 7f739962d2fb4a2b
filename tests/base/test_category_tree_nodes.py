"""Nodes of a category tree."""

from __future__ import annotations

import numpy as np
import pytest

from rubro.base.category_tree import CategoryTree

PATHS = [["A"], ["A", "B"], ["A", "C", "D"], ["E", "F"]]


def tree(order: str) -> CategoryTree:
    names = [path[::-1] if order == "leaf_first" else path for path in PATHS]
    paths = {"/".join(name): path for name, path in zip(names, PATHS, strict=True)}
    return CategoryTree(separator="/", order=order, paths=paths)  # type: ignore[arg-type]


def node_names(tree: CategoryTree, category: str) -> list[str | None]:
    found = tree.find(category)
    return [
        tree.level(number + 1).nodes[index] if index >= 0 else None
        for number, index in enumerate(found)
    ]


@pytest.mark.parametrize(
    ("category", "nodes"),
    [
        ("A/C/D", ["A", "A/C", "A/C/D"]),
        ("A", ["A", "A", "A"]),
        (" E / F ", ["E", "E/F", "E/F"]),
        # An unknown category below a known category belongs to it, as if it had been merged.
        ("A/B/X", ["A", "A/B", "A/B"]),
        ("E/X", ["E", None, None]),
        ("A/C", ["A", "A/C", "A"]),
        ("X/A", [None, None, None]),
        ("X", [None, None, None]),
        ("", [None, None, None]),
    ],
)
def test_the_known_nodes_of_a_category_are_found(category: str, nodes: list[str | None]) -> None:
    assert node_names(tree("root_first"), category) == nodes
    backwards = "/".join(reversed(category.split("/")))
    reversed_nodes = ["/".join(reversed(node.split("/"))) if node else None for node in nodes]
    assert node_names(tree("leaf_first"), backwards) == reversed_nodes


def test_the_nodes_of_unordered_categories_are_found_by_their_names() -> None:
    unordered = tree("unordered")
    assert node_names(unordered, "D/A/C") == ["A", "A/C", "A/C/D"]
    assert node_names(unordered, "X/B/A") == ["A", "A/B", "A/B"]
    # The nodes of the longest known path are nodes of one path.
    assert node_names(unordered, "A/E/F") == ["E", "E/F", "E/F"]


def test_every_category_is_found_if_its_names_are_roots_too() -> None:
    paths = {"A/B": ["A", "B"], "B": ["B"], "C/A": ["A", "C"], "D/B/A": ["A", "D", "B"]}
    unordered = CategoryTree(separator="/", order="unordered", paths=paths)
    for place, category in enumerate(paths):
        levels = range(1, unordered.depth + 1)
        nodes = [int(unordered.level(level).node_of[place]) for level in levels]
        assert unordered.find("/".join(reversed(category.split("/")))) == nodes


def test_an_inner_node_has_a_name_if_its_name_ends_like_the_separator() -> None:
    paths = {"E>>>B": ["E>", "B"], "C>>E>": ["E>", "C"]}
    unordered = CategoryTree(separator=">>", order="unordered", paths=paths)
    assert unordered.level(1).nodes == ["E>"]


@pytest.mark.parametrize("level", [1, 2, 3])
def test_sums_of_probabilities_are_at_most_1(level: int) -> None:
    random = np.random.default_rng(0)
    probabilities = random.dirichlet(np.ones(4), 500).astype(np.float32)
    sums = tree("root_first").level(level).summed(probabilities)
    assert sums.max() <= 1
    assert sums.sum(axis=1) == pytest.approx(1)
