"""Sharing: outputs in a DVC remote, experiments and model versions in a Git remote."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from rubro.prediction.classifier import Classifier
from support.tiny_project import STAGES, digests, outputs_of, run_in, stages_run

pytest_plugins = ["support.tiny_project"]

OUTPUTS = outputs_of(*STAGES)
SHORTER = ("--name", "shorter", "-S", "train_mlp.max_epochs=1")
RERUN = ["train_mlp", "ensemble", "evaluate"]


@pytest.fixture(params=["folder", "s3"])
def add_remote(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[str]]:
    """The commands that make a DVC remote the default one: a folder, or a server of S3's protocol."""
    if request.param == "folder":
        yield [f"remote add --default store {tmp_path / 'store'}"]
        return
    pytest.importorskip("dvc_s3", reason="needs dvc-s3")
    server_of = pytest.importorskip("moto.server", reason="needs moto, flask and flask-cors")
    import boto3

    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        (tmp_path / name).touch()
        monkeypatch.setenv(name, str(tmp_path / name))
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    server = server_of.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    address = "http://{}:{}".format(*server.get_host_and_port())
    boto3.client("s3", endpoint_url=address).create_bucket(Bucket="rubro")
    yield [
        "remote add --default store s3://rubro/store",
        f"remote modify store endpointurl {address}",
    ]
    server.stop()


def commit(project: Path) -> None:
    run_in(project, "git", "commit", "--quiet", "--all", "--message", "a remote")


def copied(project: Path, folder: Path) -> Path:
    return Path(shutil.copytree(project, folder, symlinks=True))


def cloned(source: Path, folder: Path) -> Path:
    run_in(source, "git", "clone", "--quiet", str(source), str(folder))
    return folder


@pytest.fixture
def mine(project: Path, tmp_path: Path) -> Path:
    """The project with a DVC remote and a Git remote, after pushing to both."""
    mine = copied(project, tmp_path / "mine")
    run_in(mine, "dvc", "remote", "add", "--default", "store", str(tmp_path / "store"))
    commit(mine)
    run_in(mine, "dvc", "push")
    run_in(mine, "git", "clone", "--quiet", "--bare", ".", str(tmp_path / "origin.git"))
    run_in(mine, "git", "remote", "add", "origin", str(tmp_path / "origin.git"))
    return mine


@pytest.mark.slow
def test_a_clone_pulls_every_output_and_runs_nothing(
    project: Path, tmp_path: Path, add_remote: list[str]
) -> None:
    mine = copied(project, tmp_path / "mine")
    for command in add_remote:
        run_in(mine, "dvc", *command.split())
    commit(mine)
    run_in(mine, "dvc", "push")
    clone = cloned(mine, tmp_path / "clone")
    assert not (clone / "models").exists()
    run_in(clone, "dvc", "pull")
    assert "up to date" in run_in(clone, "dvc", "status").stdout
    assert "in sync" in run_in(clone, "dvc", "status", "--cloud").stdout
    assert stages_run(run_in(clone, "dvc", "repro")) == []
    assert digests(clone, *OUTPUTS) == digests(mine, *OUTPUTS)
    assert len(digests(clone, *OUTPUTS)) > 40
    assert run_in(clone, "git", "status", "--porcelain").stdout == ""


@pytest.mark.slow
def test_a_registered_version_of_a_model_predicts_elsewhere(
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
def test_an_experiment_of_one_clone_is_applied_in_another_without_a_run(
    mine: Path, tmp_path: Path
) -> None:
    assert stages_run(run_in(mine, "dvc", "exp", "run", *SHORTER)) == RERUN
    run_in(mine, "dvc", "exp", "push", "origin", "shorter")
    clone = cloned(tmp_path / "origin.git", tmp_path / "clone")
    run_in(clone, "dvc", "exp", "pull", "origin", "shorter")
    run_in(clone, "dvc", "exp", "apply", "shorter")
    assert digests(clone, *OUTPUTS) == digests(mine, *OUTPUTS)
    assert stages_run(run_in(clone, "dvc", "repro")) == []


@pytest.mark.slow
def test_clones_that_share_a_cache_run_an_experiment_once(mine: Path, tmp_path: Path) -> None:
    run_in(mine, "dvc", "exp", "run", *SHORTER)
    clone = cloned(mine, tmp_path / "clone")
    run_in(clone, "dvc", "cache", "dir", "--local", str(mine / ".dvc" / "cache"))
    run_in(clone, "dvc", "checkout")
    assert stages_run(run_in(clone, "dvc", "exp", "run", *SHORTER)) == []
    assert digests(clone, *OUTPUTS) == digests(mine, *OUTPUTS)


@pytest.mark.slow
def test_a_pulled_run_cache_spares_no_stage_with_metrics_in_git(mine: Path, tmp_path: Path) -> None:
    """DVC pushes no output with `cache: false`, and restores no stage without all its outputs."""
    run_in(mine, "dvc", "exp", "run", *SHORTER)
    run_in(mine, "dvc", "push", "--run-cache")
    clone = cloned(mine, tmp_path / "clone")
    run_in(clone, "dvc", "pull", "--run-cache")
    done = run_in(clone, "dvc", "exp", "run", "--pull", *SHORTER)
    assert stages_run(done) == RERUN
    assert digests(clone, *OUTPUTS) == digests(mine, *OUTPUTS)
