"""Lightning callbacks that record metrics, keep the best weights and show progress."""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Callable
from typing import Any, get_args

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from rich.progress import Progress

from rubro.base.console import console, progress_columns, say
from rubro.base.errors import TrainingError
from rubro.base.metric_names import Objective
from rubro.training.data_parallel import rank_and_count

LOGGED_SPLITS = ("train", "validation")
_METRICS = [
    f"{split}/{metric}" for split in LOGGED_SPLITS for metric in ("loss", *get_args(Objective))
]


class EpochLog(Callback):
    """Report and record the metrics of each epoch, and keep the network's best weights.

    Args:
        report: Function called with the number of an epoch, from 0, and its metrics; None = this is
            a final fit, whose validation titles are also training titles.
        objective: Metric on validation titles that selects the best epoch. In a final fit, the last
            epoch is the best one.

    Attributes:
        history: Metrics of each epoch.
        best_state: Tensors of the network by name, on the CPU, after the best epoch. Only process 0
            keeps them.
    """

    def __init__(
        self, report: Callable[[int, dict[str, float]], None] | None, objective: Objective
    ) -> None:
        self._report = report
        self._objective = objective
        self.history: list[dict[str, float]] = []
        self.best_state: dict[str, torch.Tensor] = {}

    @property
    def best_epoch(self) -> int:
        """Number of the best epoch; if several are equally good, the first one."""
        if self._report is None:
            return len(self.history) - 1
        scores = [metrics[f"validation/{self._objective}"] for metrics in self.history]
        return scores.index(max(scores))

    def state_dict(self) -> dict[str, Any]:
        return {"history": self.history, "best_state": self.best_state}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.history, self.best_state = state_dict["history"], state_dict["best_state"]

    def on_fit_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        for epoch, metrics in enumerate(self.history):
            self._report_rounded(epoch, metrics)
        if self.history:
            say(f"resuming after epoch {len(self.history)}/{trainer.max_epochs}")

    def _report_rounded(self, epoch: int, metrics: dict[str, float]) -> None:
        if self._report is not None:
            self._report(epoch, {name: round(value, 6) for name, value in metrics.items()})

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        metrics = {name: float(trainer.callback_metrics[name]) for name in _METRICS}
        if not all(map(math.isfinite, metrics.values())):
            raise TrainingError(
                f"the loss is NaN or infinite after epoch {trainer.current_epoch + 1}; "
                "lower learning_rate and embedding_learning_rate"
            )
        self.history.append(metrics)
        is_best = self.best_epoch == trainer.current_epoch
        if self._report is None:  # only the last state counts; copying each one would take long
            is_best = trainer.current_epoch + 1 == trainer.max_epochs
        if is_best and rank_and_count()[0] == 0:
            network = module.network
            assert isinstance(network, torch.nn.Module)
            for name, value in network.state_dict().items():
                if name not in self.best_state:
                    self.best_state[name] = torch.empty_like(value, device="cpu")
                self.best_state[name].copy_(value)  # into the same memory, which is faster
        self._report_rounded(trainer.current_epoch, metrics)
        place = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
        loss = f"train loss {metrics['train/loss']:.4f}"
        if self._report is None:
            say(f"final fit, {place}: {loss}")
            return
        score = metrics[f"validation/{self._objective}"]
        say(
            f"{place}: {loss}, validation loss {metrics['validation/loss']:.4f}, "
            f"validation score {score:.4f}"
        )

    def on_fit_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if self._report is not None:
            say(
                f"epoch {self.best_epoch + 1} of {len(self.history)} has the highest validation score, "
                "so its weights are kept"
            )


class EpochProgress(Callback):
    """Show a progress bar for the batches of an epoch."""

    def __init__(self) -> None:
        self._progress = Progress(*progress_columns(), console=console(), transient=True)

    def on_train_epoch_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self._progress.start()
        name = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
        self._task = self._progress.add_task(name, total=trainer.num_training_batches)

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        self._progress.advance(self._task)

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self._progress.remove_task(self._task)
        self._progress.stop()

    def on_exception(self, trainer: L.Trainer, *_: Any) -> None:
        self._progress.stop()


class RestoreSigterm(Callback):
    """Undo Lightning's replacement of the SIGTERM handler, so that the signal ends the stage at once."""

    def on_fit_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self._handler = signal.getsignal(signal.SIGTERM)

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._handler)
