"""Learning curves, written by DVCLive and, where the user has one, sent to an MLflow server."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from dvclive import Live

from rubro.console import say
from rubro.errors import TrainingError


class Tracker:
    """Receives what a training reports."""

    def __init__(self, live: Live, mlflow: Any) -> None:
        self._live = live
        self._mlflow = mlflow

    def log_epoch(self, epoch: int, metrics: dict[str, float]) -> None:
        """Record one point of each curve.

        Args:
            epoch: from 0.
            metrics: by name; a slash separates split and metric.
        """
        self._live.step = epoch
        for name, value in metrics.items():
            self._live.log_metric(name, value)
        self._live.sync()
        if self._mlflow:
            self._mlflow.log_metrics(metrics, step=epoch)

    def log_outcome(self, metrics: dict[str, float], model: Path) -> None:
        """Send the final metrics and the model folder to MLflow, where there is one."""
        if self._mlflow:
            self._mlflow.log_metrics(metrics)
            self._mlflow.log_artifacts(str(model), artifact_path="model")


@contextmanager
def tracked(folder: Path, name: str, params: dict[str, Any]) -> Iterator[Tracker]:
    """Track one training.

    Args:
        folder: where DVCLive writes the curves.
        name: of the stage; names the MLflow run outside `dvc exp run`.
        params: nested parameters, for MLflow.

    Yields:
        The tracker. MLflow is used, and imported, only where MLFLOW_TRACKING_URI is set.

    Raises:
        TrainingError: MLflow refuses MLFLOW_TRACKING_URI.
    """
    with ExitStack() as stack:
        mlflow = _mlflow()
        if mlflow:
            experiment = os.environ.get("DVC_EXP_NAME")
            run_name = f"{experiment} {name}" if experiment else name
            try:
                mlflow.set_experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME", "rubro"))
                stack.enter_context(mlflow.start_run(run_name=run_name))
                mlflow.log_params(_flat(params))
            except mlflow.exceptions.MlflowException as error:
                raise TrainingError(
                    f"MLFLOW_TRACKING_URI={os.environ['MLFLOW_TRACKING_URI']}: {error}"
                ) from None
        # dvc.yaml declares the plots, and `dvc exp run` the experiments: DVCLive only records.
        live = stack.enter_context(
            Live(str(folder), dvcyaml=False, save_dvc_exp=False, monitor_system=False)
        )
        yield Tracker(live, mlflow)


def _mlflow() -> Any:
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        return None
    try:
        import mlflow
    except ImportError:
        say("MLFLOW_TRACKING_URI is set, but mlflow is not installed: pip install 'rubro[mlflow]'")
        return None
    return mlflow


def _flat(params: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in params.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
