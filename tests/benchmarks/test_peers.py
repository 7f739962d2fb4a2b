"""The script that trains other people's classifiers on the project's splits."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
CATEGORIES = 12
SETTINGS = [f"subset.top_categories={CATEGORIES}", "subset.max_rows=1000"]
PEERS = ["word_svc", "word_char_sgd", *(["fasttext"] if find_spec("floret") else [])]


def run(out: Path, settings: list[str], peers: list[str]) -> subprocess.CompletedProcess[str]:
    options = [f"--set={setting}" for setting in settings] + [f"--only={peer}" for peer in peers]
    return subprocess.run(
        [sys.executable, "benchmarks/peers.py", "--out", str(out), *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What two runs of the same command write; fastText takes part where it is installed."""
    contents = []
    for _ in range(2):
        out = tmp_path_factory.mktemp("peers") / "results" / "peers.json"
        done = run(out, SETTINGS, PEERS)
        assert done.returncode == 0, done.stderr
        contents.append(json.loads(out.read_text()))
    return contents


@pytest.mark.slow
def test_only_the_wanted_peers_are_trained(twice: list[dict[str, Any]]) -> None:
    assert list(twice[0]["peers"]) == PEERS


@pytest.mark.slow
def test_fasttext_takes_part(twice: list[dict[str, Any]]) -> None:
    pytest.importorskip("floret")
    assert "fasttext" in twice[0]["peers"]


@pytest.mark.slow
def test_the_data_are_described_without_a_path(twice: list[dict[str, Any]]) -> None:
    content = twice[0]
    assert content["settings"]["data"]["path"] == "sample"
    assert content["settings"]["subset"]["top_categories"] == CATEGORIES
    assert content["classes"] == CATEGORIES
    assert 0 < content["rows"]["train"] <= 1000


@pytest.mark.slow
def test_the_setting_that_is_best_on_validation_is_chosen(twice: list[dict[str, Any]]) -> None:
    for peer in twice[0]["peers"].values():
        tried = peer["tried"]
        assert len(tried) > 1
        assert all(set(row) == {"setting", "validation_balanced_accuracy"} for row in tried)
        best = max(row["validation_balanced_accuracy"] for row in tried)
        assert peer["validation"]["balanced_accuracy"] == best
        assert {"setting": peer["setting"], "validation_balanced_accuracy": best} in tried


@pytest.mark.slow
def test_peers_learn(twice: list[dict[str, Any]]) -> None:
    for peer in twice[0]["peers"].values():
        assert peer["fit_seconds"] >= 0
        for split in ("validation", "test"):
            assert set(peer[split]) == {"balanced_accuracy", "accuracy"}
            assert peer[split]["balanced_accuracy"] > 5 / CATEGORIES


@pytest.mark.slow
def test_a_second_run_gives_the_same_scores(twice: list[dict[str, Any]]) -> None:
    first, second = copy.deepcopy(twice)
    for content in (first, second):
        for peer in content["peers"].values():
            del peer["fit_seconds"]
    assert first == second


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "peers", "named"),
    [
        (["subset.top_categorie=5"], [], "subset.top_categorie: unknown key; did you mean"),
        ([], ["forest"], "--only forest: no such peer; known: word_svc"),
    ],
)
def test_a_wrong_option_is_answered_with_one_line(
    tmp_path: Path, settings: list[str], peers: list[str], named: str
) -> None:
    done = run(tmp_path / "peers.json", settings, peers)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {named}")
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "peers.json").exists()
