"""Confidence intervals and tests for metrics of classifiers and their differences."""

from __future__ import annotations

import numpy as np
from scipy.stats import binomtest, t

from rubro.base.metric_names import Objective
from rubro.evaluation.metrics import MEASURES

_PSEUDO_TITLES = 2.0  # with the mean covariance of all classes, added to each class


def metric_interval(
    metric: Objective,
    targets: np.ndarray,
    predictions: np.ndarray,
    confidence: float,
    other_predictions: np.ndarray | None = None,
) -> tuple[float, float]:
    """Return the confidence interval of a metric, or of the difference between two classifiers.

    The interval covers the value that the metric would have on infinitely many titles of the same
    classes, with the same shares of the classes. The variance is a stratified variance with the
    classes as strata (Cochran 1977, Sampling Techniques, chapter 5). Variances of small classes
    are uncertain, and a class with one title has none, so they are shrunk towards their mean
    (Smyth 2004, Linear Models and Empirical Bayes Methods). Macro F1 is linearised, and its
    first-order bias is subtracted. The interval of a metric is Wilson's, with the effective number
    of titles (Korn and Graubard 1998, Confidence Intervals for Proportions With Small Expected
    Number of Positive Counts Estimated From Survey Data). The interval of a difference is Student's,
    with the degrees of freedom of Satterthwaite 1946.

    If no class has two titles, the variance within classes cannot be estimated. The variance over
    all titles replaces it, so the interval is too wide if the recalls of the classes differ a lot.

    Args:
        metric: Name of the metric.
        targets: Class indices, (n,), n >= 1.
        predictions: Predicted class indices, (n,).
        confidence: Coverage of the interval, 0 to 1.
        other_predictions: Predictions of another classifier for the same titles, (n,). If given,
            return the interval of the first classifier's metric minus the second one's.

    Returns:
        Lower and upper end of the interval, which contains the metric of these predictions.
    """
    compared = [predictions] if other_predictions is None else [predictions, other_predictions]
    classes, own, sizes = np.unique(targets, return_inverse=True, return_counts=True)
    right = np.stack([each == targets for each in compared], axis=1).astype(float)
    covariances = _shrunk_covariances(right, own, sizes)
    signs = (1.0, -1.0)[: len(compared)]
    estimate, bias = 0.0, 0.0
    effects, deviations = np.zeros((len(sizes), len(compared))), np.zeros(len(own))
    for index, (each, sign) in enumerate(zip(compared, signs, strict=True)):
        place = np.searchsorted(classes, each)
        known = classes[np.minimum(place, len(classes) - 1)] == each
        predicted = np.where(known, place, len(classes))
        linearised = _linearise(metric, own, sizes, predicted, covariances[:, index, index])
        estimate += sign * MEASURES[metric](targets, each)
        bias += sign * linearised[0]
        effects[:, index] = sign * linearised[1]
        deviations += sign * linearised[2]
    variances = sizes * np.einsum("ci,cij,cj->c", effects, covariances, effects)
    variances += np.bincount(own, deviations**2)
    variance = variances.sum()
    freedom = variance**2 / (variances**2 / (sizes - 1 + _PSEUDO_TITLES)).sum()
    quantile = float(t.ppf((1 + confidence) / 2, freedom))
    if other_predictions is None:
        centre = float(np.clip(estimate - bias, 0.0, 1.0))
        spread = centre * (1 - centre)
        titles = spread / variance if spread else 1 / (sizes * effects[:, 0] ** 2).sum()
        added = quantile**2 / titles
        width = quantile * np.sqrt(spread / titles + added / titles / 4) / (1 + added)
        centre = (centre + added / 2) / (1 + added)
    else:
        centre, width = estimate - bias, quantile * np.sqrt(variance)
    lowest = 0.0 if other_predictions is None else -1.0
    low, high = min(centre - width, estimate), max(centre + width, estimate)
    return float(max(low, lowest)), float(min(high, 1.0))


