"""Fixtures with a repository whose experiments have different categories and titles.

A test file uses them with `pytest_plugins = ["support.category_runs"]`.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from support.tiny_project import make_repository, run_in

GRAPH = """
stages:
  subset:
    cmd: python stages/subset.py
    deps:
      - stages/subset.py
    params:
      - data
      - subset
    outs:
      - data/subset
    metrics:
      - metrics/subset.json:
          cache: false
  evaluate:
    cmd: python stages/evaluate.py
    deps:
      - stages/evaluate.py
      - data/subset
    params:
      - seed
      - train_mlp
    metrics:
      - metrics/evaluate.json:
          cache: false
"""
# Four categories below two roots. Fewer categories are easier: each lost one adds 0.01.
SUBSET = """
import json
from pathlib import Path
import pyarrow as pa
import pyarrow.parquet as pq
from ruamel.yaml import YAML

params = YAML(typ="safe").load(Path("params.yaml"))
labels = ["a > a0", "a > a1", "b > b0", "b > b1"]
if params["data"]["min_rows_per_category"] > 1:
    labels = ["a > a0", "a > a1", "b"]
if params["subset"]["top_categories"] == 2:
    labels = labels[:2]
titles = [f"title {number}" for number in range(params["subset"]["max_held_out_rows"] // 10_000)]
folder = Path("data/subset")
folder.mkdir(parents=True)
(folder / "labels.json").write_text(json.dumps(labels))
tree = {"separator": " > ", "order": "root_first", "paths": {n: n.split(" > ") for n in labels}}
(folder / "tree.json").write_text(json.dumps(tree))
for split in ("validation", "test"):
    table = pa.table({"title": titles, "category": [labels[0]] * len(titles)})
    pq.write_table(table, folder / f"{split}.parquet")
Path("metrics").mkdir(exist_ok=True)
Path("metrics/subset.json").write_text(json.dumps({"classes": len(labels)}))
"""
EVALUATE = """
import json
from pathlib import Path
from ruamel.yaml import YAML

params = YAML(typ="safe").load(Path("params.yaml"))
labels = json.loads(Path("data/subset/labels.json").read_text())
score = 0.9 - abs(params["train_mlp"]["dropout"] - 0.5) / 2 + 0.01 * (4 - len(labels))
roots = {"1": {"balanced_accuracy": round(score + 0.02, 6)}}
scores = {"ensemble": {"balanced_accuracy": round(score, 6), "levels": roots}}
Path("metrics/evaluate.json").write_text(json.dumps({"validation": scores, "test": scores}))
"""
EXPERIMENTS = {
    "better": ["train_mlp.dropout=0.45"],
    "few": ["train_mlp.dropout=0.5", "subset.top_categories=2"],
    "merged": ["train_mlp.dropout=0.49", "data.min_rows_per_category=9"],
    "titles": ["train_mlp.dropout=0.4", "subset.max_held_out_rows=70000"],
}


@pytest.fixture(scope="module")
def category_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with the experiments, read-only."""
    folder = tmp_path_factory.mktemp("categories") / "project"
    make_repository(folder, GRAPH, {"subset": SUBSET, "evaluate": EVALUATE})
    for name, settings in EXPERIMENTS.items():
        options = [argument for setting in settings for argument in ("-S", setting)]
        run_in(folder, "dvc", "exp", "run", "--temp", "--name", name, *options)
    return folder


def cache_subset(
    folder: Path,
    labels: list[str],
    titles: list[str],
    tree: dict[str, Any] | None = None,
    categories: list[str] | None = None,
) -> str:
    """Write a data/subset into the cache of a DVC repository; return its hash.

    By default, the titles of validation and test have the first category.
    """
    files = {"labels.json": json.dumps(labels).encode()}
    if tree:
        files["tree.json"] = json.dumps(tree).encode()
    for split in ("validation", "test"):
        sink = pa.BufferOutputStream()
        columns = {"title": titles, "category": categories or [min(labels)] * len(titles)}
        pq.write_table(pa.table(columns), sink)
        files[f"{split}.parquet"] = sink.getvalue().to_pybytes()
    return cache_files(folder, files)


def cache_files(folder: Path, files: dict[str, bytes]) -> str:
    """Write a folder of files into the cache of a DVC repository; return its hash."""

    def write(content: bytes, suffix: str = "") -> str:
        md5 = hashlib.md5(content, usedforsecurity=False).hexdigest() + suffix
        path = folder / ".dvc" / "cache" / "files" / "md5" / md5[:2] / md5[2:]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return md5

    listed = [{"md5": write(content), "relpath": name} for name, content in files.items()]
    return write(json.dumps(listed).encode(), ".dir")
