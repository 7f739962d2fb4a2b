"""Classification metrics. Macro averages skip classes that do not occur in the targets.

In all functions, targets and predictions are class indices, (n,), and probabilities are the
probability of each class, float (n, classes).
"""

from __future__ import annotations

import numpy as np


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
    classes = max(targets.max(), predictions.max()) + 1
    right = np.bincount(targets, weights=targets == predictions, minlength=classes)
    total = np.bincount(targets, minlength=classes)
    predicted = np.bincount(predictions, minlength=classes)
    return float(np.mean((2 * right / np.maximum(total + predicted, 1))[total > 0]))


def expected_calibration_error(
    probabilities: np.ndarray, targets: np.ndarray, bins: int
) -> tuple[float, list[dict[str, float]]]:
    """Return the mean absolute difference between confidence and accuracy in bins of confidence.

    Source: Guo et al. 2017, On Calibration of Modern Neural Networks.

    Args:
        probabilities: Probability of each class for each title, float (n, classes).
        targets: Class indices, (n,).
        bins: Number of bins of equal width.

    Returns:
        Expected calibration error, 0 to 1, and the mean confidence, accuracy and number of titles
        of each bin that contains titles.
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == targets
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
        (cross-entropy in nats) and ece (expected calibration error).
    """
    predictions = probabilities.argmax(axis=1)
    own = probabilities[np.arange(len(targets)), targets]
    # If probabilities are equal, the first class ranks higher, as in argmax.
    earlier = np.arange(probabilities.shape[1]) < targets[:, None]
    rank = ((probabilities > own[:, None]) | ((probabilities == own[:, None]) & earlier)).sum(1)
    metrics = {
        "accuracy": accuracy(targets, predictions),
        "balanced_accuracy": balanced_accuracy(targets, predictions),
        "macro_f1": macro_f1(targets, predictions),
        "top3_accuracy": float((rank < 3).mean()),
        "top5_accuracy": float((rank < 5).mean()),
        "loss": float(-np.log(np.maximum(own, 1e-12)).mean()),
        "ece": expected_calibration_error(probabilities, targets, bins)[0],
    }
    return {name: round(value, 6) for name, value in metrics.items()}
