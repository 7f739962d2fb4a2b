"""Processes that share a training."""

# Annotations are not strings here (no `from __future__`): torch checks those of the hook.
from typing import Any

import torch
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher
from torch import distributed


class SharedTraining(DDPStrategy):
    """Processes whose gradients are averaged by gloo, one tensor after another.

    NCCL cannot sum sparse gradients, and gloo cannot sum several at once: with torch 2.13, two
    concurrent sparse sums corrupt memory, and a process dies of it after thousands of steps.

    When a process dies, the sums of the others fail, and rank 0 can report it: Lightning's observer,
    which would kill rank 0, is switched off once all processes are connected.
    """

    def __init__(self) -> None:
        super().__init__(process_group_backend="gloo")

    def configure_ddp(self) -> None:
        """Wrap the model, as DDPStrategy does, and choose how gradients are averaged."""
        super().configure_ddp()
        assert isinstance(self.model, torch.nn.parallel.DistributedDataParallel)
        self.model.register_comm_hook(None, _average)
        assert isinstance(self.launcher, _SubprocessScriptLauncher)
        observed = self.launcher.procs
        self.launcher.procs = [*observed]  # for Ctrl-C and SIGTERM, which end them
        observed.clear()


def _average(
    _: Any,
    bucket: distributed.GradBucket,  # type: ignore[name-defined]
) -> torch.futures.Future[torch.Tensor]:
    gradient = bucket.buffer()
    distributed.all_reduce(gradient.div_(distributed.get_world_size()))
    average: torch.futures.Future[torch.Tensor] = torch.futures.Future(
        devices=[gradient.device] if gradient.is_cuda else None
    )
    average.set_result(gradient)
    return average
