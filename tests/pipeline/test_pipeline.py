"""The pipeline itself: real git, real dvc, real training, on a tiny synthetic catalogue."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tiny_project import (
    STAGES,
    Run,
    copy_project,
    digests,
    environment,
    outputs_of,
    run_in,
    stages_run,
)

pytest_plugins = ["tiny_project"]

METRICS = {
    "accuracy",
    "balanced_accuracy",
    "macro_recall",
    "macro_f1",
    "top3_accuracy",
    "top5_accuracy",
    "loss",
    "ece",
    "balanced_accuracy_low",
    "balanced_accuracy_high",
    "ece_before_calibration",
}


@pytest.fixture
def dvc(project: Path) -> Run:
    """Run dvc in the project."""
    return lambda *arguments, **options: run_in(project, "dvc", *arguments, **options)


def read(project: Path, name: str) -> Any:
    return json.loads((project / "metrics" / f"{name}.json").read_text())


def test_a_second_repro_runs_nothing(dvc: Run) -> None:
    done = dvc("repro")
    assert stages_run(done) == []
    assert "up to date" in done.stdout
    assert "up to date" in dvc("status").stdout


def test_evaluate_json_holds_the_promised_numbers(project: Path) -> None:
    metrics = read(project, "evaluate")
    assert set(metrics) == {"test", "validation"}
    for split in metrics.values():
        difference = split.pop("cnn_minus_mlp")
        assert set(split) == {"mlp", "cnn", "ensemble"}
        for values in split.values():
            assert set(values) == METRICS
            assert all(isinstance(value, float) for value in values.values())
            assert values["top3_accuracy"] <= values["top5_accuracy"]
            assert (
                values["balanced_accuracy_low"]
                < values["balanced_accuracy"]
                < values["balanced_accuracy_high"]
            )
        assert set(difference) == {"balanced_accuracy", "low", "high", "p_value"}
        assert difference["low"] <= difference["balanced_accuracy"] <= difference["high"]
        assert difference["balanced_accuracy"] == pytest.approx(
            split["cnn"]["balanced_accuracy"] - split["mlp"]["balanced_accuracy"], abs=2e-6
        )
    assert metrics["test"]["ensemble"]["balanced_accuracy"] > 3 / 12  # chance: 1 / 12


def test_subset_json_accounts_for_every_row(project: Path) -> None:
    summary = read(project, "subset")
    lines = 0
    for split in ("train", "validation", "test"):
        with gzip.open(project / "data" / "sample" / f"spanish.{split}.jsonl.gz") as file:
            lines += sum(bool(line.strip()) for line in file.read().split(b"\n"))
    assert summary["classes"] == 12
    assert summary["rows"]["total"] + sum(summary["dropped"].values()) == lines
    quarantine = (project / "data" / "subset" / "quarantine.csv").read_text().splitlines()
    assert len(quarantine) - 1 >= summary["dropped"]["not_json"] > 0


def test_training_json_reports_best_and_last_epoch(project: Path) -> None:
    for model in ("mlp", "cnn"):
        summary = read(project, f"train_{model}")
        assert summary["last"]["epoch"] == 2
        best, last = (summary[when]["validation"]["balanced_accuracy"] for when in ("best", "last"))
        assert best >= last
        described = json.loads((project / "models" / model / "model.json").read_text())
        assert summary["calibration"] == described["calibration"]
        assert summary["model_megabytes"] > 0


def test_git_holds_only_the_small_outputs(project: Path) -> None:
    tracked = run_in(project, "git", "ls-files").stdout.splitlines()
    assert "metrics/evaluate.json" in tracked
    assert "dvc.lock" in tracked
    assert not [name for name in tracked if name.startswith(("models/", "data/subset/"))]
    assert run_in(project, "git", "status", "--porcelain").stdout == ""


@pytest.mark.parametrize("model", ["mlp", "cnn"])
def test_an_experiment_with_a_changed_knob_reruns_what_it_must(
    project: Path, dvc: Run, model: str
) -> None:
    name = f"short-{model}"
    done = dvc("exp", "run", "--name", name, "-S", f"train_{model}.max_epochs=1")
    assert stages_run(done) == [f"train_{model}", "evaluate"]
    diff = json.loads(dvc("params", "diff", "--json", "HEAD").stdout)
    assert diff == {"params.yaml": {f"train_{model}.max_epochs": {"old": 3, "new": 1, "diff": -2}}}
    changed = json.loads(dvc("metrics", "diff", "--json", "HEAD").stdout)
    assert changed[f"metrics/train_{model}.json"]["last.epoch"] == {"old": 2, "new": 0, "diff": -2}
    assert f"test.{model}.loss" in changed["metrics/evaluate.json"]
    assert "metrics/subset.json" not in changed
    shown = json.loads(dvc("exp", "show", "--json").stdout)
    assert name in json.dumps(shown)
    plots = dvc("plots", "diff", "HEAD", "workspace", "--out", "plots")
    page = project / "plots" / "index.html"
    assert str(page) in plots.stdout
    assert f"{model.upper()}: balanced accuracy" in page.read_text()
    run_in(project, "git", "checkout", "--quiet", ".")
    assert stages_run(dvc("repro")) == []  # the cache brings the first run back


def test_the_same_commit_gives_the_same_bytes(project: Path, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    run_in(tmp_path, "git", "clone", "--quiet", str(project), str(clone))
    assert stages_run(run_in(clone, "dvc", "repro")) == list(STAGES)
    assert run_in(clone, "git", "status", "--porcelain").stdout == ""


def test_outputs_name_no_path_of_the_machine(first_project: Path) -> None:
    outputs = [
        file
        for folder in ("data/subset", "data/features", "models", "metrics")
        for file in (first_project / folder).rglob("*")
        if file.is_file()
    ]
    assert len(outputs) > 40
    for file in [*outputs, first_project / "dvc.lock"]:
        assert str(first_project).encode() not in file.read_bytes(), file


def test_bad_input_stops_the_run_with_its_message(dvc: Run) -> None:
    done = dvc("exp", "run", "-S", "subset.language=klingon", ok=False)
    assert done.returncode != 0
    output = done.stdout + done.stderr
    assert "error: " in output
    assert "klingon" in output
    assert "portuguese, spanish" in output
    assert "Traceback" not in output


def killed_after(project: Path, stage: str, epoch: int) -> None:
    """Run a training stage, and kill it as soon as it has reported an epoch."""
    with subprocess.Popen(
        [sys.executable, f"stages/{stage}.py"],
        cwd=project,
        env={**os.environ, "RUBRO_CHECKPOINT_SECONDS": "0"},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith(f"epoch {epoch}/"):
                process.kill()
                break
    assert process.returncode == -signal.SIGKILL


@pytest.mark.parametrize("model", ["mlp", "cnn"])
def test_a_killed_training_goes_on_to_the_same_bytes(project: Path, model: str) -> None:
    outputs = (f"models/{model}", f"metrics/curves/{model}", f"metrics/train_{model}.json")
    uninterrupted = digests(project, *outputs)
    assert len(uninterrupted) > 10
    run_in(project, "dvc", "unprotect", f"models/{model}", f"metrics/curves/{model}")
    for output in outputs[:2]:
        shutil.rmtree(project / output)
    killed_after(project, f"train_{model}", epoch=2)
    assert list((project / ".checkpoints").glob("*-*"))
    done = run_in(project, "python", f"stages/train_{model}.py")
    assert "going on after epoch" in done.stderr
    assert digests(project, *outputs) == uninterrupted
    assert not list((project / ".checkpoints").glob("*-*"))


def test_a_changed_knob_never_goes_on_from_the_old_checkpoint(project: Path) -> None:
    killed_after(project, "train_mlp", epoch=2)
    params = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(
        params.replace("label_smoothing: 0.1", "label_smoothing: 0")
    )
    done = run_in(project, "python", "stages/train_mlp.py")
    assert "going on" not in done.stderr
    assert len(list((project / ".checkpoints").glob("*-*"))) == 1  # the old one, for going back


def test_ctrl_c_in_training_says_how_to_go_on(project: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "stages/train_cnn.py"], cwd=project, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("epoch 1/"):
                process.send_signal(signal.SIGINT)
                break
        rest = process.stderr.read()
    assert process.returncode == 130
    assert "interrupted; run the same command again to go on" in rest
    assert "Traceback" not in rest


def test_a_stage_without_its_inputs_says_what_makes_them(tmp_path: Path) -> None:
    copy_project(tmp_path)
    for stage in STAGES[1:]:
        done = run_in(tmp_path, "python", f"stages/{stage}.py", ok=False)
        assert done.returncode == 2, done.stderr
        assert "no such file" in done.stderr.lower()
        assert "`dvc repro`" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_damaged_svm_costs_no_training(project: Path) -> None:
    svm = project / "models" / "svm" / "svm.safetensors"
    whole = svm.read_bytes()
    svm.unlink()  # it may be a link into DVC's cache
    svm.write_bytes(whole[:1000])
    done = run_in(project, "python", "stages/train_mlp.py", ok=False)
    assert done.returncode == 2, done.stderr
    assert "models/svm/svm.safetensors: not a whole safetensors file" in done.stderr
    assert "epoch 1/" not in done.stderr


@pytest.mark.parametrize("seconds", [1.0, 2.0])
def test_ctrl_c_during_the_imports_is_no_traceback(project: Path, seconds: float) -> None:
    with subprocess.Popen(
        [sys.executable, "stages/train_mlp.py"], cwd=project, stderr=subprocess.PIPE, text=True
    ) as process:
        time.sleep(seconds)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        message = process.stderr.read()
    assert process.returncode == 130
    assert message == "interrupted; run the same command again to go on\n"


def experiment(project: Path, name: str) -> str:
    """The Git reference of an experiment."""
    refs = run_in(project, "git", "for-each-ref", "--format=%(refname)", "refs/exps").stdout
    return next(ref for ref in refs.splitlines() if ref.endswith(f"/{name}"))


@pytest.mark.slow
def test_a_queued_experiment_runs_the_code_that_was_queued(project: Path, dvc: Run) -> None:
    source = project / "src" / "rubro" / "evaluation" / "metrics.py"
    before = source.read_text()
    source.write_text(before.replace("np.mean(targets == predictions)", "0.123456"))
    assert source.read_text() != before
    dvc("exp", "run", "--queue", "--name", "queued")
    source.write_text(before)
    dvc("exp", "run", "--run-all")
    shown = run_in(project, "git", "show", f"{experiment(project, 'queued')}:metrics/evaluate.json")
    assert json.loads(shown.stdout)["test"]["cnn"]["accuracy"] == 0.123456
    assert read(project, "evaluate")["test"]["cnn"]["accuracy"] != 0.123456


@pytest.mark.slow
def test_an_experiment_killed_in_its_copy_goes_on_from_its_checkpoint(project: Path) -> None:
    command = ["dvc", "exp", "run", "--temp", "--force", "--name", "killed", "-S", "seed=7"]
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
    done = run_in(project, *command)
    assert "going on after epoch" in done.stdout + done.stderr
    run_in(project, "dvc", "exp", "run", "--temp", "--force", "--name", "whole", "-S", "seed=7")
    locks = [
        run_in(project, "git", "show", f"{experiment(project, name)}:dvc.lock").stdout
        for name in ("killed", "whole")
    ]
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
    subset = run_in(project, "git", "show", f"{experiment(project, 'elsewhere')}:dvc.lock").stdout
    assert f"path: {titles}\n" in subset
    (written,) = re.findall(r"path: data/subset\n *hash: md5\n *md5: (\S+)", subset)[:1]
    assert written in (project / "dvc.lock").read_text()


@pytest.mark.slow
def test_the_original_preset_runs_as_an_experiment(project: Path, dvc: Run) -> None:
    options = run_in(project, "rubro", "overrides", "presets/original.yaml").stdout.split()
    done = dvc("exp", "run", "--name", "original", *options, "-S", "subset.top_categories=12")
    assert stages_run(done) == list(STAGES[1:])
    model = json.loads((project / "models" / "cnn" / "model.json").read_text())
    assert model["hyperparameters"]["filter_sizes"] == [3, 4, 5]
    assert model["tokens"] == {"source": "tokenized_title"}


@pytest.mark.slow
def test_an_svm_of_which_no_weight_is_left_is_no_part_of_the_models(
    project: Path, dvc: Run
) -> None:
    dvc("exp", "run", "-S", "train_svm.smallest_weight=1000")
    assert read(project, "train_svm")["weights"] == 0
    for model in ("mlp", "cnn"):
        described = json.loads((project / "models" / model / "model.json").read_text())
        assert described["shape"]["svm_weights"] == 0


@pytest.mark.slow
def test_the_number_of_threads_changes_no_bit(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = (project / "params.yaml").read_text()
    # Sizes at which MKL would cut its sums by the number of threads.
    large = re.sub(r"batch_size: \d+", "batch_size: 512", params)
    large = re.sub(r"filters: \d+", "filters: 256", large)
    large = re.sub(r"max_epochs: \d+", "max_epochs: 1", large)
    seen = set()
    for threads in (1, 2, 4):
        text = re.sub(r"(?m)^threads: \d+", f"threads: {threads}", large)
        (project / "params.yaml").write_text(text)
        for library in ("OMP", "MKL", "OPENBLAS"):
            monkeypatch.setenv(f"{library}_NUM_THREADS", str(threads))
        stages = ("train_cnn", "train_mlp", "evaluate")
        for stage in stages:
            run_in(project, "python", f"stages/{stage}.py")
        seen.add(json.dumps(digests(project, *outputs_of(*stages))))
    assert len(seen) == 1
