"""Trainings with several processes on one machine: results, resuming and ending."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from support.tiny_project import change_params, digests, environment, outputs_of, run_in

pytest_plugins = ["support.tiny_project"]


@pytest.fixture
def shared(project: Path) -> Path:
    """A project whose trainings have two processes, on the CPU, and last some seconds."""
    change_params(project, devices=2, accelerator="cpu", max_epochs=8)
    return project


def train(project: Path, model: str) -> tuple[str, dict[str, str], Any]:
    """Run a training to its end.

    Returns:
        What it said, the digests of its outputs, and its metrics.
    """
    said = run_in(project, "python", f"stages/train_{model}.py").stderr
    metrics = json.loads((project / f"metrics/train_{model}.json").read_text())
    return said, digests(project, *outputs_of(f"train_{model}")), metrics


def started(project: Path, model: str) -> subprocess.Popen[str]:
    """A new training in a process group of its own, after its first checkpoint."""
    shutil.rmtree(project / ".checkpoints", ignore_errors=True)
    process = subprocess.Popen(
        [sys.executable, f"stages/train_{model}.py"],
        cwd=project,
        env={**environment(), "RUBRO_CHECKPOINT_SECONDS": "0"},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while not list((project / ".checkpoints").glob(f"{model}-*/last.ckpt")):
        assert process.poll() is None
        time.sleep(0.01)
    return process


def processes_of(group: int) -> list[tuple[int, str]]:
    """Process ID and command of those of a process group that still run."""
    listed = subprocess.run(
        ["ps", "-A", "-o", "pid=,pgid=,stat=,args="], capture_output=True, text=True, check=True
    ).stdout
    rows = [line.split(maxsplit=3) for line in listed.splitlines()]
    return [
        (int(pid), "".join(command))
        for pid, of, state, *command in rows
        if int(of) == group and not state.startswith("Z")
    ]


@pytest.mark.slow
@pytest.mark.parametrize("model", ["mlp", "cnn"])
def test_two_processes_match_one(shared: Path, model: str) -> None:
    change_params(shared, devices=1)
    _, _, alone = train(shared, model)
    change_params(shared, devices=2)
    said, _, metrics = train(shared, model)
    assert said.count("epoch 1/") == 1, said
    description = json.loads((shared / f"models/{model}/model.json").read_text())
    assert description["members"][model]["training"]["devices"] == 2
    assert metrics["parameters"] == alone["parameters"]
    for split in ("train", "validation"):
        for name in ("accuracy", "balanced_accuracy"):
            ours, theirs = (each["last"][split][name] for each in (metrics, alone))
            assert ours == pytest.approx(theirs, abs=0.05), (split, name)


@pytest.mark.slow
def test_two_processes_go_on_after_a_kill_to_the_same_bytes(shared: Path) -> None:
    _, whole, _ = train(shared, "mlp")
    process = started(shared, "mlp")
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    said, resumed, _ = train(shared, "mlp")
    assert said.count("resuming after epoch") == 1, said
    assert resumed == whole
    assert not list((shared / ".checkpoints").glob("mlp-*"))


@pytest.mark.slow
def test_ctrl_c_ends_both_processes_with_one_message(shared: Path) -> None:
    process = started(shared, "mlp")
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=600)
    assert process.returncode == 130
    assert said.count("interrupted; run the same command again to resume") == 1, said
    assert "Traceback" not in said
    for _ in range(100):
        if not processes_of(process.pid):
            break
        time.sleep(0.1)
    assert processes_of(process.pid) == []


@pytest.mark.slow
def test_a_process_that_dies_ends_the_other(shared: Path) -> None:
    process = started(shared, "mlp")
    (helper,) = [pid for pid, _ in processes_of(process.pid) if pid != process.pid]
    # So long that Lightning's observer, were it watching, would be the first to know.
    os.kill(process.pid, signal.SIGSTOP)
    os.kill(helper, signal.SIGKILL)
    time.sleep(6)
    os.kill(process.pid, signal.SIGCONT)
    _, said = process.communicate(timeout=600)
    assert process.returncode == 2
    assert said.count("another process of the training has ended or is out of reach") == 1, said
    assert "Traceback" not in said
    said, _, _ = train(shared, "mlp")
    assert "resuming after epoch" in said
