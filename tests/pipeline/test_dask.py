"""The Dask recipe of docs/predict.md gives the same answers as one process."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from rubro.data.splits import load_split
from rubro.prediction.classifier import Classifier

pytest_plugins = ["support.keyword_model", "support.tiny_project"]
pytestmark = pytest.mark.slow

DOCS = Path(__file__).resolve().parents[2] / "docs" / "predict.md"
# The recipe, run by a cluster of two processes on this machine.
CLUSTER = """
from distributed import Client, LocalCluster

{definitions}

if __name__ == "__main__":
    with LocalCluster(n_workers=2, threads_per_worker=1) as cluster, Client(cluster):
{use}
"""


def scored(folder: Path, model: Path, products: pd.DataFrame) -> pd.DataFrame:
    """Run the recipe in a folder with five files of products, and return the answers."""
    (recipe,) = re.findall(
        r"```python\n(from functools import cache\n.*?)```", DOCS.read_text(), re.DOTALL
    )
    definitions, use = recipe.split("table = ", 1)
    use = "".join(f"        {line}\n" for line in f"table = {use}".splitlines())
    script = folder / "score.py"
    script.write_text(CLUSTER.format(definitions=definitions, use=use))
    (folder / "models").mkdir()
    (folder / "models" / "ensemble").symlink_to(model)
    products = products.assign(sku=np.arange(len(products)))
    # Several files make several partitions.
    (folder / "titles.parquet").mkdir()
    for number, rows in enumerate(np.array_split(np.arange(len(products)), 5)):
        products.iloc[rows].to_parquet(folder / "titles.parquet" / f"{number}.parquet")
    done = subprocess.run(
        [sys.executable, script], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return pd.read_parquet(folder / "answers").set_index("sku").sort_index()


def check_answers(answers: pd.DataFrame, model: Path, products: list[Any]) -> None:
    best = [top[0] for top in Classifier.load(model).top(products, k=1)]
    assert answers["predicted_category"].tolist() == [name for name, _ in best]
    np.testing.assert_allclose(answers["confidence"], [p for _, p in best], atol=1e-6)


def test_dask_recipe_gives_same_answers(first_project: Path, tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    model = first_project / "models" / "ensemble"
    titles = load_split(first_project / "data" / "subset", "test")[["title"]]
    answers = scored(tmp_path, model, titles)
    assert answers["title"].tolist() == titles["title"].tolist()
    check_answers(answers, model, titles["title"].tolist())


def test_dask_recipe_reads_the_columns_of_the_model(shop_model: Path, tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    brands = ["mesa", None, "silla", "", "taza"] * 4
    products = pd.DataFrame({"nombre": ["mesa"] * 20, "marca": brands, "color": "rojo"})
    answers = scored(tmp_path, shop_model, products)
    records = [{"nombre": "mesa", "marca": brand} for brand in brands]
    check_answers(answers, shop_model, records)
    assert answers["predicted_category"].nunique() == 3
