"""Learning curves, written by DVCLive and, where the user has one, sent to an MLflow server."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dvclive import Live

from rubro.base.console import say
from rubro.base.errors import TrainingError
from rubro.base.settings import flat


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
        self._send(lambda mlflow: mlflow.log_metrics(metrics, step=epoch))

    def log_outcome(self, metrics: dict[str, float], model: Path) -> None:
        """Send the final metrics and the model folder to MLflow, where there is one."""
        self._send(lambda mlflow: mlflow.log_metrics(metrics))
        self._send(lambda mlflow: mlflow.log_artifacts(str(model), artifact_path="model"))

    def close(self, status: str) -> None:
        """End the MLflow run, where there is one, with this status."""
        self._send(lambda mlflow: mlflow.end_run(status))

    def _send(self, message: Callable[[Any], None]) -> None:
        """A server that fails half way must not cost the training."""
        if self._mlflow:
            try:
                message(self._mlflow)
            except Exception as error:  # noqa: BLE001 (of any kind: the network, the server, its disk)
                say(f"MLflow: {error}; the training goes on without it")
                self._mlflow = None


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
    mlflow = _mlflow()
    if mlflow:
        experiment = os.environ.get("DVC_EXP_NAME")
        try:
            mlflow.set_experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME", "rubro"))
            mlflow.start_run(run_name=f"{experiment} {name}" if experiment else name)
            mlflow.log_params(dict(flat(params)))
        except mlflow.exceptions.MlflowException as error:
            raise TrainingError(
                f"MLFLOW_TRACKING_URI={os.environ['MLFLOW_TRACKING_URI']}: {error}"
            ) from None
    # dvc.yaml declares the plots, and `dvc exp run` the experiments: DVCLive only records.
    with Live(str(folder), dvcyaml=False, save_dvc_exp=False, monitor_system=False) as live:
        tracker = Tracker(live, mlflow)
        try:
            yield tracker
        except BaseException:
            tracker.close("FAILED")
            raise
        tracker.close("FINISHED")


def _mlflow() -> Any:
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        return None
    try:
        import mlflow
    except ImportError:
        say("MLFLOW_TRACKING_URI is set, but mlflow is not installed: pip install -e '.[mlflow]'")
        return None
    return mlflow
