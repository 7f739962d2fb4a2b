"""What a scheduler or another program's launcher leaves in the environment changes no training."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from support.tiny_project import digests, environment, outputs_of, run_in

pytest_plugins = ["support.tiny_project"]

# As in the middle of a job of several processes, none of which is the first.
LEFTOVERS = {
    "slurm": {
        "SLURM_JOB_ID": "12",
        "SLURM_JOB_NAME": "train",
        "SLURM_NTASKS": "1",
        "SLURM_NTASKS_PER_NODE": "1",
        "SLURM_PROCID": "0",
        "SLURM_LOCALID": "0",
        "SLURM_NODEID": "0",
        "SLURM_NNODES": "1",
        "SLURM_NODELIST": "node[1-2]",
    },
    "slurm without srun": {"SLURM_JOB_ID": "12", "SLURM_JOB_NAME": "t", "SLURM_NTASKS": "2"},
    "slurm, second process": {
        "SLURM_NTASKS": "2",
        "SLURM_NTASKS_PER_NODE": "2",
        "SLURM_PROCID": "1",
        "SLURM_LOCALID": "1",
        "SLURM_NODEID": "0",
    },
    "torchrun": {
        "TORCHELASTIC_RUN_ID": "none",
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "GROUP_RANK": "1",
        "RANK": "3",
        "LOCAL_RANK": "1",
        "WORLD_SIZE": "4",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "node1",
        "MASTER_PORT": "1",
    },
    "azureml": {
        "AZUREML_RUN_ID": "a",
        "AZ_BATCH_MASTER_NODE": "10.0.0.1:6000",
        "NODE_RANK": "1",
        "LOCAL_RANK": "0",
        "MASTER_ADDR": "10.0.0.1",
        "MASTER_PORT": "1",
    },
    "lsf": {
        "LSB_JOBID": "12",
        "LSB_DJOB_RANKFILE": "/nowhere",
        "JSM_NAMESPACE_RANK": "1",
        "JSM_NAMESPACE_LOCAL_RANK": "1",
        "JSM_NAMESPACE_SIZE": "2",
    },
    "mpi": {
        "OMPI_COMM_WORLD_RANK": "1",
        "OMPI_COMM_WORLD_LOCAL_RANK": "1",
        "OMPI_COMM_WORLD_SIZE": "2",
        "PMI_RANK": "1",
        "PMI_SIZE": "2",
    },
    "kubeflow": {
        "KUBERNETES_PORT": "tcp://127.0.0.1:443",
        "MASTER_ADDR": "master",
        "MASTER_PORT": "1",
        "WORLD_SIZE": "2",
        "RANK": "1",
    },
    "tpu": {
        "TPU_NAME": "t",
        "TPU_WORKER_ID": "1",
        "XRT_TPU_CONFIG": "tpu_worker;0;10.0.0.1:8470",
        "PJRT_DEVICE": "TPU",
    },
    "lightning": {
        "PL_TRAINER_NUM_NODES": "2",
        "PL_TRAINER_LIMIT_TRAIN_BATCHES": "1",
        "STANDALONE_PORT": "1",
    },
}


INTERRUPTED = "interrupted; run the same command again to resume\n"


def set_devices(project: Path, devices: int) -> None:
    file = project / "params.yaml"
    text = file.read_text().replace("\ndevices: 1", f"\ndevices: {devices}")
    file.write_text(text.replace("\naccelerator: auto", "\naccelerator: cpu"))


def train(project: Path) -> dict[str, str]:
    """Train the MLP; return the digests of its outputs."""
    run_in(project, "python", "stages/train_mlp.py")
    return digests(project, *outputs_of("train_mlp"))


def devices_of(project: Path) -> int:
    model = json.loads((project / "models/mlp/model.json").read_text())
    devices = model["members"]["mlp"]["training"]["devices"]
    assert isinstance(devices, int)
    return devices


def leave(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


@pytest.mark.slow
def test_the_environment_of_another_launcher_changes_no_training(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = digests(project, *outputs_of("train_mlp"))
    for variables in LEFTOVERS.values():
        leave(monkeypatch, variables)
    assert train(project) == wanted


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["slurm, second process", "torchrun", "lsf", "mpi"])
def test_the_environment_of_another_launcher_changes_no_shared_training(
    project: Path, monkeypatch: pytest.MonkeyPatch, launcher: str
) -> None:
    set_devices(project, 2)
    with monkeypatch.context() as patch:
        leave(patch, LEFTOVERS[launcher])
        found = train(project)
    assert devices_of(project) == 2
    assert found == train(project)


@pytest.mark.slow
def test_a_checkpoint_that_lightning_writes_for_slurm_is_not_read(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = digests(project, *outputs_of("train_mlp"))
    torch.save({"state_dict": {}}, project / "hpc_ckpt_1.ckpt")
    leave(monkeypatch, LEFTOVERS["slurm"])
    assert train(project) == wanted


def started(project: Path, stage: str) -> subprocess.Popen[str]:
    """Start a stage in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, f"stages/{stage}.py"],
        cwd=project,
        env={**environment(), "RUBRO_CHECKPOINT_SECONDS": "0"},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def read_until(process: subprocess.Popen[str], beginning: str) -> None:
    assert process.stderr is not None
    assert any(line.startswith(beginning) for line in process.stderr)


