"""Experiments with the real dvc: what a changed knob reruns, queues, copies, presets."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from rubro.prediction.classifier import Classifier
from support.tiny_project import STAGES, Run, environment, run_in, stages_run

pytest_plugins = ["support.tiny_project"]


@pytest.fixture
def dvc(project: Path) -> Run:
    """Run dvc in the project."""
    return lambda *arguments, **options: run_in(project, "dvc", *arguments, **options)


def read(project: Path, name: str) -> Any:
    return json.loads((project / "metrics" / f"{name}.json").read_text())


def epochs_trained(project: Path, model: str) -> int:
    """Number of rows of a learning curve."""
    folder = project / "metrics" / "curves" / model / "plots" / "metrics" / "train"
    return len((folder / "loss.tsv").read_text().splitlines()) - 1


@pytest.mark.slow
@pytest.mark.parametrize("model", ["mlp", "cnn"])
def test_an_experiment_with_one_epoch_reruns_what_it_must_and_compares(
    project: Path, dvc: Run, model: str
) -> None:
    name = f"short-{model}"
    done = dvc("exp", "run", "--name", name, "-S", f"train_{model}.max_epochs=1")
    assert stages_run(done) == [f"train_{model}", "ensemble", "evaluate"]
    assert epochs_trained(project, model) == 1
    diff = json.loads(dvc("params", "diff", "--json", "HEAD").stdout)
    assert diff == {"params.yaml": {f"train_{model}.max_epochs": {"old": 3, "new": 1, "diff": -2}}}
    changed = json.loads(dvc("metrics", "diff", "--json", "HEAD").stdout)
    assert changed[f"metrics/train_{model}.json"]["last.epoch"] == {"old": 2, "new": 0, "diff": -2}
    assert f"test.{model}.loss" in changed["metrics/evaluate.json"]
    assert any(name.startswith("weights.") for name in changed["metrics/ensemble.json"])
    other = {"mlp": "cnn", "cnn": "mlp"}[model]
    assert not {"metrics/subset.json", f"metrics/train_{other}.json"} & set(changed)
    assert not any(key.startswith(f"test.{other}.") for key in changed["metrics/evaluate.json"])
    shown = json.loads(dvc("exp", "show", "--json").stdout)
    assert name in json.dumps(shown)
    plots = dvc("plots", "diff", "HEAD", "workspace", "--out", "plots")
    page = project / "plots" / "index.html"
    assert str(page) in plots.stdout
    assert f"{model.upper()}: balanced accuracy" in page.read_text()
    run_in(project, "git", "checkout", "--quiet", ".")
    assert stages_run(dvc("repro")) == []  # the cache brings the first run back


@pytest.mark.slow
def test_a_changed_knob_of_the_svm_trains_no_network(project: Path, dvc: Run) -> None:
    done = dvc("exp", "run", "-S", "train_svm.smallest_weight=1000")
    assert stages_run(done) == ["train_svm", "ensemble", "evaluate"]
    # No weight is left, and the models still predict.
    assert read(project, "train_svm")["weights"] == 0
    titles = ["Zapatillas Running Talle 42", "silla"]
    assert len(set(Classifier.load(project / "models" / "svm").predict(titles))) == 1
    assert read(project, "evaluate")["test"]["ensemble"]["balanced_accuracy"] > 3 / 12


@pytest.mark.slow
def test_where_the_outputs_of_the_commit_were_never_made_experiments_follow_one_another(
    project: Path, dvc: Run
) -> None:
    # As in a new clone: dvc.lock names outputs that no cache has.
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


@pytest.mark.slow
def test_an_ensemble_of_one_member_is_that_model(project: Path, dvc: Run) -> None:
    done = dvc("exp", "run", "-S", "ensemble.members=[svm]")
    assert stages_run(done) == ["ensemble", "evaluate"]
    assert read(project, "ensemble")["weights"] == {"svm": 1.0}
    for split in read(project, "evaluate").values():
        assert split["ensemble"] == split["svm"]
    folder = project / "models" / "ensemble"
    names = {file.name for file in folder.iterdir()}
    assert names == {"model.json", "vocabulary.json", "svm.safetensors"}


@pytest.mark.slow
def test_a_changed_knob_of_the_evaluation_trains_nothing(project: Path, dvc: Run) -> None:
    done = dvc("exp", "run", "-S", "evaluate.mistakes=3")
    assert stages_run(done) == ["evaluate"]
    mistakes = (project / "metrics/evaluation/test/mlp/mistakes.csv").read_text().splitlines()
    assert len(mistakes) == 1 + 3


def experiment(project: Path, name: str) -> str:
    """The Git reference of an experiment."""
    refs = run_in(project, "git", "for-each-ref", "--format=%(refname)", "refs/exps").stdout
    return next(ref for ref in refs.splitlines() if ref.endswith(f"/{name}"))


@pytest.mark.slow
def test_an_experiment_in_a_copy_reads_titles_elsewhere_by_their_absolute_path(
    project: Path, dvc: Run
) -> None:
    titles = project.parent / "titles"
    shutil.copytree(project / "data" / "sample", titles)
    command = ["exp", "run", "--temp", "--name", "elsewhere"]
    done = dvc(*command, "-S", "data.path=../titles", "subset", ok=False)
    assert done.returncode != 0
    assert "failed to reproduce 'subset'" in done.stderr
    assert f"No such file or directory: '{project}/.dvc/tmp/exps/" in done.stderr
    dvc(*command, "-S", f"data.path={titles}", "subset")
    lock = run_in(project, "git", "show", f"{experiment(project, 'elsewhere')}:dvc.lock").stdout
    subset = YAML(typ="safe").load(lock)["stages"]["subset"]
    assert str(titles) in [dep["path"] for dep in subset["deps"]]
    (written,) = [out["md5"] for out in subset["outs"] if out["path"] == "data/subset"]
    assert written in (project / "dvc.lock").read_text()


@pytest.mark.slow
def test_a_queued_experiment_runs_the_code_that_was_queued(project: Path, dvc: Run) -> None:
    source = project / "stages" / "evaluate.py"
    before = source.read_text()
    kind = "metrics: dict[str, dict[str, Any]] = "
    changed = before.replace(f"{kind}{{}}", f'{kind}{{"queued": {{"accuracy": 1.0}}}}')
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
    command = ["dvc", "exp", "run", "--temp", "--name", "it", "-S", "networks.label_smoothing=0.2"]
    with subprocess.Popen(
        command,
        cwd=project,
        env={**environment(), "RUBRO_CHECKPOINT_SECONDS": "0"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        while not list((project / ".checkpoints").glob("cnn-*/last.ckpt")):
            assert process.poll() is None
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
    # Another cache, so that nothing of the one comes from the other.
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
def test_experiments_that_run_at_the_same_time_give_what_each_gives_alone(
    first_project: Path, tmp_path: Path
) -> None:
    together, alone = tmp_path / "together", tmp_path / "alone"
    settings = {"shorter": "max_epochs=2", "smoother": "label_smoothing=0.2"}
    options = {name: ["--name", name, "-S", f"train_mlp.{s}"] for name, s in settings.items()}
    for folder in (together, alone):
        shutil.copytree(first_project, folder, symlinks=True)
    for name in settings:
        run_in(together, "dvc", "exp", "run", "--queue", *options[name])
        run_in(alone, "dvc", "exp", "run", "--temp", *options[name])
    # The workers inherit its output, which nobody must wait for.
    subprocess.run(
        ["dvc", "queue", "start", "--jobs", "2"],
        cwd=together,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    most_running = 0
    for _ in range(300):
        status = run_in(together, "dvc", "queue", "status").stdout
        most_running = max(most_running, status.count("Running"))
        if not re.search("Queued|Running", status):
            break
    assert status.count("Success") == 2, status
    assert most_running == 2
    for name in settings:
        # dvc.lock, which holds a hash of each output, and the metrics.
        trees = [
            run_in(folder, "git", "rev-parse", f"{experiment(folder, name)}^{{tree}}").stdout
            for folder in (together, alone)
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
