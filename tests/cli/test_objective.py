"""Commands with a model that serves several objectives, and that saw validation titles in the end."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from rubro.base.files import write_tensors
from rubro.prediction.calibration import Calibration
from rubro.prediction.classifier import Classifier
from rubro.prediction.folder import Decision, Model
from support.keyword_model import CATEGORIES, assert_refused, called, write_model

DECISIONS: dict[Any, Decision] = {
    "balanced_accuracy": Decision(calibration=Calibration(temperature=2.0)),
    "accuracy": Decision(shift=0.5, calibration=Calibration(temperature=3.0)),
}
TITLE = "silla taza"  # the logit of CHAIRS is a little larger, and most training titles are MUGS
WORDS = list(CATEGORIES)


def save(folder: Path, final_fit: bool = False) -> Path:
    """Write a model that serves two objectives."""
    model = Model.load(write_model(folder))
    changes = {
        "category_titles": [10, 10, 10, 1000],
        "decisions": DECISIONS,
        "final_fit": final_fit,
    }
    replace(model, description=model.description.model_copy(update=changes)).save(folder)
    return folder


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("models") / "svm")


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """Write 300 titles that only the objective accuracy predicts right, and 30 others."""
    titles = pd.DataFrame({"title": [TITLE] * 300 + WORDS * 10, "category": "MUGS"})
    titles.loc[300:, "category"] = [*CATEGORIES.values()] * 10
    titles.to_csv(tmp_path / "labelled.csv", index=False)
    return tmp_path


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    name, *arguments = words
    done = called(folder, name, *arguments)
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.parametrize(
    ("objective", "category"),
    [("accuracy", "MUGS"), ("balanced_accuracy", "CHAIRS"), (None, "CHAIRS")],
)
def test_each_objective_has_its_own_predictions(
    both: Path, labelled: Path, objective: Any, category: str
) -> None:
    classifier = Classifier.load(both, objective=objective)
    confidence = classifier.predict_proba([TITLE]).max()
    options = ["--model", str(both), *(["--objective", objective] if objective else [])]
    run(labelled, "predict", TITLE, *options, "-o", "answers.jsonl")
    [answer] = map(json.loads, (labelled / "answers.jsonl").read_text().splitlines())
    assert answer["predicted_category"] == category
    assert answer["confidence"] == pytest.approx(confidence, abs=1e-6)
    explained = json.loads(run(labelled, "explain", TITLE, *options).stdout)
    assert explained["category"] == category
    assert explained["confidence"] == pytest.approx(confidence, abs=1e-6)
    measured = json.loads(run(labelled, "evaluate", "labelled.csv", *options, "--json", "-").stdout)
    assert measured["objective"] == (objective or "balanced_accuracy")
    assert (measured["metrics"]["accuracy"] == 1) == (category == "MUGS")
    shown = run(labelled, "evaluate", "labelled.csv", *options).stdout.splitlines()[1]
    assert shown.split()[0] == ("accuracy" if objective == "accuracy" else "balanced")


@pytest.mark.parametrize("name", ["predict", "explain", "evaluate", "thresholds", "serve"])
def test_an_objective_without_a_decision_is_refused(both: Path, labelled: Path, name: str) -> None:
    arguments = {"serve": [], "evaluate": ["labelled.csv"], "thresholds": ["labelled.csv"]}
    options = ["--model", str(both), "--objective", "macro_f1"]
    done = called(labelled, name, *arguments.get(name, [TITLE]), *options)
    assert_refused(done, "svm", "macro_f1", "`dvc repro`")
    assert "get it again" not in done.stderr


def test_thresholds_belong_to_an_objective(both: Path, labelled: Path) -> None:
    model = ["--model", str(both)]
    chosen = ["--precision", "0.9", "-o", "thresholds.json"]
    run(labelled, "thresholds", "labelled.csv", *model, *chosen, "--objective", "accuracy")
    use = ["predict", TITLE, *model, "--thresholds", "thresholds.json", "-o", "answers.csv"]
    check = ["thresholds", "labelled.csv", *model, "--check", "thresholds.json"]
    for words in (use, check):
        run(labelled, *words, "--objective", "accuracy")
        done = called(labelled, *words)
        assert_refused(done, "thresholds.json", "balanced_accuracy")
    accepted = pd.read_csv(labelled / "answers.csv")["predicted_category"]
    assert list(accepted) == ["MUGS"]
    found = re.search("`rubro (.*)`", done.stderr)
    assert found
    name, *options = shlex.split(found[1])
    run(labelled, name, "labelled.csv", *options, "--precision", "0.5")
    run(labelled, *use)


def test_thresholds_of_another_objective_in_the_model_folder_are_not_used(
    both: Path, labelled: Path
) -> None:
    folder = labelled / "model"
    shutil.copytree(both, folder)
    model = ["--model", str(folder)]
    chosen = ["--precision", "0.5", "-o", str(folder / "thresholds.json")]
    run(labelled, "thresholds", "labelled.csv", *model, *chosen, "--objective", "accuracy")
    for objective, is_used in (("accuracy", True), ("balanced_accuracy", False)):
        options = [*model, "--objective", objective, "-o", "answers.csv"]
        done = run(labelled, "predict", TITLE, *options)
        answers = pd.read_csv(labelled / "answers.csv")
        assert ("best_guess" in answers) == is_used
        assert (f"{folder / 'thresholds.json'}: " in done.stderr) != is_used


# A model that was trained on validation titles too


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project whose model makes no error on validation titles, but made some before."""
    folder = save(tmp_path / "models" / "svm", final_fit=True)
    subset = tmp_path / "data" / "subset"
    subset.mkdir(parents=True)
    titles = pd.DataFrame({"title": WORDS * 200, "category": [*CATEGORIES.values()] * 200})
    for name in ("train", "validation", "test"):
        titles.to_parquet(subset / f"{name}.parquet")
    store_logits(tmp_path, Classifier.load(folder).member_logits(titles["title"])["svm"])
    return tmp_path


