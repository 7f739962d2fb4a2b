"""`rubro evaluate`: the metrics of a model on labelled titles of any layout."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from support.keyword_model import called, command, environment

pytest_plugins = ["support.keyword_model"]

Evaluate = Callable[..., subprocess.CompletedProcess[str]]
ROWS = [
    {"title": "mesa alta", "category": "TABLES"},
    {"title": "silla", "category": "CHAIRS"},
    {"title": "mesa", "category": "CHAIRS"},
    {"title": "lámpara", "category": "LAMPS"},
]


@pytest.fixture
def evaluate(tmp_path: Path, model: Path) -> Evaluate:
    def run(*arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        if stdin is None:
            return called(tmp_path, *command(model, arguments, "evaluate")[3:])
        return subprocess.run(
            command(model, arguments, "evaluate"),
            cwd=tmp_path,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    return run


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    table = pd.DataFrame(rows)
    if path.suffix == ".parquet":
        table.to_parquet(path)
    elif ".jsonl" in path.name:
        table.to_json(path, orient="records", lines=True, force_ascii=False)
    else:
        table.to_csv(path, index=False, sep="\t" if ".tsv" in path.name else ",")


@pytest.mark.parametrize("name", ["a.csv", "a.tsv.gz", "a.jsonl", "a.parquet"])
def test_the_same_metrics_come_from_every_kind_of_file(
    tmp_path: Path, evaluate: Evaluate, name: str
) -> None:
    write(tmp_path / name, ROWS)
    done = evaluate(name, "--json", "-")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["model"] == "svm"
    assert summary["rows"] == {
        "read": 4,
        "measured": 4,
        "unreadable": 0,
        "without_category": 0,
        "of_unknown_category": 0,
    }
    assert summary["metrics"]["accuracy"] == 0.75
    assert summary["metrics"]["balanced_accuracy"] == pytest.approx(2.5 / 3, abs=1e-6)


def test_what_is_left_out_is_counted_and_said(tmp_path: Path, evaluate: Evaluate) -> None:
    more = "a,BOATS\nb,BOATS\nc,CARS\nmesa,\n,TABLES\nmesa\n"
    (tmp_path / "a.csv").write_text("title,category\nmesa,TABLES\n" + more)
    done = evaluate("a.csv", "--json", "metrics.json")
    assert done.returncode == 0
    assert "2 of 7 rows cannot be read" in done.stderr
    assert "1 of 7 rows have no text in 'category'" in done.stderr
    assert "does not know (2 names): BOATS 2, CARS 1" in done.stderr
    assert json.loads((tmp_path / "metrics.json").read_text())["rows"] == {
        "read": 7,
        "measured": 1,
        "unreadable": 2,
        "without_category": 1,
        "of_unknown_category": 3,
    }


def test_tables_are_shown_and_written(tmp_path: Path, evaluate: Evaluate) -> None:
    write(tmp_path / "a.csv", ROWS)
    done = evaluate("a.csv", "--tables", "new/details")
    assert "svm on 4 titles" in done.stdout
    assert "balanced accuracy" in done.stdout
    assert "CHAIRS" in done.stdout
    names = {path.name for path in (tmp_path / "new/details").iterdir()}
    assert names == {
        "slices.csv",
        "classes.csv",
        "confused_pairs.csv",
        "confusions.csv",
        "mistakes.csv",
        "reliability.csv",
        "reliability_before.csv",
        "coverage.csv",
        "automation.csv",
    }
    mistakes = pd.read_csv(tmp_path / "new/details/mistakes.csv")
    assert list(mistakes["title"]) == ["mesa"]


def test_columns_are_guessed_or_named(tmp_path: Path, evaluate: Evaluate) -> None:
    write(tmp_path / "a.csv", [{"Nombre": "mesa", "Categoría": "TABLES", "what": "CHAIRS"}])
    done = evaluate("a.csv", "--json", "-")
    assert "a.csv: titles from column 'Nombre', categories from 'Categoría'" in done.stderr
    assert json.loads(done.stdout)["metrics"]["accuracy"] == 1.0
    done = evaluate("a.csv", "--json", "-", "--title-column", "Nombre", "--category-column", "what")
    assert json.loads(done.stdout)["metrics"]["accuracy"] == 0.0


@pytest.mark.slow
def test_standard_input_is_read(evaluate: Evaluate) -> None:
    rows = "".join(json.dumps(row) + "\n" for row in ROWS)
    done = evaluate("-", "--json", "-", stdin=rows)
    assert json.loads(done.stdout)["rows"]["measured"] == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.csv"], "none.csv: no such file"),
        (["a.csv", "--title-column", "x"], "set --title-column to one of them"),
        (["a.csv", "--category-column", "x"], "a.csv: no column 'x' of categories (found: title,"),
        (["unlabelled.csv"], "no column 'category' of categories (found: title)"),
        (["unknown.csv"], "unknown.csv: none of 1 rows has a title and a category that the model"),
        (["a.csv", "--model", "nowhere"], "nowhere: no model there"),
    ],
)
def test_wrong_input_is_one_message(
    tmp_path: Path, evaluate: Evaluate, arguments: list[str], message: str
) -> None:
    write(tmp_path / "a.csv", ROWS)
    (tmp_path / "unlabelled.csv").write_text("title\nmesa\n")
    (tmp_path / "unknown.csv").write_text("title,category\nmesa,BOATS\n")
    done = evaluate(*arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_without_the_packages_of_training_it_says_which_to_install(
    tmp_path: Path, model: Path
) -> None:
    """A package that is not there, as where prediction alone was installed."""
    write(tmp_path / "a.csv", ROWS)
    (tmp_path / "pandas.py").write_text("raise ModuleNotFoundError(name='pandas')\n")
    done = subprocess.run(
        command(model, ["a.csv"], "evaluate"),
        cwd=tmp_path,
        env=environment(PYTHONPATH=str(tmp_path)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "rubro evaluate needs pandas, which is not installed" in done.stderr
    assert "pip install 'rubro[train]'" in done.stderr
