"""A training that two processes share is as good as one's, repeats, goes on and ends whole."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tiny_project import digests, environment, outputs_of, run_in

pytest_plugins = ["tiny_project"]
pytestmark = pytest.mark.slow


@pytest.fixture
def shared(project: Path) -> Path:
    """A project whose trainings have two processes, on the CPU, and last some seconds."""
    change_params(project, devices=2, accelerator="cpu", max_epochs=12)
    return project


def change_params(project: Path, **values: object) -> None:
    """Change keys of params.yaml, wherever they are in it."""
    file = project / "params.yaml"
    text = file.read_text()
    for key, value in values.items():
        text, count = re.subn(rf"(?m)^( *){key}: \S+", rf"\g<1>{key}: {value}", text)
        assert count
    file.write_text(text)


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


@pytest.mark.parametrize("model", ["mlp", "cnn"])
def test_two_processes_match_one_and_go_on_after_a_kill_to_the_same_bytes(
    shared: Path, model: str
) -> None:
    change_params(shared, devices=1)
    _, _, alone = train(shared, model)
    change_params(shared, devices=2)
    said, whole, metrics = train(shared, model)
    assert said.count("epoch 1/") == 1, said
    description = json.loads((shared / f"models/{model}/model.json").read_text())
    assert description["members"][model]["training"]["devices"] == 2
    assert metrics["parameters"] == alone["parameters"]
    for split in ("train", "validation"):
        for name in ("accuracy", "balanced_accuracy"):
            ours, theirs = (each["last"][split][name] for each in (metrics, alone))
            assert ours == pytest.approx(theirs, abs=0.05), (split, name)

    process = started(shared, model)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    said, resumed, _ = train(shared, model)
    assert said.count("resuming after epoch") == 1, said
    assert resumed == whole
    assert not list((shared / ".checkpoints").glob(f"{model}-*"))


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


TABLES = """
import lightning as L
import torch
from torch import nn

from rubro.training.devices import SharedTraining

STEPS = 4_000


class TwoTables(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.tables = nn.ModuleList(nn.Embedding(2_000, 16, sparse=True) for _ in range(2))

    def training_step(self, batch, index):
        used = torch.randint(0, 2_000, (int(torch.randint(50, 300, ())),))
        self.zero_grad()
        self.manual_backward(sum(table(used).square().mean() for table in self.tables))
        self.optimizers().step()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)


trainer = L.Trainer(
    accelerator="cpu", devices=2, strategy=SharedTraining(), max_steps=STEPS, logger=False,
    enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    use_distributed_sampler=False,
)
trainer.fit(TwoTables(), torch.zeros(STEPS, 1))
assert trainer.global_step == STEPS
"""


def test_sparse_gradients_of_two_tables_corrupt_no_memory(tmp_path: Path) -> None:
    script = tmp_path / "two_tables.py"
    script.write_text(TABLES)
    run_in(tmp_path, sys.executable, str(script))


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
    assert said.count("another process of the training has ended; run the same command") == 1, said
    assert "Traceback" not in said
    said, _, _ = train(shared, "mlp")
    assert "resuming after epoch" in said
