"""Processes that share a training."""

# Annotations stay what they are here, no strings: torch checks those of the hook.
from typing import Any

import torch
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher
from torch import distributed


class SharedTraining(DDPStrategy):
    """Processes whose gradients are averaged by gloo, one tensor after another.

    NCCL cannot add up sparse gradients. Nor can gloo, several at once: with torch 2.13, two sparse
    sums that its threads work on at the same time corrupt the memory, and a process dies of it
    after thousands of steps.

    Once all processes are connected, the one that started the others learns that one has died from
    the sum that fails, and can say so: Lightning's observer, which would kill it, watches no more.
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
        self.launcher.procs = [*observed]  # still to be ended by Ctrl-C and SIGTERM
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
