"""Where the checkpoints of a training lie."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rubro.training.checkpoints import checkpoint_folder


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def left_behind(name: str, **settings: int) -> Path:
    """The folder of a training that was interrupted."""
    with pytest.raises(KeyboardInterrupt), checkpoint_folder(name, settings, []) as folder:
        (folder / "last.ckpt").write_text("state")
        raise KeyboardInterrupt
    return folder


def test_an_interrupted_training_finds_its_checkpoint_and_a_finished_one_leaves_none() -> None:
    left = left_behind("mlp", epochs=3)
    with checkpoint_folder("mlp", {"epochs": 3}, []) as folder:
        assert folder == left
        assert (folder / "last.ckpt").read_text() == "state"
    assert not left.exists()


def test_other_settings_other_inputs_and_other_models_have_another_folder(tmp_path: Path) -> None:
    (tmp_path / "input").write_text("a")
    folders = set()
    for name, settings, content in [
        ("mlp", 1, "a"),
        ("mlp", 2, "a"),
        ("mlp", 1, "b"),
        ("cnn", 1, "a"),
    ]:
        (tmp_path / "input").write_text(content)
        with checkpoint_folder(name, {"epochs": settings}, [tmp_path / "input"]) as folder:
            folders.add(folder)
    assert len(folders) == 4


def test_code_compiled_meanwhile_is_no_other_input(tmp_path: Path) -> None:
    compiled = tmp_path / "code" / "__pycache__"
    compiled.mkdir(parents=True)
    (tmp_path / "code" / "kernels.py").write_text("")
    folders = set()
    for number, file in enumerate(("kernels.nbi", "kernels.1.nbc", "kernels.pyc")):
        with checkpoint_folder("mlp", {}, [tmp_path / "code"]) as folder:
            folders.add(folder)
            (compiled / file).write_text(f"{number}")
    assert len(folders) == 1


def test_a_training_that_was_moved_starts_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left_behind("mlp", epochs=3)
    shutil.copytree(tmp_path / ".checkpoints", tmp_path / "moved" / ".checkpoints")
    monkeypatch.chdir(tmp_path / "moved")
    with checkpoint_folder("mlp", {"epochs": 3}, []) as folder:
        assert list(folder.iterdir()) == []


def test_the_latest_three_of_a_model_stay(tmp_path: Path) -> None:
    old, *latest = [left_behind("mlp", seed=seed) for seed in range(3)]
    os.utime(old, (10**9, 10**9))
    other = left_behind("cnn", seed=0)
    with checkpoint_folder("mlp", {"seed": 9}, []) as folder:
        left = set((tmp_path / ".checkpoints").glob("*-*"))
        assert left == {*latest, other, folder}


@pytest.mark.slow
def test_the_same_training_in_another_process_has_a_folder_of_its_own() -> None:
    script = (
        "from rubro.training.checkpoints import checkpoint_folder\n"
        "with checkpoint_folder('mlp', {}, []) as folder:\n"
        "    print(folder, flush=True)\n"
        "    input()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        theirs = Path(process.stdout.readline().strip())
        with checkpoint_folder("mlp", {}, []) as ours:
            assert ours != theirs
            assert theirs.is_dir()
        assert theirs.is_dir()
        process.kill()
    with checkpoint_folder("mlp", {}, []) as folder:
        assert folder == theirs  # the lock of a killed process is free


def test_an_experiment_in_a_copy_uses_the_checkpoints_of_its_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = left_behind("mlp")
    for copy in ("standalone/tmp1", "tmp2"):
        folder = tmp_path / ".dvc" / "tmp" / "exps" / copy
        folder.mkdir(parents=True)
        monkeypatch.chdir(folder)
        assert left_behind("mlp") == left
