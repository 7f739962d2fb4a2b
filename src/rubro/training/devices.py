"""Processes that share a training: how they connect, agree and exchange gradients."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher
from torch import distributed
from torch.distributed.distributed_c10d import _set_pg_timeout

from rubro.base.console import say
from rubro.base.errors import TrainingError
from rubro.base.parallel import interruptibly
from rubro.training.machines import interface_to
from rubro.training.optimizers import rows_of, taken_row_gradient

NO_CHECKPOINT = "none"
_START = timedelta(minutes=30)  # for all machines to come
_SILENCE = timedelta(minutes=2)  # of a machine that is out of reach
_PIECE = 2**26  # bytes of a checkpoint that are sent at once


class SharedTraining(DDPStrategy):
    """Processes that Lightning starts and connects; the module exchanges its gradients itself.

    When a process dies, the exchange of the others fails, and rank 0 can report it: Lightning's
    observer, which would kill rank 0, is switched off once all processes are connected.
    """

    def __init__(self) -> None:
        super().__init__(timeout=_START)

    def setup_distributed(self) -> None:
        """Connect to the other processes; where they are on other machines, say so."""
        several = self.num_nodes > 1
        environment = self.cluster_environment
        assert environment is not None
        name = f"node {self.node_rank + 1} of {self.num_nodes}"
        place = f"{environment.main_address}:{environment.main_port}"
        if several and self.local_rank == 0:
            say(f"{name} waits for the others at {place}")
        interface = interface_to(environment.main_address) if several else None
        if interface:  # gloo takes that of the host's name, often 127.0.0.1
            os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)
        try:
            interruptibly(super().setup_distributed)
        except (distributed.DistStoreError, distributed.DistNetworkError) as error:
            reason = str(error).partition("\n")[0]
            raise TrainingError(
                f"the processes of the training do not meet at {place} ({reason}); start all of "
                "them again, with an address that each machine reaches and a free port"
            ) from None
        assert isinstance(self.launcher, _SubprocessScriptLauncher)
        observed = self.launcher.procs
        self.launcher.procs = [*observed]  # for Ctrl-C and SIGTERM, which end them
        observed.clear()
        if several:
            _set_pg_timeout(_SILENCE)
            if self.local_rank == 0:
                say(f"{name} is connected")

    def configure_ddp(self) -> None:
        """Leave the model as it is."""

    def load_checkpoint(
        self, checkpoint_path: str | os.PathLike[str], weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Load the checkpoint of rank 0 in each process; without one, restore nothing."""
        path = Path(checkpoint_path) if str(checkpoint_path) != NO_CHECKPOINT else None
        content = _from_rank_0(path if self.is_global_zero else None, self.root_device)
        if not len(content):
            return _Nothing({"pytorch-lightning_version": L.__version__})
        file = BytesIO(content.numpy().tobytes())
        checkpoint: dict[str, Any] = torch.load(file, "cpu", weights_only=weights_only)
        return checkpoint


class _Nothing(dict[str, Any]):
    """A checkpoint that Lightning takes for none."""

    def __bool__(self) -> bool:
        return False


def _from_rank_0(file: Path | None, device: torch.device) -> torch.Tensor:
    """Return the bytes of a file of rank 0 in each process, uint8 (size,).

    Args:
        file: In the process of rank 0, the file, or None for no bytes; in others None.
        device: Device of the process.
    """
    content = torch.from_numpy(np.fromfile(file, np.uint8) if file else np.zeros(0, np.uint8))
    size = torch.tensor([len(content)], device=device)
    distributed.broadcast(size, 0)
    if len(content) != size:
        content = torch.empty(int(size), dtype=torch.uint8)
    for piece in torch.split(content, _PIECE):
        sent = piece.to(device)
        distributed.broadcast(sent, 0)
        piece.copy_(sent)
    return content


class SameStart(Callback):
    """Ends the training where processes start it from something else than rank 0.

    Args:
        facts: What must be the same, text or arrays, by its name in the message.
    """

    def __init__(self, facts: dict[str, str | list[np.ndarray]]) -> None:
        self._facts = facts

    def setup(self, trainer: L.Trainer, module: L.LightningModule, stage: str) -> None:
        own = b"".join(_digest(value) for value in self._facts.values())
        facts = torch.frombuffer(bytearray(own), dtype=torch.uint8).to(trainer.strategy.root_device)
        of_all = _gathered(facts).view(trainer.world_size, len(self._facts), -1)
        differs = (of_all != of_all[0]).any(2).cpu()
        if differs.any():
            ranks = ", ".join(map(str, differs.any(1).nonzero().flatten().tolist()))
            names = [name for name, other in zip(self._facts, differs.any(0), strict=True) if other]
            raise TrainingError(
                f"process {ranks} of 0 to {trainer.world_size - 1} differs from process 0 in "
                f"{', '.join(names)}; on each machine check out the same commit with the same data, "
                "run `make setup` and `dvc repro embed`, then start the training again"
            )


def _digest(fact: str | list[np.ndarray]) -> bytes:
    if isinstance(fact, str):
        return hashlib.sha256(fact.encode()).digest()
    digest = hashlib.sha256()
    for array in fact:
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.digest()


@torch.no_grad()
def average_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Replace the gradients of each process by the average of all processes.

    Dense gradients are summed as one tensor. Of sparse gradients rows and values are exchanged, and
    each process adds them up in the order of the ranks: all have the same bytes.

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
            parameter.grad = _average_of_rows(parameter.grad)
        else:
            dense.append(parameter.grad)
    whole = torch.cat([gradient.flatten() for gradient in dense])
    distributed.all_reduce(whole)
    whole /= distributed.get_world_size()
    parts = torch.split(whole, [gradient.numel() for gradient in dense])
    for gradient, part in zip(dense, parts, strict=True):
        gradient.copy_(part.view_as(gradient))


def _average_of_rows(gradient: torch.Tensor) -> torch.Tensor:
    """Return the average of a sparse gradient, its rows sorted, each once."""
    rows, values = rows_of(gradient)
    numbers = _gathered(rows.new_tensor([len(rows)])).flatten().tolist()
    missing = max(numbers) - len(rows)
    of_all = _gathered(torch.cat([rows, rows.new_zeros(missing)]))
    of_all = torch.cat([own[:number] for own, number in zip(of_all, numbers, strict=True)])
    values_of_all = _gathered(torch.cat([values, values.new_zeros(missing, values.shape[1])]))
    distinct, places = torch.unique(of_all, return_inverse=True)
    total = values.new_zeros(len(distinct), values.shape[1])
    for own, place in zip(values_of_all, places.split(numbers), strict=True):
        total.index_add_(0, place, own[: len(place)])  # each row once
    total /= len(numbers)
    return torch.sparse_coo_tensor(
        distinct.unsqueeze(0), total, gradient.shape, check_invariants=False
    )


def _gathered(values: torch.Tensor) -> torch.Tensor:
    """Return the tensors of all processes, (processes, *shape)."""
    of_all = values.new_empty(distributed.get_world_size(), *values.shape)
    distributed.all_gather(list(of_all), values.contiguous())
    return of_all
