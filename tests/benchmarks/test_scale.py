"""The script that measures the pipeline and its peers by the number of titles."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from rubro.base.params_file import flat

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
STAGES = [*YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "benchmarks/scale.py", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


def test_sizes_are_measured_and_drawn(tmp_path: Path) -> None:
    out = tmp_path / "scale.json"
    tiny = dict(flat(YAML(typ="safe").load(ROOT / "presets" / "tiny.yaml")))
    settings = [f"--set={key}={json.dumps(value)}" for key, value in tiny.items()]
    only = ("--only=word_char_sgd", f"--out={out}")
    run("run", "--rows=1500", *settings, *only)
    content: dict[str, Any] = json.loads(out.read_text())
    (entry,) = content["sizes"].values()
    ours, peer = entry["pipeline"], entry["peers"]["word_char_sgd"]
    assert [*ours["stages"]] == STAGES
    for measured in (*ours["stages"].values(), ours, peer):
        assert measured["seconds"] > 0
        assert 20 < measured["megabytes"] < 4000
    for measured in (ours, entry["svm"], peer):
        assert measured["balanced_accuracy"] > 0.3
        assert measured["model_megabytes"] > 0
        assert measured["titles_per_second"] > 0

    run("run", "--rows=1200", "--limit=0.1", *settings, *only)  # one size more
    content = json.loads(out.read_text())
    assert [*content["sizes"]] == ["1500", "1200"]
    assert content["sizes"]["1500"] == entry
    assert content["sizes"]["1200"]["pipeline"]["seconds_over"] == 0.1

    run("picture", f"--results={out}", f"--out={tmp_path / 'scale.svg'}")
    assert "<svg" in (tmp_path / "scale.svg").read_text()
