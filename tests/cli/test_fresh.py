"""Tests of `rubro fresh`."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from support.tiny_project import run_in

pytest_plugins = ["support.tiny_project"]

HASH = r"md5: )\w+"


@pytest.fixture
def repository(first_project: Path, tmp_path: Path) -> Path:
    """A clone of the first project, without its data and models."""
    folder = tmp_path / "project"
    run_in(tmp_path, "git", "clone", "--quiet", str(first_project), str(folder))
    return folder


def test_a_clone_is_fresh(repository: Path) -> None:
    done = run_in(repository, "rubro", "fresh")
    assert done.stdout + done.stderr == ""


@pytest.mark.parametrize(
    ("pattern", "facts"),
    [
        (r"(\n  embed:.*?epochs: )\d+", [": embed (embed). Commit dvc.lock"]),
        (
            rf"(path: src/rubro/models\n.*?{HASH}",
            [": train_mlp (src/rubro/models); train_cnn (src/rubro/models). Commit dvc.lock"],
        ),
        # Only the first stage with other outputs is listed, because the next ones have new inputs.
        (
            rf"(path: models/embedding\n.*?{HASH}",
            ["embed: the inputs are", "git checkout dvc.lock metrics && dvc pull"],
        ),
    ],
)
def test_differences_in_dvc_lock_are_listed(
    repository: Path, pattern: str, facts: list[str]
) -> None:
    lock = repository / "dvc.lock"
    text = lock.read_text()
    found = re.search(pattern, text, re.DOTALL)
    assert found
    lock.write_text(text.replace(found[0], f"{found[1]}33"))  # wherever the stages repeat it
    done = run_in(repository, "rubro", "fresh", ok=False)
    assert done.returncode == 1
    assert all(fact in done.stderr for fact in facts), done.stderr
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
