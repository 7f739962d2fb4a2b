"""Find, start, connect and synchronise the processes of data-parallel training.

Each process trains a copy of the network on a part of each batch, and all processes average their
gradients. Lightning sees one device in each process and does not know about the others.
"""

from __future__ import annotations

import hashlib
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.fabric.utilities.rank_zero import rank_zero_only
from torch import distributed

from rubro.base.console import say
from rubro.base.errors import ParamsError, TrainingError
from rubro.base.memory import memory_limit
from rubro.base.parallel import THREADS_VARIABLE, cores, interruptibly, thread_count
from rubro.training.optimizers import sparse_rows, taken_row_gradient

LEADER = "RUBRO_LEADER"  # variable with the ID of the process that started this one
_START_TIMEOUT = timedelta(minutes=30)  # until all processes are connected
_NODE_TIMEOUT = timedelta(minutes=2)  # until a machine that does not answer counts as lost
_POLL_SECONDS = 0.05
# Memory of a CPU process before it has loaded any data, and maximum number of processes per core.
_PROCESS_BYTES, _MAX_PROCESSES_PER_CORE = 2**29, 4
_GLOO_ERROR = re.compile("/gloo/|Application timeout")  # gloo has no exception class of its own

# Variables that a scheduler or another program's launcher leaves in the environment. Lightning and
# torch would take this process for one of several.
_LAUNCHER_VARIABLES = re.compile(
    "SLURM_|TORCHELASTIC_|JSM_NAMESPACE_|(RANK|LOCAL_RANK|GROUP_RANK|WORLD_SIZE|STANDALONE_PORT)$"
)
_ADDRESS_VARIABLES = ("NODE_RANK", "MASTER_ADDR", "MASTER_PORT")
_SIOCGIFADDR = 0x8915  # Linux request for the address of a network interface


@dataclass(frozen=True)
class Processes:
    """Number of processes that train a network together, and the ranks of this process.

    Attributes:
        nodes: Number of machines.
        devices: Number of GPUs or CPU processes per machine.
        environment: Launcher that assigned this process its ranks and the address of process 0.
    """

    nodes: int = 1
    devices: int = 1
    environment: ClusterEnvironment = field(default_factory=LightningEnvironment)

    @property
    def count(self) -> int:
        """Number of processes on all machines."""
        return self.nodes * self.devices

    @property
    def local_rank(self) -> int:
        """Rank of this process on its machine, from 0; only rank 0 prints messages."""
        return self.environment.local_rank()

    @property
    def rank(self) -> int:
        """Rank of this process among all processes; only rank 0 writes checkpoints and results."""
        return self.environment.node_rank() * self.devices + self.local_rank


