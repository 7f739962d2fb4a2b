"""Folders of checkpoints."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from rubro.training.checkpoints import checkpoint_folder


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def interrupted(name: str, **settings: int) -> Path:
    """Return the folder of a training that was interrupted."""
    with pytest.raises(KeyboardInterrupt), checkpoint_folder(name, settings, []) as folder:
        (folder / "last.ckpt").write_text("state")
        raise KeyboardInterrupt
    return folder


def test_an_interrupted_training_finds_its_checkpoint_and_removes_it_at_the_end() -> None:
    left = interrupted("mlp", epochs=3)
    with checkpoint_folder("mlp", {"epochs": 3}, []) as folder:
        assert folder == left
        assert (folder / "last.ckpt").read_text() == "state"
    assert not left.exists()


def test_the_folder_depends_on_name_settings_and_inputs_but_not_on_compiled_code(
    tmp_path: Path,
) -> None:
    compiled = tmp_path / "code" / "__pycache__"
    compiled.mkdir(parents=True)
    folders = []
    for number, (name, settings, content) in enumerate(
        [("mlp", 1, "a"), ("mlp", 1, "a"), ("mlp", 2, "a"), ("mlp", 1, "b"), ("cnn", 1, "a")]
    ):
        (tmp_path / "code" / "input").write_text(content)
        with checkpoint_folder(name, {"epochs": settings}, [tmp_path / "code"]) as folder:
            folders.append(folder)
            (compiled / f"kernels.{number}.nbc").write_text(f"{number}")
    assert folders[0] == folders[1]
    assert len(set(folders)) == 4


def test_a_moved_training_starts_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted("mlp", epochs=3)
    shutil.copytree(tmp_path / ".checkpoints", tmp_path / "moved" / ".checkpoints")
    monkeypatch.chdir(tmp_path / "moved")
    with checkpoint_folder("mlp", {"epochs": 3}, []) as folder:
        assert list(folder.iterdir()) == []


def test_the_latest_three_folders_of_a_model_are_kept(tmp_path: Path) -> None:
    old, *latest = [interrupted("mlp", seed=seed) for seed in range(3)]
    os.utime(old, (10**9, 10**9))
    other = interrupted("cnn", seed=0)
    with checkpoint_folder("mlp", {"seed": 9}, []) as folder:
        assert set((tmp_path / ".checkpoints").glob("*-*")) == {*latest, other, folder}


def test_a_second_run_of_the_same_training_gets_a_temporary_folder() -> None:
    with checkpoint_folder("mlp", {}, []) as first:
        with checkpoint_folder("mlp", {}, []) as second:
            assert second != first
        assert not second.exists()
        assert first.is_dir()


def test_an_experiment_in_a_copy_uses_the_checkpoints_of_the_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = interrupted("mlp")
    for copy in ("standalone/tmp1", "tmp2"):
        folder = tmp_path / ".dvc" / "tmp" / "exps" / copy
        folder.mkdir(parents=True)
        monkeypatch.chdir(folder)
        assert interrupted("mlp") == left
