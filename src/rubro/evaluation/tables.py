"""Metrics and tables of models on held-out titles.

Arguments with the same name have the same meaning in all functions:

- probabilities: probability of each class for each title, float (titles, classes)
- targets: index of the right class of each title, (titles,)
- labels: categories, in the order of the class indices
- bins: number of confidence bins of the expected calibration error
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import InitVar, dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import precision_recall_fscore_support

from rubro.base.category_tree import CategoryTree
from rubro.base.params import EvaluateParams
from rubro.base.text import tokenise
from rubro.base.text_columns import Product
from rubro.evaluation.levels import level_metrics, node_table, shared_names
from rubro.evaluation.metrics import (
    MEASURES,
    classification_metrics,
    expected_calibration_error,
    objective_metrics,
)
from rubro.evaluation.significance import metric_interval
from rubro.evaluation.thresholds import (
    Predictions,
    choose_level_thresholds,
    estimate_precision,
    level_answers,
)

_TITLE_LENGTHS = {"1-4 tokens": (0, 4), "5-8 tokens": (5, 8), "9+ tokens": (9, 10**9)}
_BLOCK_CATEGORIES = 20
_MISTAKES_OF_CATEGORY = 3
PRECISIONS = (0.9, 0.95, 0.98, 0.99)


@dataclass
class HeldOut:
    """Labelled titles that no model was trained on.

    Args:
        vocabulary: Words that the model knows.

    Attributes:
        titles: Texts.
        targets: Index of the right class of each title, (titles,).
        labels: Categories, in the order of the class indices.
        reliable: Whether the label quality of each title is "reliable", bool (titles,), or None if
            it is unknown.
        train_counts: Number of training titles of each class, (classes,), or None if unknown.
        tree: Tree of the categories, if they are paths.
        token_counts: Number of tokens of each title, (titles,).
        has_unknown_word: Whether each title has an out-of-vocabulary token, bool (titles,).
    """

    titles: list[str]
    targets: np.ndarray
    labels: list[str]
    vocabulary: InitVar[Container[str]]
    reliable: np.ndarray | None = None
    train_counts: np.ndarray | None = None
    tree: CategoryTree | None = None
    token_counts: np.ndarray = field(init=False)
    has_unknown_word: np.ndarray = field(init=False)

    def __post_init__(self, vocabulary: Container[str]) -> None:
        tokens = list(map(tokenise, self.titles))
        unknown = [any(token not in vocabulary for token in title) for title in tokens]
        self.token_counts = np.array(list(map(len, tokens)), dtype=np.int64)
        self.has_unknown_word = np.array(unknown, dtype=bool)


def model_metrics(
    probabilities: np.ndarray,
    uncalibrated: np.ndarray,
    targets: np.ndarray,
    params: EvaluateParams,
    tree: CategoryTree | None = None,
) -> dict[str, Any]:
    """Return the metrics of a model with confidence intervals, rounded to 6 digits.

    Args:
        probabilities: Calibrated probabilities.
        uncalibrated: Probabilities before calibration, float (titles, classes).
        targets: Class indices.
        params: Number of bins and coverage of the intervals.
        tree: Tree of the categories, if they are paths.

    Returns:
        Metrics of classification_metrics, ece_before_calibration, and the ends of the confidence
        intervals, such as accuracy_low and accuracy_high, of balanced accuracy, accuracy and
        macro F1. If there is a tree, also the metrics of level_metrics.
    """
    bins, predictions = params.calibration_bins, probabilities.argmax(axis=1)
    ends: dict[str, float] = {}
    for name in MEASURES:
        low, high = metric_interval(name, targets, predictions, params.confidence)
        ends |= {f"{name}_low": round(low, 6), f"{name}_high": round(high, 6)}
    before, _ = expected_calibration_error(uncalibrated, targets, bins)
    return {
        **classification_metrics(probabilities, targets, bins),
        "ece_before_calibration": round(before, 6),
        **ends,
        **(level_metrics(probabilities, targets, tree) if tree else {}),
    }


def slice_masks(held_out: HeldOut, rare: int) -> dict[str, np.ndarray]:
    """Return masks of groups of titles that are measured separately, such as rare categories.

    Args:
        held_out: Labelled titles.
        rare: Number of training titles below which a category is rare.

    Returns:
        Masks, bool (titles,), by name of the group; empty groups are omitted.
    """
    counts = held_out.token_counts
    masks = {}
    if held_out.reliable is not None:
        masks["label quality: reliable"] = held_out.reliable
        masks["label quality: unreliable"] = ~held_out.reliable
    for name, (low, high) in _TITLE_LENGTHS.items():
        masks[f"title length: {name}"] = (counts >= low) & (counts <= high)
    masks["words: all in vocabulary"] = ~held_out.has_unknown_word
    masks["words: some out of vocabulary"] = held_out.has_unknown_word
    if held_out.train_counts is not None:
        is_rare = held_out.train_counts[held_out.targets] < rare
        masks[f"category: rare (< {rare} training rows)"] = is_rare
        masks["category: common"] = ~is_rare
    return {name: mask for name, mask in masks.items() if mask.any()}


def class_table(probabilities: np.ndarray, held_out: HeldOut) -> pd.DataFrame:
    """Return precision, recall and F1 of each category that has held-out titles.

    Returns:
        Columns category, titles, train_titles (if known), precision, recall and f1; one row for
        each category.
    """
    present = np.unique(held_out.targets)
    precision, recall, f1, titles = precision_recall_fscore_support(
        held_out.targets, probabilities.argmax(axis=1), labels=present, zero_division=0
    )
    table = pd.DataFrame(
        {
            "category": [held_out.labels[index] for index in present],
            "titles": titles,
            "precision": precision.round(6),
            "recall": recall.round(6),
            "f1": f1.round(6),
        }
    )
    if held_out.train_counts is not None:
        table.insert(2, "train_titles", held_out.train_counts[present])
    return table


def unmeasured_categories(held_out: HeldOut) -> pd.DataFrame:
    """Return the categories that have no held-out titles, so that no metric describes them.

    Returns:
        Columns category and train_titles (if known); one row for each category, ordered by
        decreasing train_titles.
    """
    missing = np.setdiff1d(np.arange(len(held_out.labels)), held_out.targets)
    table = pd.DataFrame({"category": [held_out.labels[index] for index in missing]}, dtype=object)
    if held_out.train_counts is None:
        return table
    table["train_titles"] = held_out.train_counts[missing]
    return table.sort_values("train_titles", ascending=False, kind="stable")


def confused_pairs(
    probabilities: np.ndarray,
    targets: np.ndarray,
    labels: list[str],
    limit: int,
    tree: CategoryTree | None = None,
) -> pd.DataFrame:
    """Return the most frequent confusions of a category with a wrongly predicted category.

    If there is a tree, the confusions that cross its top level come first, then the confusions
    whose paths share one name, and so on.

    Returns:
        Columns category, predicted, pair (both names, for plots), titles and share (of the titles
        of the category), and level (number of names that both paths share) if there is a tree; one
        row for each of at most `limit` pairs, most frequent first.
    """
    predictions = _named_predictions(probabilities, targets, labels)
    predictions["pair"] = predictions["category"] + " → " + predictions["predicted"]
    wrong = predictions[predictions["category"] != predictions["predicted"]]
    table = wrong.value_counts().reset_index(name="titles")
    totals = predictions["category"].value_counts()
    table["share"] = (table["titles"] / totals[table["category"]].to_numpy()).round(6)
    order, ascending = ["titles", "share", "pair"], [False, False, True]
    if tree:
        index = {label: number for number, label in enumerate(labels)}
        one, other = (
            table[column].map(index).to_numpy(dtype=np.int64)
            for column in ("category", "predicted")
        )
        table["level"] = shared_names(tree, one, other)
        order, ascending = ["level", *order], [True, *ascending]
    return table.sort_values(order, ascending=ascending).head(limit)


def confusion_block(
    probabilities: np.ndarray, targets: np.ndarray, labels: list[str], pairs: pd.DataFrame
) -> pd.DataFrame:
    """Return the block of the confusion matrix for the most confused categories.

    The block covers at most 20 categories: the first ones in the table of confused_pairs.

    Returns:
        Columns category, predicted and titles; one row for each cell.
    """
    names = pairs[["category", "predicted"]].to_numpy().ravel()
    block = list(dict.fromkeys(names))[:_BLOCK_CATEGORIES]
    cells = pd.MultiIndex.from_product([block, block], names=["category", "predicted"])
    counts = _named_predictions(probabilities, targets, labels).value_counts()
    return counts.reindex(cells, fill_value=0).reset_index(name="titles")


def worst_mistakes(probabilities: np.ndarray, held_out: HeldOut, limit: int) -> pd.DataFrame:
    """Return the wrong predictions in which the right category has the lowest probability.

    Returns:
        Columns title, category, probability, predicted and predicted_probability; one row for each
        of the `limit` worst titles and of the three worst titles of each category, worst first.
    """
    targets = held_out.targets
    table = _named_predictions(probabilities, targets, held_out.labels)
    table.insert(1, "probability", probabilities[np.arange(len(targets)), targets])
    table["predicted_probability"] = probabilities.max(axis=1)
    wrong = table[table["category"] != table["predicted"]]
    wrong = wrong.sort_values("probability", kind="stable")
    is_worst = np.arange(len(wrong)) < limit
    is_worst_of_category = wrong.groupby("category").cumcount() < _MISTAKES_OF_CATEGORY
    worst = wrong[is_worst | is_worst_of_category].round(6)
    worst.insert(0, "title", [held_out.titles[index] for index in worst.index])
    return worst


def _named_predictions(
    probabilities: np.ndarray, targets: np.ndarray, labels: list[str]
) -> pd.DataFrame:
    """Return a table of the right and the predicted category of each title.

    Returns:
        Columns category, which is the right category, and predicted; one row for each title.
    """
    names = np.array(labels, dtype=object)
    return pd.DataFrame(
        {"category": names[targets], "predicted": names[probabilities.argmax(axis=1)]}
    )


def coverage_curve(predictions: Predictions) -> pd.DataFrame:
    """Return the coverage and precision that result from different confidence thresholds.

    Source: El-Yaniv and Wiener 2010, On the Foundations of Noise-free Selective Classification.

    Returns:
        Columns confidence (threshold), coverage (share of the titles whose confidence reaches the
        threshold) and precision (share of right predictions among these titles); about one row for
        each hundredth of the titles, highest threshold first.
    """
    confidences, right = predictions.confidences, predictions.right
    highest_first = np.sort(confidences[confidences >= 0])[::-1]
    last = np.ceil(len(highest_first) * np.arange(1, 101) / 100).astype(int) - 1
    thresholds = np.unique(np.floor(highest_first[last[last >= 0]] * 1e6) / 1e6)[::-1]
    accepted = [confidences >= threshold for threshold in thresholds]
    return pd.DataFrame(
        {
            "confidence": thresholds,
            "coverage": [mask.mean() for mask in accepted],
            "precision": [right[mask].mean() for mask in accepted],
        }
    ).round(6)


def automation_table(
    levels: Sequence[Predictions],
    chosen_on: Sequence[Predictions] | None = None,
    goals: Sequence[float] = PRECISIONS,
) -> pd.DataFrame:
    """Return the share of titles that can be sorted automatically at several promised precisions.

    The thresholds are those that `rubro thresholds` chooses. In a category tree, a title counts if
    some level answers it.

    Args:
        levels: Predictions at each level for the same titles, deepest level first.
        chosen_on: Predictions at each level for other titles, which the thresholds are chosen on;
            None = choose them on `levels`.
        goals: Promised precisions.

    Returns:
        Columns goal (promised precision), coverage (share of accepted predictions), precision (of
        the accepted predictions), low and high (ends of its 95 % confidence interval); one row for
        each goal that can be promised.
    """
    rows = []
    for goal in goals:
        chosen = choose_level_thresholds(levels if chosen_on is None else chosen_on, goal)
        places, right = level_answers(levels, chosen)
        accepted = places >= 0
        if accepted.any():
            found = estimate_precision(accepted, right)
            coverage, precision = accepted.mean(), right[accepted].mean()
            rows.append((goal, coverage, precision, found["low"], found["high"]))
    return pd.DataFrame(rows, columns=["goal", "coverage", "precision", "low", "high"]).round(6)


def column_table(
    classify: Callable[[Sequence[Product]], np.ndarray],
    products: Sequence[Mapping[str, Any]],
    targets: np.ndarray,
    columns: Sequence[str],
) -> pd.DataFrame:
    """Measure a model on products without some of their text columns.

    Args:
        classify: Function that returns the class index of each product.
        products: Products that the model was not trained on.
        targets: Class indices.
        columns: Names of the text columns.

    Returns:
        Columns `without`, the names of the columns that are left out, and the metric of each
        objective. No column is left out in the first row, one column in each of the next rows, and
        all of them in the last row.
    """
    rows = []
    for hidden in dict.fromkeys([(), *((name,) for name in columns), tuple(columns)]):
        predictions = classify([{**product, **dict.fromkeys(hidden)} for product in products])
        measured = objective_metrics(targets, predictions)
        rows.append({"without": ", ".join(hidden), **measured})
    return pd.DataFrame(rows)


def detail_tables(
    probabilities: np.ndarray,
    uncalibrated: np.ndarray,
    held_out: HeldOut,
    predictions: Predictions,
    levels: Sequence[Predictions],
    params: EvaluateParams,
    chosen_on: Sequence[Predictions] | None = None,
    goals: Sequence[float] = PRECISIONS,
) -> dict[str, pd.DataFrame]:
    """Return tables that show on which titles and categories a model is right or wrong.

    Args:
        probabilities: Calibrated probabilities.
        uncalibrated: Probabilities before calibration, float (titles, classes).
        held_out: Labelled titles.
        predictions: Predictions that coverage describes.
        levels: Predictions at each level, deepest first, that automation describes; see
            level_predictions.
        params: Number of bins and limits on the number of rows.
        chosen_on: Predictions that the thresholds of automation are chosen on; see automation_table.
        goals: Promised precisions of automation.

    Returns:
        Tables slices (metrics of each group of titles), classes, confused_pairs, confusions,
        mistakes, reliability (accuracy in bins of confidence), reliability_before (the same before
        calibration), coverage and automation, by name. If there is a tree, also nodes.
    """
    targets, bins = held_out.targets, params.calibration_bins
    slices = [
        {"slice": name, "titles": int(mask.sum())}
        | classification_metrics(probabilities[mask], targets[mask], bins)
        for name, mask in slice_masks(held_out, params.rare_category_rows).items()
    ]
    reliability, reliability_before = (
        pd.DataFrame(expected_calibration_error(each, targets, bins)[1]).round(6)
        for each in (probabilities, uncalibrated)
    )
    labels, limit, tree = held_out.labels, params.confused_pairs, held_out.tree
    pairs = confused_pairs(probabilities, targets, labels, limit)
    tables = {
        "slices": pd.DataFrame(slices),
        "classes": class_table(probabilities, held_out),
        "confused_pairs": pairs,
        "confusions": confusion_block(probabilities, targets, labels, pairs),
        "mistakes": worst_mistakes(probabilities, held_out, params.mistakes),
        "reliability": reliability,
        "reliability_before": reliability_before,
        "coverage": coverage_curve(predictions),
        "automation": automation_table(levels, chosen_on, goals),
    }
    if tree:
        tables["confused_pairs"] = confused_pairs(probabilities, targets, labels, limit, tree)
        tables["nodes"] = node_table(probabilities, targets, tree, held_out.train_counts)
    return tables
