"""A full or read-only disk ends in one message and exit code 2, and the next run recovers."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NoReturn

import pandas as pd
import pytest
import torch
from safetensors import SafetensorError

from rubro.base.console import reported_errors
from rubro.sample import write_catalogue
from support.tiny_project import STAGES as ALL_STAGES
from support.tiny_project import copy_project, outputs_of, run_in, shrink, stages_run

# The CNN is written by the same code as the MLP.
STAGES = [stage for stage in ALL_STAGES if stage != "train_cnn"]


@contextmanager
def mounted(folder: Path, *options: str) -> Iterator[None]:
    """Mount a file system on a folder, or skip the test if mounting is not allowed."""
    done = subprocess.run(["mount", *options, str(folder)], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("needs the right to mount")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    with mounted(folder, "-t", "tmpfs", "-o", "size=64m", "tmpfs"):
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small project in which every stage has run."""
    if shutil.which("mount") is None or os.geteuid() != 0:
        pytest.skip("needs the right to mount")
    folder = tmp_path_factory.mktemp("finished")
    copy_project(folder)
    shrink(folder / "params.yaml")
    write_catalogue(folder / "data" / "sample", rows=2_000)
    for stage in ALL_STAGES:
        run_in(folder, "python", f"stages/{stage}.py")
    return folder


@pytest.fixture(autouse=True)
def _checkpoint_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUBRO_CHECKPOINT_SECONDS", "0")


def outputs(project: Path, stage: str) -> dict[str, bytes]:
    paths = [project / name for name in outputs_of(stage)]
    files = [file for path in paths for file in ([path] if path.is_file() else path.rglob("*"))]
    return {str(file.relative_to(project)): file.read_bytes() for file in files if file.is_file()}


def run(project: Path, stage: str) -> str:
    """Run a stage that succeeds and return its messages."""
    return run_in(project, "python", f"stages/{stage}.py").stderr


def assert_one_error(project: Path, stage: str, reason: str) -> None:
    """Run a stage and assert that it ends with exit code 2 and one message with the reason."""
    done = run_in(project, "python", f"stages/{stage}.py", ok=False)
    assert done.returncode == 2, done.stderr
    assert len(re.findall("^error: ", done.stderr, re.MULTILINE)) == 1
    assert reason in done.stderr.lower()
    assert "Traceback" not in done.stderr


def fill(folder: Path, room: int) -> Path:
    """Fill a disk up to this many bytes and return the file to remove."""
    filler = folder / "filler"
    with open(filler, "wb") as file:
        file.write(bytes(max(shutil.disk_usage(folder).free - room, 0)))
    return filler


def copy_without_outputs(finished: Path, project: Path, stage: str) -> None:
    shutil.copytree(finished, project, dirs_exist_ok=True)
    for name in outputs_of(stage):
        path = project / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_stage_recovers_from_full_disk(finished: Path, tmp_path: Path, stage: str) -> None:
    expected = outputs(finished, stage)
    with small_disk(tmp_path):
        copy_without_outputs(finished, tmp_path, stage)
        for share in (0.0, 0.5):
            filler = fill(tmp_path, int(share * sum(map(len, expected.values()))))
            assert_one_error(tmp_path, stage, "no space left")
            filler.unlink()
        run(tmp_path, stage)
        assert outputs(tmp_path, stage) == expected


@pytest.mark.slow
def test_training_resumes_after_model_did_not_fit(finished: Path, tmp_path: Path) -> None:
    copy_without_outputs(finished, tmp_path, "train_mlp")
    model = tmp_path / "models" / "mlp"
    model.mkdir()
    with mounted(model, "-t", "tmpfs", "-o", "size=4k", "tmpfs"):
        assert_one_error(tmp_path, "train_mlp", "no space left")
    assert "resuming after epoch 3/3" in run(tmp_path, "train_mlp")
    assert outputs(tmp_path, "train_mlp") == outputs(finished, "train_mlp")


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_read_only_disk_is_one_message(finished: Path, tmp_path: Path, stage: str) -> None:
    with small_disk(tmp_path):
        shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
        run_in(tmp_path, "mount", "-o", "remount,ro", str(tmp_path))
        assert_one_error(tmp_path, stage, "read-only")


@pytest.mark.slow
def test_dvc_replaces_incomplete_outputs(finished: Path, tmp_path: Path) -> None:
    expected = outputs(finished, "subset")
    with small_disk(tmp_path):
        copy_without_outputs(finished, tmp_path, "subset")
        run_in(tmp_path, "git", "init", "--quiet")
        filler = fill(tmp_path, sum(map(len, expected.values())) // 2)
        assert_one_error(tmp_path, "subset", "no space left")
        incomplete = outputs(tmp_path, "subset")
        assert incomplete != expected
        assert run_in(tmp_path, "dvc", "repro", "subset", ok=False).returncode != 0
        assert not (tmp_path / "dvc.lock").exists()
        filler.unlink()
        for name, content in incomplete.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(content)
        assert stages_run(run_in(tmp_path, "dvc", "repro", "subset")) == ["subset"]
        assert outputs(tmp_path, "subset") == expected


# Each library has its own error for a full disk.
FULL = Path("/dev/full")
WRITERS: list[Callable[[Path], object]] = [
    lambda path: path.write_text("a"),
    lambda path: pd.DataFrame({"a": ["b"]}).to_csv(path),
    lambda path: pd.DataFrame({"a": ["b"]}).to_parquet(path),
    lambda path: torch.save(torch.zeros(10_000), path),
]


def caused_by_full_disk() -> NoReturn:
    raise RuntimeError("callback failed") from OSError(28, "No space left on device")


def safetensors_error(number: int) -> NoReturn:
    text = f"Error while serializing: I/O error: {os.strerror(number)} (os error {number})"
    raise SafetensorError(text)


@pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")
@pytest.mark.parametrize(
    ("write", "reason"),
    [
        *((partial(write, FULL), "no space left") for write in WRITERS),
        (caused_by_full_disk, "no space left"),
        (partial(safetensors_error, 28), "no space left"),
        (partial(safetensors_error, 30), "read-only"),
    ],
)
def test_disk_error_of_every_library_is_reported(
    write: Callable[[], object], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop, reported_errors():
        write()
    assert stop.value.code == 2
    message = " ".join(capsys.readouterr().err.split()).lower()
    assert message.startswith("error: ")
    assert reason in message
    assert ("run the same command again" in message) == (reason == "no space left")


@pytest.mark.parametrize("bug", [ValueError("x"), RuntimeError("y"), OSError("z"), KeyError("os")])
def test_other_errors_are_raised(bug: Exception) -> None:
    with pytest.raises(type(bug)) as caught, reported_errors():
        raise bug
    assert caught.value is bug
