"""Answers of docs/questions.md that need only a model: SQL, Spark and Node."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from rubro.prediction.classifier import Classifier
from support.pages import answer
from support.serving import Server
from support.tiny_project import run_in

pytest_plugins = ["support.keyword_model", "support.serving"]

SQLITE, NODE = shutil.which("sqlite3"), shutil.which("node")


@pytest.fixture
def folder(tmp_path: Path, model: Path) -> Path:
    """A folder in which the keyword model is the default model."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "ensemble").symlink_to(model)
    return tmp_path


@pytest.mark.skipif(SQLITE is None, reason="needs the command sqlite3")
def test_rows_of_a_database_are_classified(folder: Path) -> None:
    with sqlite3.connect(folder / "shop.db") as shop:
        shop.execute("CREATE TABLE products (id INTEGER PRIMARY KEY, title TEXT, category TEXT)")
        titles = [
            ("Mesa, de pino 'L'", None),
            ('Silla "Luis" \n alta', None),
            ("zzz", None),
            (None, None),
            ("Taza", "KEPT"),
        ]
        shop.executemany("INSERT INTO products (title, category) VALUES (?, ?)", titles)
    shop.close()
    (script,) = answer("How do we classify the rows of a database?")
    done = run_in(folder, "bash", "-c", script, ok=False)
    assert "Error" not in done.stderr  # of sqlite3
    with sqlite3.connect(folder / "shop.db") as shop:
        categories = [row[0] for row in shop.execute("SELECT category FROM products ORDER BY id")]
        tables = [row[0] for row in shop.execute("SELECT name FROM sqlite_master")]
    shop.close()
    assert categories == ["TABLES", "CHAIRS", None, None, "KEPT"]
    assert tables == ["products"]


def spark_recipe(model: Path) -> str:
    """Return the recipe for Spark with the path of a model."""
    (recipe,) = answer("Does it run in Spark?")
    return recipe.replace("/srv/rubro/model", str(model))


def test_function_for_spark_gives_the_answers_of_the_classifier(model: Path) -> None:
    definitions = spark_recipe(model).partition("spark = ")[0]
    names: dict[str, Any] = {}
    exec(definitions.replace("from pyspark.sql import SparkSession", ""), names)  # noqa: S102
    parts = [
        pd.DataFrame({"id": ["1", "2"], "title": ["mesa", None]}),
        pd.DataFrame({"id": ["3"], "title": ["taza"]}),
    ]
    table = pd.concat(names["classified"](iter(parts)))
    assert list(table.columns) == ["id", "title", "category", "confidence"]
    best = [top[0] for top in Classifier.load(model).top(["mesa", "", "taza"], k=1)]
    assert list(zip(table["category"], table["confidence"], strict=True)) == best


@pytest.mark.slow
def test_spark_gives_the_answers_of_the_classifier(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pyspark")
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    pd.DataFrame({"id": [1, 2], "title": ["mesa", "taza"]}).to_csv(
        tmp_path / "new.csv", index=False
    )
    (tmp_path / "classify.py").write_text(spark_recipe(model))
    run_in(tmp_path, sys.executable, "classify.py")
    table = pd.read_parquet(tmp_path / "answers").sort_values("id")
    assert list(table["category"]) == ["TABLES", "MUGS"]


@pytest.mark.skipif(NODE is None, reason="needs Node")
def test_node_prints_answers_of_the_service(server: Server) -> None:
    (recipe,) = answer("How do we call it from Node?")
    recipe = recipe.replace(":8000/", f":{server.port}/")

    def run(script: str) -> subprocess.CompletedProcess[str]:
        command = [str(NODE), "--input-type=module", "--eval", script]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    done = run(recipe)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first.startswith("CHAIRS 0.9")
    assert second.startswith("null null") or second.endswith("null")
    refused = run(recipe.replace("min_confidence: 0.8", "min_confidence: 8"))
    assert refused.returncode == 1
    assert "min_confidence" in refused.stderr
