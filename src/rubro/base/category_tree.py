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
    """

    nodes: list[str]
    lengths: np.ndarray
    node_of: np.ndarray

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

    @cached_property
    def _levels(self) -> list[Level]:
        return [self._nodes_at(level) for level in range(1, self.depth + 1)]

    def _nodes_at(self, level: int) -> Level:
        names: dict[tuple[str, ...], str] = {}
        index: dict[tuple[str, ...], int] = {}
        node_of = []
        for category, path in self.paths.items():
            node = tuple(path[:level])
            if node not in index:
                index[node] = len(index)
                names[node] = self._name(category, node)
            node_of.append(index[node])
        lengths = [len(node) for node in index]
        return Level(list(names.values()), np.array(lengths), np.array(node_of))

    def _name(self, category: str, node: tuple[str, ...]) -> str:
        """Return the name of an ancestor of a category, in the notation of the categories."""
        if len(node) == len(self.paths[category]):
            return category
        if self.order == "unordered":
            names = [name for name in category.split(self.separator) if name in node]
        else:
            names = list(node if self.order == "root_first" else reversed(node))
        return self.separator.join(names)
