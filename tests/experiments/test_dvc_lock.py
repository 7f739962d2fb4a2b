"""Tests of `rubro fresh`."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from support.tiny_project import run_in

pytest_plugins = ["support.tiny_project"]

HASH_OF, OTHER = "- path:", "0" * 32


@pytest.fixture
def repository(first_project: Path, tmp_path: Path) -> Path:
    """A clone of the first project, without its data and models."""
    folder = tmp_path / "project"
    run_in(tmp_path, "git", "clone", "--quiet", str(first_project), str(folder))
    return folder


def edit(folder: Path, pattern: str, replacement: str) -> None:
    """Replace the first match of a pattern in dvc.lock, and all other occurrences of that text."""
    lock = folder / "dvc.lock"
    text = lock.read_text()
    found = re.search(pattern, text, re.DOTALL)
    assert found is not None
    lock.write_text(text.replace(found[0], found.expand(replacement)))


def test_a_clone_is_fresh(repository: Path) -> None:
    done = run_in(repository, "rubro", "fresh")
    assert done.stdout + done.stderr == ""


@pytest.mark.parametrize(
    ("pattern", "replacement", "stages"),
    [
        (r"(\n  embed:.*?epochs: )\d+", r"\g<1>3", "embed (embed)"),
        (
            rf"({HASH_OF} src/rubro/models\n.*?md5: )\w+",
            rf"\g<1>{OTHER}",
            "train_mlp (src/rubro/models); train_cnn (src/rubro/models)",
        ),
    ],
)
def test_stages_with_new_inputs_are_listed(
    repository: Path, pattern: str, replacement: str, stages: str
) -> None:
    edit(repository, pattern, replacement)
    done = run_in(repository, "rubro", "fresh", ok=False)
    assert done.returncode == 1
    assert f": {stages}. Commit dvc.lock and metrics" in done.stderr


def test_the_first_stage_with_other_outputs_from_the_same_inputs_is_listed(
    repository: Path,
) -> None:
    edit(repository, rf"({HASH_OF} models/embedding\n.*?md5: )\w+", rf"\g<1>{OTHER}")
    done = run_in(repository, "rubro", "fresh", ok=False)
    assert done.returncode == 1
    assert done.stderr.startswith("embed: ")
    assert "git checkout dvc.lock metrics && dvc pull" in done.stderr
    assert run_in(repository, "rubro", "fresh", "--exit-zero").stderr == done.stderr


def test_an_edited_metrics_file_is_listed(repository: Path) -> None:
    (repository / "metrics" / "featurize.json").write_text("{}")
    done = run_in(repository, "rubro", "fresh", ok=False)
    assert done.returncode == 1
    assert done.stderr.endswith(": metrics/featurize.json\n")


@pytest.mark.parametrize("missing", ["dvc.lock", ".git"])
def test_nothing_to_compare_is_an_error(repository: Path, missing: str) -> None:
    path = repository / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    done = run_in(repository, "rubro", "fresh", ok=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: dvc.lock: no")
    assert run_in(repository, "rubro", "fresh", "--exit-zero").stderr == ""
