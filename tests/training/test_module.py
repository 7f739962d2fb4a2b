"""A training step: the weighted loss, the optimisers and the schedules."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from rubro.features.embedding import Embedding
from rubro.models.layers import ModelShape
from rubro.training.loss import LabelNoiseWeights
from rubro.training.module import TitleClassifier
from support.tiny_models import BIGRAM_BUCKETS, NETWORKS, MakeHyperparameters, MakeTitles
from support.trainings import CLASSES, Fit, FreeLogits, run

pytest_plugins = ["support.trainings"]
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec.* is deprecated")

EVEN_SHARES = np.full(CLASSES, 1 / CLASSES)
both = pytest.mark.parametrize("kind", list(NETWORKS))


@both
def test_classes_without_training_titles_do_not_make_the_loss_infinite(
    kind: str, fit: Fit, make_titles: MakeTitles
) -> None:
    titles, tokens = make_titles(["apple", "drill"] * 20, [0, 1] * 20, [True, False] * 20)
    overrides = {"prior_adjustment": 2.0, "label_doubt": 1.0, "label_quality": "drop"}
    _, trained, _ = fit(kind, (titles, titles, tokens), max_epochs=20, **overrides)
    assert np.isfinite(trained.summary["last"]["validation"]["loss"])
    assert all(bool(torch.isfinite(weight).all()) for weight in trained.state.values())


def test_a_step_follows_the_gradient_of_the_weighted_loss(
    make_titles: MakeTitles, hyperparameters: MakeHyperparameters
) -> None:
    texts, targets = [" ".join(["apple"] * n) for n in range(1, 7)], [0, 0, 0, 1, 1, 2]
    reliable = [True, True, False, True, False, True]
    titles, tokens = make_titles(texts, targets, reliable)
    steps = {"optimizer": "sgd", "learning_rate": 1.0, "max_epochs": 1}
    loss = {"label_doubt": 0.7, "prior_adjustment": 0.5, "label_smoothing": 0.2}
    loss_of_unreliable = {"label_quality": "weight", "unreliable_weight": 0.5}
    params = hyperparameters("mlp", **steps, **loss, **loss_of_unreliable)
    model = FreeLogits(len(texts))
    start = model.logits.detach().clone()
    run(model, (titles, titles, tokens), params)
    labels = torch.tensor(targets)
    quality = torch.where(torch.tensor(reliable), 1.0, 0.5)
    # Noise weights use the plain probabilities, the loss uses the adjusted ones.
    probability = start.softmax(1)[range(len(labels)), labels]
    weights = quality * LabelNoiseWeights(CLASSES, 0.7)(probability, labels) / quality.sum()
    shares = torch.tensor([2.5, 1.5, 1.0, 0.5]) / 5.5
    smooth = 0.8 * nn.functional.one_hot(labels, CLASSES) + 0.2 * shares
    step = weights.unsqueeze(1) * (smooth - (start + 0.5 * shares.log()).softmax(1))
    torch.testing.assert_close(model.logits.detach(), start + step, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_weight_decay_shrinks_the_dense_layers(optimizer: str, fit: Fit) -> None:
    sizes = []
    for decay in (0.0, 1.0):
        _, trained, _ = fit("mlp", optimizer=optimizer, weight_decay=decay, learning_rate=0.05)
        sizes.append(float(trained.state["dense.0.weight"].square().sum()))
    assert sizes[1] < 0.8 * sizes[0]


# Optimisers and schedules


@pytest.mark.parametrize(
    ("schedule", "half_way", "last"), [("constant", 1, 1), ("cosine", 0.5, 0), ("linear", 0.5, 0)]
)
@pytest.mark.parametrize("warmup", [0, 20])
def test_the_learning_rate_warms_up_and_follows_its_schedule(
    schedule: str,
    half_way: float,
    last: float,
    warmup: int,
    hyperparameters: MakeHyperparameters,
    embedding: Embedding,
) -> None:
    initial = {"learning_rate": 0.5, "embedding_learning_rate": 0.25}
    params = hyperparameters("mlp", schedule=schedule, warmup_share=warmup / 100, **initial)
    rows, size = embedding.table.shape
    model = NETWORKS["mlp"](ModelShape(rows, size, BIGRAM_BUCKETS, CLASSES), params)
    classifier = TitleClassifier(model, params, 100, EVEN_SHARES, 0, "balanced_accuracy")
    optimizers, schedules = classifier.configure_optimizers()
    assert len(optimizers) == 2
    rates = []
    for _ in range(101):
        rates.append([scheduler.get_last_lr()[0] for scheduler in schedules])
        for optimizer, scheduler in zip(optimizers, schedules, strict=True):
            optimizer.step()
            scheduler.step()
    dense, tables = np.array(rates).T
    np.testing.assert_allclose(dense, 2 * tables)
    share = dense / 0.5
    if warmup:
        np.testing.assert_allclose(share[:20], np.arange(1, 21) / 21)
    assert share[warmup] == pytest.approx(1)
    assert share[warmup + (100 - warmup) // 2] == pytest.approx(half_way)
    assert share[100] == pytest.approx(last, abs=1e-9)
    assert share[99] == pytest.approx(last, abs=0.02)
    assert (np.diff(share[warmup:]) <= 1e-12).all()
    assert (share[:100] > 0).all()


def test_without_trained_tables_there_is_one_optimizer(
    hyperparameters: MakeHyperparameters, embedding: Embedding
) -> None:
    params = hyperparameters("cnn", fine_tune_embedding=False)
    rows, size = embedding.table.shape
    model = NETWORKS["cnn"](ModelShape(rows, size, 0, CLASSES), params)
    model.token_vectors.start_from(embedding, None, False)
    classifier = TitleClassifier(model, params, 10, EVEN_SHARES, 0, "balanced_accuracy")
    optimizers, schedules = classifier.configure_optimizers()
    assert len(optimizers) == len(schedules) == 1
    optimised = {id(p) for group in optimizers[0].param_groups for p in group["params"]}
    assert optimised == {id(p) for p in model.parameters() if p.requires_grad}
