"""LightningModule of a network with its loss, optimisers, schedules and metrics."""

from __future__ import annotations

import math
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import distributed, nn

from rubro.base.metric_names import Objective
from rubro.base.params import TrainParams
from rubro.evaluation.metrics import MEASURES
from rubro.models.batches import Batch
from rubro.models.layers import RowTable
from rubro.training.data_parallel import average_gradients, averaged, rank_and_count
from rubro.training.loss import AdjustedCrossEntropy, LabelNoiseWeights, LossOutput
from rubro.training.optimizers import RowWiseAdam

# Typical shifts (see prediction.folder.Decision) of a network trained with a prior adjustment of 1.
_SHIFTS: dict[Objective, float] = {"balanced_accuracy": 0.0, "accuracy": 0.5, "macro_f1": 0.25}


class TitleClassifier(L.LightningModule):
    """A network trained with one optimiser for embedding tables and one for dense layers.

    The loss is AdjustedCrossEntropy, weighted per title with LabelNoiseWeights.

    Args:
        network: Module that maps a Batch to logits.
        params: Training parameters and hyperparameters of the network.
        steps: Number of optimiser steps in all epochs together.
        class_shares: Share of each class in the sum of all title weights, > 0, (classes,).
        seed: Seed of the dropout.
        objective: Metric that selects the epoch. Predictions for validation titles are made with a
            typical shift for it, because the final shift is fitted after the training.
        learning_rate_factor: Factor of both learning rates.
    """

    def __init__(
        self,
        network: nn.Module,
        params: TrainParams,
        steps: int,
        class_shares: np.ndarray,
        seed: int,
        objective: Objective,
        learning_rate_factor: float = 1.0,
    ) -> None:
        super().__init__()
        # Lightning steps only one optimiser by itself.
        self.automatic_optimization = False
        self.network = network
        self._params = params
        self._steps = steps
        self._random_seed = seed
        self._learning_rate_factor = learning_rate_factor
        self._cross_entropy = AdjustedCrossEntropy(
            class_shares, params.prior_adjustment, params.label_smoothing
        )
        factor = _SHIFTS[objective] * params.prior_adjustment
        shift = torch.from_numpy(factor * np.log(class_shares)).float() if factor else None
        self._shift: torch.Tensor | None
        self.register_buffer("_shift", shift, persistent=False)
        self._noise_weights = LabelNoiseWeights(len(class_shares), params.label_doubt)
        self._seen: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
        self._train_metrics: dict[str, float] = {}

    def on_train_epoch_start(self) -> None:
        # A new seed in each epoch lets a resumed training draw the same numbers again.
        entropy = [self._random_seed, self.current_epoch, rank_and_count()[0]]
        torch.manual_seed(int(np.random.SeedSequence(entropy).generate_state(1)[0]))

    def training_step(self, batch: Batch, batch_index: int) -> None:
        loss = self.loss_of(batch)
        optimizers = self._as_list(self.optimizers())
        for optimizer in optimizers:
            optimizer.zero_grad()
        self.manual_backward(loss)
        if distributed.is_initialized():  # several processes share the batch
            average_gradients(self.network.parameters())
        for optimizer, schedule in zip(
            optimizers, self._as_list(self.lr_schedulers()), strict=True
        ):
            optimizer.step()
            schedule.step()

    def loss_of(self, batch: Batch) -> torch.Tensor:
        """Return the loss of a batch of training titles, a scalar."""
        output = self._output(batch)
        weights = batch.weights * self._noise_weights(output.probability, batch.targets)
        loss: torch.Tensor = (output.loss * weights).sum() / batch.weights.sum()
        return loss

    def on_validation_epoch_start(self) -> None:
        self._train_metrics = self._metrics("train")

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        self._output(batch)

    def on_validation_epoch_end(self) -> None:
        self.log_dict(averaged({**self._train_metrics, **self._metrics("validation")}))

    def _output(self, batch: Batch) -> LossOutput:
        """Return the losses and predictions for a batch, and record them for the metrics."""
        logits = self.network(batch)
        output: LossOutput = self._cross_entropy(logits, batch.targets)
        predictions = output.predictions
        if self._shift is not None and not self.training:
            predictions = (logits + self._shift).argmax(1)
        self._seen.append((output.cross_entropy, predictions, batch.targets))
        return output

    def _metrics(self, split: str) -> dict[str, float]:
        loss, predictions, targets = (
            torch.cat(values).cpu().numpy() for values in zip(*self._seen, strict=True)
        )
        self._seen = []
        scores = {f"{split}/{name}": of(targets, predictions) for name, of in MEASURES.items()}
        return {f"{split}/loss": float(loss.mean()), **scores}

    def configure_optimizers(self) -> Any:
        params = self._params
        modules = [*self.network.modules()]
        table_ids = {id(module.weight) for module in modules if isinstance(module, RowTable)}
        trained = [p for p in self.network.parameters() if p.requires_grad]
        tables = [parameter for parameter in trained if id(parameter) in table_ids]
        dense = [parameter for parameter in trained if id(parameter) not in table_ids]
        optimizers: list[torch.optim.Optimizer] = [_dense_optimizer(dense, params)]
        if tables:
            optimizers.append(RowWiseAdam(tables, lr=params.embedding_learning_rate))
        schedules = [
            torch.optim.lr_scheduler.LambdaLR(
                optimizer, lambda step: self._learning_rate_factor * self._scheduled_share(step)
            )
            for optimizer in optimizers
        ]
        return optimizers, schedules

    def _scheduled_share(self, step: int) -> float:
        """Return the learning rate factor of a step: linear warm-up, then the chosen schedule."""
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
