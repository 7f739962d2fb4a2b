"""The place of a process in a data-parallel training, and the average of gradients."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.fabric.utilities.rank_zero import rank_zero_only
from torch import distributed
from torch.multiprocessing.spawn import start_processes

from rubro.base.errors import ParamsError
from rubro.training.data_parallel import LEADER, average_gradients, find_processes, interface_to

PROCESSES = 3

MASTER = {"MASTER_ADDR": "first", "MASTER_PORT": "29500"}
TORCHRUN = MASTER | {"TORCHELASTIC_RUN_ID": "none", "GROUP_RANK": "1", "RANK": "2"}
TORCHRUN |= {"LOCAL_RANK": "0", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}
SLURM = {"SLURM_JOB_ID": "12345", "SLURM_JOB_NAME": "train", "SLURM_NODELIST": "node[4-5]"}
SLURM |= {"SLURM_NTASKS": "4", "SLURM_NTASKS_PER_NODE": "2", "SLURM_PROCID": "2"}
SLURM |= {"SLURM_LOCALID": "0", "SLURM_NODEID": "1", "SLURM_NNODES": "2"}
BY_HAND = MASTER | {"NODE_RANK": "1"}


@pytest.fixture(autouse=True)
def _restored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start each test without the variables of a launcher, and restore the environment after it."""
    for name in {*TORCHRUN, *SLURM, *BY_HAND, LEADER}:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setattr(rank_zero_only, "rank", 0, raising=False)


@pytest.mark.parametrize(
    ("variables", "address", "ranks"),
    [
        (TORCHRUN, "first:29500", (2, 0)),
        (TORCHRUN | {"GROUP_RANK": "0", "LOCAL_RANK": "1"}, "first:29500", (1, 1)),
        (SLURM, "node4:17345", (2, 0)),
        (BY_HAND, "first:29500", (2, 0)),
        (BY_HAND | {"NODE_RANK": "0", "LOCAL_RANK": "1", "RANK": "3"}, "first:29500", (0, 0)),
        (BY_HAND | {"LOCAL_RANK": "1", LEADER: "1"}, "first:29500", (3, 1)),
    ],
)
def test_the_environment_determines_rank_and_address(
    variables: dict[str, str], address: str, ranks: tuple[int, int]
) -> None:
    os.environ |= variables
    processes = find_processes(2, 2, "cpu")
    environment = processes.environment
    assert f"{environment.main_address}:{environment.main_port}" == address
    assert (processes.count, processes.rank, processes.local_rank) == (4, *ranks)
    by_hand = "NODE_RANK" in variables and LEADER not in variables
    assert environment.creates_processes_externally != by_hand


@pytest.mark.parametrize("variables", [TORCHRUN, SLURM, BY_HAND])
def test_one_machine_ignores_the_variables_of_launchers(variables: dict[str, str]) -> None:
    os.environ |= variables
    rank_zero_only.rank = 2  # type: ignore[attr-defined]
    processes = find_processes(1, 2, "cpu")
    assert (processes.count, processes.rank) == (2, 0)
    assert not variables.keys() - {"LOCAL_WORLD_SIZE"} & os.environ.keys()
    assert rank_zero_only.rank == 0  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("variables", "facts"),
    [
        ({}, ["nodes: 2", "NODE_RANK, MASTER_ADDR, MASTER_PORT"]),
        (BY_HAND | {"MASTER_ADDR": ""}, ["nodes: 2", "MASTER_ADDR"]),
        (BY_HAND | {"NODE_RANK": "2"}, ["NODE_RANK", "'2'", "0 to 1"]),
        (BY_HAND | {"NODE_RANK": "one"}, ["NODE_RANK", "'one'", "0 to 1"]),
        (BY_HAND | {"MASTER_PORT": "70000"}, ["MASTER_PORT", "'70000'"]),
        (BY_HAND | {"WORLD_SIZE": "2"}, ["WORLD_SIZE=4", "not 2"]),
        (TORCHRUN | {"WORLD_SIZE": "2"}, ["WORLD_SIZE=4", "not 2"]),
        (TORCHRUN | {"LOCAL_WORLD_SIZE": "4"}, ["torchrun --nnodes=2 --nproc-per-node=2"]),
        (SLURM | {"SLURM_NNODES": "3"}, ["SLURM_NNODES=2", "not 3"]),
        (SLURM | {"SLURM_NTASKS": "2"}, ["srun --nodes=2 --ntasks-per-node=2"]),
        (SLURM | {"SLURM_NTASKS_PER_NODE": ""}, ["SLURM_NTASKS_PER_NODE=2", "not none"]),
    ],
)
def test_an_environment_that_does_not_fit_is_an_error(
    variables: dict[str, str], facts: list[str]
) -> None:
    os.environ |= variables
    with pytest.raises(ParamsError) as caught:
        find_processes(2, 2, "cpu")
    for fact in facts:
        assert fact in str(caught.value)


