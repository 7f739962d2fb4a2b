"""The pipeline itself: real git, real dvc, real training, on a tiny synthetic catalogue."""

from __future__ import annotations

import csv
import gzip
import json
import re
import shutil
import signal
import subprocess
import sys
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from support.tiny_project import (
    STAGES,
    copy_project,
    digests,
    environment,
    outputs_of,
    run_here,
    run_in,
    stages_run,
)

pytest_plugins = ["support.tiny_project"]

MODELS = ("ensemble", "mlp", "cnn", "svm")
METRICS = {
    "accuracy",
    "balanced_accuracy",
    "macro_f1",
    "top3_accuracy",
    "top5_accuracy",
    "loss",
    "ece",
    "balanced_accuracy_low",
    "balanced_accuracy_high",
    "ece_before_calibration",
}


def read(project: Path, name: str) -> Any:
    return json.loads((project / "metrics" / f"{name}.json").read_text())


def test_a_second_repro_runs_nothing(project: Path) -> None:
    done = run_in(project, "dvc", "repro")
    assert stages_run(done) == []
    assert "up to date" in done.stdout
    assert "up to date" in run_in(project, "dvc", "status").stdout


def test_evaluate_json_holds_the_promised_numbers(first_project: Path) -> None:
    metrics = read(first_project, "evaluate")
    assert set(metrics) == {"test", "validation"}
    for split in metrics.values():
        differences = split.pop("differences")
        assert tuple(split) == MODELS
        for values in split.values():
            assert set(values) == METRICS
            assert all(isinstance(value, float) for value in values.values())
            assert values["top3_accuracy"] <= values["top5_accuracy"]
            assert (
                values["balanced_accuracy_low"]
                < values["balanced_accuracy"]
                < values["balanced_accuracy_high"]
            )
        pairs = {f"{one}_minus_{other}": (one, other) for one, other in combinations(MODELS, 2)}
        assert set(differences) == set(pairs)
        for name, (one, other) in pairs.items():
            difference = differences[name]
            assert set(difference) == {"balanced_accuracy", "low", "high", "p_value"}
            assert difference["low"] <= difference["balanced_accuracy"] <= difference["high"]
            assert difference["balanced_accuracy"] == pytest.approx(
                split[one]["balanced_accuracy"] - split[other]["balanced_accuracy"], abs=2e-6
            )
    for name in MODELS:
        assert metrics["test"][name]["balanced_accuracy"] > 3 / 12  # chance: 1 / 12


def test_subset_json_accounts_for_every_row(first_project: Path) -> None:
    summary = read(first_project, "subset")
    lines = 0
    for split in ("train", "validation", "test"):
        with gzip.open(first_project / "data" / "sample" / f"spanish.{split}.jsonl.gz") as file:
            lines += sum(bool(line.strip()) for line in file.read().split(b"\n"))
    assert summary["classes"] == 12
    assert summary["rows"]["total"] + sum(summary["dropped"].values()) == lines
    quarantine = (first_project / "data" / "subset" / "quarantine.csv").read_text().splitlines()
    assert len(quarantine) - 1 >= summary["dropped"]["not_json"] > 0


@pytest.mark.parametrize("model", ["mlp", "cnn"])
def test_training_json_reports_best_and_last_epoch(first_project: Path, model: str) -> None:
    summary = read(first_project, f"train_{model}")
    assert summary["last"]["epoch"] == 2  # max_epochs is 3
    best, last = (summary[when]["validation"]["balanced_accuracy"] for when in ("best", "last"))
    assert best >= last
    plots = first_project / "metrics" / "curves" / model / "plots" / "metrics"
    for split in ("train", "validation"):
        for metric in ("accuracy", "balanced_accuracy", "loss"):
            with open(plots / split / f"{metric}.tsv", newline="") as file:
                curve = [float(row[metric]) for row in csv.DictReader(file, delimiter="\t")]
            assert len(curve) == 3
            assert curve[summary["best"]["epoch"]] == summary["best"][split][metric]


