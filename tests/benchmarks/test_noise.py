"""The script that measures the noise of seeds, from which `rubro gate` takes its tolerances."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest

from support.tiny_project import ROOT, run_in

pytest_plugins = ["support.tiny_project"]


@pytest.fixture
def noise(monkeypatch: pytest.MonkeyPatch) -> Any:
    """noise.py, which lies beside the ladder.py that it imports, as a module."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import noise

    return noise


def test_the_noise_is_the_standard_deviation_of_each_number(noise: Any) -> None:
    runs = [
        {"a": {"b": {"loss": value, "name": "x"}, "epoch": 3}, "only": {"first": value}}
        for value in (0.1, 0.2, 0.6)
    ]
    del runs[2]["only"]
    # (0.2 ** 2 + 0.1 ** 2 + 0.3 ** 2) / (3 - 1) is the variance.
    assert noise.noise_of(runs) == {"a.b.loss": round(math.sqrt(0.07), 6), "a.epoch": 0}


def test_the_factor_is_that_of_a_table_of_student(noise: Any) -> None:
    # 4.604 and 3.250: the 0.995 quantiles for 4 and 9 degrees of freedom.
    assert noise.factor_of(5) == pytest.approx(math.sqrt(2) * 4.604, abs=1e-3)
    assert noise.factor_of(10) == pytest.approx(math.sqrt(2) * 3.250, abs=1e-3)


def test_one_seed_has_no_deviation(tmp_path: Path) -> None:
    command = sys.executable, "benchmarks/noise.py", "--seeds", "1", "--out", str(tmp_path / "out")
    done = run_in(ROOT, *command, ok=False)
    assert done.returncode == 2
    assert "--seeds" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_gate_takes_the_noise_that_was_measured(project: Path) -> None:
    out = "benchmarks/results/noise.json"
    run_in(project, "python", "benchmarks/noise.py", "--seeds", "2", "--out", out)
    noise = json.loads((project / out).read_text())
    assert (noise["seeds"], noise["data"]) == (2, "data/sample")
    assert noise["deviations"]["evaluate.test.mlp.loss"] > 0
    assert noise["deviations"]["subset.classes"] == 0
    done = run_in(project, "rubro", "gate")
    assert done.stdout.endswith("pass: nothing changed by more than the noise of seeds\n")
    assert "note" not in done.stdout
