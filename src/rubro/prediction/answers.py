"""Answers: the category of a product at the deepest level of the tree that is certain enough."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from rubro.base.text_columns import Product
from rubro.prediction.classifier import Classifier, ranked
from rubro.prediction.explanation import FOREIGN_SHARE
from rubro.prediction.thresholds import Thresholds


@dataclass(frozen=True)
class Answer:
    """Predicted category of a product.

    Attributes:
        category: Category, or node of the category tree; None if no level is accepted.
        confidence: Probability of `category`, 0 to 1, which is a sum if `category` is a node; if
            `category` is None, the probability of the first of `best`.
        level: Number of names from the root to `category`; 1 if the model has no tree; 0 if
            `category` is None.
        best: Most probable categories with their probabilities, most probable first. If answers are
            limited to one level, the most probable nodes of this level.
        out_of_vocabulary: Share of out-of-vocabulary tokens, 0 to 1; None if it was not needed.
    """

    category: str | None
    confidence: float
    level: int
    best: list[tuple[str, float]]
    out_of_vocabulary: float | None

    @property
    def is_foreign(self) -> bool:
        """Whether most of the words are out of vocabulary, so the prediction is a guess."""
        return self.out_of_vocabulary is not None and self.out_of_vocabulary > FOREIGN_SHARE


def answers(
    classifier: Classifier,
    products: Sequence[Product],
    k: int = 1,
    *,
    min_confidence: float = 0.0,
    thresholds: Thresholds | None = None,
    level: int | None = None,
    details: bool = False,
    probabilities: np.ndarray | None = None,
) -> list[Answer]:
    """Answer with the most probable node of the deepest level of the category tree that is accepted.

    A node is accepted if its summed probability reaches `min_confidence` and its threshold. Without
    a tree, the categories are the only level. With the defaults, the most probable category is
    always accepted.

    If answers are limited to one level, thresholds of deeper levels count too, because those of
    this level only keep their promise for products that no deeper level accepts. A node that a
    deeper level accepts is replaced by its ancestor at this level.

    Args:
        classifier: Classifier of the products.
        products: Products.
        k: Number of most probable categories for each product, at least 1.
        min_confidence: Minimum probability of an accepted node, 0 to 1.
        thresholds: Minimum probability of each node; None = accept any probability.
        level: The only level to answer at, from 1 (the roots); None = the deepest accepted level.
        details: Whether to compute the share of out-of-vocabulary tokens without thresholds too.
        probabilities: Result of classifier.predict_proba for the products, if it is known.

    Returns:
        Answer for each product.

    Raises:
        DataError: There is a level, but the model has no tree.
        ValueError: k is smaller than 1, or the tree has no such level.
    """
    if probabilities is None:
        probabilities = classifier.predict_proba(products)
    shown = classifier.level(level)
    best = ranked(shown.summed(probabilities), shown.nodes, k)
    unknown: list[float | None] = [None] * len(best)
    if details or thresholds is not None:
        unknown = classifier.out_of_vocabulary(products).tolist()
    found = [
        Answer(None, ranking[0][1], 0, ranking, share)
        for ranking, share in zip(best, unknown, strict=True)
    ]
    levels = classifier.levels
    first = len(levels) if level is None or thresholds is not None else level
    rows = list(range(len(found)))
    for number in range(first, (level or 1) - 1, -1):
        nodes = levels[-number]
        summed = nodes.summed(probabilities[rows])
        waiting = []
        for row, each, node in zip(rows, summed, summed.argmax(axis=1).tolist(), strict=True):
            confidence, share = float(each[node]), unknown[row] or 0.0
            if confidence < min_confidence or (
                thresholds is not None
                and not thresholds.accepts(nodes.nodes[node], confidence, share, number)
            ):
                waiting.append(row)
                continue
            kept, place = nodes, node
            if level is not None and number > level:
                kept, place = shown, int(shown.node_of[nodes.node_of == node][0])
                confidence = float(shown.summed(probabilities[[row]])[0, place])
            found[row] = replace(
                found[row],
                category=kept.nodes[place],
                confidence=confidence,
                level=int(kept.lengths[place]),
            )
        rows = waiting
    return found
