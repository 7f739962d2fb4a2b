"""Experiment tracking: learning curves with DVCLive and, optionally, runs on an MLflow server."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from rubro.base.console import say
from rubro.base.errors import DataError
from rubro.base.params_file import flat
from rubro.training.mlflow_model import log_model

if TYPE_CHECKING:
    from dvclive import Live

_MAX_REASON_LENGTH = 250
# With MLflow's default limits, a server that does not answer would block a training for 15 minutes.
_LIMITS = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "30", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2"}
_WITH_CREDENTIALS = re.compile(r"(https?://)([^/?#:]+):([^/?#]+)@(.*)", re.IGNORECASE)


class Tracker:
    """Recorder of learning curves and final metrics, for DVCLive and MLflow.

    Args:
        live: Open DVCLive logger; None = record no learning curves.
        mlflow: The mlflow module; None = send nothing to MLflow.
    """

    def __init__(self, live: Live | None, mlflow: Any) -> None:
        self._live = live
        self._mlflow = mlflow
        self._epochs = 0

    def start(self, name: str, params: dict[str, Any]) -> None:
        """Start an MLflow run with nested parameters, if there is a server.

        The run is named after the DVC experiment, if there is one, and the stage.
        """
        run_name = f"{os.environ.get('DVC_EXP_NAME', '')} {name}".strip()
        experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME", "rubro")
        self._send(lambda mlflow: mlflow.set_experiment(experiment))
        self._send(lambda mlflow: mlflow.start_run(run_name=run_name))
        self._send(lambda mlflow: mlflow.log_params(dict(flat(params))))

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
        self._send(lambda mlflow: mlflow.log_metrics(metrics, step=epoch))

    def log_outcome(self, metrics: dict[str, float], model: Path) -> None:
        """Send the final metrics and the model to MLflow, if there is a server.

        Args:
            metrics: Values by name.
            model: Path of the model folder.
        """
        # MLflow shows the metrics of the model's step with the model, so no epoch may share the step.
        step = self._epochs
        self._send(lambda mlflow: mlflow.log_metrics(metrics, step=step))
        self._send(lambda mlflow: log_model(mlflow, model, step))

    def close(self, status: str) -> None:
        """End the MLflow run, if there is one, with a status such as FINISHED."""
        self._send(lambda mlflow: mlflow.end_run(status))

    def _send(self, message: Callable[[Any], None]) -> None:
        """Call a function of MLflow; after an error, training continues without MLflow."""
        if self._mlflow:
            try:
                message(self._mlflow)
            except Exception as error:  # noqa: BLE001 (network, server or disk)
                # Errors may contain the address, with its user and password.
                found = f"MLflow at {os.environ['MLFLOW_TRACKING_URI']}: {error}"
                reason = shorten(re.sub(r"\S*@", "***@", found), _MAX_REASON_LENGTH)
                say(f"{reason}; the training continues without it")
                self._mlflow = None


@contextmanager
def tracked(folder: Path | None, name: str, params: dict[str, Any]) -> Iterator[Tracker]:
    """Open a tracker for a training run; MLflow is used only if MLFLOW_TRACKING_URI is set.

    Args:
        folder: Folder for the learning curves; None = record no learning curves.
        name: Name of the stage.
        params: Nested parameters, for MLflow.

    Yields:
        Tracker of the training run.
    """
    with _open_curves(folder) as live:
        tracker = Tracker(live, _import_mlflow())
        tracker.start(name, params)
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


def _import_mlflow() -> Any:
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        return None
    for name, limit in _LIMITS.items():
        os.environ.setdefault(name, limit)
    _move_credentials()
    try:
        import mlflow
    except ImportError:
        say("MLFLOW_TRACKING_URI is set, but mlflow is not installed: pip install -e '.[mlflow]'")
        return None
    return mlflow


def _move_credentials() -> None:
    """Move user and password from the address of the server to variables that MLflow never prints."""
    address = os.environ["MLFLOW_TRACKING_URI"]
    if found := _WITH_CREDENTIALS.fullmatch(address):
        scheme, user, password, server = found.groups()
        os.environ["MLFLOW_TRACKING_USERNAME"] = unquote(user)
        os.environ["MLFLOW_TRACKING_PASSWORD"] = unquote(password)
        os.environ["MLFLOW_TRACKING_URI"] = scheme + server
    elif "@" in address:
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
