"""Variables and signals of a job scheduler or another launcher do not change a training."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
import torch

from support.tiny_project import digests, outputs_of, read_until, run_in, start_stage, wait_until

pytest_plugins = ["support.tiny_project"]

# Variables of a process that is not the first one of its job.
LAUNCHERS = {
    "slurm": "SLURM_JOB_ID=12 SLURM_JOB_NAME=train SLURM_NTASKS=1 SLURM_NTASKS_PER_NODE=1"
    " SLURM_PROCID=0 SLURM_LOCALID=0 SLURM_NODEID=0 SLURM_NNODES=1 SLURM_NODELIST=node[1-2]",
    "slurm without srun": "SLURM_JOB_ID=12 SLURM_JOB_NAME=t SLURM_NTASKS=2",
    "slurm, second process": "SLURM_NTASKS=2 SLURM_NTASKS_PER_NODE=2 SLURM_PROCID=1"
    " SLURM_LOCALID=1 SLURM_NODEID=0",
    "torchrun": "TORCHELASTIC_RUN_ID=none TORCHELASTIC_USE_AGENT_STORE=True GROUP_RANK=1 RANK=3"
    " LOCAL_RANK=1 WORLD_SIZE=4 LOCAL_WORLD_SIZE=2 MASTER_ADDR=node1 MASTER_PORT=1",
    "azureml": "AZUREML_RUN_ID=a AZ_BATCH_MASTER_NODE=10.0.0.1:6000 NODE_RANK=1 LOCAL_RANK=0"
    " MASTER_ADDR=10.0.0.1 MASTER_PORT=1",
    "lsf": "LSB_JOBID=12 LSB_DJOB_RANKFILE=/nowhere JSM_NAMESPACE_RANK=1"
    " JSM_NAMESPACE_LOCAL_RANK=1 JSM_NAMESPACE_SIZE=2",
    "mpi": "OMPI_COMM_WORLD_RANK=1 OMPI_COMM_WORLD_LOCAL_RANK=1 OMPI_COMM_WORLD_SIZE=2 PMI_RANK=1"
    " PMI_SIZE=2",
    "kubeflow": "KUBERNETES_PORT=tcp://127.0.0.1:443 MASTER_ADDR=master MASTER_PORT=1"
    " WORLD_SIZE=2 RANK=1",
    "tpu": "TPU_NAME=t TPU_WORKER_ID=1 XRT_TPU_CONFIG=tpu_worker;0;10.0.0.1:8470 PJRT_DEVICE=TPU",
    "lightning": "PL_TRAINER_NUM_NODES=2 PL_TRAINER_LIMIT_TRAIN_BATCHES=1 STANDALONE_PORT=1",
}


def set_variables(monkeypatch: pytest.MonkeyPatch, launcher: str) -> None:
    for variable in LAUNCHERS[launcher].split():
        monkeypatch.setenv(*variable.split("=", 1))


def set_devices(project: Path, devices: int) -> None:
    file = project / "params.yaml"
    text = file.read_text().replace("\ndevices: 1", f"\ndevices: {devices}")
    file.write_text(text.replace("\naccelerator: auto", "\naccelerator: cpu"))


def train(project: Path) -> dict[str, str]:
    """Train the MLP and return the digests of its outputs."""
    run_in(project, "python", "stages/train_mlp.py")
    return digests(project, *outputs_of("train_mlp"))


@pytest.fixture(scope="module")
def distributed(first_project: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Digests of the outputs of train_mlp with two processes."""
    project = tmp_path_factory.mktemp("distributed") / "project"
    shutil.copytree(first_project, project, symlinks=True)
    set_devices(project, 2)
    found = train(project)
    model = json.loads((project / "models/mlp/model.json").read_text())
    assert model["members"]["mlp"]["training"]["devices"] == 2
    return found


