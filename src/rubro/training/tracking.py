"""Experiment tracking: learning curves with DVCLive and, optionally, runs on an MLflow server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rubro.base.errors import DataError
from rubro.base.mlflow_server import MlflowServer, start_training
from rubro.base.params import Params
from rubro.base.params_file import flat
from rubro.training.mlflow_model import log_model

if TYPE_CHECKING:
    from dvclive import Live

_SUBSET = Path("data/subset")


class Tracker:
    """Recorder of learning curves and final metrics, for DVCLive and MLflow.

    Args:
        live: Open DVCLive logger; None = record no learning curves.
    """

    def __init__(self, live: Live | None) -> None:
        self._live = live
        self._server = MlflowServer()
        self._epochs = 0

    def start(self, name: str, values: dict[str, Any], params: Params) -> None:
        """Start an MLflow run in the run of the pipeline, if there is a server.

        Args:
            name: Name of the stage.
            values: Nested parameters of the training.
            params: Parameters of the pipeline.
        """
        self._server.send(lambda mlflow: start_training(mlflow, name, params, _SUBSET))
        self._server.send(lambda mlflow: mlflow.log_params(dict(flat(values))))

    def log_epoch(self, epoch: int, metrics: dict[str, float]) -> None:
        """Record the metrics of an epoch.

        Args:
            epoch: Number of the epoch, from 0.
            metrics: Values by name, SPLIT/METRIC.
        """
        if self._live:
            self._live.step = epoch
            for name, value in metrics.items():
                self._live.log_metric(name, value)
            self._live.sync()
        self._epochs = epoch + 1
        self._server.send(lambda mlflow: mlflow.log_metrics(metrics, step=epoch))

    def log_outcome(self, metrics: dict[str, float], model: Path) -> None:
        """Send the final metrics and the model to MLflow, if there is a server.

        Args:
            metrics: Values by name.
            model: Path of the model folder.
        """
        # MLflow shows the metrics of the model's step with the model, so no epoch may share the step.
        step = self._epochs
        self._server.send(lambda mlflow: mlflow.log_metrics(metrics, step=step))
        self._server.send(lambda mlflow: log_model(mlflow, model, step))

    def close(self, status: str) -> None:
        """End the MLflow run, if there is one, with a status such as FINISHED."""
        self._server.send(lambda mlflow: mlflow.end_run(status))


@contextmanager
def tracked(
    folder: Path | None, name: str, values: dict[str, Any], params: Params
) -> Iterator[Tracker]:
    """Open a tracker for a training run; MLflow is used only if MLFLOW_TRACKING_URI is set.

    Args:
        folder: Folder for the learning curves; None = record no learning curves.
        name: Name of the stage.
        values: Nested parameters of the training, for MLflow.
        params: Parameters of the pipeline, whose run in MLflow contains the run of the training.

    Yields:
        Tracker of the training run.
    """
    with _open_curves(folder) as live:
        tracker = Tracker(live)
        tracker.start(name, values, params)
        status = "FAILED"
        try:
            yield tracker
            status = "FINISHED"
        finally:
            tracker.close(status)


def _open_curves(folder: Path | None) -> AbstractContextManager[Any]:
    if folder is None:
        return nullcontext()
    from dvclive import Live
    from scmrepo.exceptions import SCMError

    # DVCLive only records, because dvc.yaml declares the plots and `dvc exp run` the experiments.
    try:
        live: AbstractContextManager[Live] = Live(
            str(folder), dvcyaml=False, save_dvc_exp=False, monitor_system=False
        )
    except SCMError as error:
        raise DataError(f"git: {error}; DVCLive needs a last commit, so make one") from None
    return live
