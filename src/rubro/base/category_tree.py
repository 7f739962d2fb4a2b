"""Tree of categories, whose names are paths such as "Bebidas > Vinos > Vinos Tintos"."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from rubro.base.schema import Section

CategoryOrder = Literal["root_first", "leaf_first", "unordered"]


@dataclass(frozen=True)
class Level:
    """Nodes of a category tree at one level. A category with a shorter path is a node itself.

    Attributes:
        nodes: Name of each node, in the notation of the categories.
        lengths: Number of names from the root to each node, int64 (nodes,).
        node_of: Index of the node that each category belongs to, int64 (classes,).
        is_own: Whether each node is an answer of this level, bool (nodes,): it has as many names as
            the level, and no answer of the next level has exactly the same categories.
    """

    nodes: list[str]
    lengths: np.ndarray
    node_of: np.ndarray
    is_own: np.ndarray

    def summed(self, probabilities: np.ndarray) -> np.ndarray:
        """Sum the probabilities of the categories of each node.

        Args:
            probabilities: Probability of each category, float (titles, classes).

        Returns:
            Probability of each node, float (titles, nodes).
        """
        if len(self.nodes) == len(self.node_of):  # each category is a node
            return probabilities
        order = np.argsort(self.node_of, kind="stable")
        starts = np.searchsorted(self.node_of[order], np.arange(len(self.nodes)))
        sums: np.ndarray = np.add.reduceat(probabilities[:, order], starts, axis=1)
        return np.minimum(sums, 1, out=sums)  # rounding errors may exceed 1


class CategoryTree(Section):
    """Paths of categories.

    Attributes:
        separator: Text between the names in a category.
        order: Order of the names in a category.
        paths: Names from the root to the category, by category, in the order of the class indices.
    """

    separator: Annotated[str, Field(min_length=1)]
    order: CategoryOrder
    paths: Annotated[dict[str, Annotated[list[str], Field(min_length=1)]], Field(min_length=1)]

    @cached_property
    def depth(self) -> int:
        """Length of the longest path. The nodes of this level are the categories."""
        return max(map(len, self.paths.values()))

    def level(self, level: int) -> Level:
        """Return the nodes at a level, from 1 (the roots) to `depth` (the categories).

        Nodes are in the order of their first categories.

        Raises:
            ValueError: There is no such level.
        """
        if not 1 <= level <= self.depth:
            raise ValueError(f"level is {level}, but must be between 1 and {self.depth}")
        return self._levels[level - 1]

    def own_names(self, level: int) -> set[str]:
        """Return the names of the nodes that have as many names as their level."""
        nodes = self.level(level)
        return {name for name, n in zip(nodes.nodes, nodes.lengths, strict=True) if n == level}

    def find(self, category: str) -> list[int]:
        """Return the index of the node at each level that a category, which may be new, belongs to.

        At a level below the end of its known names, a new category belongs to the category that its
        known names are the path of, as if it had been merged into its parent.

        Args:
            category: Category in the notation of the tree.

        Returns:
            Index of the node at each level, from the roots; -1 if there is no such node.
        """
        parts = [part.strip() for part in category.split(self.separator)]
        names = tuple(filter(None, reversed(parts) if self.order == "leaf_first" else parts))
        given = set(names)

        def matches(node: tuple[str, ...]) -> bool:
            if self.order == "unordered":
                return given.issuperset(node)
            return names[: len(node)] == node

        found = []
        for by_last in self._nodes_by_last_name:
            nodes = [node for name in given for node in by_last.get(name, ()) if matches(node[0])]
            longest = max((len(path) for path, _ in nodes), default=0)
            indices = [index for path, index in nodes if len(path) == longest]
            found.append(indices[0] if len(indices) == 1 else -1)
        return found

    @cached_property
    def _nodes_by_last_name(self) -> list[dict[str, list[tuple[tuple[str, ...], int]]]]:
        """Path and index of the nodes at each level, from the roots, by the last name of the path."""
        paths = list(self.paths.values())
        levels: list[dict[str, list[tuple[tuple[str, ...], int]]]] = []
        for number in range(1, self.depth + 1):
            levels.append({})
            nodes = {
                tuple(path[:number]): index
                for path, index in zip(paths, self.level(number).node_of.tolist(), strict=True)
            }
            for path, index in nodes.items():
                levels[-1].setdefault(path[-1], []).append((path, index))
        return levels

    @cached_property
    def _levels(self) -> list[Level]:
        levels: list[Level] = []
        for level in range(self.depth, 0, -1):
            levels.insert(0, self._nodes_at(level, levels[0] if levels else None))
        return levels

    @cached_property
    def _categories(self) -> dict[tuple[str, ...], str]:
        return {tuple(path): category for category, path in self.paths.items()}

    def _nodes_at(self, level: int, below: Level | None) -> Level:
        names: dict[tuple[str, ...], str] = {}
        index: dict[tuple[str, ...], int] = {}
        node_of = []
        for category, path in self.paths.items():
            node = tuple(path[:level])
            if node not in index:
                index[node] = len(index)
                names[node] = self._name(category, node)
            node_of.append(index[node])
        lengths = np.array([len(node) for node in index])
        is_own = lengths == level
        if below:
            _, first = np.unique(node_of, return_index=True)
            child = below.node_of[first]
            is_larger = np.bincount(node_of) > np.bincount(below.node_of)[child]
            is_own &= is_larger | (below.lengths[child] == level)
        return Level(list(names.values()), lengths, np.array(node_of), is_own)

    def _name(self, category: str, node: tuple[str, ...]) -> str:
        """Return the name of an ancestor of a category, in the notation of the categories."""
        if node in self._categories:
            return self._categories[node]
        if self.order == "unordered":
            names = [name for name in category.split(self.separator) if name in node]
        else:
            names = list(node if self.order == "root_first" else reversed(node))
        return self.separator.join(names)
