"""The pipeline with real Git, DVC and training on a tiny synthetic catalogue."""

from __future__ import annotations

import csv
import gzip
import json
import re
import shutil
import signal
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from support.tiny_project import (
    STAGES,
    change_params,
    copy_project,
    digests,
    outputs_of,
    read_until,
    run_here,
    run_in,
    stages_run,
    start_stage,
)

pytest_plugins = ["support.tiny_project"]

MODELS = ("ensemble", "mlp", "cnn", "svm")
HEADLINES = ("balanced_accuracy", "accuracy", "macro_f1")
METRICS = {
    *(f"{name}{end}" for name in HEADLINES for end in ("", "_low", "_high")),
    *("top3_accuracy", "top5_accuracy", "loss", "ece", "top3_ece", "ece_before_calibration"),
}


def read(project: Path, name: str) -> Any:
    return json.loads((project / "metrics" / f"{name}.json").read_text())


def test_dvc_metrics_show_fits_120_columns(project: Path) -> None:
    head, *rows = run_in(project, "dvc", "metrics", "show").stdout.splitlines()
    assert max(map(len, [head, *rows])) <= 120
    files = {f"metrics/{split}/{name}.json" for split in ("test", "validation") for name in MODELS}
    assert {row.split()[0] for row in rows} == files
    details = read(project, "evaluate")
    for split in ("test", "validation"):
        with open(project / f"metrics/evaluation/{split}/models.csv", newline="") as file:
            table = {row.pop("model"): row for row in csv.DictReader(file)}
        for name in MODELS:
            shown = read(project, f"{split}/{name}")
            assert shown == {key: details[split][name][key] for key in shown}
            every = {key: float(value) for key, value in table[name].items()}
            assert every == details[split][name]
        with open(project / f"metrics/evaluation/{split}/differences.csv", newline="") as file:
            assert len(list(csv.DictReader(file))) == len(details[split]["differences"])


def test_a_run_prints_one_score_of_each_model_and_its_titles(project: Path) -> None:
    titles = read(project, "subset")["rows"]["test"]
    _, messages = run_here(project, "evaluate")
    lines = [line for line in messages.splitlines() if "balanced accuracy" in line]
    assert [line.partition(":")[0] for line in lines] == list(MODELS)
    assert all(line.endswith(f" on {titles:,} test titles") for line in lines)
    _, messages = run_here(project, "ensemble")
    assert "balanced accuracy" not in messages


def test_repro_without_changes_runs_no_stage(project: Path) -> None:
    done = run_in(project, "dvc", "repro")
    assert stages_run(done) == []
    assert "up to date" in done.stdout
    assert "up to date" in run_in(project, "dvc", "status").stdout


def test_evaluate_json_contains_all_metrics(first_project: Path) -> None:
    metrics = read(first_project, "evaluate")
    assert set(metrics) == {"test", "validation"}
    for split in metrics.values():
        differences = split.pop("differences")
        assert tuple(split) == MODELS
        for values in split.values():
            assert set(values) == METRICS
            assert all(isinstance(value, float) for value in values.values())
            assert values["top3_accuracy"] <= values["top5_accuracy"]
            for name in HEADLINES:
                assert values[f"{name}_low"] <= values[name] <= values[f"{name}_high"]
                assert values[f"{name}_low"] < values[f"{name}_high"]
        assert len(differences) == 6
        for one, other in combinations(MODELS, 2):
            difference = differences[f"{one}_minus_{other}"]
            for name in HEADLINES:
                value = difference.pop(name)
                low, high = (difference.pop(f"{name}_{end}") for end in ("low", "high"))
                assert low <= value <= high
                assert value == pytest.approx(split[one][name] - split[other][name], abs=2e-6)
            assert set(difference) == {"p_value"}
    for name in MODELS:
        assert metrics["test"][name]["balanced_accuracy"] > 3 / 12  # chance: 1 / 12


def test_categories_without_titles_are_listed_for_each_split(first_project: Path) -> None:
    for split in ("test", "validation"):
        path = first_project / "metrics" / "evaluation" / split / "unmeasured.csv"
        assert path.read_text().split() == ["category,train_titles"]


def test_subset_json_counts_every_row(first_project: Path) -> None:
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
def test_metrics_agree_with_model_folder(first_project: Path, model: str) -> None:
    summary = read(first_project, model if model == "ensemble" else f"train_{model}")
    folder = first_project / "models" / model
    described = json.loads((folder / "model.json").read_text())
    members = described["members"]
    assert described["name"] == model
    assert list(members) == (["mlp", "cnn", "svm"] if model == "ensemble" else [model])
    assert summary["shift"] == {
        name: decision["shift"] for name, decision in described["decisions"].items()
    }
    assert summary["model_megabytes"] > 0
    # There are fewer reliable titles than min_reliable_titles, so all validation titles are used.
    assert summary["validation"]["titles"] == read(first_project, "subset")["rows"]["validation"]
    evaluated = read(first_project, "evaluate")["validation"][model]
    for metric in HEADLINES:
        assert summary["validation"][metric] == evaluated[metric]
    weights = {name: member["weight"] for name, member in members.items()}
    assert weights == (summary["weights"] if model == "ensemble" else {model: 1.0})


