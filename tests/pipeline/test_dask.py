"""The Dask recipe of docs/predict.md gives the same answers as one process."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rubro.data.splits import load_split
from rubro.prediction.classifier import Classifier

pytest_plugins = ["support.tiny_project"]
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


def test_dask_recipe_gives_same_answers(first_project: Path, tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    (recipe,) = re.findall(
        r"```python\n(from functools import cache\n.*?)```", DOCS.read_text(), re.DOTALL
    )
    definitions, use = recipe.split("table = ", 1)
    use = "".join(f"        {line}\n" for line in f"table = {use}".splitlines())
    script = tmp_path / "score.py"
    script.write_text(CLUSTER.format(definitions=definitions, use=use))
    model = first_project / "models"
    (tmp_path / "models").symlink_to(model)
    titles = load_split(first_project / "data" / "subset", "test")[["title"]]
    titles["sku"] = np.arange(len(titles))
    # Several files make several partitions.
    (tmp_path / "titles.parquet").mkdir()
    for number, rows in enumerate(np.array_split(np.arange(len(titles)), 5)):
        titles.iloc[rows].to_parquet(tmp_path / "titles.parquet" / f"{number}.parquet")
    done = subprocess.run(
        [sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    answers = pd.read_parquet(tmp_path / "answers").set_index("sku").sort_index()
    assert answers["title"].tolist() == titles["title"].tolist()
    best = [
        top[0] for top in Classifier.load(model / "ensemble").top(titles["title"].tolist(), k=1)
    ]
    assert answers["predicted_category"].tolist() == [name for name, _ in best]
    np.testing.assert_allclose(answers["confidence"], [p for _, p in best], atol=1e-6)
