"""Stages subset, featurize and train_svm on a catalogue whose categories are paths."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from ruamel.yaml import YAML

from rubro.data.splits import load_labels, load_tree
from rubro.prediction.folder import Model
from support.tiny_project import digests, run_here

pytest_plugins = ["support.tiny_project"]
CATALOGUE = {
    "Vino Tinto Malbec": "Vinos Tintos > Vinos > Bebidas",
    "Vino Blanco Chardonnay": "Vinos Blancos>Vinos>Bebidas",
    "Cerveza Rubia": "Cervezas > Bebidas",
    "Aceite de Oliva": "Aceites > Almacén",
    "Arroz Largo Fino": "Arroz > Almacén",
    "Detergente Limón": "Limpieza",
}
RARE = {
    "Vino Rosado": "Vinos Rosados > Vinos > Bebidas",
    "Vino Espumante": "Espumantes > Vinos > Bebidas",
}


@pytest.fixture
def project(tmp_path: Path, make_params: Callable[..., Any]) -> Callable[..., Path]:
    """Return a function that creates a folder with a tiny catalogue and params.yaml."""

    def make(**data: Any) -> Path:
        rows = [(f"{title} {i}", path) for title, path in CATALOGUE.items() for i in range(30)]
        rows += [(f"{title} {i}", path) for title, path in RARE.items() for i in range(8)]
        pd.DataFrame(rows, columns=["title", "category"]).to_csv(tmp_path / "x.csv", index=False)
        (tmp_path / "corrections.csv").write_text(
            "title,category\nCerveza Negra,Cervezas>Bebidas\n"
        )
        params = make_params().model_dump()
        (tmp_path / "unlabelled").mkdir(exist_ok=True)
        paths = {"path": "x.csv", "unlabelled_path": "unlabelled", "corrections": "corrections.csv"}
        params["data"] |= {**paths, **data}
        params["subset"] |= {"language": None, "top_categories": 0, "test_share": 0.2}
        params["featurize"] |= {"ngram_buckets": 2000, "bigram_buckets": 500}
        YAML().dump(params, tmp_path / "params.yaml")
        return tmp_path

    return make


def run(project: Path, *stages: str) -> str:
    messages = ""
    for stage in stages:
        code, output = run_here(project, stage)
        assert code == 0, output
        messages += output
    return messages


def test_a_model_is_trained_on_paths_and_contains_their_tree(project: Callable[..., Path]) -> None:
    folder = project(category_separator=" > ", min_rows_per_category=7)
    messages = run(folder, "subset", "featurize", "train_svm")
    assert "leaf_first" in messages
    assert "merged" in messages
    labels, tree = load_labels(folder / "data/subset"), load_tree(folder / "data/subset")
    assert labels == [
        "Aceites > Almacén",
        "Arroz > Almacén",
        "Cervezas > Bebidas",
        "Limpieza",
        "Vinos > Bebidas",
        "Vinos Blancos > Vinos > Bebidas",
        "Vinos Tintos > Vinos > Bebidas",
    ]
    assert tree is not None
    assert tree.paths["Vinos Tintos > Vinos > Bebidas"] == ["Bebidas", "Vinos", "Vinos Tintos"]
    summary = json.loads((folder / "metrics/subset.json").read_text())
    assert summary["tree"] == {
        "order": "leaf_first",
        "depth": 3,
        "nodes": {"1": 3, "2": 5, "3": 7},
    }
    train = pd.read_parquet(folder / "data/subset/train.parquet")
    categories = dict(zip(train["title"], train["category"], strict=True))
    assert categories["Cerveza Negra"] == "Cervezas > Bebidas"
    corrections = pd.read_csv(folder / "metrics/corrections.csv")
    assert corrections[["file", "line", "result"]].to_numpy().tolist() == [
        ["corrections.csv", 2, "new_row"]
    ]
    description = json.loads((folder / "models/svm/model.json").read_text())
    assert description["tree"] == tree.model_dump()
    assert Model.load(folder / "models/svm").description.labels == labels


def test_flat_categories_write_no_tree_and_say_that_they_look_like_paths(
    project: Callable[..., Path],
) -> None:
    folder = project()
    messages = run(folder, "subset")
    assert 'data.category_separator=" > "' in messages
    assert load_tree(folder / "data/subset") is None
    assert not (folder / "data/subset/tree.json").exists()
    before = digests(folder, "data/subset")
    project(category_order="leaf_first", category_level=1)
    run(folder, "subset")
    assert digests(folder, "data/subset") == before


def test_columns_with_the_levels_of_a_category_make_a_tree(project: Callable[..., Path]) -> None:
    folder = project(category_column=["department", "aisle", "shelf"])
    table = pd.read_csv(folder / "x.csv")
    levels = table["category"].str.split(r"\s*>\s*").str[::-1]
    for place, name in enumerate(["department", "aisle", "shelf"]):
        table[name] = levels.str[place]
    table.drop(columns="category").to_csv(folder / "x.csv", index=False)
    (folder / "corrections.csv").write_text("title,category\nCerveza Negra,Bebidas > Cervezas\n")
    run(folder, "subset")
    tree = load_tree(folder / "data/subset")
    assert tree is not None
    assert (tree.order, tree.depth) == ("root_first", 3)
    assert tree.paths["Bebidas > Vinos > Vinos Tintos"] == ["Bebidas", "Vinos", "Vinos Tintos"]
    train = pd.read_parquet(folder / "data/subset/train.parquet")
    assert "Cerveza Negra" in set(train.loc[train["category"] == "Bebidas > Cervezas", "title"])
