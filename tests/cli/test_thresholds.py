"""`rubro thresholds` and `rubro predict --thresholds`: a file between them, and its promise."""

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

from support.keyword_model import CATEGORIES, called, command, write_model

pytest_plugins = ["support.keyword_model"]

WORDS = list(CATEGORIES)


def run(name: str, model: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    if name != "predict":
        return called(folder, *command(model, arguments, name)[3:])
    return subprocess.run(
        command(model, arguments, name),
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def titles(random: np.random.Generator, count: int) -> Iterator[dict[str, str]]:
    """Titles of one word, mostly right, and of two words, half of them wrong; few mugs."""
    for _ in range(count):
        one, other = random.choice(3, 2, replace=False)
        kind = random.random()
        if kind < 0.02:
            yield {"title": "taza", "category": "MUGS"}
        elif kind < 0.6:
            wrong = random.random() < 0.002
            category = CATEGORIES[WORDS[other if wrong else one]]
            yield {"title": WORDS[one], "category": category}
        else:
            category = CATEGORIES[WORDS[random.choice([one, other])]]
            yield {"title": f"{WORDS[one]} {WORDS[other]}", "category": category}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Path:
    """Validation and test titles, and thresholds chosen on the first."""
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
    assert "4,000 of 4,800 titles are reliable" in done.stderr
    assert "precision 0.95 promised" in done.stdout
    return folder


@pytest.fixture(scope="module")
def written(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "thresholds.json").read_text())
    return content


def test_each_category_has_a_threshold_and_says_what_it_was_chosen_on(
    written: dict[str, Any],
) -> None:
    assert (written["format"], written["model"]) == ("rubro-thresholds-1", "svm")
    assert (written["precision"], written["coverage"]) == (0.95, 0.95)
    basis = {name: each["basis"] for name, each in written["categories"].items()}
    assert basis == {"TABLES": "own", "CHAIRS": "own", "LAMPS": "own", "MUGS": "together"}
    for each in written["categories"].values():
        assert (each["titles"] >= written["least_titles"]) == (each["basis"] == "own")
        assert each["kept"] <= each["titles"]
    # Titles of two words have a confidence near one half.
    tables = written["categories"]["TABLES"]
    assert tables["confidence"] > 0.5
    assert tables["low"] >= 0.95
    assert tables["right"] / tables["kept"] > 0.98
    # Fewer mugs than any promise needs.
    assert written["together"]["confidence"] is None
    assert written["categories"]["MUGS"]["kept"] == 0
    kept = sum(each["kept"] for each in written["categories"].values())
    assert written["all"]["kept"] == kept
    assert 0.5 < kept / written["all"]["titles"] < 0.6


def test_the_promise_holds_on_other_titles(folder: Path, model: Path) -> None:
    options = "--thresholds", "thresholds.json", "-o", "answers.csv"
    done = run("predict", model, folder, "test.csv", *options)
    assert done.returncode == 0, done.stderr
    with open(folder / "answers.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    accepted = [row for row in rows if row["predicted_category"]]
    assert all(row["best_guess"] for row in rows)
    assert {row["title"] for row in accepted} == {"mesa", "silla", "lampara"}
    right = sum(row["predicted_category"] == row["category"] for row in accepted)
    assert right / len(accepted) >= 0.95
    checked = run("thresholds", model, folder, "test.csv", "--check", "thresholds.json")
    assert checked.returncode == 0, checked.stderr
    share, precision = len(accepted) / len(rows), right / len(accepted)
    (line,) = [line for line in checked.stdout.splitlines() if "all categories" in line]
    assert f"{share:.1%}" in line
    assert f"{precision:.1%}" in line


def test_a_foreign_title_is_marked_and_never_accepted(folder: Path, model: Path) -> None:
    options = "--thresholds", "thresholds.json", "--details"
    done = run("predict", model, folder, "silla", "silla xx", "silla xx yy", *options)
    rows = list(csv.DictReader(done.stdout.splitlines()))
    assert [row["predicted_category"] for row in rows] == ["CHAIRS", "CHAIRS", ""]
    assert [row["best_guess"] for row in rows] == ["CHAIRS"] * 3
    assert [row["out_of_vocabulary"] for row in rows] == ["0.0", "0.5", "0.666667"]
    assert [row["foreign"] for row in rows] == ["", "", "yes"]
    assert len({row["confidence"] for row in rows}) == 1


def test_details_alone_leave_no_category_out(folder: Path, model: Path) -> None:
    done = run("predict", model, folder, "silla xx yy", "", "--details", "--format", "jsonl")
    assert done.returncode == 3
    first, second = map(json.loads, done.stdout.splitlines())
    assert (first["predicted_category"], first["foreign"]) == ("CHAIRS", "yes")
    assert "best_guess" not in first
    assert (second["out_of_vocabulary"], second["foreign"]) == (None, None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fingerprint": "0" * 64}, "another model"),
        ({"format": "rubro-thresholds-2"}, "'format': Input should be 'rubro-thresholds-1'"),
        ({"precision": 2}, "'precision': Input should be less than or equal to 1"),
        ({"categories": {}}, "another model"),
        ({"more": 1}, "'more': Extra inputs are not permitted"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(
    folder: Path, model: Path, written: dict[str, Any], change: dict[str, Any], message: str
) -> None:
    (folder / "wrong.json").write_text(json.dumps({**written, **change}))
    done = run("predict", model, folder, "silla", "--thresholds", "wrong.json")
    assert done.returncode == 2
    assert message in done.stderr
    assert "`rubro thresholds --model" in done.stderr
    assert "Traceback" not in done.stderr


def test_thresholds_are_for_one_model(folder: Path, tmp_path: Path, model: Path) -> None:
    same = Path(shutil.copytree(model, tmp_path / "same"))
    other = write_model(tmp_path / "other", "name")
    for path, code in ((same, 0), (other, 2)):
        done = run("predict", path, folder, "silla", "--thresholds", "thresholds.json")
        assert done.returncode == code, done.stderr


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("predict", ["silla", "--thresholds", "none.json"], "none.json: no such file"),
        (
            "predict",
            ["silla", "--thresholds", "thresholds.json", "--min-confidence", "0.5"],
            "--thresholds and --min-confidence exclude each other",
        ),
        ("thresholds", ["none.csv"], "none.csv: no such file"),
        ("thresholds", ["validation.parquet", "--precision", "1.0"], "'--precision'"),
        (
            "thresholds",
            ["few.csv", "-o", "few.json"],
            "no threshold makes a precision of 0.98 sure",
        ),
        ("thresholds", ["unreliable.csv"], "all rows are unreliable"),
    ],
)
def test_what_is_wrong_is_one_message(
    folder: Path, model: Path, name: str, arguments: list[str], message: str
) -> None:
    (folder / "few.csv").write_text("title,category\nsilla,CHAIRS\n")
    (folder / "unreliable.csv").write_text(
        "title,category,label_quality\nsilla,CHAIRS,unreliable\n"
    )
    done = run(name, model, folder, *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (folder / "few.json").exists()
