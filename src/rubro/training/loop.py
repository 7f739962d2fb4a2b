"""Training a classifier with Lightning."""

from __future__ import annotations

import logging
import math
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from rich.progress import Progress
from torch import distributed, nn
from torch.nn import functional as F

from rubro.base.console import console, say
from rubro.base.errors import ParamsError, TrainingError
from rubro.base.files import write_json
from rubro.base.params import Params, TrainParams
from rubro.data.splits import load_labels
from rubro.evaluation.metrics import accuracy, balanced_accuracy
from rubro.features.embedding import Embedding
from rubro.features.titles import TitleFeatures, Tokens, load_features
from rubro.models.batches import Batch, Batches
from rubro.models.folder import Origin, save_model
from rubro.models.inference import predict_logits
from rubro.models.layers import Classifier, ModelShape, RowTable
from rubro.models.svm import Svm
from rubro.prediction.calibration import fit_calibration
from rubro.training.checkpoints import ResumePoint, checkpoint_folder
from rubro.training.devices import SharedTraining
from rubro.training.optimizers import RowWiseAdam
from rubro.training.title_weights import title_weights
from rubro.training.tracking import tracked

# Lightning advertises on each start; what matters of it arrives as a warning or an error.
for _logger in ("pytorch.utilities.rank_zero", "fabric.utilities.distributed"):
    logging.getLogger(f"lightning.{_logger}").setLevel(logging.WARNING)
warnings.filterwarnings("ignore", message=".*LeafSpec.* is deprecated")
warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty")

BEST = "validation/balanced_accuracy"
CURVES = ("train", "validation")
METRICS = ("loss", "accuracy", "balanced_accuracy")

_CHECKPOINTS = "RUBRO_CHECKPOINTS"
_CLASS_PROBABILITY_STEP = 0.1
_LEAST_TRUST, _MOST_TRUST = 1e-12, 2.0


@dataclass(frozen=True)
class Trained:
    """The outcome of a training.

    Attributes:
        weights: the model's state at the best epoch.
        summary: the metrics of the best and of the last epoch, for JSON.
        origin: where it was trained.
    """

    weights: dict[str, torch.Tensor]
    summary: dict[str, Any]
    origin: Origin


class TitleBatches(L.LightningDataModule):
    """Training and validation batches; each epoch has its own order.

    Several devices share each training batch; each of them sees all validation titles.
    """

    def __init__(
        self,
        train: TitleFeatures,
        validation: TitleFeatures,
        distinct_tokens: Tokens,
        weights: np.ndarray,
        params: TrainParams,
        seed: int,
    ) -> None:
        super().__init__()
        self._splits = train, validation
        self._distinct_tokens = distinct_tokens
        self._weights = weights
        self._params = params
        self._seed = seed

    def train_dataloader(self) -> Batches:
        trainer = self.trainer
        epoch = trainer.current_epoch if trainer else 0
        return Batches(
            self._splits[0],
            self._distinct_tokens,
            self._params.batch_size,
            self._weights,
            seed=(self._seed, epoch),
            share=(trainer.global_rank, trainer.world_size) if trainer else (0, 1),
        )

    def val_dataloader(self) -> Batches:
        return Batches(self._splits[1], self._distinct_tokens, self._params.batch_size)


