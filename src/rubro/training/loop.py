"""Training of a network with Lightning."""

from __future__ import annotations

import logging
import platform
import re
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback, EarlyStopping
from torch import distributed, nn

from rubro import __version__
from rubro.base.console import console
from rubro.base.errors import ParamsError, TrainingError
from rubro.base.params import TrainParams
from rubro.features.featurizer import Tokens
from rubro.features.titles import LabelledTitles
from rubro.models.batches import Batches
from rubro.training.budget import EpochRule, batch_size_for, learning_rate_factor
from rubro.training.callbacks import (
    SELECTION_METRIC,
    BestState,
    EpochLog,
    EpochProgress,
    RestoreSigterm,
)
from rubro.training.checkpoints import ResumeCheckpoint
from rubro.training.devices import NO_CHECKPOINT, SameStart, SharedTraining
from rubro.training.loss import class_shares
from rubro.training.machines import Processes
from rubro.training.memory import keep_freed_memory
from rubro.training.module import TitleClassifier
from rubro.training.title_weights import title_weights

# Lightning advertises at every start; what matters comes as a warning or an error.
for _logger in ("pytorch.utilities.rank_zero", "fabric.utilities.distributed"):
    logging.getLogger(f"lightning.{_logger}").setLevel(logging.WARNING)
warnings.filterwarnings("ignore", message=".*LeafSpec.* is deprecated")

_PASSES = EpochRule(titles=480_000, least=2, most=48)
_GLOO = re.compile("/gloo/|Application timeout")  # in its errors; it has no class of its own


@dataclass(frozen=True)
class TrainingData:
    """Titles of a training.

    Attributes:
        train: Training titles.
        validation: Titles for choosing the epoch.
        tokens: Distinct tokens of training and validation titles.
        classes: Number of categories.
    """

    train: LabelledTitles
    validation: LabelledTitles
    tokens: Tokens
    classes: int


@dataclass(frozen=True)
class Run:
    """Seed, devices and checkpoints of a training.

    Attributes:
        seed: Seed of the order of the titles and of the dropout.
        accelerator: "auto", "cpu" or "gpu".
        checkpoints: Folder of this training's checkpoints; only rank 0 reads and writes them.
        processes: Processes that share each batch, one for each GPU, or on CPUs.
    """

    seed: int
    accelerator: str
    checkpoints: Path
    processes: Processes = field(default_factory=Processes)


@dataclass(frozen=True)
class TrainingResult:
    """The outcome of a training.

    Attributes:
        state: State of the network after the best epoch.
        summary: Metrics of the best and of the last epoch, for JSON.
        origin: Library versions and device, for JSON.
    """

    state: dict[str, torch.Tensor]
    summary: dict[str, Any]
    origin: dict[str, Any]