def store_logits(project: Path, logits: np.ndarray) -> None:
    """Store logits as validation logits, with an error in every second title for MUGS."""
    changed = logits.copy()
    changed[3::8] = np.roll(logits[3::8], 1, axis=1)
    path = project / "data" / "validation_logits" / "svm.safetensors"
    write_tensors(path, {"logits": changed})


def thresholds(
    project: Path, *arguments: str, model: str = "models/svm"
) -> subprocess.CompletedProcess[str]:
    return called(project, "thresholds", *arguments, "--model", model)


def test_thresholds_are_chosen_before_the_final_fit(project: Path) -> None:
    done = thresholds(project)
    assert done.returncode == 0, done.stderr
    written = json.loads((project / "thresholds.json").read_text())
    assert written["all"]["titles"] == 800
    # Half of the 200 titles for MUGS were predicted as TABLES, with a lower confidence.
    tables = written["categories"]["TABLES"]
    assert tables["titles"] == 300
    assert tables["right"] == tables["kept"] == 200
    (project / "elsewhere").mkdir()
    for folder, file in ((".", "data/subset"), ("data", "subset"), ("elsewhere", "../data/subset")):
        path, model = f"{file}/validation.parquet", str(project / "models/svm")
        again = thresholds(project / folder, path, model=model)
        assert again.stdout.splitlines()[1:] == done.stdout.splitlines()[1:]
    options = "data/subset/test.parquet", "-o", "test.json"
    assert thresholds(project, *options).returncode == 0  # the model is always right there
    right = json.loads((project / "test.json").read_text())["all"]
    assert right["right"] == right["kept"] == right["titles"] == 800
    checked = thresholds(project, "--check", "test.json").stdout
    [line] = [line for line in checked.splitlines() if "all categories" in line]
    assert "87.5%" in line


def test_logits_of_other_titles_or_models_are_refused(project: Path, tmp_path: Path) -> None:
    file = project / "data/validation_logits/svm.safetensors"
    content, remedy = file.read_bytes(), "`dvc repro`"
    file.unlink()
    assert_refused(thresholds(project), "svm.safetensors", remedy)
    write_tensors(file, {"logits": np.zeros((799, 4), dtype=np.float32)})
    assert_refused(thresholds(project), "svm.safetensors", "799", remedy)
    file.write_bytes(content)
    assert thresholds(project).returncode == 0
    shutil.copytree(project / "models/svm", tmp_path / "same")
    assert thresholds(project, model="same").returncode == 0
    model = Model.load(project / "models/svm")
    tensors = {**model.tensors["svm"], "bias": np.zeros(4, dtype=np.float32)}
    replace(model, tensors={"svm": tensors}).save(tmp_path / "other")
    assert_refused(thresholds(project, model="other"), "svm.safetensors", remedy)


def test_training_titles_are_refused(project: Path) -> None:
    for file in ("data/subset/train.parquet", "data/subset/../subset/train.parquet"):
        assert_refused(thresholds(project, file), "train.parquet", "use")


def test_evaluate_warns_about_titles_of_the_training(project: Path) -> None:
    def warned(split: str) -> bool:
        path = f"data/subset/{split}.parquet"
        done = called(project, "evaluate", path, "--model", "models/svm")
        assert done.returncode == 0, done.stderr
        return bool(re.search(f"(?m)^{path}: .*too good", done.stderr))

    assert [warned(split) for split in ("train", "validation", "test")] == [True, True, False]
    save(project / "models" / "svm", final_fit=False)
    assert [warned(split) for split in ("train", "validation")] == [True, False]
