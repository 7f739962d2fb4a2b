"""How the processes of a training find each other, on one machine or on several."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from dataclasses import dataclass, field

from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.fabric.utilities.rank_zero import rank_zero_only

from rubro.base.errors import ParamsError

# What a scheduler or the launcher of another program leaves in the environment would tell Lightning
# and torch that this process is one of several.
_LAUNCHERS = ("SLURM_", "TORCHELASTIC_", "JSM_NAMESPACE_")
_RANKS = ("RANK", "LOCAL_RANK", "GROUP_RANK", "WORLD_SIZE", "STANDALONE_PORT")
_SIOCGIFADDR = 0x8915  # asks Linux for the address of an interface
_PLACE = ("NODE_RANK", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class Processes:
    """The processes that share a training, and the place of this one among them.

    Attributes:
        nodes: Number of machines.
        devices: Number of GPUs or CPU processes of each machine.
        environment: What tells Lightning the place of this process.
    """

    nodes: int = 1
    devices: int = 1
    environment: ClusterEnvironment = field(default_factory=LightningEnvironment)

    @property
    def count(self) -> int:
        """Number of processes on all machines."""
        return self.nodes * self.devices

    @property
    def speaks(self) -> bool:
        """Whether this process is the one of its machine that writes messages."""
        return self.environment.local_rank() == 0

    @property
    def leads(self) -> bool:
        """Whether this process, rank 0, writes checkpoints and the outcome."""
        return self.speaks and self.environment.node_rank() == 0


def processes_of(nodes: int, devices: int, started: bool) -> Processes:
    """Find the place of this process among those of a training.

    On one machine there are `devices` processes, whatever is in the environment. On several, torchrun
    or Slurm has started each process, or the first of each machine has NODE_RANK, MASTER_ADDR and
    MASTER_PORT and starts its others.

    Args:
        nodes: Number of machines.
        devices: Number of GPUs or CPU processes of each machine.
        started: Whether another process of the training has started this one.

    Raises:
        ParamsError: The environment does not fit the number of processes.
    """
    if started:
        return Processes(nodes, devices)
    if nodes == 1:
        _forget(_LAUNCHERS, _RANKS + _PLACE)
        return Processes(nodes, devices)
    if TorchElasticEnvironment.detect():
        start = f"torchrun --nnodes={nodes} --nproc-per-node={devices}"
        wanted = {"WORLD_SIZE": nodes * devices, "LOCAL_WORLD_SIZE": devices}
        _compare(wanted, nodes, devices, start)
        return Processes(nodes, devices, TorchElasticEnvironment())
    if SLURMEnvironment.detect():
        start = f"srun --nodes={nodes} --ntasks-per-node={devices}"
        wanted = {"NNODES": nodes, "NTASKS_PER_NODE": devices, "NTASKS": nodes * devices}
        _compare({f"SLURM_{k}": v for k, v in wanted.items()}, nodes, devices, start)
        return Processes(nodes, devices, SLURMEnvironment(auto_requeue=False))
    _check_place(nodes, devices)
    _forget((), _RANKS)
    return Processes(nodes, devices)


def interface_to(host: str) -> str | None:
    """Return the network interface from which a host is reached; None where it cannot be told."""
    try:
        import fcntl  # not on Windows

        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((host, 1))  # sends nothing
            own = socket.inet_aton(probe.getsockname()[0])
            for _, name in socket.if_nameindex():
                with suppress(OSError):  # one without an address
                    request = name.encode().ljust(40, b"\0")
                    if fcntl.ioctl(probe, _SIOCGIFADDR, request)[20:24] == own:
                        return name
    except (ImportError, OSError):
        pass
    return None


def _forget(beginnings: tuple[str, ...], names: tuple[str, ...]) -> None:
    for name in [*os.environ]:
        if name.startswith(beginnings) or name in names:
            del os.environ[name]
    # Lightning has read it from the environment when it was imported.
    rank_zero_only.rank = 0  # type: ignore[attr-defined]


def _compare(wanted: dict[str, int], nodes: int, devices: int, start: str) -> None:
    for name, number in wanted.items():
        found = os.environ.get(name)
        if found != str(number):
            raise ParamsError(
                f"nodes: {nodes} with devices: {devices} needs {name}={number} in the environment, "
                f"not {found or 'none'}; start it with {start}, or change params.yaml"
            )


def _check_place(nodes: int, devices: int) -> None:
    missing = [name for name in _PLACE if not os.environ.get(name)]
    if missing:
        raise ParamsError(
            f"nodes: {nodes} needs {', '.join(missing)} in the environment: on each machine its own "
            f"NODE_RANK, 0 to {nodes - 1}, and the address and a free port of the one with 0; or "
            "torchrun, or srun; or set nodes to 1"
        )
    for name, end in (("NODE_RANK", nodes), ("MASTER_PORT", 2**16)):
        value = os.environ[name]
        if not (value.isdecimal() and int(value) < end):
            raise ParamsError(f"{name} is {value!a} in the environment, not 0 to {end - 1}")
    if os.environ.get("WORLD_SIZE"):
        _compare({"WORLD_SIZE": nodes * devices}, nodes, devices, "no other launcher")
