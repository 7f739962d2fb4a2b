"""The environment that tells a training on several machines where its processes are."""

from __future__ import annotations

import os

import pytest
from lightning.fabric.utilities.rank_zero import rank_zero_only

from rubro.base.errors import ParamsError
from rubro.training.machines import interface_to, processes_of

TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "none",
    "GROUP_RANK": "1",
    "RANK": "2",
    "LOCAL_RANK": "0",
    "WORLD_SIZE": "4",
    "LOCAL_WORLD_SIZE": "2",
    "MASTER_ADDR": "first",
    "MASTER_PORT": "29500",
}
SLURM = {
    "SLURM_JOB_ID": "12345",
    "SLURM_JOB_NAME": "train",
    "SLURM_NTASKS": "4",
    "SLURM_NTASKS_PER_NODE": "2",
    "SLURM_PROCID": "2",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "1",
    "SLURM_NNODES": "2",
    "SLURM_NODELIST": "node[4-5]",
}
BY_HAND = {"NODE_RANK": "1", "MASTER_ADDR": "first", "MASTER_PORT": "29500"}


@pytest.fixture(autouse=True)
def _restored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of a launcher in the environment, which is as before after the test."""
    for name in {*TORCHRUN, *SLURM, *BY_HAND}:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setattr(rank_zero_only, "rank", 0, raising=False)


@pytest.mark.parametrize(
    ("variables", "address"),
    [(TORCHRUN, "first:29500"), (SLURM, "node4:17345"), (BY_HAND, "first:29500")],
    ids=["torchrun", "slurm", "by hand"],
)
def test_the_environment_tells_the_place_of_the_process(
    variables: dict[str, str], address: str
) -> None:
    os.environ |= variables
    processes = processes_of(2, 2, started=False)
    environment = processes.environment
    assert f"{environment.main_address}:{environment.main_port}" == address
    assert (environment.node_rank(), environment.local_rank()) == (1, 0)
    assert environment.creates_processes_externally == (variables is not BY_HAND)
    assert (processes.count, processes.speaks, processes.leads) == (4, True, False)


@pytest.mark.parametrize(
    ("change", "leads"),
    [
        (TORCHRUN | {"GROUP_RANK": "0", "RANK": "0"}, True),
        (TORCHRUN | {"GROUP_RANK": "0", "RANK": "1", "LOCAL_RANK": "1"}, False),
        (SLURM | {"SLURM_NODEID": "0", "SLURM_PROCID": "0"}, True),
        (BY_HAND | {"NODE_RANK": "0"}, True),
        (BY_HAND | {"NODE_RANK": "0", "LOCAL_RANK": "1", "RANK": "3"}, True),
    ],
)
def test_one_process_leads(change: dict[str, str], leads: bool) -> None:
    os.environ |= change
    assert processes_of(2, 2, started=False).leads == leads


def test_a_process_that_another_has_started_keeps_its_place() -> None:
    os.environ |= BY_HAND | {"NODE_RANK": "0", "LOCAL_RANK": "1"}
    processes = processes_of(1, 2, started=True)
    assert (processes.count, processes.speaks, processes.leads) == (2, False, False)


@pytest.mark.parametrize("variables", [TORCHRUN, SLURM, BY_HAND])
def test_on_one_machine_what_launchers_leave_is_forgotten(variables: dict[str, str]) -> None:
    os.environ |= variables
    rank_zero_only.rank = 2  # type: ignore[attr-defined]
    processes = processes_of(1, 2, started=False)
    assert (processes.count, processes.leads) == (2, True)
    assert not variables.keys() - {"LOCAL_WORLD_SIZE"} & os.environ.keys()
    assert rank_zero_only.rank == 0  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({}, "nodes: 2 needs NODE_RANK, MASTER_ADDR, MASTER_PORT in the environment"),
        (BY_HAND | {"MASTER_ADDR": ""}, "nodes: 2 needs MASTER_ADDR in the environment"),
        (BY_HAND | {"NODE_RANK": "2"}, "NODE_RANK is '2' in the environment, not 0 to 1"),
        (BY_HAND | {"NODE_RANK": "one"}, "NODE_RANK is 'one' in the environment, not 0 to 1"),
        (BY_HAND | {"MASTER_PORT": "70000"}, "MASTER_PORT is '70000'"),
        (BY_HAND | {"WORLD_SIZE": "2"}, "needs WORLD_SIZE=4 in the environment, not 2"),
        (TORCHRUN | {"WORLD_SIZE": "2"}, "needs WORLD_SIZE=4 in the environment, not 2; start it"),
        (TORCHRUN | {"LOCAL_WORLD_SIZE": "4"}, "torchrun --nnodes=2 --nproc-per-node=2"),
        (SLURM | {"SLURM_NNODES": "3"}, "needs SLURM_NNODES=2 in the environment, not 3"),
        (SLURM | {"SLURM_NTASKS": "2"}, "srun --nodes=2 --ntasks-per-node=2"),
        (
            SLURM | {"SLURM_NTASKS_PER_NODE": ""},
            "SLURM_NTASKS_PER_NODE=2 in the environment, not n",
        ),
    ],
)
def test_an_environment_of_other_processes_is_refused(
    variables: dict[str, str], message: str
) -> None:
    os.environ |= variables
    with pytest.raises(ParamsError) as caught:
        processes_of(2, 2, started=False)
    assert message in str(caught.value)


def test_the_interface_to_a_host_is_found() -> None:
    assert interface_to("127.0.0.1") == "lo"
    assert interface_to("no such host") is None