@pytest.mark.parametrize(
    ("nodes", "devices", "changes", "facts"),
    [
        (1, 2**31 - 1, {}, ["CPU processes"]),
        (2, 10**6, {}, ["CPU processes"]),
        (1, 3, {"memory_limit": lambda: 2**30}, ["2 CPU processes", "memory"]),
        (1, 9, {"cores": lambda: 2, "memory_limit": lambda: 2**40}, ["8 CPU processes", "core"]),
        (
            1,
            3,
            {"torch.cuda.is_available": lambda: True, "torch.cuda.device_count": lambda: 2},
            ["2 GPUs"],
        ),
    ],
)
def test_more_devices_than_a_machine_can_run_are_an_error(
    nodes: int,
    devices: int,
    changes: dict[str, Any],
    facts: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in changes.items():
        monkeypatch.setattr(f"rubro.training.data_parallel.{name}", value)
    with pytest.raises(ParamsError, match=f"devices: {devices} ") as caught:
        find_processes(nodes, devices, "auto")
    assert all(fact in str(caught.value) for fact in facts)


def test_a_process_ends_when_its_leader_closes_the_pipe() -> None:
    script = "import process_setup, time; print('ready', flush=True); time.sleep(60)"
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=Path(__file__).parents[2] / "stages",
        env={**os.environ, LEADER: str(os.getpid())},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout and process.stdin
    assert process.stdout.readline() == "ready\n"
    process.stdin.close()
    assert process.wait(timeout=50) == 1


def test_the_interface_to_a_host_is_found() -> None:
    assert interface_to("127.0.0.1") == "lo"
    assert interface_to("no such host") is None


def gradients_of(rank: int) -> list[torch.Tensor]:
    """Return gradients of a process: a matrix, a vector and two sparse ones, one empty at rank 0."""
    random = torch.Generator().manual_seed(rank)
    rows = torch.unique(torch.randint(40, (25,), generator=random))
    few = torch.arange(rank, 2 * rank)
    values, few_values = torch.randn(len(rows), 4, generator=random), torch.full((rank, 2), 1.5)
    return [
        torch.randn(3, 2, generator=random),
        torch.sparse_coo_tensor(rows[None], values, (40, 4), check_invariants=True),
        torch.randn(5, generator=random),
        torch.sparse_coo_tensor(few[None], few_values, (40, 2), check_invariants=True),
    ]


def average(rank: int, folder: Path) -> None:
    """Connect as one of the processes, average the gradients and save the result."""
    distributed.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=PROCESSES)
    parameters = []
    for gradient in gradients_of(rank):
        parameters.append(torch.nn.Parameter(torch.zeros(gradient.shape)))
        parameters[-1].grad = gradient
    parameters.append(torch.nn.Parameter(torch.zeros(2)))  # not trained
    average_gradients(parameters)
    (folder / str(rank)).mkdir()  # torch.save writes the name of the file into it
    torch.save([parameter.grad for parameter in parameters], folder / str(rank) / "gradients")


def test_gradients_are_averaged_to_the_same_bytes_in_each_process(tmp_path: Path) -> None:
    start_processes(average, (tmp_path,), PROCESSES, start_method="fork")  # type: ignore[no-untyped-call]
    saved = [(tmp_path / str(rank) / "gradients").read_bytes() for rank in range(PROCESSES)]
    assert len(set(saved)) == 1
    *averages, untrained = torch.load(tmp_path / "0" / "gradients")
    assert untrained is None
    every = zip(*map(gradients_of, range(PROCESSES)), strict=True)
    for found, each in zip(averages, every, strict=True):
        assert found.is_sparse == each[0].is_sparse
        if found.is_sparse:
            rows = found._indices()[0].tolist()
            assert rows == sorted({row for one in each for row in one._indices()[0].tolist()})
        expected = torch.stack([one.to_dense() for one in each]).mean(0)
        torch.testing.assert_close(found.to_dense(), expected)
