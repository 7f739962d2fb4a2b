"""Comparing classifiers on titles they were not trained on."""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.metrics import precision_recall_fscore_support

from rubro.base.params import EvaluateParams
from rubro.evaluation.metrics import classification_metrics, expected_calibration_error
from rubro.evaluation.significance import balanced_accuracy_interval, compare
from rubro.features.titles import TitleFeatures

_TITLE_LENGTHS = {"1-4 tokens": (0, 4), "5-8 tokens": (5, 8), "9+ tokens": (9, 10**9)}


def model_metrics(
    probabilities: np.ndarray,
    uncalibrated: np.ndarray,
    targets: np.ndarray,
    params: EvaluateParams,
    seed: int,
) -> dict[str, float]:
    """The metrics of one model on one split, and how sure they are.

    Args:
        probabilities: float (titles, classes).
        uncalibrated: the probabilities before calibration.
        targets: class indices (titles,).
        params: of the bins and the bootstrap.
        seed: of the bootstrap.

    Returns:
        metrics_of, ece_before_calibration, balanced_accuracy_low and balanced_accuracy_high: its
        confidence interval.
    """
    bins = params.calibration_bins
    right = probabilities.argmax(axis=1) == targets
    low, high = balanced_accuracy_interval(
        targets, right, params.bootstrap_samples, params.confidence, seed
    )
    before, _ = expected_calibration_error(uncalibrated, targets, bins)
    return {
        **metrics_of(probabilities, targets, bins),
        "ece_before_calibration": round(before, 6),
        "balanced_accuracy_low": round(low, 6),
        "balanced_accuracy_high": round(high, 6),
    }


def comparison(
    probabilities: np.ndarray,
    other_probabilities: np.ndarray,
    targets: np.ndarray,
    params: EvaluateParams,
    seed: int,
) -> dict[str, float]:
    """significance.compare of the predictions of two models, rounded to 6 digits."""
    compared = compare(
        targets,
        probabilities.argmax(axis=1) == targets,
        other_probabilities.argmax(axis=1) == targets,
        params.bootstrap_samples,
        params.confidence,
        seed,
    )
    return {name: round(value, 6) + 0.0 for name, value in compared.items()}  # never -0.0


def metrics_of(probabilities: np.ndarray, targets: np.ndarray, bins: int) -> dict[str, float]:
    """classification_metrics, rounded to 6 digits."""
    metrics = classification_metrics(probabilities, targets, bins)
    return {name: round(value, 6) for name, value in metrics.items()}


def slices(features: TitleFeatures, train_counts: np.ndarray, rare: int) -> dict[str, np.ndarray]:
    """Parts of a split to look at on their own.

    Args:
        features: of the split.
        train_counts: training rows of each class, (classes,).
        rare: a class with fewer training rows is rare.

    Returns:
        By name, a mask: bool (titles,). Empty parts are left out.
    """
    lengths = features.tokens.lengths
    is_rare = train_counts[features.targets] < rare
    masks = {
        "label quality: reliable": features.reliable,
        "label quality: unreliable": ~features.reliable,
        **{
            f"title length: {name}": (lengths >= low) & (lengths <= high)
            for name, (low, high) in _TITLE_LENGTHS.items()
        },
        "words: all in vocabulary": ~features.has_oov,
        "words: some out of vocabulary": features.has_oov,
        f"category: rare (< {rare} training rows)": is_rare,
        "category: common": ~is_rare,
    }
    return {name: mask for name, mask in masks.items() if mask.any()}


def slice_table(
    probabilities: np.ndarray, targets: np.ndarray, masks: dict[str, np.ndarray], bins: int
) -> pd.DataFrame:
    """One row a slice: its name, its titles and its metrics."""
    return pd.DataFrame(
        {
            "slice": name,
            "titles": int(mask.sum()),
            **metrics_of(probabilities[mask], targets[mask], bins),
        }
        for name, mask in masks.items()
    )