class Doubt(nn.Module):
    """Weights for titles whose label may be wrong: (p / p of the class) ** doubt.

    p is the probability that the model gives to the title's label; that of the class is its
    running mean over the class's titles. p ** q alone is the weight that the gradient of
    generalized cross-entropy has beside that of the cross-entropy (Zhang and Sabuncu 2018,
    Generalized Cross Entropy Loss for Training Deep Neural Networks with Noisy Labels). It
    starves rare and difficult classes, whose every title has a low p; relative to its class, only
    the title that does not fit there is doubted.

    Args:
        classes: their number.
        doubt: the exponent; 0 = every weight is 1.
    """

    def __init__(self, classes: int, doubt: float) -> None:
        super().__init__()
        self._doubt = doubt
        self.class_probability: torch.Tensor
        self.register_buffer("class_probability", torch.full((classes,), 1 / classes))

    @torch.no_grad()
    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Logits (B, classes) and class indices (B,) -> weights, float32 (B,), of mean 1."""
        if self._doubt == 0.0:
            return logits.new_ones(len(targets))
        probability = logits.softmax(1).gather(1, targets.unsqueeze(1)).squeeze(1)
        totals, counts = torch.zeros(2, len(self.class_probability), device=logits.device)
        totals.index_add_(0, targets, probability)
        counts.index_add_(0, targets, torch.ones_like(probability))
        if distributed.is_initialized():  # what the other devices have of the batch counts too
            distributed.all_reduce(totals)
            distributed.all_reduce(counts)
        moved = self.class_probability.lerp(totals / counts.clamp(min=1), _CLASS_PROBABILITY_STEP)
        self.class_probability.copy_(torch.where(counts > 0, moved, self.class_probability))
        relative = probability / self.class_probability[targets]
        weights = relative.clamp(_LEAST_TRUST, _MOST_TRUST) ** self._doubt
        return weights / weights.mean()


class TitleClassifier(L.LightningModule):
    """Cross-entropy, two optimisers (embedding tables, dense layers) and their schedules.

    In training, prior_adjustment times the logarithm of a class's share of the training weights
    is added to its logit: the logits themselves then favour no class for being common.
    Source: Menon et al. 2021, Long-tail Learning via Logit Adjustment.
    Titles whose label looks wrong count less: see Doubt.

    Args:
        model: from a Batch to logits.
        params: of the training.
        steps: of the whole training, for the schedule.
        class_shares: of the training weights, (classes,); a class without any has a share > 0.
        seed: of the model's dropout.
    """

    def __init__(
        self,
        model: nn.Module,
        params: TrainParams,
        steps: int,
        class_shares: np.ndarray,
        seed: int,
    ) -> None:
        super().__init__()
        # Tables and dense layers have an optimiser each, which Lightning leaves to the module.
        self.automatic_optimization = False
        self.model = model
        self._params = params
        self._steps = steps
        self._random_seed = seed
        adjustment = params.prior_adjustment * np.log(class_shares)
        self._adjustment: torch.Tensor
        self.register_buffer("_adjustment", torch.from_numpy(adjustment).float(), persistent=False)
        self._doubt = Doubt(len(class_shares), params.label_doubt)
        self._seen: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
        self._train_metrics: dict[str, float] = {}

    def on_train_epoch_start(self) -> None:
        # By epoch: a training that goes on draws what an uninterrupted one draws.
        place = [self._random_seed, self.current_epoch, self.global_rank]
        drawn_from = np.random.SeedSequence(place)
        torch.manual_seed(int(drawn_from.generate_state(1)[0]))

    def training_step(self, batch: Batch, batch_index: int) -> None:
        logits = self.model(batch)
        loss = F.cross_entropy(
            logits + self._adjustment,
            batch.targets,
            reduction="none",
            label_smoothing=self._params.label_smoothing,
        )
        weights = batch.weights * self._doubt(logits, batch.targets)
        loss = (loss * weights).sum() / batch.weights.sum()
        optimizers = self._as_list(self.optimizers())
        for optimizer in optimizers:
            optimizer.zero_grad()
        self.manual_backward(loss)
        for optimizer, schedule in zip(
            optimizers, self._as_list(self.lr_schedulers()), strict=True
        ):
            optimizer.step()
            schedule.step()
        self._see(logits, batch)

    def on_validation_epoch_start(self) -> None:
        self._train_metrics = self._metrics("train")

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        self._see(self.model(batch), batch)

    def on_validation_epoch_end(self) -> None:
        self.log_dict({**self._train_metrics, **self._metrics("validation")}, sync_dist=True)

    def _see(self, logits: torch.Tensor, batch: Batch) -> None:
        loss = F.cross_entropy(logits.detach(), batch.targets, reduction="none")
        self._seen.append((loss, logits.detach().argmax(1), batch.targets))

    def _metrics(self, split: str) -> dict[str, float]:
        loss, predictions, targets = (
            torch.cat(values).cpu().numpy() for values in zip(*self._seen, strict=True)
        )
        self._seen = []
        return {
            f"{split}/loss": float(loss.mean()),
            f"{split}/accuracy": accuracy(targets, predictions),
            f"{split}/balanced_accuracy": balanced_accuracy(targets, predictions),
        }

    def configure_optimizers(self) -> Any:
        params = self._params
        tables = [m.weight for m in self.model.modules() if isinstance(m, RowTable)]
        tables = [table for table in tables if table.requires_grad]
        in_tables = {id(table) for table in tables}
        dense = [p for p in self.model.parameters() if id(p) not in in_tables and p.requires_grad]
        optimizers: list[torch.optim.Optimizer] = [_dense_optimizer(dense, params)]
        if tables:
            optimizers.append(RowWiseAdam(tables, lr=params.embedding_learning_rate))
        schedules = [
            torch.optim.lr_scheduler.LambdaLR(optimizer, self._learning_rate_share)
            for optimizer in optimizers
        ]
        return optimizers, schedules

    def _learning_rate_share(self, step: int) -> float:
        """By step; the warm-up is linear."""
        warmup = self._params.warmup_share * self._steps
        if step < warmup:
            return (step + 1) / (warmup + 1)
        done = min((step - warmup) / max(self._steps - warmup, 1), 1.0)
        if self._params.schedule == "cosine":
            return 0.5 * (1 + math.cos(math.pi * done))
        return 1 - done if self._params.schedule == "linear" else 1.0

    @staticmethod
    def _as_list(value: Any) -> list[Any]:
        return value if isinstance(value, list) else [value]


def _dense_optimizer(dense: list[nn.Parameter], params: TrainParams) -> torch.optim.Optimizer:
    rate, decay = params.learning_rate, params.weight_decay
    if params.optimizer == "sgd":
        return torch.optim.SGD(dense, lr=rate, momentum=0.9, weight_decay=decay)
    kind = torch.optim.AdamW if params.optimizer == "adamw" else torch.optim.Adam
    return kind(dense, lr=rate, weight_decay=decay, fused=True)


class _Epochs(Callback):
    """Reports each epoch and remembers its metrics."""

    def __init__(self, report: Callable[[int, dict[str, float]], None]) -> None:
        self._report = report
        self.history: list[dict[str, float]] = []

    def state_dict(self) -> dict[str, Any]:
        return {"history": self.history}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.history = state_dict["history"]

    def on_fit_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        for epoch, metrics in enumerate(self.history):
            self._report_rounded(epoch, metrics)
        if self.history:
            say(f"going on after epoch {len(self.history)}/{trainer.max_epochs}")

    def _report_rounded(self, epoch: int, metrics: dict[str, float]) -> None:
        self._report(epoch, {name: round(value, 6) for name, value in metrics.items()})

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        metrics = {
            f"{split}/{metric}": float(trainer.callback_metrics[f"{split}/{metric}"])
            for split in CURVES
            for metric in METRICS
        }
        if not all(map(math.isfinite, metrics.values())):
            raise TrainingError(
                f"the loss is no number any more after epoch {trainer.current_epoch + 1}; "
                "lower learning_rate and embedding_learning_rate"
            )
        self.history.append(metrics)
        self._report_rounded(trainer.current_epoch, metrics)
        say(
            f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}: "
            f"train loss {metrics['train/loss']:.4f}, "
            f"validation loss {metrics['validation/loss']:.4f}, "
            f"balanced accuracy {metrics[BEST]:.4f}"
        )


class _Progress(Callback):
    """A bar of the batches of an epoch, on the console that the epochs are reported on."""

    def __init__(self) -> None:
        self._progress = Progress(console=console, transient=True)

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


def train(
    model: nn.Module,
    train_split: TitleFeatures,
    validation_split: TitleFeatures,
    distinct_tokens: Tokens,
    params: TrainParams,
    classes: int,
    seed: int,
    accelerator: str,
    report: Callable[[int, dict[str, float]], None],
    folder: Path,
    devices: int = 1,
) -> Trained:
    """Train a classifier and keep its best epoch on validation balanced accuracy.

    A training that was interrupted goes on from the checkpoint that it left in the folder, to the
    same result as if nothing had happened.

    Args:
        model: from a Batch to logits; changed in place.
        train_split: features of the training titles.
        validation_split: features of the titles that choose the epoch.
        distinct_tokens: of the features.
        params: of the training.
        classes: their number.
        seed: of the order of the titles and of the dropout.
        accelerator: auto, cpu or gpu.
        report: called after each epoch with its number, from 0, and its metrics.
        folder: for checkpoints; of this training alone.
        devices: processes, each with a GPU of its own or on the CPU, that share the batches. All
            but this one are started here, from the script that runs.

    Returns:
        The weights of the best epoch, and the metrics of the best and the last.

    Raises:
        DataError: no training title has a weight.
        TrainingError: the loss is not finite any more, or one of the processes has died.
    """
    weights = title_weights(train_split, classes, params)
    data = TitleBatches(train_split, validation_split, distinct_tokens, weights, params, seed)
    batches = len(data.train_dataloader())
    max_epochs = max(params.max_epochs, math.ceil(params.min_steps / batches))
    epochs = _Epochs(report)
    callbacks: list[Callback] = [_Progress(), epochs] if console.is_terminal else [epochs]
    if params.early_stopping_patience:
        callbacks.append(EarlyStopping(BEST, mode="max", patience=params.early_stopping_patience))
    best = ModelCheckpoint(folder, monitor=BEST, mode="max", save_weights_only=True)
    resume = ResumePoint(folder)
    trainer = _trainer(
        accelerator=accelerator,
        devices=devices,
        strategy=SharedTraining() if devices > 1 else "auto",
        use_distributed_sampler=False,
        max_epochs=max_epochs,
        deterministic=True,
        logger=False,
        callbacks=[*callbacks, best, resume],
        num_sanity_val_steps=0,
        reload_dataloaders_every_n_epochs=1,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    shares = _shares(train_split, weights, classes)
    classifier = TitleClassifier(model, params, max_epochs * batches, shares, seed)
    _fit(trainer, classifier, data, resume.checkpoint)
    if not trainer.is_global_zero:  # the process that started this one has the outcome
        sys.exit()
    state = torch.load(best.best_model_path, weights_only=True)["state_dict"]
    scores = [metrics[BEST] for metrics in epochs.history]
    at = scores.index(max(scores))
    summary = {
        "best": {"epoch": at, **_nested(epochs.history[at])},
        "last": {"epoch": len(scores) - 1, **_nested(epochs.history[-1])},
        "parameters": sum(p.numel() for p in model.parameters()),
    }
    prefix = "model."
    weights_of_best = {
        key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)
    }
    origin = Origin.of_here(trainer.strategy.root_device, devices)
    return Trained(weights_of_best, summary, origin)


def _shares(features: TitleFeatures, weights: np.ndarray, classes: int) -> np.ndarray:
    """Each class's share of the weights; a class without any counts as half the least one."""
    totals = np.bincount(features.targets, weights=weights, minlength=classes)
    totals = np.maximum(totals, totals[totals > 0].min() / 2)
    return np.asarray(totals / totals.sum())


