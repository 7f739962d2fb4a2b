"""Trainings with several processes on one machine: results, resuming and ending."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from support.tiny_project import (
    change_params,
    digests,
    outputs_of,
    read_until,
    run_in,
    start_stage,
    wait_until,
)

pytest_plugins = ["support.tiny_project"]


LOST = "another process of the training has ended or is out of reach"
SHARED: dict[str, object] = {"devices": 2, "accelerator": "cpu", "max_epochs": 8}

Outcome = tuple[str, dict[str, str], Any]
Outcomes = Callable[[str], Outcome]


@pytest.fixture
def shared(project: Path) -> Path:
    """Project whose trainings take two CPU processes and some seconds."""
    change_params(project, **SHARED)
    return project


@pytest.fixture(scope="module")
def outcomes(first_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    """Function that returns the outcome of a network's uninterrupted training with two processes."""
    folder = tmp_path_factory.mktemp("shared") / "project"
    shutil.copytree(first_project, folder, symlinks=True)
    change_params(folder, **SHARED)

    @cache
    def outcome(model: str) -> Outcome:
        found = train(folder, model)
        description = json.loads((folder / f"models/{model}/model.json").read_text())
        assert description["members"][model]["training"]["devices"] == 2
        return found

    return outcome


def train(project: Path, model: str) -> Outcome:
    """Run a training; return its messages, the digests of its outputs and its metrics."""
    messages = run_in(project, "python", f"stages/train_{model}.py").stderr
    metrics = json.loads((project / f"metrics/train_{model}.json").read_text())
    return messages, digests(project, *outputs_of(f"train_{model}")), metrics


def start(project: Path, *, until_checkpoint: bool = True) -> subprocess.Popen[str]:
    """Start a training in a new process group and wait for its first checkpoint."""
    shutil.rmtree(project / ".checkpoints", ignore_errors=True)
    process = start_stage(project, "train_mlp")
    while until_checkpoint and not list((project / ".checkpoints").glob("mlp-*/last.ckpt")):
        assert process.poll() is None
        time.sleep(0.01)
    return process


def others_of(process: subprocess.Popen[str]) -> list[int]:
    """Return the IDs of the other running processes of a process group."""
    listed = subprocess.run(
        ["ps", "-A", "-o", "pid=,pgid=,stat="], capture_output=True, text=True, check=True
    ).stdout
    rows = [line.split() for line in listed.splitlines()]
    return [
        int(pid)
        for pid, group, state in rows
        if int(group) == process.pid != int(pid) and not state.startswith("Z")
    ]


@pytest.mark.slow
@pytest.mark.parametrize("model", ["mlp", "cnn"])
def test_two_processes_match_one(shared: Path, outcomes: Outcomes, model: str) -> None:
    change_params(shared, devices=1)
    _, _, expected = train(shared, model)
    messages, _, metrics = outcomes(model)
    # Only one process reports, in the training and in the final fit.
    assert messages.count("epoch 1/") == 2, messages
    assert messages.count("final fit, epoch 1/") == 1, messages
    assert metrics["parameters"] == expected["parameters"]
    for split in ("train", "validation"):
        for name in ("accuracy", "balanced_accuracy"):
            ours, theirs = (each["last"][split][name] for each in (metrics, expected))
            assert ours == pytest.approx(theirs, abs=0.05), (split, name)


@pytest.mark.slow
def test_two_killed_processes_resume_to_the_same_bytes(shared: Path, outcomes: Outcomes) -> None:
    _, uninterrupted, _ = outcomes("mlp")
    process = start(shared)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    messages, resumed, _ = train(shared, "mlp")
    assert messages.count("resuming after epoch") == 1, messages
    assert resumed == uninterrupted
    assert not list((shared / ".checkpoints").glob("mlp-*"))


@pytest.mark.slow
def test_ctrl_c_ends_both_processes_with_one_message(shared: Path) -> None:
    process = start(shared)
    os.killpg(process.pid, signal.SIGINT)
    _, messages = process.communicate(timeout=600)
    assert process.returncode == 130
    assert messages.count("interrupted") == 1, messages
    assert "Traceback" not in messages
    assert wait_until(lambda: not others_of(process))


@pytest.mark.slow
@pytest.mark.parametrize("connected", [True, False])
def test_a_process_that_dies_ends_the_training(shared: Path, connected: bool) -> None:
    process = start(shared, until_checkpoint=connected)
    assert wait_until(lambda: bool(others_of(process)))
    os.kill(others_of(process)[0], signal.SIGKILL)
    _, messages = process.communicate(timeout=600)
    assert process.returncode == 2
    assert messages.count(LOST if connected else "before all were connected") == 1, messages
    assert "Traceback" not in messages
    if connected:
        resumed = start_stage(shared, "train_mlp")
        read_until(resumed, "resuming after epoch")
        os.killpg(resumed.pid, signal.SIGKILL)
        resumed.communicate()


@pytest.mark.slow
@pytest.mark.parametrize("connected", [True, False])
def test_processes_end_with_the_killed_process_that_started_them(
    shared: Path, connected: bool
) -> None:
    process = start(shared, until_checkpoint=connected)
    assert wait_until(lambda: bool(others_of(process)))
    process.kill()
    process.wait()
    assert wait_until(lambda: not others_of(process), seconds=20)
    process.communicate()
