"""Learning curves on disk and on an MLflow server, as fixtures.

A test file loads them with `pytest_plugins = ["support.curves"]`.
"""

from __future__ import annotations

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import pytest

CURVES = [
    f"{split}/{metric}"
    for split in ("train", "validation")
    for metric in ("accuracy", "balanced_accuracy", "loss", "macro_f1")
]


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty current folder without an MLflow server or a DVC experiment."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith(("MLFLOW_", "DVC"))]:
        monkeypatch.delenv(name)
    return tmp_path


@pytest.fixture
def mlflow_client(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Client of an MLflow store in a folder."""
    mlflow = pytest.importorskip("mlflow")
    uri = (elsewhere / "mlflow").as_uri()
    before = mlflow.get_tracking_uri()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri(uri)
    yield mlflow.MlflowClient(uri)
    with suppress(Exception):  # the test may have removed the store
        mlflow.end_run()
    mlflow.set_tracking_uri(before)


@pytest.fixture(scope="session")
def mlflow_command() -> str:
    """Path of the command of the full mlflow package, installed with this package."""
    given = os.environ.get("RUBRO_TEST_MLFLOW")
    if given:
        return given
    if not any(package.name == "mlflow" for package in distributions()):
        pytest.skip("needs the package mlflow, or RUBRO_TEST_MLFLOW=path of its command")
    return str(Path(sys.executable).with_name("mlflow"))


@contextmanager
def serving(command: str, ready: str, *arguments: str) -> Iterator[str]:
    """Run a server of MLflow.

    Args:
        command: Path of the command mlflow.
        ready: Path that the server answers when it is ready.
        arguments: Arguments, without the port.

    Yields:
        Address of the server.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = Path(command).parent  # `mlflow models serve` starts the uvicorn of its PATH
    variables = {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
    address = f"http://127.0.0.1:{port}"
    with subprocess.Popen(
        [command, *arguments, "--port", str(port)], env=variables, start_new_session=True
    ) as process:
        try:
            for _ in range(600):
                assert process.poll() is None
                with suppress(OSError), urllib.request.urlopen(address + ready, timeout=10):
                    break
                time.sleep(0.2)
            yield address
        finally:
            os.killpg(process.pid, signal.SIGTERM)


def post(address: str, body: Any) -> Any:
    """Post JSON to a server and return the JSON of its answer."""
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(address, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.load(response)


def trainings_of(client: Any, experiment: str = "rubro") -> list[Any]:
    """Return the runs of trainings, which are nested in the run of their pipeline."""
    return _runs_with("mlflow.parentRunId", client, experiment)


def pipelines_of(client: Any) -> list[Any]:
    """Return the runs of whole pipelines."""
    return _runs_with("rubro.pipeline", client, "rubro")


def _runs_with(tag: str, client: Any, experiment: str) -> list[Any]:
    found = client.get_experiment_by_name(experiment)
    return [run for run in client.search_runs([found.experiment_id]) if tag in run.data.tags]


def curve(folder: Path, name: str) -> tuple[list[int], list[float]]:
    """Return the steps and values of a curve in a folder of DVCLive."""
    path = folder / "plots/metrics" / f"{name}.tsv"
    with open(path, newline="", encoding="utf-8") as file:
        points = list(csv.DictReader(file, delimiter="\t"))
    metric = name.split("/")[1]
    return [int(p["step"]) for p in points], [float(p[metric]) for p in points]


def curves_on_disk(folder: Path) -> list[str]:
    """Return the names of the curves in a folder of DVCLive."""
    root = folder / "plots/metrics"
    return sorted(path.relative_to(root).with_suffix("").as_posix() for path in root.rglob("*.tsv"))
