"""`rubro thresholds` writes a file that `rubro predict --thresholds` uses."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from rubro.evaluation.thresholds import Predictions
from rubro.prediction.classifier import Classifier
from rubro.training.threshold_choice import chosen_thresholds, measured
from support.keyword_model import CATEGORIES, assert_refused, called, write_model

pytest_plugins = ["support.keyword_model"]

WORDS = list(CATEGORIES)


def run(name: str, model: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return called(folder, name, "--model", str(model), *arguments)


def titles(random: np.random.Generator, count: int) -> Iterator[dict[str, str]]:
    """Yield mostly right titles of one word, half wrong titles of two words, and few mugs."""
    for _ in range(count):
        one, other = random.choice(3, 2, replace=False)
        kind = random.random()
        word, title = one, WORDS[one]
        if kind < 0.01:
            word, title = WORDS.index("taza"), "taza"
        elif kind < 0.6:
            word = other if random.random() < 0.002 else one
        else:
            word, title = random.choice([one, other]), f"{WORDS[one]} {WORDS[other]}"
        yield {"title": title, "category": CATEGORIES[WORDS[word]]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Path:
    """Write validation and test titles, and thresholds chosen on the validation titles."""
    folder = tmp_path_factory.mktemp("titles")
    random = np.random.default_rng(2)
    validation = pd.DataFrame(titles(random, 4000))
    wrong = pd.DataFrame({"title": WORDS * 200, "category": "MUGS"})
    validation = pd.concat(
        [validation.assign(label_quality="reliable"), wrong.assign(label_quality="unreliable")]
    )
    validation.to_parquet(folder / "validation.parquet")
    pd.DataFrame(titles(random, 4000)).to_csv(folder / "test.csv", index=False)
    done = run("thresholds", model, folder, "validation.parquet", "--precision", "0.95")
    assert done.returncode == 0, done.stderr
    assert "4,000 of 4,800 titles" in done.stderr
    assert "0.95" in done.stdout
    return folder


@pytest.fixture(scope="module")
def written(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "thresholds.json").read_text())
    return content


def test_each_category_has_a_threshold_and_its_basis(written: dict[str, Any]) -> None:
    assert (written["format"], written["model"]) == ("rubro-thresholds-1", "svm")
    assert (written["precision"], written["coverage"]) == (0.95, 0.95)
    basis = {name: each["basis"] for name, each in written["categories"].items()}
    # There are too few mugs for a threshold, so another category joins them to keep their titles.
    assert basis == {"TABLES": "together", "CHAIRS": "own", "LAMPS": "own", "MUGS": "together"}
    for each in written["categories"].values():
        assert each["titles"] >= written["least_titles"] or each["basis"] == "together"
        assert each["kept"] <= each["titles"]
    # The model is about 50 % confident about titles of two words.
    for each in (written["categories"]["CHAIRS"], written["categories"]["LAMPS"]):
        assert each["confidence"] > 0.5
        assert each["low"] >= 0.95
    together = written["together"]
    assert together["low"] >= 0.95
    assert together["right"] / together["kept"] > 0.98
    assert written["categories"]["MUGS"]["confidence"] == together["confidence"]
    kept = sum(each["kept"] for each in written["categories"].values())
    assert written["all"]["kept"] == kept
    assert 0.55 < kept / written["all"]["titles"] < 0.65
    assert kept >= written["single"]["kept"]


def test_evaluate_gives_the_same_figures_as_thresholds(
    folder: Path, model: Path, written: dict[str, Any]
) -> None:
    done = run("evaluate", model, folder, "validation.parquet", "--tables", "tables")
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(folder / "tables/automation.csv").set_index("goal")
    found, expected = table.loc[0.95], written["all"]
    assert found["coverage"] == pytest.approx(expected["kept"] / expected["titles"], abs=1e-6)
    assert found["precision"] == pytest.approx(expected["right"] / expected["kept"], abs=1e-6)
    assert [found["low"], found["high"]] == [expected["low"], expected["high"]]
    (line,) = [line for line in done.stdout.splitlines() if line.startswith(" 0.9500 ")]
    assert f"{expected['low']:.4f}" in line


def test_the_promise_holds_on_other_titles(folder: Path, model: Path) -> None:
    options = "--thresholds", "thresholds.json", "-o", "answers.csv"
    done = run("predict", model, folder, "test.csv", *options)
    assert done.returncode == 0, done.stderr
    with open(folder / "answers.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    accepted = [row for row in rows if row["predicted_category"]]
    assert all(row["best_guess"] for row in rows)
    assert {row["title"] for row in accepted} == set(WORDS)
    right = sum(row["predicted_category"] == row["category"] for row in accepted)
    assert right / len(accepted) >= 0.95
    checked = run("thresholds", model, folder, "test.csv", "--check", "thresholds.json")
    assert checked.returncode == 0, checked.stderr
    share, precision = len(accepted) / len(rows), right / len(accepted)
    (line,) = [line for line in checked.stdout.splitlines() if "all categories" in line]
    assert f"{share:.1%}" in line
    assert f"{precision:.1%}" in line


def test_titles_of_unknown_categories_count_as_errors(folder: Path, model: Path) -> None:
    """A tenth of the titles for tables belong to a category that the model does not know."""
    random = np.random.default_rng(4)
    known = pd.DataFrame(titles(random, 4000))
    unknown = pd.DataFrame({"title": ["mesa"] * 150 + ["taza"] * 10, "category": "DESKS"})
    pd.concat([known, unknown]).to_csv(folder / "unknown.csv", index=False)
    old = run("thresholds", model, folder, "unknown.csv", "--check", "thresholds.json")
    options = "--precision", "0.95", "-o", "unknown.json"
    new = run("thresholds", model, folder, "unknown.csv", *options)
    for done, kept in ((old, 160), (new, 0)):
        assert done.returncode == 0, done.stderr
        (line,) = [line for line in done.stdout.splitlines() if "unknown categories" in line]
        assert "160 " in line
        assert f"{kept / 160:.1%}" in line
    written = json.loads((folder / "unknown.json").read_text())
    assert written["unknown"] == {"titles": 160, "kept": 0, "right": 0, "low": 0.0, "high": 1.0}
    assert written["categories"]["TABLES"]["confidence"] is None
    assert written["all"]["titles"] == 4160
    answers = "predict", model, folder, "unknown.csv", "--thresholds", "unknown.json", "-o", "a.csv"
    run(*answers)
    table = pd.read_csv(folder / "a.csv").dropna(subset="predicted_category")
    assert len(table) == written["all"]["kept"] > 1000
    assert (table["predicted_category"] == table["category"]).mean() >= 0.95


@pytest.mark.slow
def test_promises_are_kept_in_catalogues_with_unknown_categories(model: Path) -> None:
    """Choose thresholds on labelled titles of 200 simulated catalogues."""
    classifier, random, promised = Classifier.load(model), np.random.default_rng(6), 0.9

    def catalogue(count: int, unknown: float) -> Predictions:
        known = random.random(count) >= unknown
        confidences = np.where(known, random.beta(6, 0.6, count), random.beta(4, 1.5, count))
        right = known & (random.random(count) < confidences - 0.02)
        return Predictions(random.integers(4, size=count), confidences, right, known)

    precisions, coverages = [], []
    for unknown in np.linspace(0.02, 0.3, 200):
        labelled, whole = catalogue(3000, unknown), catalogue(30_000, unknown)
        only_known = labelled.selected(labelled.known)
        pair = [
            measured(chosen_thresholds([each], classifier, promised), [whole], classifier).all
            for each in (labelled, only_known)
        ]
        precisions.append([each.right / each.kept if each.kept else 1.0 for each in pair])
        coverages.append(pair[0].kept / pair[0].titles)
    kept, kept_without_unknown = (np.array(precisions) >= promised).mean(axis=0)
    assert kept >= 0.95
    assert np.median(coverages) > 0.1
    assert kept_without_unknown < 0.6  # the catalogues are difficult


def test_a_foreign_title_is_marked_and_never_accepted(folder: Path, model: Path) -> None:
    options = "--thresholds", "thresholds.json", "--details", "-o", "answers.csv"
    run("predict", model, folder, "silla", "silla xx", "silla xx yy", *options)
    rows = list(csv.DictReader((folder / "answers.csv").read_text().splitlines()))
    assert [row["predicted_category"] for row in rows] == ["CHAIRS", "CHAIRS", ""]
    assert [row["best_guess"] for row in rows] == ["CHAIRS"] * 3
    assert [row["out_of_vocabulary"] for row in rows] == ["0.0", "0.5", "0.666667"]
    assert [row["foreign"] for row in rows] == ["", "", "yes"]
    assert len({row["confidence"] for row in rows}) == 1


def test_details_without_thresholds_keep_every_category(folder: Path, model: Path) -> None:
    done = run("predict", model, folder, "silla xx yy", "", "--details", "-o", "answers.jsonl")
    assert done.returncode == 3
    first, second = map(json.loads, (folder / "answers.jsonl").read_text().splitlines())
    assert (first["predicted_category"], first["foreign"]) == ("CHAIRS", "yes")
    assert "best_guess" not in first
    assert (second["out_of_vocabulary"], second["foreign"]) == (None, None)


@pytest.mark.parametrize(
    ("change", "fact"),
    [
        ({"fingerprint": "0" * 64}, ""),
        ({"categories": {}}, ""),
        ({"format": "rubro-thresholds-2"}, "format: Input should be 'rubro-thresholds-1'"),
        ({"precision": 2}, "precision: Input should be less than or equal to 1"),
        ({"more": 1}, "more: Extra inputs are not permitted"),
    ],
)
def test_an_unusable_file_of_thresholds_is_rejected(
    folder: Path, model: Path, written: dict[str, Any], change: dict[str, Any], fact: str
) -> None:
    (folder / "wrong.json").write_text(json.dumps({**written, **change}))
    done = run("predict", model, folder, "silla", "--thresholds", "wrong.json")
    assert_refused(done, "wrong.json", fact, "`rubro thresholds --model")


def test_thresholds_are_only_accepted_for_their_model(
    folder: Path, tmp_path: Path, model: Path
) -> None:
    same = Path(shutil.copytree(model, tmp_path / "same"))
    other = write_model(tmp_path / "other", "name")
    for path, code in ((same, 0), (other, 2)):
        options = "--thresholds", "thresholds.json", "-o", "answers.csv"
        done = run("predict", path, folder, "silla", *options)
        assert done.returncode == code, done.stderr


@pytest.mark.parametrize(
    ("command_line", "facts"),
    [
        ("predict silla --thresholds none.json", "none.json"),
        (
            "predict silla --thresholds thresholds.json --min-confidence 0.5",
            "--thresholds --min-confidence",
        ),
        ("thresholds none.csv", "none.csv"),
        ("thresholds validation.parquet --precision 1.0", "'--precision'"),
        ("thresholds few.csv -o few.json", "few.csv 0.95 100.0% --precision"),
        ("thresholds unreliable.csv", "unreliable.csv"),
    ],
)
def test_wrong_input_gives_one_message(
    folder: Path, model: Path, command_line: str, facts: str
) -> None:
    (folder / "few.csv").write_text("title,category\nsilla,CHAIRS\n")
    (folder / "unreliable.csv").write_text(
        "title,category,label_quality\nsilla,CHAIRS,unreliable\n"
    )
    name, *arguments = command_line.split()
    assert_refused(run(name, model, folder, *arguments), *facts.split())
    assert not (folder / "few.json").exists()


# Thresholds in the model folder


@pytest.fixture
def carrying(folder: Path, model: Path, tmp_path: Path) -> Path:
    """A copy of the model that contains the thresholds."""
    shutil.copytree(model, tmp_path / "model")
    shutil.copy(folder / "thresholds.json", tmp_path / "model" / "thresholds.json")
    return tmp_path / "model"


def answers_to(model: Path, *arguments: str) -> tuple[pd.DataFrame, str]:
    """Return the answers of `rubro predict` and its messages."""
    done = run("predict", model, model.parent, *arguments, "-o", "answers.csv")
    assert done.returncode == 0, done.stderr
    return pd.read_csv(model.parent / "answers.csv"), done.stderr


def test_thresholds_in_the_model_folder_are_used_by_default(
    folder: Path, carrying: Path, model: Path
) -> None:
    titles = str(folder / "test.csv")
    given, _ = answers_to(model, titles, "--thresholds", str(folder / "thresholds.json"))
    found, messages = answers_to(carrying, titles)
    pd.testing.assert_frame_equal(found, given)
    rejected = found["predicted_category"].isna().sum()
    assert rejected > 1000
    assert f"{rejected:,} of 4,000" in messages
    assert "--no-thresholds" in messages
    plain, no_message = answers_to(model, titles)
    assert "no-thresholds" not in no_message
    off, no_message = answers_to(carrying, titles, "--no-thresholds")
    pd.testing.assert_frame_equal(off, plain)
    assert "no-thresholds" not in no_message
    lowest, _ = answers_to(carrying, titles, "--min-confidence", "0")
    assert lowest["predicted_category"].notna().all()


def test_details_contain_the_threshold_of_each_answer(
    carrying: Path, written: dict[str, Any]
) -> None:
    found, _ = answers_to(carrying, "silla", "silla lampara", "--details")
    threshold = written["categories"]["CHAIRS"]["confidence"]
    assert found["threshold"].to_list() == [threshold, threshold]
    assert (found["confidence"] >= threshold).to_list() == [True, False]
    off, _ = answers_to(carrying, "silla", "--details", "--no-thresholds")
    assert "threshold" not in off


@pytest.mark.parametrize(
    "content", ["{", "{}", None, "another model"], ids=["cut", "empty", "link", "foreign"]
)
def test_unusable_thresholds_in_the_model_folder_are_refused(
    carrying: Path, content: str | None, written: dict[str, Any]
) -> None:
    path = carrying / "thresholds.json"
    path.unlink()
    if content is None:
        path.symlink_to("nowhere")
    else:
        foreign = json.dumps({**written, "fingerprint": "0" * 64})
        path.write_text(foreign if content == "another model" else content)
    done = run("predict", carrying, carrying.parent, "silla")
    assert_refused(done, str(path), "`rubro thresholds --model", "delete it")
    assert len(answers_to(carrying, "silla", "--no-thresholds")[0]) == 1


@pytest.mark.parametrize("command", ["predict", "serve"])
def test_thresholds_are_either_given_or_turned_off(carrying: Path, command: str) -> None:
    options = "--thresholds", "thresholds.json", "--no-thresholds"
    done = run(command, carrying, carrying.parent, *options)
    assert_refused(done, "--thresholds", "--no-thresholds")
