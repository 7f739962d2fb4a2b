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
        threshold: Confidence that the first of `best` must reach to be accepted; None if there are no
            thresholds, or if no confidence is enough.
    """

    category: str | None
    confidence: float
    level: int
    best: list[tuple[str, float]]
    out_of_vocabulary: float | None
    threshold: float | None = None

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

    The most probable node of a level is accepted if its summed probability reaches `min_confidence`
    and the threshold of the level. Without a tree, the categories are the only level. With the
    defaults, the most probable category is always accepted.

    If answers are limited to one level and there are thresholds, an answer of a deeper level is
    replaced by its ancestor at this level, so that it keeps the promise. Products that only an upper
    level accepts have no answer.

    Args:
        classifier: Classifier of the products.
        products: Products.
        k: Number of most probable categories for each product, at least 1.
        min_confidence: Minimum probability of an accepted node, 0 to 1.
        thresholds: Minimum probabilities; None = accept any probability. With thresholds, foreign
            products have no answer.
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
    levels = classifier.levels
    minima: dict[str, float | None] = {}
    if thresholds is not None:
        bounds = thresholds.bounds(level or len(levels), shown.nodes)
        minima = {
            node: bound if bound < np.inf else None
            for node, bound in zip(shown.nodes, bounds.tolist(), strict=True)
        }
    found = [
        Answer(None, ranking[0][1], 0, ranking, share, minima.get(ranking[0][0]))
        for ranking, share in zip(best, unknown, strict=True)
    ]
    numbers = range(len(levels), 0, -1)
    if thresholds is None and level is not None:
        numbers = range(level, level - 1, -1)
    is_waiting = np.ones(len(found), dtype=bool)
    if thresholds is not None:
        is_waiting = np.array(unknown, dtype=np.float64) <= FOREIGN_SHARE
    for number in numbers:
        rows = np.flatnonzero(is_waiting)
        if not len(rows):
            break
        nodes = levels[-number]
        summed = nodes.summed(probabilities[rows])
        winners = summed.argmax(axis=1)
        confidences = summed[np.arange(len(rows)), winners].astype(np.float64)
        accepted = confidences >= min_confidence
        if thresholds is not None:
            bounds = thresholds.bounds(number, nodes.nodes)
            accepted &= confidences >= bounds[winners]
            accepted &= nodes.lengths[winners] == number
        is_waiting[rows[accepted]] = False
        for row, node, confidence in zip(
            *(each[accepted].tolist() for each in (rows, winners, confidences)), strict=True
        ):
            found[row] = replace(
                found[row],
                category=nodes.nodes[node],
                confidence=confidence,
                level=int(nodes.lengths[node]),
            )
    if level is None or thresholds is None:
        return found
    return [
        _at_level(classifier, answer, row, level)
        for answer, row in zip(found, probabilities, strict=True)
    ]


def _at_level(
    classifier: Classifier, answer: Answer, probabilities: np.ndarray, level: int
) -> Answer:
    """Return an answer that was found without a limit, limited to a level of the category tree."""
    if answer.category is None:
        return answer
    shown = classifier.level(level)
    nodes = classifier.level(answer.level)
    below = nodes.node_of == nodes.nodes.index(answer.category)
    place = int(shown.node_of[below][0])
    if shown.lengths[place] > answer.level:
        return replace(answer, category=None, confidence=answer.best[0][1], level=0)
    confidence = float(shown.summed(probabilities[None])[0, place])
    length = int(shown.lengths[place])
    return replace(answer, category=shown.nodes[place], confidence=confidence, level=length)
