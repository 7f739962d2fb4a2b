"""Commands with a model that reads a brand and a price in addition to the title."""

from __future__ import annotations

import csv
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rubro.prediction.classifier import Classifier
from support.keyword_model import PATHS, assert_refused, called, write_model, write_shop_model
from support.raw_titles import jsonl, write_frame

pytest_plugins = ["support.keyword_model"]

TABLES, CHAIRS, LAMPS, MUGS = PATHS
# The brand decides; it is a keyword of the next category.
ROWS: list[dict[str, str | None]] = [
    {"nombre": "mesa", "marca": "", "precio": "5", "category": TABLES},
    {"nombre": "mesa", "marca": "mesa", "precio": "$ 1.500,50", "category": CHAIRS},
    {"nombre": "taza", "marca": "Silla", "precio": "consultar", "category": LAMPS},
    {"nombre": "taza", "marca": None, "precio": None, "category": MUGS},
]
EXPECTED = [TABLES, CHAIRS, LAMPS, MUGS]
FORMATS = ["a.csv", "a.tsv.gz", "a.json", "a.jsonl", "a.parquet"]


def run(name: str, model: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return called(folder, name, "--model", str(model), *arguments)


def predict(model: Path, folder: Path, *arguments: str) -> tuple[list[str | None], str]:
    """Return the categories that `rubro predict` writes to a new file, and its messages."""
    output = folder / "out.jsonl"
    output.unlink(missing_ok=True)
    done = run("predict", model, folder, *arguments, "--output", str(output))
    # str.splitlines would also split at characters such as U+0085 in a text.
    rows = [json.loads(line) for line in output.read_text("utf-8").split("\n") if line]
    assert done.returncode == (3 if any(row["error"] for row in rows) else 0)
    return [row["predicted_category"] for row in rows], done.stderr


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("brand", ["marca", "MARCA ", "text.marca"])
def test_predict_reads_the_columns_of_the_model(
    tmp_path: Path, shop_model: Path, name: str, brand: str
) -> None:
    write_frame(pd.DataFrame(ROWS).rename(columns={"marca": brand}), tmp_path / name)
    found, messages = predict(shop_model, tmp_path, name, "--batch", "3")
    assert found == EXPECTED
    assert "less certain" not in messages


@pytest.mark.parametrize("name", FORMATS)
def test_missing_columns_are_named_once_and_every_row_is_answered(
    tmp_path: Path, shop_model: Path, name: str
) -> None:
    write_frame(pd.DataFrame(ROWS)[["nombre", "marca", "category"]], tmp_path / name)
    found, messages = predict(shop_model, tmp_path, name, "--batch", "1")
    assert found == EXPECTED
    assert messages.count("'precio'") == 1
    write_frame(pd.DataFrame(ROWS)[["nombre", "category"]], tmp_path / name)
    found, messages = predict(shop_model, tmp_path, name, "--batch", "1")
    assert found == [TABLES, TABLES, MUGS, MUGS]
    assert messages.count("'marca', 'precio'") == 1


def test_titles_alone_are_answered(tmp_path: Path, shop_model: Path) -> None:
    (tmp_path / "a.txt").write_text("mesa\nsilla\n")
    found, messages = predict(shop_model, tmp_path, "a.txt")
    assert found == [TABLES, CHAIRS]
    assert "'marca', 'precio'" in messages
    found, messages = predict(shop_model, tmp_path, "mesa", "silla")
    assert found == [TABLES, CHAIRS]
    assert "column" not in messages


def test_objects_may_lack_columns_and_write_their_names_differently(
    tmp_path: Path, shop_model: Path
) -> None:
    objects: list[dict[str, Any]] = [
        {"nombre": "mesa"},
        {"nombre": "mesa", " marca": "mesa"},
        {"nombre": "mesa", "marca": {"name": "mesa"}},
        {"nombre": "mesa", "marca": ["mesa"], "precio": 3},
        {"nombre": "mesa", "marca": True, "precio": float("nan")},
    ]
    (tmp_path / "a.jsonl").write_text(jsonl(*objects))
    found, _ = predict(shop_model, tmp_path, "a.jsonl", "--batch", "1")
    assert found == [TABLES, CHAIRS, TABLES, TABLES, TABLES]
    done = run("predict", shop_model, tmp_path, "a.jsonl", "--output", "out.csv")
    assert done.returncode == 0
    assert list(pd.read_csv(tmp_path / "out.csv")["predicted_category"]) == found


def test_a_text_that_is_not_text_is_read_as_empty(tmp_path: Path, shop_model: Path) -> None:
    brands = pyarrow.array([b"\xff", b"mesa", None], pyarrow.binary())
    table = pyarrow.table({"nombre": ["mesa"] * 3, "marca": brands, "precio": [[1], [], None]})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    found, _ = predict(shop_model, tmp_path, "a.parquet")
    assert found == [TABLES, CHAIRS, TABLES]


def test_a_row_without_a_title_has_an_error_although_it_has_a_brand(
    tmp_path: Path, shop_model: Path
) -> None:
    (tmp_path / "a.csv").write_text("nombre,marca\n,mesa\nmesa,mesa,x\nmesa,mesa\n")
    found, _ = predict(shop_model, tmp_path, "a.csv")
    assert found == [None, None, CHAIRS]


def test_a_column_that_is_listed_twice_is_refused(tmp_path: Path, shop_model: Path) -> None:
    (tmp_path / "a.csv").write_text("nombre,marca,marca\nmesa,mesa,silla\n")
    assert_refused(run("predict", shop_model, tmp_path, "a.csv"), "'marca' is listed twice")


def test_the_title_is_not_read_as_another_column(tmp_path: Path) -> None:
    """The model's further column is called title, as the only column of the file."""
    description = Classifier.load(write_shop_model(tmp_path / "shop")).description
    columns = [description.text.columns[0].model_copy(update={"name": "title"})]
    model = write_model(tmp_path / "model", "nombre", columns=columns)
    (tmp_path / "a.csv").write_text("title\nmesa\n")
    found, messages = predict(model, tmp_path, "a.csv")
    assert found == ["TABLES"]
    assert "'title', which" in messages


def test_answers_do_not_depend_on_processes_and_batches(tmp_path: Path, shop_model: Path) -> None:
    pd.DataFrame(ROWS * 50).to_csv(tmp_path / "a.csv", index=False)
    outputs = set()
    for batch, processes in (("7", "1"), ("7", "2"), ("64", "2")):
        predict(shop_model, tmp_path, "a.csv", "--batch", batch, "--processes", processes)
        outputs.add((tmp_path / "out.jsonl").read_bytes())
    assert len(outputs) == 1


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    brands=st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=4),
    prices=st.lists(st.floats() | st.integers() | st.text(max_size=5), min_size=1, max_size=4),
    kind=st.sampled_from(["csv", "jsonl"]),
)
def test_any_text_in_a_column_leaves_an_answer(
    tmp_path: Path, shop_model: Path, brands: list[str], prices: list[Any], kind: str
) -> None:
    rows = [
        {"nombre": "mesa", "marca": brand, "precio": price}
        for brand, price in zip(brands, prices, strict=False)
    ]
    if kind == "jsonl":
        (tmp_path / "a.jsonl").write_bytes(json.dumps(rows[0]).encode() + b"\n")
    else:
        with open(tmp_path / "a.csv", "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, ["nombre", "marca", "precio"], quoting=csv.QUOTE_ALL)
            writer.writeheader()
            writer.writerows(rows)
    found, _ = predict(shop_model, tmp_path, f"a.{kind}")
    assert len(found) == (1 if kind == "jsonl" else len(rows))


# Labelled titles


@pytest.mark.parametrize("name", FORMATS)
def test_evaluate_reads_the_columns_of_the_model(
    tmp_path: Path, shop_model: Path, name: str
) -> None:
    write_frame(pd.DataFrame(ROWS), tmp_path / name)
    done = run("evaluate", shop_model, tmp_path, name, "--json", "-")
    assert json.loads(done.stdout)["metrics"]["accuracy"] == 1.0
    write_frame(pd.DataFrame(ROWS).drop(columns=["marca"]), tmp_path / name)
    done = run("evaluate", shop_model, tmp_path, name, "--json", "-")
    assert json.loads(done.stdout)["metrics"]["accuracy"] == 0.5
    assert done.stderr.count("'marca'") == 1


def test_the_category_of_a_split_is_not_read_as_a_text_column(tmp_path: Path) -> None:
    """The text column is called category, and data/subset stores its texts in text.category."""
    description = Classifier.load(write_shop_model(tmp_path / "shop")).description
    columns = [description.text.columns[0].model_copy(update={"name": "category"})]
    model = write_model(tmp_path / "model", "nombre", columns=columns)
    split = pd.DataFrame(
        [("mesa", "TABLES", ""), ("mesa", "CHAIRS", "mesa")],
        columns=["title", "category", "text.category"],
    )
    split.to_parquet(tmp_path / "test.parquet")
    done = run("evaluate", model, tmp_path, "test.parquet", "--json", "-")
    assert json.loads(done.stdout)["metrics"]["accuracy"] == 1.0


def test_the_levels_of_a_category_may_be_in_several_columns(tmp_path: Path) -> None:
    model = write_shop_model(tmp_path / "model")
    path = model / "model.json"
    content = json.loads(path.read_text())
    content["text"]["category_column"] = ["uno", "dos", "tres"]
    path.write_text(json.dumps(content))
    levels = pd.DataFrame([[*path.split(" > "), None, None][:3] for path in EXPECTED])
    levels.columns = ["UNO", "dos", "tres"]
    table = pd.concat([pd.DataFrame(ROWS), levels], axis="columns")
    table.drop(columns="category").to_csv(tmp_path / "levels.csv", index=False)
    table.drop(columns=["UNO"]).to_csv(tmp_path / "category.csv", index=False)
    for name in ("levels.csv", "category.csv"):
        done = run("evaluate", model, tmp_path, name, "--json", "-")
        assert json.loads(done.stdout)["metrics"]["accuracy"] == 1.0
    table.drop(columns=["UNO", "category"]).to_csv(tmp_path / "none.csv", index=False)
    done = run("evaluate", model, tmp_path, "none.csv")
    assert_refused(done, "'uno, dos, tres'", "--category-column")


def test_thresholds_read_the_columns_of_the_model(tmp_path: Path, shop_model: Path) -> None:
    random = np.random.default_rng(1)
    rows = [ROWS[place] for place in random.integers(len(ROWS), size=1000)]
    pd.DataFrame(rows).to_csv(tmp_path / "a.csv", index=False)
    done = run("thresholds", shop_model, tmp_path, "a.csv", "--precision", "0.9")
    assert done.returncode == 0, done.stderr
    content = json.loads((tmp_path / "thresholds.json").read_text())
    assert content["all"]["right"] == content["all"]["kept"] == 1000


# Explanations


def test_explain_reads_the_texts_of_further_columns(shop_model: Path) -> None:
    arguments = ["mesa", "taza", "--text", "marca=Silla = mesa", "--text", "precio= 12"]
    done = run("explain", shop_model, shop_model, *arguments)
    first, second = map(json.loads, done.stdout.splitlines())
    texts = {(word["column"], word["text"]) for word in first["words"]}
    assert {("nombre", "mesa"), ("marca", "Silla"), ("marca", "mesa")} <= texts
    assert second["title"] == "taza"


@pytest.mark.parametrize(
    ("text", "fact"),
    [("marca", "COLUMN=TEXT"), ("brand=mesa", "marca, precio"), ("marca=\udcff", "COLUMN=TEXT")],
)
def test_an_unusable_text_is_refused(shop_model: Path, text: str, fact: str) -> None:
    assert_refused(run("explain", shop_model, shop_model, "mesa", "--text", text), fact)


def test_a_text_is_refused_twice_or_without_columns(shop_model: Path, model: Path) -> None:
    twice = ["--text", "marca=a", "--text", "marca =b"]
    assert_refused(run("explain", shop_model, shop_model, "mesa", *twice), "given twice")
    assert_refused(run("explain", model, model, "mesa", *twice), "only reads titles")
