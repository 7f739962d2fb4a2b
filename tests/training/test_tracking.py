"""Learning curves on disk, runs on an MLflow server, and lazy imports."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from base64 import b64encode
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from rubro.base.errors import DataError
from rubro.base.mlflow_server import MlflowServer, attach_report, finish_pipeline
from rubro.base.params import Params
from rubro.base.params_file import flat, load_params
from rubro.training.tracking import tracked
from support.curves import curve, pipelines_of, trainings_of

pytest_plugins = ["support.curves"]

PARAMS = load_params(Path(__file__).resolve().parents[2] / "params.yaml")
SUBSET = Path("data/subset")


def test_experiment_and_run_are_named_by_the_environment(
    elsewhere: Path, mlflow_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "titles")
    monkeypatch.setenv("DVC_EXP_NAME", "wider")
    with tracked(elsewhere / "curves", "train_mlp", {"train_mlp": {"deep": {"er": None}}}, PARAMS):
        pass
    (run,) = trainings_of(mlflow_client, "titles")
    assert run.info.run_name == "wider train_mlp"
    assert run.data.params == {"train_mlp.deep.er": "None"}


def test_trainings_of_a_pipeline_are_nested_in_one_run(elsewhere: Path, mlflow_client: Any) -> None:
    write_subset("first titles")
    for name in ("train_svm", "train_mlp"):
        with tracked(None, name, {}, PARAMS):
            pass
    (pipeline,) = pipelines_of(mlflow_client)
    assert pipeline.info.status == "RUNNING"
    assert pipeline.info.run_name == "pipeline"
    params = dict(flat(PARAMS.model_dump()))
    assert pipeline.data.params == {name: str(value) for name, value in params.items()}
    for training in trainings_of(mlflow_client):
        assert training.data.tags["mlflow.parentRunId"] == pipeline.info.run_id


def test_evaluation_ends_the_run_of_the_pipeline_with_its_metrics_and_files(
    elsewhere: Path, mlflow_client: Any
) -> None:
    write_subset("first titles")
    with tracked(None, "train_svm", {}, PARAMS):
        pass
    evaluate({"svm": {"accuracy": 0.5, "rare": None}})
    (pipeline,) = pipelines_of(mlflow_client)
    assert pipeline.info.status == "FINISHED"
    assert pipeline.data.metrics == {"svm.accuracy": 0.5}
    files = mlflow_client.list_artifacts(pipeline.info.run_id, "evaluation")
    assert [file.path for file in files] == ["evaluation/card.md"]


def test_another_run_of_the_pipeline_has_a_run_of_its_own(
    elsewhere: Path, mlflow_client: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    report = elsewhere / "report.html"
    report.write_text("page")

    def attach(params: Params) -> None:
        MlflowServer().send(lambda mlflow: attach_report(mlflow, params, SUBSET, report))

    write_subset("first titles")
    evaluate({"accuracy": 0.1})
    evaluate({"accuracy": 0.2})  # the same titles and parameters again
    write_subset("other titles")
    evaluate({"accuracy": 0.3})
    attach(PARAMS)
    found = {run.data.metrics["accuracy"]: run for run in pipelines_of(mlflow_client)}
    assert found.keys() == {0.1, 0.2, 0.3}
    with_report = [
        accuracy
        for accuracy, run in found.items()
        if "report.html" in [f.path for f in mlflow_client.list_artifacts(run.info.run_id)]
    ]
    assert with_report == [0.3]
    assert "report" not in capfd.readouterr().err
    attach(PARAMS.model_copy(update={"seed": 1}))
    assert "the report is not attached" in capfd.readouterr().err
    assert len(pipelines_of(mlflow_client)) == 3


def write_subset(content: str) -> None:
    SUBSET.mkdir(parents=True, exist_ok=True)
    (SUBSET / "train.parquet").write_text(content)


def evaluate(metrics: dict[str, Any]) -> None:
    """Finish the run of the pipeline, as the stage does."""
    folder = Path("metrics/evaluation")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "card.md").write_text("card")
    MlflowServer().send(lambda mlflow: finish_pipeline(mlflow, PARAMS, SUBSET, metrics, folder))


def test_a_failed_training_is_a_failed_run_with_its_curves(
    elsewhere: Path, mlflow_client: Any
) -> None:
    with (
        pytest.raises(RuntimeError, match="out of memory"),
        tracked(elsewhere / "curves", "train_mlp", {}, PARAMS) as tracker,
    ):
        tracker.log_epoch(0, {"train/loss": 2.0})
        raise RuntimeError("out of memory")
    (run,) = trainings_of(mlflow_client)
    assert run.info.status == "FAILED"
    assert run.data.metrics["train/loss"] == 2.0
    assert curve(elsewhere / "curves", "train/loss") == ([0], [2.0])


@pytest.mark.parametrize("uri", ["nonsense://nowhere", "http://127.0.0.1:9"])
def test_an_unreachable_server_does_not_stop_the_training(
    uri: str,
    elsewhere: Path,
    mlflow_client: Any,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    import mlflow

    mlflow.set_tracking_uri(uri)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with tracked(elsewhere / "curves", "train_mlp", {}, PARAMS) as tracker:
        tracker.log_epoch(0, {"train/loss": 2.0})
    assert curve(elsewhere / "curves", "train/loss") == ([0], [2.0])
    assert capfd.readouterr().err.count(f"MLflow at {uri}: ") == 1


TRACK = f"""
import sys
from pathlib import Path
from rubro.base.params import Params
from rubro.training.tracking import tracked
params = Params.model_validate_json({PARAMS.model_dump_json()!r})
with tracked(Path("curves"), "train_mlp", {{"seed": 1}}, params) as tracker:
    tracker.log_epoch(0, {{"train/loss": 1.0}})
    tracker.log_outcome({{"best/train/loss": 1.0}}, Path("."))