def test_git_tracks_only_small_outputs(first_project: Path) -> None:
    tracked = run_in(first_project, "git", "ls-files").stdout.splitlines()
    assert "metrics/evaluate.json" in tracked
    assert "dvc.lock" in tracked
    assert not [name for name in tracked if name.startswith(("models/", "data/subset/"))]
    assert run_in(first_project, "git", "status", "--porcelain").stdout == ""


def test_outputs_do_not_contain_local_paths(first_project: Path) -> None:
    outputs = digests(first_project, *outputs_of(*STAGES))
    assert len(outputs) > 40
    for name in [*outputs, "dvc.lock"]:
        assert str(first_project).encode() not in (first_project / name).read_bytes(), name


@pytest.fixture(scope="module")
def nothing_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project before any stage has run."""
    folder = tmp_path_factory.mktemp("nothing")
    copy_project(folder)
    return folder


@pytest.mark.parametrize("stage", STAGES[1:])
def test_missing_input_names_command_that_creates_it(nothing_run: Path, stage: str) -> None:
    code, message = run_here(nothing_run, stage)
    assert code == 2, message
    assert "no such file" in message.lower()
    assert "`dvc repro`" in message
    assert len(message.splitlines()) == 1


def test_stages_report_damaged_model(project: Path) -> None:
    svm = project / "models" / "svm" / "svm.safetensors"
    content = svm.read_bytes()
    svm.unlink()  # it may be a link into DVC's cache
    svm.write_bytes(content[:1000])
    for stage in ("ensemble", "evaluate"):
        code, message = run_here(project, stage)
        assert code == 2, message
        assert "models/svm/svm.safetensors: " in message
        assert "`dvc repro`" in message
        assert len(message.splitlines()) == 1


def test_ensemble_refuses_models_of_different_titles(project: Path) -> None:
    description = project / "models" / "svm" / "model.json"
    text = description.read_text()
    description.unlink()
    description.write_text(text.replace('"max_tokens": 50', '"max_tokens": 49'))
    code, message = run_here(project, "ensemble")
    assert code == 2
    assert len(message.splitlines()) == 1
    assert all(fact in message for fact in ("svm", "mlp", "text", "`dvc repro`"))


@pytest.mark.slow
def test_invalid_setting_stops_experiment_with_message(project: Path) -> None:
    done = run_in(project, "dvc", "exp", "run", "-S", "subset.language=klingon", ok=False)
    assert done.returncode != 0
    output = done.stdout + done.stderr
    assert "error: " in output
    assert "klingon" in output
    assert "portuguese, spanish" in output
    assert "Traceback" not in output


def signalled(project: Path, stage: str, beginning: str, number: signal.Signals) -> str:
    """Run a stage, send it a signal after a line with this beginning, and return later messages."""
    process = start_stage(project, stage)
    read_until(process, beginning)
    process.send_signal(number)
    _, messages = process.communicate()
    assert process.returncode == (130 if number == signal.SIGINT else -number)
    return messages


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "killed_at"),
    [("mlp", "epoch 2/"), ("mlp", "final fit, epoch 2/"), ("cnn", "epoch 2/")],
)
def test_killed_training_resumes_only_with_same_params(
    project: Path, model: str, killed_at: str
) -> None:
    stage = f"train_{model}"
    outputs = (f"models/{model}", f"metrics/curves/{model}", f"metrics/{stage}.json")
    uninterrupted = digests(project, *outputs)
    assert len(uninterrupted) > 10
    run_in(project, "dvc", "unprotect", *outputs[:2])

    def train() -> str:
        for output in outputs[:2]:
            shutil.rmtree(project / output, ignore_errors=True)
        return run_in(project, "python", f"stages/{stage}.py").stderr

    def checkpoints() -> int:
        return len(list((project / ".checkpoints").glob("*-*")))

    signalled(project, stage, killed_at, signal.SIGKILL)
    assert checkpoints() == 1
    params = (project / "params.yaml").read_text()
    change_params(project, label_smoothing=0)
    message = train()
    assert "epoch 1/3:" in message
    assert "resuming" not in message
    assert checkpoints() == 1  # the one of the killed training
    assert digests(project, *outputs) != uninterrupted
    (project / "params.yaml").write_text(params)
    message = train()
    assert "resuming after epoch" in message
    assert not re.search("^epoch 1/3:", message, re.MULTILINE)
    assert checkpoints() == 0
    assert digests(project, *outputs) == uninterrupted


def test_ctrl_c_during_imports_explains_how_to_resume(project: Path) -> None:
    slow_import = "import sys, time\nprint('importing', file=sys.stderr)\ntime.sleep(60)\n"
    (project / "stages" / "train_network.py").write_text(slow_import)
    messages = signalled(project, "train_mlp", "importing", signal.SIGINT)
    assert "Traceback" not in messages
    assert messages.splitlines()[-1].startswith("interrupted")
    assert "again" in messages.splitlines()[-1]


@pytest.mark.slow
def test_thread_count_does_not_change_bytes(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # With these sizes, MKL would split its sums by the number of threads.
    change_params(project, batch_size=512, filters=256, max_epochs=1)
    stages = ("train_svm", "train_mlp", "train_cnn", "ensemble", "evaluate")
    found = []
    for threads in ("1", "4"):
        for library in ("OMP", "MKL", "OPENBLAS"):
            monkeypatch.setenv(f"{library}_NUM_THREADS", threads)
        for stage in stages:
            run_in(project, "python", f"stages/{stage}.py")
        found.append(digests(project, *outputs_of(*stages)))
    assert found[0] == found[1]
