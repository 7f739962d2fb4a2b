"""No room, or no right, to write: one message, exit code 2, and the next run makes it good."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors import SafetensorError

from rubro.base.console import reported_errors
from rubro.sample import write_catalogue
from support.tiny_project import STAGES as ALL_STAGES
from support.tiny_project import copy_project, outputs_of, run_in, shrink

# The CNN is written as the MLP is.
STAGES = [stage for stage in ALL_STAGES if stage != "train_cnn"]


@contextmanager
def mounted(folder: Path, *options: str) -> Iterator[None]:
    """Mount something on a folder, or skip the test where this is not allowed."""
    done = subprocess.run(["mount", *options, str(folder)], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("needs the right to mount")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small project in which every stage has run."""
    if shutil.which("mount") is None or os.geteuid() != 0:
        pytest.skip("needs the right to mount")
    folder = tmp_path_factory.mktemp("whole")
    copy_project(folder)
    shrink(folder / "params.yaml")
    write_catalogue(folder / "data" / "sample", rows=2_000)
    for stage in ALL_STAGES:
        run_in(folder, "python", f"stages/{stage}.py")
    return folder


def outputs(project: Path, stage: str) -> dict[str, bytes]:
    paths = [project / name for name in outputs_of(stage)]
    files = [file for path in paths for file in ([path] if path.is_file() else path.rglob("*"))]
    return {str(file.relative_to(project)): file.read_bytes() for file in files if file.is_file()}


def run(project: Path, stage: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, f"stages/{stage}.py"],
        cwd=project,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def fill(folder: Path, room: int) -> Path:
    """Leave so many bytes of a disk."""
    filler = folder / "filler"
    with open(filler, "wb") as file:
        free = shutil.disk_usage(folder).free
        file.write(bytes(max(free - room, 0)))
    return filler


def without_outputs(whole: Path, project: Path, stage: str) -> None:
    shutil.copytree(whole, project, dirs_exist_ok=True)
    for name in outputs_of(stage):
        path = project / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_full_disk_is_one_message_and_with_room_the_stage_succeeds(
    whole: Path, tmp_path: Path, stage: str, share: float
) -> None:
    expected = outputs(whole, stage)
    needed = sum(map(len, expected.values()))
    with mounted(tmp_path, "-t", "tmpfs", "-o", "size=64m", "tmpfs"):
        without_outputs(whole, tmp_path, stage)
        filler = fill(tmp_path, int(share * needed))
        done = run(tmp_path, stage, RUBRO_CHECKPOINT_SECONDS="0")
        assert done.returncode == 2, done.stderr
        assert len(re.findall("^error: ", done.stderr, re.MULTILINE)) == 1
        assert "error: No space left" in done.stderr
        assert "Traceback" not in done.stderr
        filler.unlink()
        done = run(tmp_path, stage)
        assert done.returncode == 0, done.stderr
        assert outputs(tmp_path, stage) == expected


@pytest.mark.slow
def test_no_room_for_the_model_alone_costs_no_training(whole: Path, tmp_path: Path) -> None:
    without_outputs(whole, tmp_path, "train_mlp")
    model = tmp_path / "models" / "mlp"
    model.mkdir()
    with mounted(model, "-t", "tmpfs", "-o", "size=4k", "tmpfs"):
        done = run(tmp_path, "train_mlp", RUBRO_CHECKPOINT_SECONDS="0")
        assert done.returncode == 2, done.stderr
        assert "error: No space left" in done.stderr
        assert "Traceback" not in done.stderr
    done = run(tmp_path, "train_mlp")
    assert done.returncode == 0, done.stderr
    assert "resuming after epoch 3/3" in done.stderr
    assert outputs(tmp_path, "train_mlp") == outputs(whole, "train_mlp")


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_a_read_only_disk_is_one_message(whole: Path, tmp_path: Path, stage: str) -> None:
    with mounted(tmp_path, "-t", "tmpfs", "-o", "size=64m", "tmpfs"):
        shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
        run_in(tmp_path, "mount", "-o", "remount,ro", str(tmp_path))
        done = run(tmp_path, stage)
        assert done.returncode == 2, done.stderr
        assert "read-only file system" in done.stderr.lower()
        assert len(re.findall("^error: ", done.stderr, re.MULTILINE)) == 1
        assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_what_dvc_finds_half_written_it_makes_again(whole: Path, tmp_path: Path) -> None:
    expected = outputs(whole, "subset")
    with mounted(tmp_path, "-t", "tmpfs", "-o", "size=64m", "tmpfs"):
        without_outputs(whole, tmp_path, "subset")
        run_in(tmp_path, "git", "init", "--quiet")
        filler = fill(tmp_path, sum(map(len, expected.values())) // 2)
        assert run(tmp_path, "subset").returncode == 2
        half = outputs(tmp_path, "subset")
        assert half != expected
        done = run_in(tmp_path, "dvc", "repro", "subset", ok=False)
        assert done.returncode != 0
        assert not (tmp_path / "dvc.lock").exists()
        filler.unlink()
        for name, content in half.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(content)
        done = run_in(tmp_path, "dvc", "repro", "subset")
        assert "Running stage 'subset'" in done.stdout + done.stderr
        assert outputs(tmp_path, "subset") == expected


# Each library that writes, and its own words for it


FULL = Path("/dev/full")
WRITERS: dict[str, Callable[[Path], object]] = {
    "text": lambda path: path.write_text("a"),
    "csv": lambda path: pd.DataFrame({"a": ["b"]}).to_csv(path),
    "parquet": lambda path: pd.DataFrame({"a": ["b"]}).to_parquet(path),
    "torch": lambda path: torch.save(torch.zeros(10_000), path),
}


def refused(capsys: pytest.CaptureFixture[str], write: Callable[[], object]) -> str:
    with pytest.raises(SystemExit) as stop, reported_errors():
        write()
    assert stop.value.code == 2
    return " ".join(capsys.readouterr().err.split())


@pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")
@pytest.mark.parametrize("writer", WRITERS)
def test_every_writer_that_finds_no_room_is_understood(
    writer: str, capsys: pytest.CaptureFixture[str]
) -> None:
    message = refused(capsys, lambda: WRITERS[writer](FULL))
    assert message.startswith("error: No space left (")
    assert message.endswith("); make room, then run the same command again")


@pytest.mark.parametrize(("number", "words"), [(28, "No space left ("), (30, "Read-only")])
def test_the_words_of_safetensors_are_understood(
    number: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def write() -> None:
        reason = os.strerror(number)
        raise SafetensorError(f"Error while serializing: I/O error: {reason} (os error {number})")

    assert words in refused(capsys, write)


def test_a_full_disk_behind_another_error_is_understood(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def write() -> None:
        try:
            raise OSError(28, "No space left on device")
        except OSError as error:
            raise RuntimeError("callback failed") from error

    assert "No space left" in refused(capsys, write)


@pytest.mark.parametrize("bug", [ValueError("x"), RuntimeError("y"), OSError("z"), KeyError("os")])
def test_a_bug_keeps_its_traceback(bug: Exception) -> None:
    with pytest.raises(type(bug)) as caught, reported_errors():
        raise bug
    assert caught.value is bug
