"""Metrics of each level of a category tree.

In all functions, probabilities are the probability of each category for each title, float
(titles, classes), targets are the index of the right category of each title, (titles,), and the
tree contains the categories in the order of their indices.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from rubro.base.category_tree import CategoryTree, Level
from rubro.evaluation.metrics import MEASURES, weighted_f1

_MEASURES = MEASURES | {"weighted_f1": weighted_f1}


def level_metrics(
    probabilities: np.ndarray, targets: np.ndarray, tree: CategoryTree
) -> dict[str, Any]:
    """Return the metrics of each level and the metrics of whole paths, rounded to 6 digits.

    At each level, the predicted node is the node with the highest summed probability. Hierarchical
    precision is the share of the names in the predicted paths that the right paths share with them,
    hierarchical recall is the share of the names in the right paths, and hierarchical F1 is their
    harmonic mean. All titles are counted together (micro average).

    Source: Kiritchenko et al. 2006, Learning and Evaluation in the Presence of Class Hierarchies.

    Returns:
        hierarchical_precision, hierarchical_recall, hierarchical_f1, mean_weighted_f1 (mean over
        the levels), and levels: accuracy, balanced_accuracy, macro_f1 and weighted_f1 by level, as
        text.
    """
    predictions = probabilities.argmax(axis=1)
    lengths = _path_lengths(tree)
    shared = float(shared_names(tree, predictions, targets).sum())
    predicted, right = lengths[predictions].sum(), lengths[targets].sum()
    levels = {}
    for number, level in enumerate(tree.levels, 1):
        nodes = predicted_nodes(probabilities, level)
        levels[str(number)] = {
            name: measure(level.node_of[targets], nodes) for name, measure in _MEASURES.items()
        }
    paths = {
        "hierarchical_precision": shared / predicted,
        "hierarchical_recall": shared / right,
        "hierarchical_f1": 2 * shared / (predicted + right),
        "mean_weighted_f1": float(np.mean([level["weighted_f1"] for level in levels.values()])),
    }
    return {
        **_rounded(paths),
        "levels": {number: _rounded(level) for number, level in levels.items()},
    }


def _rounded(metrics: dict[str, float]) -> dict[str, float]:
    return {name: round(float(value), 6) for name, value in metrics.items()}


def _path_lengths(tree: CategoryTree) -> np.ndarray:
    """Return the number of names in the path of each category, int64 (classes,)."""
    return np.array([len(path) for path in tree.paths.values()])


def predicted_nodes(probabilities: np.ndarray, level: Level) -> np.ndarray:
    """Return the index of the node with the highest summed probability, int64 (titles,)."""
    nodes: np.ndarray = level.summed(probabilities).argmax(axis=1)
    return nodes


def shared_names(tree: CategoryTree, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the number of names, from the root, that the paths of categories share.

    Args:
        tree: Paths of the categories.
        one: Indices of categories, (n,).
        other: Indices of the categories to compare them with, (n,).

    Returns:
        Number of names, int64 (n,).
    """
    equal = np.zeros(len(one), dtype=np.int64)
    for level in tree.levels:
        equal += level.node_of[one] == level.node_of[other]
    lengths = _path_lengths(tree)
    shared: np.ndarray = np.minimum(equal, lengths[one])
    return shared


def node_table(
    probabilities: np.ndarray,
    targets: np.ndarray,
    tree: CategoryTree,
    train_counts: np.ndarray | None = None,
) -> pd.DataFrame:
    """Return the recall, precision and F1 of each node of a tree, measured at the node's level.

    Args:
        probabilities: Probability of each category.
        targets: Indices of the right categories.
        tree: Paths of the categories.
        train_counts: Number of training titles of each category, (classes,), or None if unknown.

    Returns:
        Columns node (name in the notation of the categories), name (last name of its path), parent
        (name of its parent node, empty for a root), level, titles, train_titles (if known), recall,
        precision and f1 (missing if the node has no titles); one row for each node. A node is
        followed by its descendants.
    """
    paths = list(tree.paths.values())
    rows: list[tuple[tuple[int, ...], dict[str, Any]]] = []
    for number, level in enumerate(tree.levels, 1):
        size = len(level.nodes)
        right, predicted = level.node_of[targets], predicted_nodes(probabilities, level)
        hits = np.bincount(right[right == predicted], minlength=size)
        titles, guesses = (np.bincount(each, minlength=size) for each in (right, predicted))
        _, first = np.unique(level.node_of, return_index=True)
        for node in np.flatnonzero(level.lengths == number):
            category = first[node]
            ancestors = [int(upper.node_of[category]) for upper in tree.levels[: number - 1]]
            row = {
                "node": level.nodes[node],
                "name": paths[category][number - 1],
                "parent": tree.levels[number - 2].nodes[ancestors[-1]] if ancestors else "",
                "level": number,
                "titles": titles[node],
            }
            if train_counts is not None:
                row["train_titles"] = train_counts[level.node_of == node].sum()
            if titles[node]:
                row["recall"] = hits[node] / titles[node]
                row["precision"] = hits[node] / max(guesses[node], 1)
                row["f1"] = 2 * hits[node] / (titles[node] + guesses[node])
            else:
                row |= dict.fromkeys(("recall", "precision", "f1"), np.nan)
            rows.append(((*ancestors, int(node)), row))
    rows.sort(key=lambda row: row[0])
    return pd.DataFrame([row for _, row in rows]).round(6)
