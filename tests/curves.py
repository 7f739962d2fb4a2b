"""Learning curves on disk and on an MLflow server, as fixtures.

A test file takes them with `pytest_plugins = ["curves"]`.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

CURVES = [
    f"{split}/{metric}"
    for split in ("train", "validation")
    for metric in ("accuracy", "balanced_accuracy", "loss")
]


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, without MLflow server and DVC experiment."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith(("MLFLOW_", "DVC"))]:
        monkeypatch.delenv(name)
    return tmp_path


@pytest.fixture
def server(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Client of an MLflow store in a folder."""
    mlflow = pytest.importorskip("mlflow")
    uri = (elsewhere / "mlflow").as_uri()
    before = mlflow.get_tracking_uri()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri(uri)
    yield mlflow.MlflowClient(uri)
    with suppress(Exception):  # of a run whose store a test has removed
        mlflow.end_run()
    mlflow.set_tracking_uri(before)


def runs_of(client: Any, experiment: str = "rubro") -> list[Any]:
    """Return the runs of an experiment on a server."""
    found = client.get_experiment_by_name(experiment)
    return list(client.search_runs([found.experiment_id]))


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