def find_processes(nodes: int, devices: int, accelerator: str) -> Processes:
    """Find out how many processes train together, and which rank this process has.

    On one machine this process starts the other processes, and the environment variables of
    launchers are ignored. On several machines, torchrun or Slurm has started all processes, or the
    first process of each machine has the environment variables NODE_RANK, MASTER_ADDR and
    MASTER_PORT and starts the other processes of its machine.

    Args:
        nodes: Number of machines.
        devices: Number of GPUs or CPU processes per machine.
        accelerator: "auto", "cpu" or "gpu".

    Raises:
        ParamsError: This machine has too few devices, or the environment variables do not match the
            number of processes.
    """
    if LEADER in os.environ:
        return Processes(nodes, devices)
    _require_devices(devices, accelerator)
    if nodes == 1:
        _clear_environment(_ADDRESS_VARIABLES)
        return Processes(nodes, devices)
    environment: ClusterEnvironment | None = None
    count = nodes * devices
    if TorchElasticEnvironment.detect():
        environment = TorchElasticEnvironment()
        expected = {"WORLD_SIZE": count, "LOCAL_WORLD_SIZE": devices}
        launcher = f"torchrun --nnodes={nodes} --nproc-per-node={devices}"
    elif SLURMEnvironment.detect():
        environment = SLURMEnvironment(auto_requeue=False)
        expected = {"SLURM_NNODES": nodes, "SLURM_NTASKS_PER_NODE": devices, "SLURM_NTASKS": count}
        launcher = f"srun --nodes={nodes} --ntasks-per-node={devices}"
    elif missing := [name for name in _ADDRESS_VARIABLES if not os.environ.get(name)]:
        raise ParamsError(
            f"nodes: {nodes} needs the environment variables {', '.join(missing)}. On each machine "
            f"set NODE_RANK to its number, 0 to {nodes - 1}, and MASTER_ADDR and MASTER_PORT to the "
            "address and a free port of machine 0. Or start the training with torchrun or srun, or "
            "set nodes to 1."
        )
    else:
        expected = {"WORLD_SIZE": count} if os.environ.get("WORLD_SIZE") else {}
        launcher = "no other launcher"
    for name, number in expected.items():
        found = os.environ.get(name)
        if found != str(number):
            raise ParamsError(
                f"nodes: {nodes} with devices: {devices} needs {name}={number} in the environment, "
                f"not {found or 'none'}; start the training with {launcher}, or change params.yaml"
            )
    if environment:
        return Processes(nodes, devices, environment)
    for name, end in (("NODE_RANK", nodes), ("MASTER_PORT", 2**16)):
        value = os.environ[name]
        if not (value.isdecimal() and int(value) < end):
            raise ParamsError(f"{name} is {value!a} in the environment; it must be 0 to {end - 1}")
    _clear_environment(())
    return Processes(nodes, devices)