class TitleBatches(L.LightningDataModule):
    """Training and validation batches; the order changes from epoch to epoch.

    Several devices share each training batch; each device sees all validation titles.

    Args:
        titles: Training and validation titles.
        weights: Weight of each training title, float32 (titles,).
        batch_size: Number of titles in a batch.
        seed: Seed of the order of the titles and of the dropout of rows.
        row_dropout: Share of the rows of each token, and of the bigrams of each title, discarded
            in training.
    """

    def __init__(
        self,
        titles: TrainingData,
        weights: np.ndarray,
        batch_size: int,
        seed: int,
        row_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self._titles = titles
        self._weights = weights
        self._batch_size = batch_size
        self._row_dropout = row_dropout
        self._seed = seed

    def train_dataloader(self) -> Batches:
        """Return the batches of the current epoch, or the share of this device in each."""
        trainer = self.trainer
        return Batches(
            self._titles.train,
            self._titles.tokens,
            self._batch_size,
            self._weights,
            self._row_dropout,
            seed=(self._seed, trainer.current_epoch if trainer else 0),
            share=(trainer.global_rank, trainer.world_size) if trainer else (0, 1),
        )

    def val_dataloader(self) -> Batches:
        """Return the validation batches."""
        return Batches(self._titles.validation, self._titles.tokens, self._batch_size)


def train(
    network: nn.Module,
    titles: TrainingData,
    params: TrainParams,
    run: Run,
    report: Callable[[int, dict[str, float]], None],
) -> TrainingResult:
    """Train a network and keep the epoch with the best balanced accuracy on validation.

    Where batch_size is "auto", it is 256, 512 from 32,000 titles on, and 1,024 from 128,000 on; the
    learning rates are those for 256 titles times the root of batch_size / 256. Where max_epochs is
    "auto", it is the number of passes that adds up to 480,000 titles, at least 2 and at most 48: the
    fewer the titles, the more passes.

    An interrupted training resumes from the checkpoint in its folder, with the same result as
    without the interruption.

    Args:
        network: Module from a Batch to logits, trained in place.
        titles: Training and validation titles.
        params: Parameters of the training.
        run: Seed, devices and folder of checkpoints. Where no launcher has started the processes,
            the running script is started once more for each further device of this machine.
        report: Function of the number of an epoch, from 0, and its metrics, called after each
            epoch.

    Raises:
        DataError: No training title has a weight.
        TrainingError: The loss is NaN or infinite, or one of the processes has died, or has other
            data or parameters.
    """
    weights = title_weights(titles.train.labels, titles.classes, params)
    weighted = int((weights > 0).sum())
    batch_size = batch_size_for(weighted, params.batch_size)
    epochs = _PASSES.epochs(weighted, params.max_epochs)
    data = TitleBatches(titles, weights, batch_size, run.seed, params.row_dropout)
    log = EpochLog(report)
    progress: list[Callback] = [EpochProgress()] if console().is_terminal else []
    callbacks = [*progress, log, RestoreSigterm()]
    if params.early_stopping_patience:
        callbacks.append(
            EarlyStopping(SELECTION_METRIC, mode="max", patience=params.early_stopping_patience)
        )
    best, resume = BestState(), ResumeCheckpoint(run.checkpoints)
    processes, checkpoint = run.processes, resume.checkpoint
    if processes.count > 1:
        callbacks.append(SameStart(_start(network, titles, params, run.seed)))
        checkpoint = checkpoint or Path(NO_CHECKPOINT)
    trainer = _trainer(
        accelerator=run.accelerator,
        num_nodes=processes.nodes,
        devices=processes.devices,
        strategy=SharedTraining() if processes.count > 1 else "auto",
        plugins=[processes.environment],
        default_root_dir=run.checkpoints,  # of a scheduler's checkpoints too
        use_distributed_sampler=False,
        max_epochs=epochs,
        deterministic=True,
        logger=False,
        callbacks=[*callbacks, best, resume],
        num_sanity_val_steps=0,
        reload_dataloaders_every_n_epochs=1,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    shares = class_shares(titles.train.labels, weights, titles.classes)
    steps = epochs * len(data.train_dataloader())
    factor = learning_rate_factor(batch_size) if params.batch_size == "auto" else 1.0
    classifier = TitleClassifier(network, params, steps, shares, run.seed, factor)
    _fit(trainer, classifier, data, checkpoint)
    if not trainer.is_global_zero:  # rank 0 has the outcome
        sys.exit()
    scores = [metrics[SELECTION_METRIC] for metrics in log.history]
    at = scores.index(max(scores))
    summary = {
        "best": {"epoch": at, **_nested(log.history[at])},
        "last": {"epoch": len(scores) - 1, **_nested(log.history[-1])},
        "parameters": sum(p.numel() for p in network.parameters()),
    }
    return TrainingResult(best.state, summary, _origin(trainer))


def _start(
    network: nn.Module, titles: TrainingData, params: TrainParams, seed: int
) -> dict[str, str | list[np.ndarray]]:
    """Return what must be the same in each process at the start, for SameStart."""
    tokens = titles.tokens
    of_titles = [tokens.values, tokens.offsets, tokens.weights]
    for split in (titles.train, titles.validation):
        features = split.features
        for lists in (features.tokens, features.bigrams):
            of_titles += [lists.values, lists.offsets]
        of_titles += [split.labels.targets, split.labels.reliable]
    return {
        "the versions of rubro and torch": f"{__version__} {torch.__version__}",
        "params.yaml": f"{seed} {titles.classes} {params.model_dump_json()}",
        "the titles": of_titles,
        "the initial network": [value.numpy() for value in network.state_dict().values()],
    }


def _origin(trainer: L.Trainer) -> dict[str, Any]:
    """Return the environment on which the last bits of the weights depend."""
    device = trainer.strategy.root_device
    return {
        "torch_version": str(torch.__version__),
        "machine": platform.machine(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "devices": trainer.world_size,
    }


def _trainer(**options: Any) -> L.Trainer:
    # A deterministic torch fills all new memory, for programs that read what nothing has written.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    keep_freed_memory()
    try:
        return L.Trainer(**options)
    except MisconfigurationException as error:
        reason = str(error).split(". ")[0]
        raise ParamsError(f"accelerator: {options['accelerator']}: {reason}; set auto") from None


def _fit(
    trainer: L.Trainer, classifier: TitleClassifier, data: TitleBatches, checkpoint: Path | None
) -> None:
    """Fit the classifier; a signal raises KeyboardInterrupt instead of exiting with code 1.

    Raises:
        TrainingError: Another process of the training has died, or does not answer.
    """
    handler = signal.getsignal(signal.SIGINT)
    try:
        trainer.fit(classifier, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    except SystemExit as end:
        if not isinstance(end.__context__, KeyboardInterrupt):
            raise
        raise end.__context__ from None
    except RuntimeError as error:
        if not (isinstance(error, distributed.DistBackendError) or _GLOO.search(str(error))):
            raise
        raise TrainingError(
            "another process of the training has ended or is out of reach; run the same command "
            "again to resume"
        ) from None
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, handler)


def _nested(metrics: dict[str, float]) -> dict[str, dict[str, float]]:
    nested: dict[str, dict[str, float]] = {}
    for name, value in metrics.items():
        split, metric = name.split("/")
        nested.setdefault(split, {})[metric] = round(value, 6)
    return nested
