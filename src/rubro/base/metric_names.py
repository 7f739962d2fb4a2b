"""Display names of metrics, and whether lower or higher values of a metric are better."""

from __future__ import annotations

from typing import Literal

Objective = Literal[
    "balanced_accuracy", "accuracy", "macro_f1"
]  # metrics that a model can optimise

CAPTIONS = {
    "balanced_accuracy": "balanced accuracy",
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "top3_accuracy": "top-3 accuracy",
    "top5_accuracy": "top-5 accuracy",
    "loss": "loss (cross-entropy)",
    "ece": "calibration error",
    "top3_ece": "top-3 calibration error",
    "ece_before_calibration": "calibration error before calibration",
}
# Metrics of a level of a category tree.
LEVEL_CAPTIONS = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "weighted_f1": "weighted F1",
}
# Metrics of the paths in a category tree.
PATH_CAPTIONS = {
    "hierarchical_f1": "hierarchical F1",
    "hierarchical_precision": "hierarchical precision",
    "hierarchical_recall": "hierarchical recall",
    "mean_weighted_f1": "mean weighted F1 of the levels",
}


def captions_for(objective: Objective) -> dict[str, str]:
    """Return CAPTIONS with the metric of an objective first."""
    return {objective: CAPTIONS[objective], **CAPTIONS}


def lower_is_better(metric: str) -> bool:
    """Return whether lower values of a metric are better.

    Args:
        metric: Dotted name, such as test.mlp.loss; only the part after the last dot counts.
    """
    name = metric.rpartition(".")[2]
    return name in ("loss", "model_megabytes", "parameters") or "ece" in name.split("_")
