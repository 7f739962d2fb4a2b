"""Classification metrics. Macro averages skip classes that do not occur in the targets.

In all functions, targets and predictions are class indices, (n,), and probabilities are the
probability of each class, float (n, classes).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from rubro.base.metric_names import Objective


def accuracy(targets: np.ndarray, predictions: np.ndarray) -> float:
    """Return the share of right predictions, 0 to 1."""
    return float(np.mean(targets == predictions))


def balanced_accuracy(targets: np.ndarray, predictions: np.ndarray) -> float:
    """Return the mean recall of the classes that occur in the targets, 0 to 1.

    Source: Brodersen et al. 2010, The Balanced Accuracy and Its Posterior Distribution.
    """
    right = np.bincount(targets, weights=targets == predictions)
    total = np.bincount(targets)
    return float(np.mean(right[total > 0] / total[total > 0]))


def macro_f1(targets: np.ndarray, predictions: np.ndarray) -> float:
    """Return the mean F1 of the classes that occur in the targets, 0 to 1."""
    f1, _ = _f1_and_totals(targets, predictions)
    return float(np.mean(f1))


def weighted_f1(targets: np.ndarray, predictions: np.ndarray) -> float:
    """Return the mean F1 of the classes, weighted by their number of targets, 0 to 1."""
    f1, totals = _f1_and_totals(targets, predictions)
    return float(np.sum(f1 * totals) / len(targets))


def _f1_and_totals(targets: np.ndarray, predictions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the F1 and the number of targets of each class that occurs in the targets."""
    size = int(max(targets.max(), predictions.max())) + 1
    right, total, predicted = (
        np.bincount(each, minlength=size)
        for each in (targets[targets == predictions], targets, predictions)
    )
    present = total > 0
    return 2 * right[present] / (total + predicted)[present], total[present]


MEASURES: dict[Objective, Callable[[np.ndarray, np.ndarray], float]] = {
    "balanced_accuracy": balanced_accuracy,
    "accuracy": accuracy,
    "macro_f1": macro_f1,
}


def objective_metrics(targets: np.ndarray, predictions: np.ndarray) -> dict[str, float]:
    """Return the metric of each objective, rounded to 6 digits."""
    return {name: round(metric(targets, predictions), 6) for name, metric in MEASURES.items()}


def ranks(probabilities: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return the rank of each target among the classes by probability, from 0, int64 (n,).

    If probabilities are equal, the first class ranks higher, as in argmax.
    """
    own = probabilities[np.arange(len(targets)), targets][:, None]
    earlier = np.arange(probabilities.shape[1]) < targets[:, None]
    higher = (probabilities > own) | ((probabilities == own) & earlier)
    rank: np.ndarray = higher.sum(axis=1)
    return rank


def expected_calibration_error(
    probabilities: np.ndarray, targets: np.ndarray, bins: int, k: int = 1
) -> tuple[float, list[dict[str, float]]]:
    """Return the mean absolute difference between confidence and top-k accuracy in bins.

    The confidence is the sum of the k highest probabilities.

    Source: Guo et al. 2017, On Calibration of Modern Neural Networks; k above 1: Gupta et al. 2021,
    Calibration of Neural Networks using Splines.

    Args:
        probabilities: Probability of each class for each title, float (n, classes).
        targets: Class indices, (n,).
        bins: Number of bins of equal width.
        k: Number of most probable classes that may contain the target.

    Returns:
        Expected calibration error, 0 to 1, and the mean confidence, accuracy and number of titles
        of each bin that contains titles.
    """
    k = min(k, probabilities.shape[1])
    confidence = np.partition(probabilities, -k, axis=1)[:, -k:].sum(axis=1)
    right = ranks(probabilities, targets) < k
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    curve = [
        {
            "confidence": float(confidence[bin_of == index].mean()),
            "accuracy": float(right[bin_of == index].mean()),
            "titles": int((bin_of == index).sum()),
        }
        for index in np.unique(bin_of)
    ]
    error = sum(abs(b["confidence"] - b["accuracy"]) * b["titles"] for b in curve) / len(targets)
    return float(error), curve


def classification_metrics(
    probabilities: np.ndarray, targets: np.ndarray, bins: int
) -> dict[str, float]:
    """Return the metrics used to compare models, rounded to 6 digits.

    Args:
        probabilities: Probability of each class for each title, float (n, classes), n >= 1.
        targets: Class indices, (n,).
        bins: Number of bins of the expected calibration error.

    Returns:
        Values of accuracy, balanced_accuracy, macro_f1, top3_accuracy, top5_accuracy, loss
        (cross-entropy in nats), and ece and top3_ece (expected calibration errors of the best
        category and of the three best categories).
    """
    predictions = probabilities.argmax(axis=1)
    own = probabilities[np.arange(len(targets)), targets]
    rank = ranks(probabilities, targets)
    metrics = {
        "accuracy": accuracy(targets, predictions),
        "balanced_accuracy": balanced_accuracy(targets, predictions),
        "macro_f1": macro_f1(targets, predictions),
        "top3_accuracy": float((rank < 3).mean()),
        "top5_accuracy": float((rank < 5).mean()),
        "loss": float(-np.log(np.maximum(own, 1e-12)).mean()),
        "ece": expected_calibration_error(probabilities, targets, bins)[0],
        "top3_ece": expected_calibration_error(probabilities, targets, bins, k=3)[0],
    }
    return {name: round(value, 6) for name, value in metrics.items()}
