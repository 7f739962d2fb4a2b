"""A run of the real pipeline in an MLflow store."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from rubro.base.params_file import flat
from support.curves import pipelines_of, trainings_of
from support.tiny_project import change_params, environment

pytest_plugins = ["support.curves", "support.tiny_project"]
pytestmark = pytest.mark.slow


def test_a_run_of_the_pipeline_contains_its_trainings_and_the_report(
    project: Path, tmp_path: Path, mlflow_client: Any
) -> None:
    store = {
        "MLFLOW_TRACKING_URI": mlflow_client.tracking_uri,
        "MLFLOW_ALLOW_FILE_STORE": "true",
        "DVC_EXP_NAME": "softer",
    }
    change_params(project, C=0.5)
    for command in (["dvc", "repro"], ["rubro", "report"]):
        done = subprocess.run(
            command,
            cwd=project,
            env=environment() | store,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "MLflow" not in done.stderr
    trainings = trainings_of(mlflow_client)
    names = sorted(run.info.run_name for run in trainings)
    # The other trainings do not depend on the parameter.
    assert names == ["softer ensemble", "softer train_svm"]
    (parent,) = pipelines_of(mlflow_client)
    assert {run.data.tags["mlflow.parentRunId"] for run in trainings} == {parent.info.run_id}
    assert (parent.info.run_name, parent.info.status) == ("softer pipeline", "FINISHED")
    assert parent.data.params["train_svm.C"] == "0.5"
    test = json.loads((project / "metrics/evaluate.json").read_text())["test"]
    for name, value in flat({"test": {"ensemble": test["ensemble"]}}):
        if value is not None:
            assert parent.data.metrics[name] == value
    listed = mlflow_client.list_artifacts(parent.info.run_id)
    assert {"evaluation", "report.html"} <= {file.path for file in listed}
