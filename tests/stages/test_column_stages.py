"""Stages and commands on a catalogue with a brand and a price in addition to the title."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML

from rubro.data.splits import load_products
from rubro.prediction.classifier import Classifier
from support.keyword_model import called
from support.tiny_project import STAGES, run_here, shrink

pytest_plugins = ["support.tiny_project"]
BRANDS = {"Acme": "TOOLS", "Bora": "TOYS", "Cima": "LAMPS"}


def catalogue(rows: int, seed: int) -> pd.DataFrame:
    """Return products whose brand and price, but not their title, show the category."""
    random = np.random.default_rng(seed)
    brands = random.choice(list(BRANDS), rows)
    prices = random.choice([1, 1000], rows) * random.integers(100, 300, rows)
    return pd.DataFrame(
        {
            "nombre": [f"modelo {number:x}" for number in random.integers(10**9, size=rows)],
            "Marca": brands,
            "precio": [f"$ {price:,}".replace(",", ".") for price in prices],
            "rubro": [BRANDS[brand] for brand in brands],
            "nivel": np.where(prices < 1000, "CHEAP", "EXPENSIVE"),
        }
    )


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, make_params: Callable[..., Any]) -> Path:
    """A folder with a tiny catalogue, params.yaml, and the outputs of the stages up to train_svm."""
    folder = tmp_path_factory.mktemp("columns")
    catalogue(600, seed=1).to_csv(folder / "x.csv", index=False)
    correction = "title,category,precio\nSin marca,TOYS > CHEAP,$ 150\n"
    (folder / "corrections.csv").write_text(correction)
    (folder / "more.csv").write_text("nombre,precio\nTitulo nuevo,$ 777\n")
    params = make_params().model_dump()
    params["data"] |= {
        "path": "x.csv",
        "corrections": "corrections.csv",
        "unlabelled_path": "more.csv",
        "title_column": "nombre",
        "text_columns": ["Marca", "precio"],
        "number_columns": ["precio"],
    }
    params["subset"] |= {"language": None}
    YAML().dump(params, folder / "params.yaml")
    shrink(folder / "params.yaml")
    path = folder / "params.yaml"
    params = YAML().load(path)
    params["data"]["category_column"] = ["rubro", "nivel"]
    YAML().dump(params, path)
    for stage in ("subset", "featurize", "train_svm"):
        code, messages = run_here(folder, stage)
        assert code == 0, messages
    return folder


def test_a_model_learns_from_a_brand_and_a_price(project: Path) -> None:
    source = json.loads((project / "data/subset/source.json").read_text())
    brand, price = source["text_columns"]
    assert brand == {"name": "Marca"}
    assert price["decimal_comma"] and len(price["bounds"]) == 15
    classifier = Classifier.load(project / "models/svm")
    assert classifier.text_columns == ["Marca", "precio"]
    products = load_products(project / "data/subset", "test")
    categories = pd.read_parquet(project / "data/subset/test.parquet")["category"]
    assert np.mean(categories == classifier.predict(products)) > 0.95
    titles = [product["nombre"] for product in products if not isinstance(product, str)]
    assert np.mean(categories == classifier.predict(titles)) < 0.5
    train = load_products(project / "data/subset", "train")
    assert {"nombre": "Sin marca", "Marca": "", "precio": "$ 150"} in train


def test_prices_in_another_notation_have_the_same_answer(project: Path) -> None:
    classifier = Classifier.load(project / "models/svm")
    for price in ("150.000", "$ 150.000,00", "150000", "150,000.00 ARS", 150_000, 150_000.0):
        product = {"nombre": "modelo", "Marca": "Bora", "precio": price}
        category, confidence = classifier.top([product], 1)[0][0]
        assert "TOYS" in category and "EXPENSIVE" in category, price
        assert confidence > 0.5


def test_commands_read_the_columns_of_the_catalogue(project: Path, tmp_path: Path) -> None:
    model = ("--model", str(project / "models/svm"))
    table = catalogue(200, seed=2)
    table.to_parquet(tmp_path / "new.parquet")
    table.drop(columns="Marca").to_csv(tmp_path / "less.csv", index=False)
    done = called(tmp_path, "predict", *model, "new.parquet", "--output", "out.csv")
    assert done.returncode == 0, done.stderr
    predicted = pd.read_csv(tmp_path / "out.csv")["predicted_category"]
    right = [
        category in answer and level in answer
        for category, level, answer in zip(table["rubro"], table["nivel"], predicted, strict=True)
    ]
    assert np.mean(right) > 0.95
    for name, least, most in (("new.parquet", 0.95, 1.0), ("less.csv", 0.1, 0.7)):
        done = called(project, "evaluate", *model, str(tmp_path / name), "--json", "-")
        assert least <= json.loads(done.stdout)["metrics"]["accuracy"] <= most
        assert ("'Marca'" in done.stderr.partition("has no")[2]) == (name == "less.csv")
    split = str(project / "data/subset/test.parquet")
    done = called(project, "evaluate", *model, split, "--json", "-")
    assert json.loads(done.stdout)["metrics"]["accuracy"] > 0.95


@pytest.mark.slow
def test_every_stage_runs_with_columns(project: Path, tmp_path: Path) -> None:
    for stage in STAGES[STAGES.index("featurize") :]:
        code, messages = run_here(project, stage)
        assert code == 0, messages
    classifier = Classifier.load(project / "models/ensemble")
    products = load_products(project / "data/subset", "test")
    categories = pd.read_parquet(project / "data/subset/test.parquet")["category"]
    assert np.mean(categories == classifier.predict(products)) > 0.9
    file = project / "metrics/evaluation/test/columns.csv"
    measured: Any = pd.read_csv(file, keep_default_na=False).set_index("without")
    assert list(measured.index) == ["", "Marca", "precio", "Marca, precio"]
    metrics = json.loads((project / "metrics/evaluate.json").read_text())["test"]["ensemble"]
    for name in ("accuracy", "balanced_accuracy", "macro_f1"):
        assert measured.loc["", name] == pytest.approx(metrics[name], abs=1e-6)
        assert measured.loc["Marca, precio", name] < measured.loc["Marca", name] < 0.9
