"""Train a neural network with Lightning."""

from __future__ import annotations

import logging
import platform
import signal
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback, EarlyStopping
from torch import nn

from rubro import __version__
from rubro.base.console import console
from rubro.base.errors import ParamsError
from rubro.base.metric_names import Objective
from rubro.base.params import TrainParams
from rubro.features.featurizer import Tokens
from rubro.features.titles import LabelledTitles, class_shares
from rubro.models.batches import Batches
from rubro.training.budget import EpochRule, batch_size_for, learning_rate_factor
from rubro.training.callbacks import EpochLog, EpochProgress, RestoreSigterm
from rubro.training.checkpoints import ResumeCheckpoint
from rubro.training.data_parallel import Processes, check_same_start, rank_and_count, shared_file
from rubro.training.memory import keep_freed_memory
from rubro.training.module import TitleClassifier
from rubro.training.title_weights import title_weights

# Lightning advertises at every start; its warnings and errors are still shown.
for _logger in ("pytorch.utilities.rank_zero", "fabric.utilities.distributed"):
    logging.getLogger(f"lightning.{_logger}").setLevel(logging.WARNING)
warnings.filterwarnings("ignore", message=".*LeafSpec.* is deprecated")
warnings.filterwarnings("ignore", message=".*sync_dist=True")  # metrics are averaged before

_EPOCHS = EpochRule(titles=480_000, minimum=2, maximum=48)


