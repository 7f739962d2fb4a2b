"""Tests of DVC experiments: the stages that they rerun, queues, copies and presets."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from rubro.prediction.classifier import Classifier
from support.tiny_project import ROOT, STAGES, Run, environment, run_in, stages_run
from support.toy_pipeline import kill_when

pytest_plugins = ["support.tiny_project"]


@pytest.fixture
def dvc(project: Path) -> Run:
    """Function that runs DVC in the project."""
    return lambda *arguments, **options: run_in(project, "dvc", *arguments, **options)


def read(project: Path, name: str) -> Any:
    return json.loads((project / "metrics" / f"{name}.json").read_text())


def epochs_trained(project: Path, model: str) -> int:
    """Return the number of rows of a learning curve."""
    folder = project / "metrics" / "curves" / model / "plots" / "metrics" / "train"
    return len((folder / "loss.tsv").read_text().splitlines()) - 1


@pytest.mark.slow
def test_an_experiment_reruns_the_dependent_stages_and_can_be_compared(
    project: Path, dvc: Run
) -> None:
    done = dvc("exp", "run", "--name", "short", "-S", "train_mlp.max_epochs=1")
    assert stages_run(done) == ["train_mlp", "ensemble", "evaluate"]
    assert epochs_trained(project, "mlp") == 1
    diff = json.loads(dvc("params", "diff", "--json", "HEAD").stdout)
    assert diff == {"params.yaml": {"train_mlp.max_epochs": {"old": 3, "new": 1, "diff": -2}}}
    changed = json.loads(dvc("metrics", "diff", "--json", "HEAD").stdout)
    assert "loss" in changed["metrics/test/mlp.json"]
    assert "metrics/test/ensemble.json" in changed
    assert not {"metrics/test/svm.json", "metrics/test/cnn.json"} & set(changed)
    assert '"short"' in dvc("exp", "show", "--json").stdout
    plots = dvc("plots", "diff", "HEAD", "workspace", "--out", "plots")
    page = project / "plots" / "index.html"
    assert str(page) in plots.stdout
    assert "Balanced accuracy" in page.read_text()
    run_in(project, "git", "checkout", "--quiet", ".")
    assert stages_run(dvc("repro")) == []  # the cache restores the first run


@pytest.mark.slow
def test_networks_with_no_epochs_are_not_trained(project: Path, dvc: Run) -> None:
    preset = run_in(project, "rubro", "overrides", str(ROOT / "presets/fast.yaml")).stdout.split()
    dvc("exp", "run", "--name", "fast", *preset)
    for output in ("models/mlp", "models/cnn", "models/embedding", "metrics/curves/mlp"):
        assert [file.name for file in (project / output).iterdir()] == ["not_trained.txt"]
    assert set(read(project, "evaluate")["test"]) == {"ensemble", "svm", "differences"}
    assert {file.stem for file in (project / "metrics/test").iterdir()} == {"ensemble", "svm"}
    report = run_in(project, "rubro", "report", "--against", "HEAD")
    assert "missing" not in report.stdout + report.stderr
    compared = json.loads(run_in(project, "rubro", "compare", "fast", "--format", "json").stdout)
    scores = [row["metrics"]["test.ensemble.balanced_accuracy"]["mean"] for row in compared]
    assert len(scores) == 2
    assert all(score > 0.5 for score in scores)
    assert run_in(project, "rubro", "gate", "HEAD", ok=False).returncode in (0, 1)
    dvc("plots", "show", "--out", "plots")
    dvc("metrics", "diff", "HEAD")
    run_in(project, "git", "checkout", "--quiet", ".")
    assert stages_run(dvc("repro")) == []  # the cache restores the trained models


@pytest.mark.slow
def test_experiments_rerun_only_the_stages_that_depend_on_a_setting(
    project: Path, dvc: Run
) -> None:
    assert stages_run(dvc("exp", "run", "-S", "evaluate.confused_pairs=3")) == ["evaluate"]
    pairs = (project / "metrics/evaluation/test/mlp/confused_pairs.csv").read_text().splitlines()
    assert len(pairs) == 1 + 3

    # No model learns from unlabelled titles if there are none.
    done = dvc("exp", "run", "-S", "self_training.min_confidence=0.9")
    assert stages_run(done) == ["pseudo_label"]

    # An ensemble of one member equals its member.
    done = dvc("exp", "run", "-S", "ensemble.members=[svm]")
    assert stages_run(done) == ["ensemble", "evaluate"]
    assert read(project, "ensemble")["weights"] == {"svm": 1.0}
    for split in read(project, "evaluate").values():
        assert split["ensemble"] == split["svm"]
    names = {file.name for file in (project / "models" / "ensemble").iterdir()}
    assert names == {"model.json", "vocabulary.json", "svm.safetensors"}

    # All weights of the SVM are below the threshold, and the models still predict.
    settings = "-S", "train_svm.smallest_weight=1000", "-S", "ensemble.members=[mlp,cnn,svm]"
    done = dvc("exp", "run", *settings)
    assert stages_run(done) == ["pseudo_label", "train_svm", "ensemble", "evaluate"]
    assert read(project, "train_svm")["weights"] == 0
    titles = ["Zapatillas Running Talle 42", "silla"]
    assert len(set(Classifier.load(project / "models" / "svm").predict(titles))) == 1
    assert read(project, "evaluate")["test"]["ensemble"]["balanced_accuracy"] > 3 / 12


@pytest.mark.slow
def test_experiments_reuse_each_other_if_the_outputs_of_the_commit_are_not_cached(
    project: Path, dvc: Run
) -> None:
    # As in a new clone, the outputs in dvc.lock are in no cache.
    run_in(project, "make", "clean")
    shutil.rmtree(project / ".dvc" / "cache")
    change = "train_svm.C=0.5"
    dvc("exp", "run", "-S", change, "-S", "seed=5")
    run_in(project, "git", "checkout", "--quiet", ".")
    done = dvc("exp", "run", "-S", change, "-S", "seed=5", "-S", "ensemble.members=[svm]")
    assert stages_run(done) == ["ensemble", "evaluate"]
    run_in(project, "git", "checkout", "--quiet", ".")
    members = "ensemble.members=[svm,mlp]"
    done = dvc("exp", "run", "--temp", "-S", change, "-S", "seed=5", "-S", members)
    assert stages_run(done) == ["ensemble", "evaluate"]


def experiment(project: Path, name: str) -> str:
    """Return the Git reference of an experiment."""
    refs = run_in(project, "git", "for-each-ref", "--format=%(refname)", "refs/exps").stdout
    return next(ref for ref in refs.splitlines() if ref.endswith(f"/{name}"))


@pytest.mark.slow
def test_an_experiment_in_a_copy_needs_the_absolute_path_of_external_titles(
    project: Path, dvc: Run
) -> None:
    titles = project.parent / "titles"
    shutil.copytree(project / "data" / "sample", titles)
    command = ["exp", "run", "--temp", "--name", "elsewhere"]
    done = dvc(*command, "-S", "data.path=../titles", "subset", ok=False)
    assert done.returncode != 0
    assert f"No such file or directory: '{project}/.dvc/tmp/exps/" in done.stderr
    dvc(*command, "-S", f"data.path={titles}", "subset")
    lock = run_in(project, "git", "show", f"{experiment(project, 'elsewhere')}:dvc.lock").stdout
    subset = YAML(typ="safe").load(lock)["stages"]["subset"]
    assert str(titles) in [dep["path"] for dep in subset["deps"]]
    (written,) = [out["md5"] for out in subset["outs"] if out["path"] == "data/subset"]
    assert written in (project / "dvc.lock").read_text()


@pytest.mark.slow
def test_a_queued_experiment_runs_the_code_of_the_time_when_it_was_queued(
    project: Path, dvc: Run
) -> None:
    source = project / "stages" / "evaluate.py"
    before = source.read_text()
    start = "metrics: dict[str, dict[str, Any]] = {"
    changed = before.replace(start, f'{start}"queued": {{"accuracy": 1.0}}, ')
    assert changed != before
    source.write_text(changed)
    dvc("exp", "run", "--queue", "--name", "queued")
    source.write_text(before)
    dvc("exp", "run", "--run-all")
    shown = run_in(project, "git", "show", f"{experiment(project, 'queued')}:metrics/evaluate.json")
    assert json.loads(shown.stdout)["queued"] == {"accuracy": 1.0}
    assert "queued" not in read(project, "evaluate")


@pytest.mark.slow
def test_an_experiment_killed_in_its_copy_resumes_from_its_checkpoint(
    first_project: Path, project: Path, tmp_path: Path
) -> None:
    command = ["dvc", "exp", "run", "--temp", "--name", "it", "-S", "train_cnn.dropout=0.2"]
    checkpoints = project / ".checkpoints"
    kill_when(
        lambda: any(checkpoints.glob("cnn-*/last.ckpt")),
        project,
        command,
        RUBRO_CHECKPOINT_SECONDS="0",
    )
    # A copy has a cache of its own, so that neither run can reuse outputs of the other.
    uninterrupted = Path(shutil.copytree(first_project, tmp_path / "other", symlinks=True))
    locks = []
    for folder in (project, uninterrupted):
        done = run_in(folder, *command)
        assert stages_run(done) == ["train_cnn", "ensemble", "evaluate"]
        assert ("resuming after epoch" in done.stdout + done.stderr) == (folder == project)
        lock = run_in(folder, "git", "show", f"{experiment(folder, 'it')}:dvc.lock")
        locks.append(lock.stdout)
    assert locks[0] == locks[1]


@pytest.mark.slow
def test_concurrent_experiments_have_the_same_outputs_as_sequential_ones(
    first_project: Path, tmp_path: Path
) -> None:
    concurrent, sequential = tmp_path / "concurrent", tmp_path / "sequential"
    settings = {"shorter": "max_epochs=2", "smoother": "dropout=0.2"}
    options = {name: ["--name", name, "-S", f"train_mlp.{s}"] for name, s in settings.items()}
    for folder in (concurrent, sequential):
        shutil.copytree(first_project, folder, symlinks=True)
    for name in settings:
        run_in(concurrent, "dvc", "exp", "run", "--queue", *options[name])
        run_in(sequential, "dvc", "exp", "run", "--temp", *options[name])
    # The workers keep the output streams open, so that waiting for their end would block.
    subprocess.run(
        ["dvc", "queue", "start", "--jobs", "2"],
        cwd=concurrent,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    max_running = 0
    for _ in range(300):
        status = run_in(concurrent, "dvc", "queue", "status").stdout
        max_running = max(max_running, status.count("Running"))
        if not re.search("Queued|Running", status):
            break
    assert status.count("Success") == 2, status
    assert max_running == 2
    for name in settings:
        # The trees contain dvc.lock, with a hash of each output, and the metrics.
        trees = [
            run_in(folder, "git", "rev-parse", f"{experiment(folder, name)}^{{tree}}").stdout
            for folder in (concurrent, sequential)
        ]
        assert trees[0] == trees[1]


@pytest.mark.slow
def test_the_original_preset_runs_as_an_experiment(project: Path, dvc: Run) -> None:
    options = run_in(project, "rubro", "overrides", "presets/original.yaml").stdout.split()
    epochs = [f"-Strain_{model}.max_epochs=2" for model in ("mlp", "cnn")]
    done = dvc("exp", "run", *options, "-S", "subset.top_categories=12", *epochs)
    assert stages_run(done) == list(STAGES[1:])
    described = json.loads((project / "models" / "ensemble" / "model.json").read_text())
    mlp, cnn = described["members"]["mlp"], described["members"]["cnn"]
    assert (mlp["hidden_sizes"], mlp["pooling"]) == ([256, 128], "mean")
    assert (cnn["filter_sizes"], cnn["linear_path"]) == ([3, 4, 5], False)
    assert described["text"]["bigram_buckets"] == 0
    assert epochs_trained(project, "mlp") == epochs_trained(project, "cnn") == 2
