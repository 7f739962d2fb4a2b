"""Outputs are shared through a DVC remote; experiments and model versions through Git."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from rubro.prediction.classifier import Classifier
from support.tiny_project import STAGES, commit, digests, outputs_of, run_in, stages_run

pytest_plugins = ["support.tiny_project"]

OUTPUTS = outputs_of(*STAGES)
SHORTER = ("--name", "shorter", "-S", "train_mlp.max_epochs=1")
RERUN = ["train_mlp", "ensemble", "evaluate"]


@pytest.fixture(params=["folder", "s3"])
def add_remote(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[str]]:
    """Arguments of the dvc commands that add a default remote: a folder or an S3 server."""
    if request.param == "folder":
        yield [f"remote add --default store {tmp_path / 'store'}"]
        return
    pytest.importorskip("dvc_s3", reason="needs dvc-s3")
    server_of = pytest.importorskip("moto.server", reason="needs moto, flask and flask-cors")
    import boto3

    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    (tmp_path / "empty").touch()
    variables = {
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "nothing",
        "AWS_DEFAULT_REGION": "us-east-1",
        **dict.fromkeys(("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"), tmp_path / "empty"),
        **dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1"),
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, str(value))
    server = server_of.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    address = "http://{}:{}".format(*server.get_host_and_port())
    boto3.client("s3", endpoint_url=address).create_bucket(Bucket="rubro")
    yield [
        "remote add --default store s3://rubro/store",
        f"remote modify store endpointurl {address}",
    ]
    server.stop()


def cloned(source: Path, folder: Path) -> Path:
    run_in(source, "git", "clone", "--quiet", str(source), str(folder))
    return folder


@pytest.fixture
def mine(project: Path, tmp_path: Path) -> Path:
    """The project with a DVC remote and a Git remote, after pushing to both."""
    run_in(project, "dvc", "remote", "add", "--default", "store", str(tmp_path / "store"))
    commit(project, "Add a remote")
    run_in(project, "dvc", "push")
    run_in(project, "git", "clone", "--quiet", "--bare", ".", str(tmp_path / "origin.git"))
    run_in(project, "git", "remote", "add", "origin", str(tmp_path / "origin.git"))
    return project


@pytest.mark.slow
def test_clone_pulls_all_outputs_and_runs_no_stage(
    project: Path, tmp_path: Path, add_remote: list[str]
) -> None:
    for command in add_remote:
        run_in(project, "dvc", *command.split())
    commit(project, "Add a remote")
    run_in(project, "dvc", "push")
    clone = cloned(project, tmp_path / "clone")
    assert not (clone / "models").exists()
    run_in(clone, "dvc", "pull")
    assert "up to date" in run_in(clone, "dvc", "status").stdout
    assert "in sync" in run_in(clone, "dvc", "status", "--cloud").stdout
    assert stages_run(run_in(clone, "dvc", "repro")) == []
    assert digests(clone, *OUTPUTS) == digests(project, *OUTPUTS)
    assert len(digests(clone, *OUTPUTS)) > 40
    assert run_in(clone, "git", "status", "--porcelain").stdout == ""


@pytest.mark.slow
def test_registered_model_version_predicts_in_another_folder(
    mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_in(mine, "gto", "register", "ensemble-classifier", "--version", "v1.0.0")
    run_in(mine, "git", "push", "--quiet", "--tags", "origin")
    tags = run_in(tmp_path / "origin.git", "git", "tag").stdout.split()
    assert tags == ["ensemble-classifier@v1.0.0"]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    origin = f"file://{tmp_path}/origin.git"
    get = ["artifacts", "get", origin, "ensemble-classifier", "--rev", "v1.0.0", "--out", "model"]
    run_in(elsewhere, "dvc", *get)
    titles = ["Zapatillas Running Talle 42", "silla gamer reclinable", "ññ 3090 ti", "?"]
    there = Classifier.load("model").predict_proba(titles)
    here = Classifier.load(mine / "models" / "ensemble").predict_proba(titles)
    np.testing.assert_array_equal(there, here)
    assert len(np.unique(there, axis=0)) == len(titles)


@pytest.mark.slow
def test_pushed_experiment_is_applied_without_a_run(mine: Path, tmp_path: Path) -> None:
    assert stages_run(run_in(mine, "dvc", "exp", "run", *SHORTER)) == RERUN
    run_in(mine, "dvc", "exp", "push", "origin", "shorter")
    clone = cloned(tmp_path / "origin.git", tmp_path / "clone")
    run_in(clone, "dvc", "exp", "pull", "origin", "shorter")
    run_in(clone, "dvc", "exp", "apply", "shorter")
    assert digests(clone, *OUTPUTS) == digests(mine, *OUTPUTS)
    assert stages_run(run_in(clone, "dvc", "repro")) == []


@pytest.mark.slow
def test_clones_with_shared_cache_run_experiment_once(mine: Path, tmp_path: Path) -> None:
    run_in(mine, "dvc", "exp", "run", *SHORTER)
    clone = cloned(mine, tmp_path / "clone")
    run_in(clone, "dvc", "cache", "dir", "--local", str(mine / ".dvc" / "cache"))
    run_in(clone, "dvc", "checkout")
    assert stages_run(run_in(clone, "dvc", "exp", "run", *SHORTER)) == []
    assert digests(clone, *OUTPUTS) == digests(mine, *OUTPUTS)


@pytest.mark.slow
def test_pulled_run_cache_does_not_skip_stages(mine: Path, tmp_path: Path) -> None:
    """DVC skips a stage only if all outputs are cached; it never pushes those with `cache: false`."""
    run_in(mine, "dvc", "exp", "run", *SHORTER)
    run_in(mine, "dvc", "push", "--run-cache")
    clone = cloned(mine, tmp_path / "clone")
    run_in(clone, "dvc", "pull", "--run-cache")
    done = run_in(clone, "dvc", "exp", "run", "--pull", *SHORTER)
    assert stages_run(done) == RERUN
    assert digests(clone, *OUTPUTS) == digests(mine, *OUTPUTS)
