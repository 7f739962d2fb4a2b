"""Tree of categories, whose names are paths such as "Bebidas > Vinos > Vinos Tintos"."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from rubro.base.schema import Section

CategoryOrder = Literal["root_first", "leaf_first", "unordered"]
# These characters also occur within names ("Coca-Cola", "Audio/Video"). If a separator of such
# characters is given with white space, it only matches with white space.
_WITHIN_NAMES = "-/,.&+:_"


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
        np.minimum(sums, 1, out=sums)  # rounding errors may exceed 1
        return sums


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

    @cached_property
    def levels(self) -> list[Level]:
        """Nodes of each level, from the roots to the categories."""
        return [self._nodes_at(level) for level in range(1, self.depth + 1)]

    def level(self, level: int) -> Level:
        """Return the nodes at a level, from 1 (the roots) to `depth` (the categories).

        Nodes are in the order of their first categories.

        Raises:
            ValueError: There is no such level.
        """
        if not 1 <= level <= self.depth:
            raise ValueError(f"level is {level}, but must be between 1 and {self.depth}")
        return self.levels[level - 1]

    def find(self, category: str) -> list[int]:
        """Return the index of the node at each level that a category, which may be new, belongs to.

        A new category whose known names are the path of a category belongs to this category at all
        deeper levels, as if it had been merged into its parent.

        Args:
            category: Category in the notation of the tree.

        Returns:
            Index of the node at each level, from the roots; -1 if there is no such node.
        """
        parts = self._split(category)
        names = tuple(filter(None, reversed(parts) if self.order == "leaf_first" else parts))
        given = set(names)

        def matches(node: tuple[str, ...]) -> bool:
            if self.order == "unordered":
                return given.issuperset(node)
            return names[: len(node)] == node

        found = []
        longest: set[tuple[str, ...]] = {()}  # known paths with the most names
        for by_last in self._nodes_by_last_name:
            nodes = [node for name in given for node in by_last.get(name, ()) if matches(node[0])]
            length = max((len(path) for path, _ in nodes), default=0)
            indices = [index for path, index in nodes if len(path) == length]
            found.append(indices[0] if len(indices) == 1 else -1)
            if length > len(next(iter(longest))):
                longest = {path for path, _ in nodes if len(path) == length}
        if len(longest) == 1:  # unordered names may contain the paths of several nodes of a level
            path = longest.pop()
            for level in range(len(path)):
                node = path[: level + 1]
                found[level] = dict(self._nodes_by_last_name[level][node[-1]])[node]
        return found

    @cached_property
    def _split(self) -> Callable[[str], tuple[str, ...]]:
        return path_splitter(self.separator)

    @cached_property
    def _nodes_by_last_name(self) -> list[dict[str, list[tuple[tuple[str, ...], int]]]]:
        """Path and index of the nodes at each level, from the roots, by the last name of the path."""
        paths = list(self.paths.values())
        levels: list[dict[str, list[tuple[tuple[str, ...], int]]]] = []
        for number, level in enumerate(self.levels, 1):
            levels.append({})
            nodes = {
                tuple(path[:number]): index
                for path, index in zip(paths, level.node_of.tolist(), strict=True)
            }
            for path, index in nodes.items():
                levels[-1].setdefault(path[-1], []).append((path, index))
        return levels

    @cached_property
    def _categories(self) -> dict[tuple[str, ...], str]:
        return {tuple(path): category for category, path in self.paths.items()}

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
        if node in self._categories:
            return self._categories[node]
        return node_name(node, self.order, self.separator, category.split(self.separator))


def node_name(
    node: Sequence[str], order: CategoryOrder, separator: str, category: Iterable[str]
) -> str:
    """Join the names of a node in the notation of the categories.

    Args:
        node: Names from the root to the node.
        order: Order of the names in a category.
        separator: Text between the names in a category.
        category: Different names of a category that is or descends from the node, in its own order,
            which the name of the node keeps if the order is `unordered`.
    """
    if order == "unordered":
        names = [name for name in category if name in node]
        # A name that begins or ends like the separator is split at the wrong place.
        return separator.join(names if len(names) == len(node) else node)
    return separator.join(node if order == "root_first" else reversed(node))


def path_splitter(separator: str) -> Callable[[str], tuple[str, ...]]:
    """Return the function that splits a path at a separator, ignoring white space around it.

    White space that belongs to the separator is required if all other characters of the separator
    also occur within names: " - " does not split "Coca-Cola".

    Returns:
        Function from a path to its names. A name is empty if nothing is between two separators.
    """
    core = " ".join(unicodedata.normalize("NFC", separator).split())
    if not core:
        return lambda value: tuple(value.split())
    before = after = ""
    if all(char in _WITHIN_NAMES or char.isalnum() for char in core):
        before = r"(?<=\s)" if separator[0].isspace() else ""
        after = r"(?=\s)" if separator[-1].isspace() else ""
    pattern = re.compile(before + re.escape(core) + after)
    # The spaces allow an empty part at either end.
    return lambda value: tuple(name.strip() for name in pattern.split(f" {value} "))