@pytest.mark.slow
def test_launcher_variables_and_checkpoints_of_lightning_do_not_change_training(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = digests(project, *outputs_of("train_mlp"))
    torch.save({"state_dict": {}}, project / "hpc_ckpt_1.ckpt")  # a checkpoint of Slurm
    for launcher in LAUNCHERS:
        set_variables(monkeypatch, launcher)
    assert train(project) == expected


@pytest.mark.slow
def test_launcher_variables_do_not_change_distributed_training(
    project: Path, distributed: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    set_devices(project, 2)
    for launcher in ("mpi", "lsf", "torchrun", "slurm, second process"):
        set_variables(monkeypatch, launcher)
    assert train(project) == distributed


def interrupted(
    process: subprocess.Popen[str], number: int, after: str = "epoch 2/", *, group: bool = False
) -> None:
    """Send a signal after a line with this beginning; assert that one line reports it."""
    read_until(process, after)
    (os.killpg if group else os.kill)(process.pid, number)
    _, errors = process.communicate()
    assert process.returncode == 128 + number
    assert_one_line(errors)


def assert_one_line(errors: str) -> None:
    assert len(re.findall("^interrupted", errors, re.MULTILINE)) == 1, errors
    assert errors.splitlines()[-1].startswith("interrupted")
    assert "Traceback" not in errors


def resume(project: Path) -> dict[str, str]:
    """Train the MLP from its checkpoint and return the digests of its outputs."""
    assert "resuming after epoch" in run_in(project, "python", "stages/train_mlp.py").stderr
    return digests(project, *outputs_of("train_mlp"))


@pytest.mark.slow
def test_training_resumes_after_each_signal(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_variables(monkeypatch, "slurm")
    expected = digests(project, *outputs_of("train_mlp"))
    before = {path.name for path in project.iterdir()}
    for number, after in (
        (signal.SIGTERM, "epoch 2/"),
        (signal.SIGUSR1, "epoch 3/"),
        (signal.SIGHUP, "final fit, epoch 1/"),
        (signal.SIGINT, "final fit, epoch 2/"),
    ):
        process = start_stage(project, "train_mlp")
        if number != signal.SIGTERM:
            read_until(process, "resuming after epoch")
        interrupted(process, number, after)
        assert {path.name for path in project.iterdir()} == before | {".checkpoints"}
    assert resume(project) == expected


@pytest.mark.slow
def test_nohup_ignores_hangup(project: Path) -> None:
    process = start_stage(project, "train_mlp", "nohup")
    read_until(process, "epoch 1/")
    process.send_signal(signal.SIGHUP)
    process.communicate()
    assert process.returncode == 0


@pytest.mark.parametrize(
    "stage",
    ["subset", *(pytest.param(stage, marks=pytest.mark.slow) for stage in ("embed", "evaluate"))],
)
def test_scheduler_signal_ends_any_stage_with_one_line(project: Path, stage: str) -> None:
    script = project / "stages" / f"{stage}.py"
    main = "def main(params: Params) -> None:\n"
    text = script.read_text()
    assert main in text
    signalled = f"{main}    import signal; signal.raise_signal(signal.SIGUSR1)\n"
    script.write_text(text.replace(main, signalled))
    done = run_in(project, "python", str(script), ok=False)
    assert done.returncode == 128 + signal.SIGUSR1
    assert_one_line(done.stderr)


def group_is_alive(group: int) -> bool:
    """Return whether a process of a group is still running."""
    listed = subprocess.run(
        ["ps", "-A", "-o", "pgid=,stat="], capture_output=True, text=True, check=True
    ).stdout
    rows = [line.split() for line in listed.splitlines()]
    return any(int(found) == group and not state.startswith("Z") for found, state in rows)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "group"),
    [(signal.SIGTERM, False), (signal.SIGUSR1, True)],
    ids=["first process", "all processes"],
)
def test_signal_ends_all_processes_of_distributed_training(
    project: Path, distributed: dict[str, str], number: signal.Signals, group: bool
) -> None:
    set_devices(project, 2)
    process = start_stage(project, "train_mlp")
    interrupted(process, number, group=group)
    assert wait_until(lambda: not group_is_alive(process.pid))
    assert resume(project) == distributed
