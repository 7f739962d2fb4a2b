"""Tests that experiments with different categories are not ranked against each other."""

from __future__ import annotations

import shutil
from contextlib import chdir
from pathlib import Path

import pytest

from rubro.experiments.run_data import DataCache, RunData
from support.category_runs import cache_subset
from support.tiny_project import run_in
from support.toy_pipeline import compared, names_of

pytest_plugins = ["support.category_runs"]

LEVEL = "validation.ensemble.levels.1.balanced_accuracy"


@pytest.fixture
def copied_runs(category_runs: Path, tmp_path: Path) -> Path:
    """A copy of the repository with experiments, for one test."""
    return Path(shutil.copytree(category_runs, tmp_path / "copy", symlinks=True))


def tree_of(labels: list[str]) -> dict[str, object]:
    paths = {label: label.split("/") for label in labels}
    return {"separator": "/", "order": "root_first", "paths": paths}


@pytest.mark.slow
def test_experiments_with_other_categories_come_last_and_are_not_recommended(
    category_runs: Path,
) -> None:
    rows = compared(category_runs)
    assert names_of(rows) == ["better", "titles", "last commit", "few", "merged"]
    assert [row["differs"] for row in rows] == [None, "titles", None, "categories", "categories"]
    assert [row["categories"] for row in rows] == [4, 4, 4, 2, 3]
    metric = "validation.ensemble.balanced_accuracy"
    best, *_, few, _ = [row["metrics"][metric]["mean"] for row in rows]
    assert few > best
    done = run_in(category_runs, "rubro", "compare")
    assert done.stderr.rstrip().endswith("dvc exp apply better")
    assert "few, merged: other categories than last commit" in done.stderr
    assert "titles: measured on other titles" in done.stderr
    assert "other categories (2)" in done.stdout


@pytest.mark.slow
def test_a_level_with_the_same_nodes_is_compared(category_runs: Path) -> None:
    rows = compared(category_runs)
    assert LEVEL in rows[0]["metrics"]
    rows = compared(category_runs, "-m", LEVEL)
    assert names_of(rows) == ["merged", "better", "titles", "last commit", "few"]
    assert [row["differs"] for row in rows] == [None, None, "titles", None, "categories"]
    assert f"compare -m {LEVEL}" in run_in(category_runs, "rubro", "compare").stderr


@pytest.mark.slow
def test_without_a_cache_the_number_of_categories_is_compared(copied_runs: Path) -> None:
    shutil.rmtree(copied_runs / ".dvc" / "cache")
    differs = {row["experiments"][0]: row["differs"] for row in compared(copied_runs)}
    assert differs == {
        "last commit": None,
        "better": None,
        "titles": "data",
        "few": "categories",
        "merged": "categories",
    }
    assert "titles: other data than last commit" in run_in(copied_runs, "rubro", "compare").stderr


@pytest.mark.slow
def test_a_search_does_not_use_trials_with_other_categories(copied_runs: Path) -> None:
    space = copied_runs / "space.yaml"
    space.write_text("subset.top_categories: {choices: [2]}\n")
    command = ["rubro", "search", space.name, "--trials", "1"]
    done = run_in(copied_runs, *command, ok=False)
    assert done.returncode == 3
    assert "subset.top_categories=2: other categories than last commit" in done.stderr
    # With fixed settings that change the categories, all trials have the same ones.
    space.write_text("train_mlp.dropout: {choices: [0.35]}\n")
    done = run_in(copied_runs, *command, "-S", "subset.top_categories=2")
    assert "dvc exp apply train_mlp.dropout=0.35,subset.top_categories=2" in done.stderr
    assert "last commit: other categories than train_mlp.dropout=0.35" in done.stderr


def test_differences_are_read_from_the_cache(tmp_path: Path) -> None:
    run_in(tmp_path, "git", "init", "--quiet")
    run_in(tmp_path, "dvc", "init", "--quiet")
    titles, labels = ["x", "y"], ["a/b", "a/c"]
    hashes = {
        "base": cache_subset(tmp_path, labels, titles, tree_of(labels)),
        "reordered": cache_subset(tmp_path, labels[::-1], titles[::-1], tree_of(labels[::-1])),
        "flat": cache_subset(tmp_path, labels, titles),
        "titles": cache_subset(tmp_path, labels, ["x", "z"], tree_of(labels)),
        "labels": cache_subset(tmp_path, labels, titles, tree_of(labels), labels),
        "leaf": cache_subset(tmp_path, ["a/b", "a/d"], titles, tree_of(["a/b", "a/d"])),
        "root": cache_subset(tmp_path, ["a/b", "e"], titles, tree_of(["a/b", "e"])),
    }
    runs = {name: RunData(subset, 2) for name, subset in hashes.items()}
    runs |= {
        "unknown": RunData("00000000000000000000000000000000.dir", 2),
        "fewer": RunData("00000000000000000000000000000001.dir", 1),
        "none": RunData(),
    }
    with chdir(tmp_path):
        cache = DataCache()
        found = {name: cache.difference(run, runs["base"]) for name, run in runs.items()}
        at_roots = {name: cache.difference(run, runs["base"], 1) for name, run in runs.items()}
        levels = {name: cache.shared_level(run, runs["base"]) for name, run in runs.items()}
    assert found == {
        **dict.fromkeys(("base", "reordered", "flat", "none"), ""),
        "titles": "titles",
        "labels": "labels",
        "leaf": "categories",
        "root": "categories",
        "unknown": "data",
        "fewer": "categories",
    }
    assert {name for name, kind in at_roots.items() if kind == "categories"} == {"flat", "root"}
    assert at_roots["leaf"] == ""
    shared = {"base": 2, "reordered": 2, "titles": 2, "labels": 2, "leaf": 1}
    assert levels == dict.fromkeys(runs) | shared
