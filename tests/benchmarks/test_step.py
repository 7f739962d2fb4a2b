"""The script that times a training step."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from support.tiny_project import run_in

pytest_plugins = ["support.tiny_project"]

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.parametrize("model", ["mlp", "cnn"])
def test_parts_of_a_step_add_up_and_have_a_floor(first_project: Path, model: str) -> None:
    said = run_in(first_project, "python", "benchmarks/step.py", model, "--steps=3").stdout
    first, parts, floor = said.splitlines()
    assert first.startswith(f"{model}, 32 titles ")
    whole = float(re.search(r"([\d.]+) us", first)[1])  # type: ignore[index]
    assert sum(map(float, re.findall(r"[a-z] ([\d.]+)", parts))) == pytest.approx(whole, abs=0.3)
    if model == "mlp":  # 16 inputs, 32 hidden, 12 categories; three products of two operations each
        assert f"({6 * (16 * 32 + 32 * 12) / 1e6:.2f} million operations" in floor
    assert re.search(
        r"at least [\d.]+: products [\d.]+ .*, tables [\d.]+ \(\d+ kB at \d+ GB/s\)", floor
    )
    assert run_in(first_project, "git", "status", "--porcelain").stdout == ""


@pytest.mark.slow
def test_a_folder_without_features_is_answered_with_one_line(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks/step.py", "mlp"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: data/features/")
    assert "dvc repro" in done.stderr
