"""Properties of metrics that follow from their names."""

from __future__ import annotations

_LOWER_IS_BETTER = ("loss", "ece", "ece_before_calibration", "model_megabytes", "parameters")


def lower_is_better(metric: str) -> bool:
    """Return whether lower values of a metric are better.

    Args:
        metric: Dotted name, such as test.mlp.loss; only its last part counts.
    """
    return metric.rpartition(".")[2] in _LOWER_IS_BETTER