def _trainer(**options: Any) -> L.Trainer:
    try:
        return L.Trainer(**options)
    except MisconfigurationException as error:
        reason = str(error).split(". ")[0]
        raise ParamsError(f"accelerator: {options['accelerator']}: {reason}; set auto") from None


def _fit(
    trainer: L.Trainer, classifier: TitleClassifier, data: TitleBatches, checkpoint: Path | None
) -> None:
    """Fit; on Ctrl-C, raise KeyboardInterrupt, of which Lightning makes an exit with code 1.

    Raises:
        TrainingError: another process that shares the training has died.
    """
    handler = signal.getsignal(signal.SIGINT)
    try:
        trainer.fit(classifier, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    except SystemExit:
        if not trainer.interrupted:
            raise
        raise KeyboardInterrupt from None
    except RuntimeError as error:
        if "/gloo/transport/" not in str(error):
            raise
        raise TrainingError(
            "another process of the training has ended; run the same command again to go on"
        ) from None
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, handler)


def train_and_save(
    kind: type[Classifier],
    name: str,
    params: Params,
    hyperparameters: TrainParams,
) -> None:
    """A training stage: features and embedding in, model folder, curves and metrics out.

    Args:
        kind: the class of the model.
        name: of the model, in its paths: models/NAME, metrics/curves/NAME, metrics/train_NAME.json.
        params: seed, accelerator and devices; tokens and featurize travel with the model.
        hyperparameters: of this model.
    """
    L.seed_everything(params.seed, verbose=False)
    (train_split, validation_split), distinct_tokens = load_features(
        Path("data/features"), "train", "validation"
    )
    embedding = Embedding.load(Path("models/embedding"))
    labels = load_labels(Path("data/subset"))
    rows, vector_size = embedding.table.shape
    shape = ModelShape(rows, vector_size, params.featurize.bigram_buckets, len(labels))
    svm = None
    if hyperparameters.svm_weight:
        svm = Svm.load(Path("models/svm"), rows, shape.bigram_buckets, shape.classes)
    model = kind(shape, hyperparameters)
    start = embedding
    if hyperparameters.initial_embedding == "random":
        start = embedding.randomised(params.seed)
    model.token_vectors.start_from(
        start, hyperparameters.embedding_scale, hyperparameters.fine_tune_embedding
    )
    tracked_params = {f"train_{name}": hyperparameters.model_dump(), "seed": params.seed}
    settings = {
        **tracked_params,
        "accelerator": params.accelerator,
        "devices": params.devices,
        "tokens": params.tokens.model_dump(),
        "featurize": params.featurize.model_dump(),
    }
    inputs = [
        Path("data/features"),
        Path("data/subset/labels.json"),
        Path("models/embedding"),
        Path(__file__).parent.parent,
    ]
    run = partial(
        train,
        model,
        train_split,
        validation_split,
        distinct_tokens,
        hyperparameters,
        len(labels),
        params.seed,
        params.accelerator,
        devices=params.devices,
    )
    given = os.environ.get(_CHECKPOINTS)
    if given and os.environ.get("LOCAL_RANK", "0") != "0":
        # Lightning started this process to share the training of another, which does the rest.
        console.quiet = True
        run(lambda *_: None, Path(given))
    with (
        checkpoint_folder(name, settings, inputs) as checkpoints,
        tracked(Path("metrics/curves") / name, f"train_{name}", tracked_params) as tracker,
    ):
        os.environ[_CHECKPOINTS] = str(checkpoints)
        trained = run(tracker.log_epoch, checkpoints)
        model.load_state_dict(trained.weights)
        if svm is not None and len(svm.weights):
            model.svm, shape = svm, replace(shape, svm_weights=len(svm.weights))
        logits = predict_logits(model.eval(), validation_split, distinct_tokens)
        model.calibration = fit_calibration(logits, validation_split.targets)
        folder = Path("models") / name
        save_model(
            folder,
            name,
            model,
            shape,
            hyperparameters,
            labels,
            embedding.subwords,
            params.tokens,
            params.featurize,
            trained.origin,
        )
        best = trained.summary["best"]
        summary = {
            **trained.summary,
            "calibration": asdict(model.calibration),
            "model_megabytes": round(sum(f.stat().st_size for f in folder.iterdir()) / 1e6, 1),
        }
        write_json(Path(f"metrics/train_{name}.json"), summary)
        tracker.log_outcome(
            {f"best/{split}/{k}": v for split in CURVES for k, v in best[split].items()}, folder
        )


def _nested(metrics: dict[str, float]) -> dict[str, dict[str, float]]:
    nested: dict[str, dict[str, float]] = {}
    for name, value in metrics.items():
        split, metric = name.split("/")
        nested.setdefault(split, {})[metric] = round(value, 6)
    return nested