def _require_devices(devices: int, accelerator: str) -> None:
    """Raise ParamsError if this machine cannot run the requested number of processes."""
    if _uses_gpu(accelerator):
        most, reason = torch.cuda.device_count(), "GPUs"
    else:
        per_core, by_memory = _MAX_PROCESSES_PER_CORE, max(memory_limit() // _PROCESS_BYTES, 1)
        most, reason = min(
            (cores() * per_core, f"CPU processes, {per_core} for each core"),
            (by_memory, "CPU processes, because each needs 0.5 GB of memory"),
        )
    if devices > most:
        raise ParamsError(
            f"devices: {devices} is too large; this machine can run {most} {reason}. Set devices to at "
            f"most {most}"
        )


def _uses_gpu(accelerator: str) -> bool:
    return accelerator != "cpu" and torch.cuda.is_available()


def _clear_environment(names: tuple[str, ...]) -> None:
    """Remove other launchers' environment variables and the variables with the given names."""
    for name in [*os.environ]:
        if _LAUNCHER_VARIABLES.match(name) or name in names:
            del os.environ[name]
    rank_zero_only.rank = 0  # type: ignore[attr-defined] # Lightning has read the variables already


@contextmanager
def connected(processes: Processes, accelerator: str) -> Iterator[None]:
    """Start the other processes of this machine and connect all processes until the block ends.

    A started process runs the same command as this one. It ends with this process at the latest.

    Args:
        processes: Number of processes to connect, and ranks of this process.
        accelerator: "auto", "cpu" or "gpu".

    Raises:
        TrainingError: The processes cannot connect, or one of them has ended or does not answer.
    """
    if processes.count == 1:
        yield
        return
    others = _start_others(processes)
    try:
        _connect(processes, accelerator, others)
        yield
        for other in others:
            other.wait()
    except RuntimeError as error:
        if not (isinstance(error, distributed.DistError) or _GLOO_ERROR.search(str(error))):
            raise
        raise TrainingError(
            "another process of the training has ended or is out of reach; run the same command "
            "again to resume"
        ) from None
    finally:
        for other in others:
            other.kill()
        if distributed.is_initialized():
            distributed.destroy_process_group()


def _start_others(processes: Processes) -> list[subprocess.Popen[bytes]]:
    environment = processes.environment
    if LEADER not in os.environ:
        os.environ[THREADS_VARIABLE] = str(thread_count() // processes.devices)
    if environment.creates_processes_externally:
        return []
    variables = {
        **os.environ,
        LEADER: str(os.getpid()),
        "NODE_RANK": str(environment.node_rank()),
        "MASTER_ADDR": environment.main_address,
        "MASTER_PORT": str(environment.main_port),
    }
    command = [sys.executable, *sys.orig_argv[1:]]
    return [
        # Each of them ends when this process ends, which closes its standard input.
        subprocess.Popen(
            command, env={**variables, "LOCAL_RANK": str(local_rank)}, stdin=subprocess.PIPE
        )
        for local_rank in range(1, processes.devices)
    ]


def _connect(processes: Processes, accelerator: str, others: list[subprocess.Popen[bytes]]) -> None:
    host, port = processes.environment.main_address, processes.environment.main_port
    several = processes.nodes > 1
    node = f"node {processes.environment.node_rank() + 1} of {processes.nodes}"
    if several and processes.local_rank == 0:
        say(f"{node} waits for the others at {host}:{port}")
    if several and (interface := interface_to(host)):  # gloo's default is often 127.0.0.1
        os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)
    # torchrun serves a store at this address itself, and uses it again after a restart.
    serves = processes.rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    prefix = f"rubro-{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"
    ranks = [str(rank) for rank in range(processes.count)]
    try:
        server = interruptibly(
            partial(distributed.TCPStore, host, port, None, serves, _START_TIMEOUT, False)  # type: ignore[attr-defined]
        )
        store = distributed.PrefixStore(prefix, server)  # type: ignore[attr-defined]
        store.set(ranks[processes.rank], "")
        deadline = time.monotonic() + _START_TIMEOUT.total_seconds()
        while not store.check(ranks):
            if any(other.poll() is not None for other in others):
                raise TrainingError(
                    "a process of the training ended before all were connected; run the same "
                    "command again"
                )
            if time.monotonic() > deadline:
                raise distributed.DistStoreError(f"not all have started after {_START_TIMEOUT}")
            time.sleep(_POLL_SECONDS)
        distributed.init_process_group(
            "cpu:gloo,cuda:nccl" if _uses_gpu(accelerator) else "gloo",
            store=store,
            rank=processes.rank,
            world_size=processes.count,
            timeout=_NODE_TIMEOUT if several else _START_TIMEOUT,
        )
    except (distributed.DistStoreError, distributed.DistNetworkError) as error:
        reason = str(error).partition("\n")[0]
        raise TrainingError(
            f"the processes of the training cannot connect at {host}:{port} ({reason}); start all "
            "of them again, with an address that each machine reaches and a free port"
        ) from None
    if several and processes.local_rank == 0:
        say(f"{node} is connected")


def interface_to(host: str) -> str | None:
    """Return the network interface that connects to a host; None if it cannot be determined."""
    try:
        import fcntl  # not on Windows

        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((host, 1))  # sends nothing
            own = socket.inet_aton(probe.getsockname()[0])
            for _, name in socket.if_nameindex():
                with suppress(OSError):  # the interface has no address
                    request = name.encode().ljust(40, b"\0")
                    if fcntl.ioctl(probe, _SIOCGIFADDR, request)[20:24] == own:
                        return name
    except (ImportError, OSError):
        pass
    return None


def rank_and_count() -> tuple[int, int]:
    """Return the rank of this process and the number of connected processes, by default 0 and 1."""
    if not distributed.is_initialized():
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()


def check_same_start(facts: dict[str, str | list[np.ndarray]]) -> None:
    """Stop if a process starts with different versions, parameters, titles or weights than process 0.

    Args:
        facts: Texts or arrays that must be the same in all processes, by the name that the
            error message uses.

    Raises:
        TrainingError: A text or array differs from the one in process 0.
    """
    digests: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(digests, {name: _digest(fact) for name, fact in facts.items()})
    ranks = [str(rank) for rank, other in enumerate(digests) if other != digests[0]]
    if ranks:
        names = [name for name in facts if any(d[name] != digests[0][name] for d in digests)]
        raise TrainingError(
            f"process {', '.join(ranks)} of 0 to {len(digests) - 1} differs from process 0 in "
            f"{', '.join(names)}; on each machine check out the same commit with the same data, "
            "run `make setup` and `dvc repro embed`, then start the training again"
        )


def _digest(fact: str | list[np.ndarray]) -> bytes:
    if isinstance(fact, str):
        return fact.encode()
    digest = hashlib.sha256()
    for array in fact:
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.digest()


def shared_file(file: Path | None, copy: Path) -> Path | None:
    """Copy a file of process 0 to each other process.

    Args:
        file: Path of the file in process 0; None = no file. None in other processes.
        copy: Path of the copy in other processes.

    Returns:
        Path of the file or of its copy; None if process 0 has no file.
    """
    content = [file.read_bytes() if file else None]
    distributed.broadcast_object_list(content, src=0)
    if distributed.get_rank() == 0 or content[0] is None:
        return file
    copy.write_bytes(content[0])
    return copy


def averaged(metrics: dict[str, float]) -> dict[str, float]:
    """Return the averages of metrics over all connected processes."""
    _, count = rank_and_count()
    if count == 1:
        return metrics
    values = torch.tensor([*metrics.values()])
    distributed.all_reduce(values)
    return dict(zip(metrics, (values / count).tolist(), strict=True))


@torch.no_grad()
def average_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Replace the gradients of each process by their averages over all processes.

    Dense gradients are summed as one tensor. Sparse gradients are exchanged as rows and values, and
    each process adds them in the order of the ranks, so that all processes get the same bytes.

    Args:
        parameters: Parameters in the same order in each process.
    """
    dense = []
    for parameter in parameters:
        if (rows := taken_row_gradient(parameter)) is not None:
            parameter.grad = rows.to_sparse(parameter.shape)
        if parameter.grad is None:
            continue
        if parameter.grad.is_sparse:
            parameter.grad = _average_rows(parameter.grad)
        else:
            dense.append(parameter.grad)
    joined = torch.cat([gradient.flatten() for gradient in dense])
    distributed.all_reduce(joined)
    joined /= distributed.get_world_size()
    parts = torch.split(joined, [gradient.numel() for gradient in dense])
    for gradient, part in zip(dense, parts, strict=True):
        gradient.copy_(part.view_as(gradient))


def _average_rows(gradient: torch.Tensor) -> torch.Tensor:
    """Return the average of a sparse gradient over all processes, with sorted distinct rows."""
    rows, values = sparse_rows(gradient)
    counts = _gathered(rows.new_tensor([len(rows)])).flatten().tolist()
    missing = max(counts) - len(rows)
    padded_rows = _gathered(torch.cat([rows, rows.new_zeros(missing)]))
    padded_values = _gathered(torch.cat([values, values.new_zeros(missing, values.shape[1])]))
    all_rows = torch.cat([own[:count] for own, count in zip(padded_rows, counts, strict=True)])
    distinct, positions = torch.unique(all_rows, return_inverse=True)
    total = values.new_zeros(len(distinct), values.shape[1])
    for own, position in zip(padded_values, positions.split(counts), strict=True):
        total.index_add_(0, position, own[: len(position)])  # no row occurs twice in one process
    total /= len(counts)
    return torch.sparse_coo_tensor(
        distinct.unsqueeze(0), total, gradient.shape, check_invariants=False
    )


def _gathered(values: torch.Tensor) -> torch.Tensor:
    """Collect a tensor from each process and return them as one, (processes, *shape)."""
    gathered = values.new_empty(distributed.get_world_size(), *values.shape)
    distributed.all_gather(list(gathered), values.contiguous())
    return gathered
