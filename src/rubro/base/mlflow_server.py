"""Optional MLflow server: a run for each run of the pipeline, with nested runs for the trainings."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from textwrap import shorten
from typing import Any
from urllib.parse import unquote

from rubro.base.console import say
from rubro.base.files import file_digests
from rubro.base.params import Params
from rubro.base.params_file import flat

_TAG = "rubro.pipeline"
_MAX_REASON_LENGTH = 250
# With MLflow's default limits, a server that does not answer would block a training for 15 minutes.
_LIMITS = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "30", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2"}
_WITH_CREDENTIALS = re.compile(r"(https?://)([^/?#:]+):([^/?#]+)@(.*)", re.IGNORECASE)


class MlflowServer:
    """MLflow server that MLFLOW_TRACKING_URI names; without this variable, nothing is sent.

    The first error is printed, and then nothing more is sent.
    """

    def __init__(self) -> None:
        self._mlflow = _import_mlflow()

    def send(self, message: Callable[[Any], None]) -> None:
        """Call a function with the mlflow module, if there is a server."""
        if self._mlflow:
            try:
                message(self._mlflow)
            except Exception as error:  # noqa: BLE001 (network, server or disk)
                address = _without_secrets(os.environ["MLFLOW_TRACKING_URI"])
                found = f"MLflow at {address}: {_without_secrets(str(error))}"
                reason = shorten(found, _MAX_REASON_LENGTH)
                say(f"{reason}; the command continues without it")
                self._mlflow = None


def start_training(mlflow: Any, name: str, params: Params, subset: Path) -> None:
    """Start the active run of a stage, nested in the unfinished run of its pipeline.

    The runs are named after the DVC experiment, if there is one, and the stage.

    Args:
        mlflow: The mlflow module.
        name: Name of the stage.
        params: Parameters of the pipeline.
        subset: Folder of the split titles.
    """
    parent = _pipeline_run(mlflow, params, subset)
    mlflow.start_run(run_name=_run_name(name), nested=True, parent_run_id=parent)


def finish_pipeline(
    mlflow: Any, params: Params, subset: Path, metrics: dict[str, Any], tables: Path
) -> None:
    """Send metrics and files of the evaluation to the run of the pipeline, and end the run.

    Args:
        mlflow: The mlflow module.
        params: Parameters of the pipeline.
        subset: Folder of the split titles.
        metrics: Nested metrics by name; values other than numbers are skipped.
        tables: Folder whose files are attached.
    """
    client, run = mlflow.MlflowClient(), _pipeline_run(mlflow, params, subset)
    numbers = {name: value for name, value in flat(metrics) if isinstance(value, int | float)}
    mlflow.log_metrics(numbers, run_id=run)
    client.log_artifacts(run, str(tables), tables.name)
    client.set_terminated(run)


def attach_report(mlflow: Any, params: Params, subset: Path, report: Path) -> None:
    """Attach a report to the newest run of the pipeline, if the server has one.

    Args:
        mlflow: The mlflow module.
        params: Parameters of the pipeline.
        subset: Folder of the split titles.
        report: Path of the page.
    """
    runs = _runs(mlflow, _digest(params, subset))
    if runs:
        mlflow.MlflowClient().log_artifact(runs[0], str(report))
    else:
        say("MLflow: no run has these parameters and titles, so the report is not attached to any")


def _pipeline_run(mlflow: Any, params: Params, subset: Path) -> str:
    """Return the ID of the unfinished run of the pipeline; create the run if there is none."""
    digest = _digest(params, subset)
    unfinished = _runs(mlflow, digest, " and attributes.status = 'RUNNING'")
    if unfinished:
        return unfinished[0]
    tags = {_TAG: digest}
    run = mlflow.MlflowClient().create_run(
        _experiment(mlflow), tags=tags, run_name=_run_name("pipeline")
    )
    created: str = run.info.run_id
    mlflow.log_params(dict(flat(params.model_dump())), run_id=created)
    return created


def _runs(mlflow: Any, digest: str, condition: str = "") -> list[str]:
    """Return the IDs of the runs of a pipeline, newest first."""
    found = mlflow.MlflowClient().search_runs(
        [_experiment(mlflow)],
        f"tags.`{_TAG}` = '{digest}'{condition}",
        order_by=["attributes.start_time DESC"],
    )
    return [run.info.run_id for run in found]


def _digest(params: Params, subset: Path) -> str:
    """Return a digest of the parameters and the titles, which identifies a pipeline."""
    names = sorted(file.name for file in subset.glob("*") if file.is_file())
    inputs = [params.model_dump(mode="json"), file_digests(subset, names)]
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def _experiment(mlflow: Any) -> str:
    """Return the ID of the experiment, and create it if it is missing."""
    experiment = mlflow.set_experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME", "rubro"))
    found: str = experiment.experiment_id
    return found


def _run_name(name: str) -> str:
    return f"{os.environ.get('DVC_EXP_NAME', '')} {name}".strip()


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


def _without_secrets(text: str) -> str:
    """Hide user, password and query of each address in a text, such as an error."""
    return re.sub(r"\?\S*", "?***", re.sub(r"\S*@", "***@", text))


def _move_credentials() -> None:
    """Move user and password from the address of the server to variables that MLflow never prints.

    If other secrets may remain in the address, MLflow does not print it.
    """
    address = os.environ["MLFLOW_TRACKING_URI"]
    if found := _WITH_CREDENTIALS.fullmatch(address):
        scheme, user, password, server = found.groups()
        os.environ["MLFLOW_TRACKING_USERNAME"] = unquote(user)
        os.environ["MLFLOW_TRACKING_PASSWORD"] = unquote(password)
        address = os.environ["MLFLOW_TRACKING_URI"] = scheme + server
    if "@" in address or "?" in address:
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
