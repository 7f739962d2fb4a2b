"""The script that measures prediction."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from support.tiny_project import run_in

pytest_plugins = ["support.tiny_project"]

ROOT = Path(__file__).resolve().parents[2]
OURS = ["ensemble", "mlp", "cnn", "svm"]
SPEEDS = {
    "first_batch_titles_per_second",
    "batch_titles_per_second",
    "single_titles_per_second",
    "single_ms_p50",
    "single_ms_p99",
}


@pytest.mark.slow
def test_every_model_and_fasttext_are_measured(first_project: Path, tmp_path: Path) -> None:
    out = tmp_path / "results" / "predict.json"
    done = run_in(first_project, "python", "benchmarks/predict.py", "--repeats=1", f"--out={out}")
    content = json.loads(out.read_text())
    subset = json.loads((first_project / "metrics" / "subset.json").read_text())
    assert content["titles"] == subset["rows"]["test"]
    assert content["help_seconds"] > 0
    results = content["results"]
    assert list(results) == OURS + ["fasttext"] * bool(find_spec("floret"))
    for name, figures in results.items():
        of_folders = (
            {"megabytes", "load_seconds", "first_answer_seconds"} if name in OURS else set()
        )
        assert set(figures) == SPEEDS | of_folders
        assert all(value > 0 for value in figures.values())
        assert figures["single_ms_p50"] <= figures["single_ms_p99"]
        assert name in done.stderr
    assert run_in(first_project, "git", "status", "--porcelain").stdout == ""


@pytest.mark.slow
def test_a_folder_without_models_is_answered_with_one_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "benchmarks/predict.py", "--models", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == f"error: --models {tmp_path}: no model folder; `dvc repro` makes them\n"