def class_table(
    probabilities: np.ndarray, targets: np.ndarray, labels: list[str], train_counts: np.ndarray
) -> pd.DataFrame:
    """One row a class that has titles: category, titles, training rows, precision, recall, f1."""
    present = np.unique(targets)
    precision, recall, f1, titles = precision_recall_fscore_support(
        targets, probabilities.argmax(axis=1), labels=present, zero_division=0
    )
    return pd.DataFrame(
        {
            "category": [labels[index] for index in present],
            "titles": titles,
            "train_titles": train_counts[present],
            "precision": precision.round(6),
            "recall": recall.round(6),
            "f1": f1.round(6),
        }
    )


def confused_pairs(
    probabilities: np.ndarray, targets: np.ndarray, labels: list[str], most: int
) -> pd.DataFrame:
    """The pairs of category and wrong prediction that occur most.

    Returns:
        One row a pair, most frequent first: category, predicted, pair (both, for plots), titles
        and their share of the category's titles.
    """
    predictions = probabilities.argmax(axis=1)
    wrong = predictions != targets
    pairs, counts = np.unique(
        np.stack([targets[wrong], predictions[wrong]], axis=1), axis=0, return_counts=True
    )
    totals = np.bincount(targets, minlength=len(labels))
    rows = [
        {
            "category": labels[true],
            "predicted": labels[predicted],
            "pair": f"{labels[true]} → {labels[predicted]}",
            "titles": int(count),
            "share": round(count / totals[true], 6),
        }
        for (true, predicted), count in zip(pairs, counts, strict=True)
    ]
    table = pd.DataFrame(rows, columns=["category", "predicted", "pair", "titles", "share"])
    order = ["titles", "share", "pair"]
    return table.sort_values(order, ascending=[False, False, True]).head(most)


def worst_mistakes(
    probabilities: np.ndarray, targets: np.ndarray, titles: pd.Series, labels: list[str], most: int
) -> pd.DataFrame:
    """The wrong predictions that gave the right category the least probability.

    Returns:
        One row a title, worst first: title, category, its probability, predicted, its probability.
    """
    predictions = probabilities.argmax(axis=1)
    every = np.arange(len(targets))
    own, top = probabilities[every, targets], probabilities[every, predictions]
    wrong = np.flatnonzero(predictions != targets)
    wrong = wrong[np.argsort(own[wrong], kind="stable")][:most]
    return pd.DataFrame(
        {
            "title": titles.iloc[wrong].to_list(),
            "category": [labels[index] for index in targets[wrong]],
            "probability": own[wrong].round(6),
            "predicted": [labels[index] for index in predictions[wrong]],
            "predicted_probability": top[wrong].round(6),
        }
    )


def reliability_curve(probabilities: np.ndarray, targets: np.ndarray, bins: int) -> pd.DataFrame:
    """One row a bin that holds titles: confidence, accuracy, titles."""
    return pd.DataFrame(expected_calibration_error(probabilities, targets, bins)[1]).round(6)


def detail_tables(
    probabilities: np.ndarray,
    features: TitleFeatures,
    titles: pd.Series,
    labels: list[str],
    train_counts: np.ndarray,
    params: EvaluateParams,
) -> dict[str, pd.DataFrame]:
    """What lies behind the metrics of one model on one split.

    Args:
        probabilities: float (titles, classes).
        features: of the split.
        titles: as text.
        labels: the class names in order.
        train_counts: training rows of each class, (classes,).
        params: how much detail.

    Returns:
        By name: slices, classes, confused_pairs, mistakes and reliability.
    """
    targets, bins = features.targets, params.calibration_bins
    masks = slices(features, train_counts, params.rare_category_rows)
    return {
        "slices": slice_table(probabilities, targets, masks, bins),
        "classes": class_table(probabilities, targets, labels, train_counts),
        "confused_pairs": confused_pairs(probabilities, targets, labels, params.confused_pairs),
        "mistakes": worst_mistakes(probabilities, targets, titles, labels, params.mistakes),
        "reliability": reliability_curve(probabilities, targets, bins),
    }
