"""`rubro evaluate`: the metrics of a model on labelled titles of any layout."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from support.keyword_model import PATHS, assert_refused, called, command
from support.raw_titles import write_frame

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
    return lambda *arguments: called(tmp_path, "evaluate", "--model", str(model), *arguments)


def write(path: Path, rows: list[dict[str, str]]) -> None:
    write_frame(pd.DataFrame(rows), path)


@pytest.mark.parametrize("name", ["a.csv", "a.tsv.gz", "a.jsonl", "a.parquet"])
def test_every_format_gives_the_same_metrics(tmp_path: Path, evaluate: Evaluate, name: str) -> None:
    write(tmp_path / name, ROWS)
    done = evaluate(name, "--json", "-")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["model"] == "svm"
    assert summary["rows"]["measured"] == 4
    assert summary["metrics"]["accuracy"] == 0.75
    assert summary["metrics"]["balanced_accuracy"] == pytest.approx(2.5 / 3, abs=1e-6)


def test_skipped_and_unknown_rows_are_counted_and_reported(
    tmp_path: Path, evaluate: Evaluate
) -> None:
    more = "a,BOATS\nb,BOATS\nc,CARS\nmesa,\n,TABLES\nmesa\n"
    (tmp_path / "a.csv").write_text("title,category\nmesa,TABLES\n" + more)
    done = evaluate("a.csv", "--json", "metrics.json")
    assert done.returncode == 0
    unreadable, uncategorised, unknown, unmeasured = done.stderr.splitlines()[1:]
    assert "2 of 7 rows" in unreadable
    assert "1 of 7 rows" in uncategorised and "'category'" in uncategorised
    assert "3 of 7 rows" in unknown and "BOATS 2, CARS 1" in unknown
    assert "3 of 4 categories" in unmeasured and "CHAIRS" in unmeasured
    assert json.loads((tmp_path / "metrics.json").read_text())["rows"] == {
        "read": 7,
        "measured": 1,
        "unreadable": 2,
        "without_category": 1,
        "of_unknown_category": 3,
    }


def test_unknown_categories_count_as_errors_in_a_second_accuracy(
    tmp_path: Path, evaluate: Evaluate
) -> None:
    unknown = [{"title": "mesa", "category": "BOATS"}, {"title": "taza", "category": "CARS"}]
    write(tmp_path / "a.csv", [*ROWS, *unknown])
    done = evaluate("a.csv", "--json", "metrics.json", "--tables", "details")
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "metrics.json").read_text())
    assert summary["metrics"]["accuracy"] == 0.75
    assert summary["accuracy_with_unknown_categories"] == 0.5
    assert summary["categories"] == {"known": 4, "measured": 3}
    assert "4 titles of 3 of 4 categories" in done.stdout
    (line,) = [line for line in done.stdout.splitlines() if "accuracy with unknown" in line]
    assert "0.5000" in line and "2 more titles" in line
    coverage = pd.read_csv(tmp_path / "details/coverage.csv")
    assert coverage["precision"].iloc[-1] == 0.5


def test_tables_are_shown_and_written(tmp_path: Path, evaluate: Evaluate) -> None:
    write(tmp_path / "a.csv", ROWS)
    done = evaluate("a.csv", "--tables", "new/details")
    for text in ("svm on 4 titles", "balanced accuracy", "CHAIRS"):
        assert text in done.stdout
    assert done.stdout.count("95% interval") == 3
    assert "1 of 4 categories have no titles" in done.stderr
    names = "automation classes confused_pairs confusions coverage mistakes reliability"
    names += " reliability_before slices unmeasured"
    written = sorted(path.name for path in (tmp_path / "new/details").iterdir())
    assert written == [f"{name}.csv" for name in names.split()]
    mistakes = pd.read_csv(tmp_path / "new/details/mistakes.csv")
    assert list(mistakes["title"]) == ["mesa"]


def test_columns_are_detected_or_named(tmp_path: Path, evaluate: Evaluate) -> None:
    write(tmp_path / "a.csv", [{"Nombre": "mesa", "Categoría": "TABLES", "what": "CHAIRS"}])
    done = evaluate("a.csv", "--json", "-")
    assert done.stderr.startswith("a.csv: ")
    assert "'Nombre'" in done.stderr and "'Categoría'" in done.stderr
    assert json.loads(done.stdout)["metrics"]["accuracy"] == 1.0
    done = evaluate("a.csv", "--json", "-", "--title-column", "Nombre", "--category-column", "what")
    assert json.loads(done.stdout)["metrics"]["accuracy"] == 0.0


@pytest.mark.slow
def test_standard_input_is_read(model: Path) -> None:
    rows = "".join(json.dumps(row) + "\n" for row in ROWS)
    script = command(model, ["-", "--json", "-"], "evaluate")
    shown = subprocess.run(script, input=rows.encode(), capture_output=True, check=True).stdout
    assert json.loads(shown)["rows"]["measured"] == 4


@pytest.mark.parametrize(
    ("arguments", "facts"),
    [
        (["none.csv"], ["none.csv", "name another file"]),
        (["."], [".: ", "folder", "name a file in it"]),
        (["a.csv", "--title-column", "x"], ["a.csv", "'x'", "set --title-column"]),
        (
            ["a.csv", "--category-column", "x"],
            ["a.csv", "'x'", "(found: title, category)", "set --category-column"],
        ),
        (["unlabelled.csv"], ["unlabelled.csv", "'category'", "(found: title)"]),
        (["unknown.csv"], ["unknown.csv", "none of 1 rows", "--category-column", "--model"]),
        (["a.csv", "--model", "nowhere"], ["nowhere", "--model", "`make repro`"]),
    ],
)
def test_wrong_input_gives_one_message(
    tmp_path: Path, evaluate: Evaluate, arguments: list[str], facts: list[str]
) -> None:
    write(tmp_path / "a.csv", ROWS)
    (tmp_path / "unlabelled.csv").write_text("title\nmesa\n")
    (tmp_path / "unknown.csv").write_text("title,category\nmesa,BOATS\n")
    assert_refused(evaluate(*arguments), *facts)


def test_a_model_with_a_tree_is_measured_at_each_level(tmp_path: Path, shop_model: Path) -> None:
    write(
        tmp_path / "a.csv",
        [
            {"nombre": "mesa", "category": PATHS[0]},
            {"nombre": "mesa", "category": PATHS[1]},
            {"nombre": "lampara", "category": PATHS[2]},
            {"nombre": "lampara", "category": PATHS[0]},
        ],
    )
    arguments = ("evaluate", "--model", str(shop_model), "a.csv", "--tables", "tables")
    summary = json.loads(called(tmp_path, *arguments, "--json", "-").stdout)
    levels = summary["metrics"]["levels"]
    assert [levels[level]["accuracy"] for level in "123"] == [0.75, 0.5, 0.5]
    # The predicted paths share 2, 1, 3 and 0 names with the right ones.
    assert summary["metrics"]["hierarchical_precision"] == 0.6
    nodes = pd.read_csv(tmp_path / "tables" / "nodes.csv").set_index("node")
    assert nodes.loc["Muebles", "recall"] == pytest.approx(2 / 3, abs=1e-6)
    assert "weighted F1" in called(tmp_path, *arguments).stdout
