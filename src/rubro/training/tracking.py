"""Learning curves, written by DVCLive and sent to an MLflow server if the user has one."""

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
    """Records curves and outcome of a training.

    Args:
        live: Open log of DVCLive.
        mlflow: Module mlflow; None = no server.
    """

    def __init__(self, live: Live, mlflow: Any) -> None:
        self._live = live
        self._mlflow = mlflow

    def log_epoch(self, epoch: int, metrics: dict[str, float]) -> None:
        """Record a point of each curve.

        Args:
            epoch: Number of the epoch, from 0.
            metrics: Values by name, SPLIT/METRIC.
        """
        self._live.step = epoch
        for name, value in metrics.items():
            self._live.log_metric(name, value)
        self._live.sync()
        self._send(lambda mlflow: mlflow.log_metrics(metrics, step=epoch))

    def log_outcome(self, metrics: dict[str, float], model: Path) -> None:
        """Send the final metrics and the model folder to MLflow, if there is a server."""
        self._send(lambda mlflow: mlflow.log_metrics(metrics))
        self._send(lambda mlflow: mlflow.log_artifacts(str(model), artifact_path="model"))

    def close(self, status: str) -> None:
        """End the MLflow run, if there is one, with a status."""
        self._send(lambda mlflow: mlflow.end_run(status))

    def _send(self, message: Callable[[Any], None]) -> None:
        """Send a message; after an error of the server, the training continues without it."""
        if self._mlflow:
            try:
                message(self._mlflow)
            except Exception as error:  # noqa: BLE001 (of any kind: the network, the server, its disk)
                say(f"MLflow: {error}; the training continues without it")
                self._mlflow = None


@contextmanager
def tracked(folder: Path, name: str, params: dict[str, Any]) -> Iterator[Tracker]:
    """Track a training.

    Args:
        folder: Folder of the curves.
        name: Name of the stage, and of the MLflow run outside `dvc exp run`.
        params: Nested parameters, for MLflow.

    Yields:
        Tracker; it imports and uses MLflow only where MLFLOW_TRACKING_URI is set.

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
