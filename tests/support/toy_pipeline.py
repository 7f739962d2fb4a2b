"""Fixtures with a repository whose pipeline computes its metrics from params.yaml in no time.

A test file uses them with `pytest_plugins = ["support.toy_pipeline"]`.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.tiny_project import environment, make_repository, run_in

GRAPH = """
stages:
  evaluate:
    cmd: python stages/evaluate.py
    deps:
      - stages/evaluate.py
    params:
      - seed
      - subset
      - train_mlp
      - train_cnn
    metrics:
      - metrics/evaluate.json:
          cache: false
"""
# The best dropout of the MLP is 0.5, each next seed is better by a thousandth, and a learning rate
# above 1 fails.
STAGE = """
import json, sys
from pathlib import Path
from ruamel.yaml import YAML

params = YAML(typ="safe").load(Path("params.yaml"))
mlp = params["train_mlp"]
if mlp["learning_rate"] > 1:
    sys.exit("error: the loss is NaN or infinite")
score = round(0.9 - abs(mlp["dropout"] - 0.5) / 2 + params["seed"] % 10 / 1000, 6)
metrics = {"balanced_accuracy": score, "loss": round(1 - score, 6)}
scores = {"mlp": metrics, "ensemble": metrics}
Path("metrics").mkdir(exist_ok=True)
Path("metrics/evaluate.json").write_text(json.dumps({"validation": scores, "test": scores}))
"""


@pytest.fixture(scope="module")
def committed_toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository after its first `dvc repro`, read-only."""
    folder = tmp_path_factory.mktemp("toy")
    make_repository(folder, GRAPH, {"evaluate": STAGE})
    return folder


@pytest.fixture
def toy(committed_toy: Path, tmp_path: Path) -> Path:
    """A copy of the repository, for one test."""
    return Path(shutil.copytree(committed_toy, tmp_path / "toy", symlinks=True))


def compared(folder: Path, *options: str) -> list[dict[str, Any]]:
    """Return the rows of `rubro compare --format json`."""
    rows: list[dict[str, Any]] = json.loads(
        run_in(folder, "rubro", "compare", "--format", "json", *options).stdout
    )
    return rows


def kill_when(
    condition: Callable[[], bool], folder: Path, command: list[str], **variables: str
) -> None:
    """Start a command in a folder, and kill its process group once a condition is true."""
    with subprocess.Popen(
        command,
        cwd=folder,
        env=environment() | variables,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        while not condition():
            assert process.poll() is None
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)


def names_of(rows: list[dict[str, Any]]) -> list[str]:
    """Return the names of the experiments in the rows of `rubro compare`, in order."""
    return [name for row in rows for name in row["experiments"]]


def add_experiment(folder: Path, name: str, files: dict[str, bytes | None]) -> None:
    """Add an experiment of the last commit without running it, as if DVC had stored it.

    Args:
        folder: Repository without uncommitted changes.
        name: Name of the experiment.
        files: Content of each file that differs from the last commit; None = the file is deleted.
    """
    for path, content in files.items():
        if content is None:
            (folder / path).unlink()
        else:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
    run_in(folder, "git", "add", "--all")
    head = run_in(folder, "git", "rev-parse", "HEAD").stdout.strip()
    tree = run_in(folder, "git", "write-tree").stdout.strip()
    made = run_in(folder, "git", "commit-tree", tree, "-p", head, "-m", name).stdout.strip()
    run_in(folder, "git", "update-ref", f"refs/exps/{head[:2]}/{head[2:]}/{name}", made)
    run_in(folder, "git", "reset", "--quiet", "--hard")