def _shrunk_covariances(right: np.ndarray, own: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Return the covariances of right predictions in each class, shrunk towards their mean.

    The mean is taken over the classes with two or more titles and over one more class that contains
    all titles. To this class, one title is added for each of two classifiers, which only this
    classifier gets right; for one classifier, one right and one wrong prediction are added. So the
    mean is never 0 (Agresti and Min 2005).

    Args:
        right: Whether each prediction of each classifier is right, float (n, classifiers).
        own: Position of the class of each title, (n,).
        sizes: Number of titles of each class, (classes,).

    Returns:
        Covariance matrices, (classes, classifiers, classifiers).
    """
    count = right.shape[1]
    squares = np.zeros((len(sizes), count, count))
    means = np.stack([np.bincount(own, column) for column in right.T], axis=1) / sizes[:, None]
    centred = right - means[own]
    for i in range(count):
        for j in range(count):
            squares[:, i, j] = np.bincount(own, centred[:, i] * centred[:, j])
    all_titles = np.cov(np.vstack([right, np.eye(2)[:, :count]]), rowvar=False, bias=True)
    freedom = (sizes - 1.0)[:, None, None]
    several = sizes > 1
    known = squares[several] / freedom[several]
    mean = (known.sum(axis=0) + all_titles.reshape(count, count)) / (len(known) + 1)
    shrunk: np.ndarray = (squares + _PSEUDO_TITLES * mean) / (freedom + _PSEUDO_TITLES)
    return shrunk


def _linearise(
    metric: Objective,
    own: np.ndarray,
    sizes: np.ndarray,
    predicted: np.ndarray,
    variances: np.ndarray,
) -> tuple[float, np.ndarray, np.ndarray]:
    """Return the bias of a metric and the first-order effects of titles on it.

    Args:
        metric: Name of the metric.
        own: Position of the class of each title, (n,).
        sizes: Number of titles of each class, (classes,).
        predicted: Position of the predicted class of each title, (n,); classes without titles
            have the position len(sizes).
        variances: Variance of right predictions in each class, (classes,).

    Returns:
        Expected difference from the metric of infinitely many titles; how much one more right
        prediction in each class adds to the metric, (classes,); and how much the effect of each wrong
        prediction deviates from the mean effect of wrong predictions, (n,).
    """
    if metric != "macro_f1":
        share = 1 / sizes / len(sizes) if metric == "balanced_accuracy" else 1 / len(own)
        return 0.0, np.broadcast_to(share, sizes.shape), np.zeros(len(own))
    is_right = predicted == own
    rights = np.bincount(own, is_right)
    false = np.bincount(predicted, minlength=len(sizes) + 1)[:-1] - rights
    rate = (rights + (rights / sizes).mean()) / (sizes + 1)  # shrunk recall
    expected = sizes * rate

    def f1(rights: np.ndarray, false: np.ndarray) -> np.ndarray:
        score: np.ndarray = 2 * rights / (sizes + rights + false)
        return score

    before = np.maximum(false - 1, 0)  # without one of the false positives
    gain = f1(expected - rate + 1, false) - f1(expected - rate, false)
    # The gain is convex in the number of right predictions, so its mean exceeds the gain at the mean.
    gain *= 1 + 3 * (sizes - 1) * variances / (sizes + expected + false) ** 2
    loss = np.append(f1(expected, false) - f1(expected, before), 0.0)[predicted]
    loss[is_right] = 0.0
    mean_loss = loss.sum() / max(len(own) - rights.sum(), 1)
    total = sizes + expected + false
    bias = 2 * expected * false / (total * (sizes + expected + before) ** 2)
    bias -= 2 * sizes * variances / (total * (total + 1 - rate))
    deviations = np.where(is_right, 0.0, loss - mean_loss) / len(sizes)
    return bias.mean(), (gain - mean_loss) / len(sizes), deviations


def compare_classifiers(
    targets: np.ndarray, predictions: np.ndarray, other_predictions: np.ndarray, confidence: float
) -> dict[str, float]:
    """Compare the predictions of two classifiers for the same titles.

    Args:
        targets: Class indices, (n,), n >= 1.
        predictions: Predicted class indices of the first classifier, (n,).
        other_predictions: Predicted class indices of the second classifier, (n,).
        confidence: Coverage of the intervals, 0 to 1.

    Returns:
        Values rounded to 6 digits. Values of balanced_accuracy, accuracy and macro_f1 are the first
        classifier's minus the second one's. The ends of metric_interval have names such as
        accuracy_low and accuracy_high. The value of p_value is the p-value of McNemar's exact test
        (McNemar 1947) on the titles that only one of the classifiers gets right.
    """
    right, other_right = predictions == targets, other_predictions == targets
    only, only_other = int((right & ~other_right).sum()), int((other_right & ~right).sum())
    compared: dict[str, float] = {}
    for metric, function in MEASURES.items():
        compared[metric] = function(targets, predictions) - function(targets, other_predictions)
        compared[f"{metric}_low"], compared[f"{metric}_high"] = metric_interval(
            metric, targets, predictions, confidence, other_predictions
        )
    compared["p_value"] = binomtest(only, only + only_other).pvalue if only + only_other else 1.0
    return {name: round(float(value), 6) + 0.0 for name, value in compared.items()}  # never -0.0
