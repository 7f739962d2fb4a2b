"""Tests of `rubro fresh`."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from support.tiny_project import ROOT, commit, run_in

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
    assert "match the last commit" in done.stderr
    assert done.stdout + done.stderr == done.stderr.splitlines(keepends=True)[0]


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


@pytest.fixture
def locked(tmp_path: Path) -> Path:
    """A repository with only dvc.lock and a metrics file."""
    folder = tmp_path / "locked"
    (folder / "metrics").mkdir(parents=True)
    shutil.copy(ROOT / "dvc.lock", folder)
    (folder / "metrics" / "subset.json").write_text("{}")
    run_in(folder, "git", "init", "--quiet")
    commit(folder, "locked")
    return folder


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"schema: '2.0'\n",
        b"schema: '2.0'\nstages: {}\n",
        b"<<<<<<< HEAD\nschema: '2.0'\nstages:\n",
        b"schema: '2.0'\nstages:\n  embed:\n",
        b"schema: '2.0'\nstages: [embed]\n",
        b"schema: '2.0'\nstages:\n  embed:\n    outs: [models]\n",
        b"stages: {embed: {params: {params.yaml: 3}}}\n",
        b"- 1\n",
        b"\xff\xfe\x00\x01",
        b"[" * 5_000,
    ],
    ids=range(11),
)
def test_a_damaged_dvc_lock_is_an_error(locked: Path, content: bytes) -> None:
    lock = locked / "dvc.lock"
    lock.write_bytes(content)
    done = run_in(locked, "rubro", "fresh", ok=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: dvc.lock: ")
    assert "git checkout dvc.lock" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert run_in(locked, "rubro", "fresh", "--exit-zero").stdout == ""


def test_a_damaged_dvc_lock_in_the_last_commit_is_an_error(locked: Path) -> None:
    whole = (locked / "dvc.lock").read_bytes()
    (locked / "dvc.lock").write_text("<<<<<<< HEAD\n- a: [\n")
    commit(locked, "damaged")
    (locked / "dvc.lock").write_bytes(whole)
    done = run_in(locked, "rubro", "fresh", ok=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: dvc.lock in the last commit: ")


def test_names_with_accents_are_printed_as_they_are(locked: Path) -> None:
    (locked / "metrics" / "categorías ñ.json").write_text("{}")
    done = run_in(locked, "rubro", "fresh", ok=False)
    assert done.returncode == 1
    assert "metrics/categorías ñ.json" in done.stderr