@dataclass(frozen=True)
class TrainingData:
    """Titles that a network is trained and validated on.

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
class TrainingResult:
    """Best weights of a trained network, with its metrics and origin.

    Attributes:
        state: Tensors of the network after the best epoch, by name; empty except in process 0.
        summary: Metrics of the best and of the last epoch, for JSON.
        origin: Library versions and device, for JSON.
    """

    state: dict[str, torch.Tensor]
    summary: dict[str, Any]
    origin: dict[str, Any]


class _EpochBatches(L.LightningDataModule):
    """Data module with training batches, in a new order in each epoch, and validation batches.

    Args:
        train: Function that returns the training batches for a seed.
        validation: Validation batches.
        seed: Seed that is combined with the number of each epoch.
    """

    def __init__(self, train: Callable[..., Batches], validation: Batches, seed: int) -> None:
        super().__init__()
        self._train, self._validation, self._seed = train, validation, seed

    def train_dataloader(self) -> Batches:
        return self._train(seed=(self._seed, self.trainer.current_epoch if self.trainer else 0))

    def val_dataloader(self) -> Batches:
        return self._validation


def train(
    network: nn.Module,
    data: TrainingData,
    params: TrainParams,
    report: Callable[[int, dict[str, float]], None] | None,
    *,
    seed: int,
    objective: Objective,
    accelerator: str,
    checkpoints: Path,
    processes: Processes | None = None,
    last_epoch: int | None = None,
) -> TrainingResult:
    """Train a network and keep the epoch with the best value of a metric on validation titles.

    If batch_size is "auto", it is 256 below 32,000 training titles, 512 below 128,000 and 1,024
    otherwise, and the learning rates, which are meant for batches of 256 titles, are multiplied by
    the square root of batch_size / 256. If max_epochs is "auto", the epochs show about 480,000
    titles in total, but there are at least 2 and at most 48 epochs.

    Interrupted training resumes from the checkpoint in its folder and gives the same result as
    uninterrupted training.

    Args:
        network: Module that maps a Batch to logits, trained in place.
        data: Training and validation titles.
        params: Training parameters and hyperparameters of the network.
        report: Function called after each epoch with its number, from 0, and its metrics; None = a
            final fit, which keeps the last epoch.
        seed: Seed of the order of the titles and of the dropout.
        objective: Metric that selects the epoch.
        accelerator: "auto", "cpu" or "gpu".
        checkpoints: Folder for the checkpoints of this training run.
        processes: Connected processes that share each batch; None = only this process.
        last_epoch: Number of the epoch, from 0, after which the training stops; None = the last one
            of max_epochs. The learning rates always decay over all epochs.

    Raises:
        DataError: All training titles have weight 0.
        ParamsError: The accelerator is not available.
        TrainingError: The loss is NaN or infinite, or another process has ended or started with
            other data or parameters.
    """
    processes = processes or Processes()
    weights = title_weights(data.train.labels, data.classes, params)
    weighted = int((weights > 0).sum())
    batch_size = batch_size_for(weighted, params.batch_size)
    epochs = _EPOCHS.epochs(weighted, params.max_epochs)
    train_batches = partial(
        Batches,
        data.train,
        data.tokens,
        batch_size,
        weights,
        params.row_dropout,
        share=rank_and_count(),  # connected processes share each training batch
        column_dropout=params.column_dropout,
    )
    batches = _EpochBatches(train_batches, Batches(data.validation, data.tokens, batch_size), seed)
    log, resume = EpochLog(report, objective), ResumeCheckpoint(checkpoints)
    progress: list[Callback] = [EpochProgress()] if console().is_terminal else []
    callbacks = [*progress, log, RestoreSigterm()]
    if params.early_stopping_patience and report is not None:
        patience = params.early_stopping_patience
        callbacks.append(EarlyStopping(f"validation/{objective}", mode="max", patience=patience))
    checkpoint = resume.checkpoint
    if processes.count > 1:
        check_same_start(_facts(network, data, params, seed))
        checkpoint = shared_file(checkpoint, checkpoints / "copy.ckpt")
    use_gpu = accelerator != "cpu" and torch.cuda.is_available()
    trainer = _trainer(
        accelerator=accelerator,
        devices=[processes.local_rank] if use_gpu else 1,
        plugins=[processes.environment],  # keeps Lightning from looking for a launcher itself
        default_root_dir=checkpoints,
        use_distributed_sampler=False,
        max_epochs=epochs if last_epoch is None else min(last_epoch + 1, epochs),
        deterministic=True,
        logger=False,
        callbacks=[*callbacks, resume],
        num_sanity_val_steps=0,
        reload_dataloaders_every_n_epochs=1,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    targets = data.train.labels.targets
    shares = class_shares(np.bincount(targets, weights, minlength=data.classes))
    steps = epochs * len(batches.train_dataloader())
    factor = learning_rate_factor(batch_size) if params.batch_size == "auto" else 1.0
    classifier = TitleClassifier(network, params, steps, shares, seed, objective, factor)
    _fit(trainer, classifier, batches, checkpoint)
    summary = {
        "best": {"epoch": log.best_epoch, **_by_split(log.history[log.best_epoch])},
        "last": {"epoch": len(log.history) - 1, **_by_split(log.history[-1])},
        "parameters": sum(p.numel() for p in network.parameters()),
    }
    device = trainer.strategy.root_device
    origin = {  # the last bits of the weights depend on these
        "torch_version": str(torch.__version__),
        "machine": platform.machine(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "devices": processes.count,
    }
    return TrainingResult(log.best_state, summary, origin)


def _facts(
    network: nn.Module, data: TrainingData, params: TrainParams, seed: int
) -> dict[str, str | list[np.ndarray]]:
    """Return versions, parameters and arrays that must be the same in all processes, by name."""
    titles = [data.tokens.values, data.tokens.offsets, data.tokens.weights]
    for split in (data.train, data.validation):
        for lists in (split.features.tokens, split.features.bigrams):
            titles += [lists.values, lists.offsets]
        titles += [split.labels.targets, split.labels.reliable]
    if data.train.labels.weights is not None:
        titles.append(data.train.labels.weights)
    return {
        "the versions of rubro and torch": f"{__version__} {torch.__version__}",
        "params.yaml": f"{seed} {data.classes} {params.model_dump_json()}",
        "the titles": titles,
        "the initial network": [value.numpy() for value in network.state_dict().values()],
    }


def _trainer(**options: Any) -> L.Trainer:
    # In deterministic mode torch would fill all new memory, for programs that read uninitialised
    # memory.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    keep_freed_memory()
    try:
        return L.Trainer(**options)
    except MisconfigurationException as error:
        reason = str(error).split(". ")[0]
        raise ParamsError(f"accelerator: {options['accelerator']}: {reason}; set auto") from None


def _fit(
    trainer: L.Trainer, classifier: TitleClassifier, batches: _EpochBatches, checkpoint: Path | None
) -> None:
    """Train the classifier; after a signal, raise KeyboardInterrupt, although Lightning would exit."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        trainer.fit(classifier, datamodule=batches, ckpt_path=checkpoint, weights_only=True)
    except SystemExit as end:
        if not isinstance(end.__context__, KeyboardInterrupt):
            raise
        raise end.__context__ from None
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, handler)


def _by_split(metrics: dict[str, float]) -> dict[str, dict[str, float]]:
    """Return rounded metrics as nested dictionaries, SPLIT -> METRIC -> value."""
    nested: dict[str, dict[str, float]] = {}
    for name, value in metrics.items():
        split, metric = name.split("/")
        nested.setdefault(split, {})[metric] = round(value, 6)
    return nested