@pytest.mark.parametrize("model", MODELS)
def test_metrics_of_a_model_agree_with_its_folder(first_project: Path, model: str) -> None:
    summary = read(first_project, model if model == "ensemble" else f"train_{model}")
    folder = first_project / "models" / model
    described = json.loads((folder / "model.json").read_text())
    members = described["members"]
    assert described["name"] == model
    assert list(members) == (["mlp", "cnn", "svm"] if model == "ensemble" else [model])
    assert summary["calibration"] == described["calibration"]
    assert summary["model_megabytes"] > 0
    # Choosing by reliable titles needs min_reliable_titles: here all of validation is used.
    assert summary["validation"]["titles"] == read(first_project, "subset")["rows"]["validation"]
    evaluated = read(first_project, "evaluate")["validation"][model]
    for metric in ("accuracy", "balanced_accuracy"):
        assert summary["validation"][metric] == evaluated[metric]
    weights = {name: member["weight"] for name, member in members.items()}
    assert weights == (summary["weights"] if model == "ensemble" else {model: 1.0})


def test_git_holds_only_the_small_outputs(first_project: Path) -> None:
    tracked = run_in(first_project, "git", "ls-files").stdout.splitlines()
    assert "metrics/evaluate.json" in tracked
    assert "dvc.lock" in tracked
    assert not [name for name in tracked if name.startswith(("models/", "data/subset/"))]
    assert run_in(first_project, "git", "status", "--porcelain").stdout == ""


def test_outputs_name_no_path_of_the_machine(first_project: Path) -> None:
    outputs = [
        file
        for folder in ("data/subset", "data/features", "data/vocabulary", "models", "metrics")
        for file in (first_project / folder).rglob("*")
        if file.is_file()
    ]
    assert len(outputs) > 40
    for file in [*outputs, first_project / "dvc.lock"]:
        assert str(first_project).encode() not in file.read_bytes(), file


