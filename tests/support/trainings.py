"""Trainings of small networks, and networks with scripted predictions.

A test file loads the fixture with `pytest_plugins = ["support.trainings"]`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import nn

from rubro.base.metric_names import Objective
from rubro.base.params import TrainParams
from rubro.features.embedding import Embedding
from rubro.models.batches import Batch
from rubro.models.layers import ModelShape, Network
from rubro.training.loop import TrainingData, TrainingResult, train
from support.tiny_models import (
    BIGRAM_BUCKETS,
    LABELS,
    NETWORKS,
    Learnable,
    MakeHyperparameters,
    MakeTitles,
)

pytest_plugins = ["support.tiny_models"]

CLASSES = len(LABELS)
History = list[dict[str, float]]
Fit = Callable[..., tuple[nn.Module, TrainingResult, History]]
Report = Callable[[int, dict[str, float]], None]


def run(
    network: nn.Module,
    data: Learnable,
    params: TrainParams,
    seed: int = 1,
    *,
    objective: Objective = "balanced_accuracy",
    accelerator: str = "cpu",
    folder: Path | None = None,
    report: Report | None = None,
) -> tuple[TrainingResult, History]:
    """Train a network; return the result and the metrics of each epoch."""
    history: History = []

    def remember(epoch: int, metrics: dict[str, float]) -> None:
        if report:
            report(epoch, metrics)
        assert epoch == len(history)
        history.append(metrics)

    result = train(
        network,
        TrainingData(*data, CLASSES),
        params,
        remember,
        seed=seed,
        objective=objective,
        accelerator=accelerator,
        checkpoints=folder or Path(tempfile.mkdtemp()),
    )
    return result, history


def fresh(kind: str, params: TrainParams, embedding: Embedding, seed: int = 9) -> Network:
    """Return a new network with the same initial weights in each call."""
    L.seed_everything(seed, verbose=False)
    rows, size = embedding.table.shape
    network: Network = NETWORKS[kind](ModelShape(rows, size, BIGRAM_BUCKETS, CLASSES), params)
    network.token_vectors.start_from(embedding, params.embedding_scale, params.fine_tune_embedding)
    return network


@pytest.fixture
def fit(embedding: Embedding, hyperparameters: MakeHyperparameters, learnable: Learnable) -> Fit:
    """Function that trains a network with the same initial weights in each call."""

    def make(
        kind: str, data: Learnable = learnable, seed: int = 1, **overrides: Any
    ) -> tuple[nn.Module, TrainingResult, History]:
        params = hyperparameters(kind, **overrides)
        network = fresh(kind, params, embedding)
        return network, *run(network, data, params, seed)

    return make


class FreeLogits(nn.Module):
    """A network that learns separate logits for each number of tokens in a title."""

    def __init__(self, lengths: int = 1) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(2)
        self.logits = nn.Parameter(torch.randn(lengths, CLASSES, generator=random))

    def forward(self, batch: Batch) -> torch.Tensor:
        return self.logits[batch.lengths - 1]


class Scripted(nn.Module):
    """A network with a given number of right predictions in each epoch.

    A buffer counts the training steps, so that the state shows its epoch.
    """

    def __init__(self, right: list[int], steps_per_epoch: int = 1) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(CLASSES))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.steps: torch.Tensor
        self.shown: list[list[list[int]]] = []
        self._right, self._steps_per_epoch = right, steps_per_epoch

    def forward(self, batch: Batch) -> torch.Tensor:
        epoch = (int(self.steps) - (not self.training)) // self._steps_per_epoch
        if self.training:
            self.steps += 1
            self.shown += [[] for _ in range(epoch + 1 - len(self.shown))]
            self.shown[epoch].append(batch.targets.tolist())
        predicted = batch.targets.clone()
        predicted[self._right[epoch] :] += 1
        return nn.functional.one_hot(predicted % CLASSES, CLASSES) * 5.0 + self.bias


def same_titles(count: int, make_titles: MakeTitles, target: int = 0) -> Learnable:
    """Return copies of a title, for training and for validation."""
    titles, tokens = make_titles(["apple"] * count, [target] * count)
    return titles, titles, tokens