@pytest.mark.slow
@pytest.mark.parametrize(
    "number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP], ids=lambda number: number.name
)
def test_a_signal_of_a_scheduler_ends_a_training_that_resumes_to_the_same_bytes(
    project: Path, number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave(monkeypatch, LEFTOVERS["slurm"])
    wanted = digests(project, *outputs_of("train_mlp"))
    before = {path.name for path in project.iterdir()}
    process = started(project, "train_mlp")
    read_until(process, "epoch 2/")
    process.send_signal(number)
    _, said = process.communicate()
    assert process.returncode == 128 + number
    assert said.endswith(INTERRUPTED)
    assert "Traceback" not in said
    assert {path.name for path in project.iterdir()} == before | {".checkpoints"}
    done = run_in(project, "python", "stages/train_mlp.py")
    assert "resuming after epoch" in done.stderr
    assert digests(project, *outputs_of("train_mlp")) == wanted


@pytest.mark.slow
def test_a_signal_that_nohup_ignores_ends_nothing(project: Path) -> None:
    command = ["nohup", sys.executable, "stages/train_mlp.py"]
    with subprocess.Popen(
        command, cwd=project, env=environment(), stderr=subprocess.PIPE, text=True
    ) as process:
        read_until(process, "epoch 1/")
        process.send_signal(signal.SIGHUP)
        process.communicate()
    assert process.returncode == 0


@pytest.mark.parametrize(
    "stage",
    ["subset", *(pytest.param(stage, marks=pytest.mark.slow) for stage in ("embed", "evaluate"))],
)
def test_a_signal_of_a_scheduler_ends_any_stage_with_a_line(project: Path, stage: str) -> None:
    script = project / "stages" / f"{stage}.py"
    main = "def main(params: Params) -> None:\n"
    text = script.read_text()
    assert main in text
    signalled = f"{main}    import signal; signal.raise_signal(signal.SIGUSR1)\n"
    script.write_text(text.replace(main, signalled))
    done = run_in(project, "python", str(script), ok=False)
    assert done.returncode == 128 + signal.SIGUSR1
    assert done.stderr == INTERRUPTED


def alive(group: int) -> bool:
    """Return whether a process of a group still runs."""
    listed = subprocess.run(
        ["ps", "-A", "-o", "pgid=,stat="], capture_output=True, text=True, check=True
    ).stdout
    rows = [line.split() for line in listed.splitlines()]
    return any(int(of) == group and not state.startswith("Z") for of, state in rows)


@pytest.mark.slow
@pytest.mark.parametrize("to_all", [False, True], ids=["to the first", "to all"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1], ids=lambda number: number.name)
def test_a_signal_of_a_scheduler_ends_all_processes_of_a_shared_training(
    project: Path, number: signal.Signals, to_all: bool
) -> None:
    set_devices(project, 2)
    wanted = train(project)
    process = started(project, "train_mlp")
    read_until(process, "epoch 2/")
    (os.killpg if to_all else os.kill)(process.pid, number)
    _, said = process.communicate()
    assert process.returncode == 128 + number
    assert said.count(INTERRUPTED) == 1, said
    assert "Traceback" not in said
    for _ in range(100):
        if not alive(process.pid):
            break
        time.sleep(0.1)
    assert not alive(process.pid)
    done = run_in(project, "python", "stages/train_mlp.py")
    assert "resuming after epoch" in done.stderr
    assert digests(project, *outputs_of("train_mlp")) == wanted
