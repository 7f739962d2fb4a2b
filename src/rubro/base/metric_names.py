"""Display names of metrics, and whether lower or higher values of a metric are better."""

from __future__ import annotations

from typing import Literal

Objective = Literal["balanced_accuracy", "accuracy", "macro_f1"]  # metrics that models can serve

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
_LOWER_IS_BETTER = (
    *("loss", "ece", "top3_ece", "ece_before_calibration"),
    *("model_megabytes", "parameters"),
)


def captions_for(objective: Objective) -> dict[str, str]:
    """Return CAPTIONS with the metric of an objective first."""
    return {objective: CAPTIONS[objective], **CAPTIONS}


def lower_is_better(metric: str) -> bool:
    """Return whether lower values of a metric are better.

    Args:
        metric: Dotted name, such as test.mlp.loss; only the part after the last dot counts.
    """
    return metric.rpartition(".")[2] in _LOWER_IS_BETTER