"""


def run_script(code: str, **environment: str) -> str:
    """Run code in a new interpreter and return its output and messages."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.parametrize("environment", [{}, {"MLFLOW_TRACKING_URI": ""}])
def test_mlflow_is_imported_only_with_a_server(
    environment: dict[str, str], elsewhere: Path
) -> None:
    run_script(f"{TRACK}assert 'mlflow' not in sys.modules", **environment)
    assert curve(elsewhere / "curves", "train/loss") == ([0], [1.0])


def test_a_missing_mlflow_package_is_reported(elsewhere: Path) -> None:
    missing = "import sys\nsys.modules['mlflow'] = None"  # makes an import fail
    messages = run_script(f"{missing}\n{TRACK}", MLFLOW_TRACKING_URI="http://localhost")
    assert ".[mlflow]" in messages
    assert curve(elsewhere / "curves", "train/loss") == ([0], [1.0])


def test_a_server_that_fails_during_the_training_does_not_stop_it(
    elsewhere: Path, mlflow_client: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    with tracked(elsewhere / "curves", "train_mlp", {}, PARAMS) as tracker:
        tracker.log_epoch(0, {"train/loss": 2.0})
        shutil.rmtree(elsewhere / "mlflow")
        tracker.log_epoch(1, {"train/loss": 1.0})
    assert capfd.readouterr().err.count("MLflow at file:") == 1
    assert curve(elsewhere / "curves", "train/loss") == ([0, 1], [2.0, 1.0])


def test_a_repository_without_a_commit_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    subprocess.run(["git", "init", "--quiet"], check=True)
    with (
        pytest.raises(DataError, match=r"git: .*commit"),
        tracked(tmp_path / "curves", "train_mlp", {}, PARAMS),
    ):
        pass


@pytest.mark.parametrize(
    "address",
    [
        "http://alicia:s3creta@127.0.0.1:9/",
        "http://alicia:x/s3creta@127.0.0.1:9",
        "http://s3creta:@127.0.0.1:9",
        "nonsense://alicia:s3creta@nowhere",
        "http://127.0.0.1:9/?user=alicia&token=s3creta",
        "http://alicia:s3creta@127.0.0.1:9?token=s3creta#part",
        "nonsense://nowhere?password=s3creta",
    ],
)
def test_credentials_of_a_server_are_not_printed(address: str, elsewhere: Path) -> None:
    printed = run_script(TRACK, MLFLOW_TRACKING_URI=address, MLFLOW_HTTP_REQUEST_MAX_RETRIES="1")
    assert "MLflow at " in printed
    assert "s3creta" not in printed
    assert "alicia" not in printed


class _Recorder(BaseHTTPRequestHandler):
    """Server that records the credentials of each request and refuses it."""

    def do_GET(self) -> None:
        self.server.received.add(self.headers["Authorization"])  # type: ignore[attr-defined]
        self.send_error(403)

    do_POST = do_GET


def test_credentials_in_the_address_are_sent(elsewhere: Path) -> None:
    with HTTPServer(("127.0.0.1", 0), _Recorder) as server:
        server.received = set()  # type: ignore[attr-defined]
        Thread(target=server.serve_forever, daemon=True).start()
        run_script(
            TRACK, MLFLOW_TRACKING_URI=f"http://alicia:s3%40creta@127.0.0.1:{server.server_port}"
        )
        server.shutdown()
    expected = b64encode(b"alicia:s3@creta").decode()
    assert server.received == {f"Basic {expected}"}  # type: ignore[attr-defined]