@pytest.mark.slow
def test_the_same_commit_gives_the_same_bytes(project: Path, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    run_in(tmp_path, "git", "clone", "--quiet", str(project), str(clone))
    assert stages_run(run_in(clone, "dvc", "repro")) == list(STAGES)
    assert run_in(clone, "git", "status", "--porcelain").stdout == ""


@pytest.fixture(scope="module")
def nothing_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project before its first run."""
    folder = tmp_path_factory.mktemp("nothing")
    copy_project(folder)
    return folder


@pytest.mark.parametrize("stage", STAGES[1:])
def test_a_stage_without_its_inputs_says_what_makes_them(nothing_run: Path, stage: str) -> None:
    code, message = run_here(nothing_run, stage)
    assert code == 2, message
    assert "no such file" in message.lower()
    assert "`dvc repro`" in message
    assert len(message.splitlines()) == 1


def test_a_damaged_model_is_named_by_the_stage_that_reads_it(project: Path) -> None:
    svm = project / "models" / "svm" / "svm.safetensors"
    whole = svm.read_bytes()
    svm.unlink()  # it may be a link into DVC's cache
    svm.write_bytes(whole[:1000])
    for stage in ("ensemble", "evaluate"):
        code, message = run_here(project, stage)
        assert code == 2, message
        assert "models/svm/svm.safetensors: not a complete safetensors file" in message
        assert len(message.splitlines()) == 1


def test_models_of_other_titles_make_no_ensemble(project: Path) -> None:
    description = project / "models" / "svm" / "model.json"
    text = description.read_text()
    description.unlink()
    description.write_text(text.replace('"max_tokens": 50', '"max_tokens": 49'))
    code, message = run_here(project, "ensemble")
    assert code == 2
    assert (
        "error: svm and mlp differ in text; `dvc repro` trains both on the same titles" in message
    )


@pytest.mark.slow
def test_bad_input_stops_the_run_with_its_message(project: Path) -> None:
    done = run_in(project, "dvc", "exp", "run", "-S", "subset.language=klingon", ok=False)
    assert done.returncode != 0
    output = done.stdout + done.stderr
    assert "error: " in output
    assert "klingon" in output
    assert "portuguese, spanish" in output
    assert "Traceback" not in output


# Interruptions


def killed_after(project: Path, stage: str, epoch: int) -> None:
    """Run a training stage, and kill it as soon as it has reported an epoch."""
    with subprocess.Popen(
        [sys.executable, f"stages/{stage}.py"],
        cwd=project,
        env={**environment(), "RUBRO_CHECKPOINT_SECONDS": "0"},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith(f"epoch {epoch}/"):
                process.kill()
                break
    assert process.returncode == -signal.SIGKILL


@pytest.mark.slow
@pytest.mark.parametrize("model", ["mlp", "cnn"])
def test_a_killed_training_resumes_to_the_same_bytes_and_only_with_the_same_knobs(
    project: Path, model: str
) -> None:
    outputs = (f"models/{model}", f"metrics/curves/{model}", f"metrics/train_{model}.json")
    uninterrupted = digests(project, *outputs)
    assert len(uninterrupted) > 10
    run_in(project, "dvc", "unprotect", f"models/{model}", f"metrics/curves/{model}")

    def train() -> str:
        for output in outputs[:2]:
            shutil.rmtree(project / output, ignore_errors=True)
        return run_in(project, "python", f"stages/train_{model}.py").stderr

    def checkpoints() -> int:
        return len(list((project / ".checkpoints").glob("*-*")))

    killed_after(project, f"train_{model}", epoch=2)
    assert checkpoints() == 1
    params = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(
        params.replace("label_smoothing: 0.1", "label_smoothing: 0")
    )
    message = train()
    assert "epoch 1/3:" in message
    assert "resuming" not in message
    assert checkpoints() == 1  # that of the killed training
    assert digests(project, *outputs) != uninterrupted
    (project / "params.yaml").write_text(params)
    message = train()
    assert "resuming after epoch" in message
    assert "epoch 1/3:" not in message
    assert digests(project, *outputs) == uninterrupted
    assert checkpoints() == 0


def interrupted_after(project: Path, stage: str, beginning: str) -> str:
    """Run a stage, send it Ctrl-C after a line with this beginning, and return what it says then."""
    with subprocess.Popen(
        [sys.executable, f"stages/{stage}.py"],
        cwd=project,
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith(beginning):
                process.send_signal(signal.SIGINT)
                break
        rest = process.stderr.read()
    assert process.returncode == 130
    return rest


@pytest.mark.slow
def test_ctrl_c_in_training_says_how_to_go_on(project: Path) -> None:
    rest = interrupted_after(project, "train_cnn", "epoch 1/")
    assert "interrupted; run the same command again to resume" in rest
    assert "Traceback" not in rest


def test_ctrl_c_during_the_imports_is_no_traceback(project: Path) -> None:
    slow_import = "import sys, time\nprint('importing', file=sys.stderr)\ntime.sleep(60)\n"
    (project / "stages" / "train_network.py").write_text(slow_import)
    rest = interrupted_after(project, "train_mlp", "importing")
    assert rest == "interrupted; run the same command again to resume\n"


@pytest.mark.slow
def test_the_number_of_threads_changes_no_bit(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = (project / "params.yaml").read_text()
    # Sizes at which MKL would cut its sums by the number of threads.
    large = re.sub(r"batch_size: \d+", "batch_size: 512", params)
    large = re.sub(r"filters: \d+", "filters: 256", large)
    large = re.sub(r"max_epochs: \d+", "max_epochs: 1", large)
    assert large.count("max_epochs: 1 ") == 2
    (project / "params.yaml").write_text(large)
    stages = ("train_svm", "train_mlp", "train_cnn", "ensemble", "evaluate")
    seen = set()
    for threads in (1, 4):
        for library in ("OMP", "MKL", "OPENBLAS"):
            monkeypatch.setenv(f"{library}_NUM_THREADS", str(threads))
        for stage in stages:
            run_in(project, "python", f"stages/{stage}.py")
        seen.add(json.dumps(digests(project, *outputs_of(*stages))))
    assert len(seen) == 1
