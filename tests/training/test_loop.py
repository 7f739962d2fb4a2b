"""Training learns, repeats itself, and keeps its best epoch."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from scipy.special import softmax
from sklearn.metrics import accuracy_score, balanced_accuracy_score, log_loss
from sklearn.utils.class_weight import compute_class_weight
from torch import nn

from rubro.base.errors import DataError, ParamsError, RubroError
from rubro.base.params import Params, TrainParams
from rubro.features.embedding import Embedding
from rubro.features.titles import Ragged, TitleFeatures, Tokens
from rubro.models.batches import Batch
from rubro.models.cnn import Cnn
from rubro.models.inference import predict_logits
from rubro.models.layers import Classifier, ModelShape
from rubro.models.mlp import Mlp
from rubro.training.loop import (
    BEST,
    Doubt,
    TitleClassifier,
    Trained,
    _shares,
    train,
)
from rubro.training.title_weights import title_weights

pytest_plugins = ["helpers"]
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec.* is deprecated")

MakeFeatures = Callable[..., tuple[TitleFeatures, Tokens]]
MakeHyperparameters = Callable[..., TrainParams]
Learnable = tuple[TitleFeatures, TitleFeatures, Tokens]
History = list[dict[str, float]]
Fit = Callable[..., tuple[nn.Module, Trained, History]]

CLASSES = 4
EVEN_SHARES = np.full(CLASSES, 1 / CLASSES)
KINDS: dict[str, Any] = {"mlp": Mlp, "cnn": Cnn}
TABLE = "token_vectors.table.weight"
both = pytest.mark.parametrize("kind", list(KINDS))


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(
    model: nn.Module, data: Learnable, params: TrainParams, seed: int = 1
) -> tuple[Trained, History]:
    history: History = []

    def report(epoch: int, metrics: dict[str, float]) -> None:
        assert epoch == len(history)
        history.append(metrics)

    folder = Path(tempfile.mkdtemp())
    return train(model, *data, params, CLASSES, seed, "cpu", report, folder), history


def fresh(kind: str, params: TrainParams, embedding: Embedding) -> Classifier:
    """A model whose weights are always the same."""
    L.seed_everything(9, verbose=False)
    rows, size = embedding.table.shape
    model: Classifier = KINDS[kind](ModelShape(rows, size, 64, CLASSES), params)
    model.token_vectors.start_from(embedding, params.embedding_scale, params.fine_tune_embedding)
    return model


@pytest.fixture
def fit(embedding: Embedding, hyperparameters: MakeHyperparameters, learnable: Learnable) -> Fit:
    """Train a model whose weights at the start are always the same."""

    def make(
        kind: str, data: Learnable = learnable, seed: int = 1, **overrides: Any
    ) -> tuple[nn.Module, Trained, History]:
        params = hyperparameters(kind, **overrides)
        model = fresh(kind, params, embedding)
        trained, history = run(model, data, params, seed)
        return model, trained, history

    return make


class FreeLogits(nn.Module):
    """Its parameters are the logits themselves, by the number of tokens of the title."""

    def __init__(self, lengths: int = 1) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(2)
        self.logits = nn.Parameter(torch.randn(lengths, CLASSES, generator=random))

    def forward(self, batch: Batch) -> torch.Tensor:
        return self.logits[batch.lengths - 1]


class Scripted(nn.Module):
    """Is right for as many titles as the script says for each epoch.

    It counts its training steps in a buffer, so that a kept state tells of which epoch it is.
    """

    def __init__(self, right: list[int], steps_an_epoch: int = 1) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(CLASSES))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.steps: torch.Tensor
        self.shown: list[list[list[int]]] = []
        self._right, self._an_epoch = right, steps_an_epoch

    def forward(self, batch: Batch) -> torch.Tensor:
        epoch = (int(self.steps) - (not self.training)) // self._an_epoch
        if self.training:
            self.steps += 1
            self.shown += [[] for _ in range(epoch + 1 - len(self.shown))]
            self.shown[epoch].append(batch.targets.tolist())
        said = batch.targets.clone()
        said[self._right[epoch] :] += 1
        return nn.functional.one_hot(said % CLASSES, CLASSES) * 5.0 + self.bias


def plain(
    titles: int, make_features: MakeFeatures, target: int = 0
) -> tuple[TitleFeatures, Tokens]:
    return make_features(["apple"] * titles, [target] * titles)


def scripted_data(make_features: MakeFeatures) -> Learnable:
    split, rows = plain(10, make_features)
    return split, split, rows


@both
def test_a_model_learns_a_learnable_catalogue(kind: str, fit: Fit) -> None:
    rates = {"learning_rate": 0.03, "embedding_learning_rate": 0.03}
    _, trained, history = fit(kind, max_epochs=10, **rates)
    assert trained.summary["last"]["train"]["accuracy"] > 0.98
    assert trained.summary["best"]["validation"]["balanced_accuracy"] > 0.95
    assert history[-1]["train/loss"] < 0.3 * history[0]["train/loss"]


@both
@pytest.mark.parametrize(
    "overrides",
    [
        {"optimizer": "adam"},
        {"optimizer": "adamw", "weight_decay": 0.01},
        {"optimizer": "sgd", "learning_rate": 0.2},
        {"hidden_sizes": [], "schedule": "linear", "warmup_share": 0.2},
        {"fine_tune_embedding": False, "schedule": "cosine", "learning_rate": 0.1},
        {"dropout": 0.2, "label_smoothing": 0.1},
        {"class_weights": "balanced", "pooling": "mean", "learning_rate": 0.03},
        {"label_doubt": 1.0, "prior_adjustment": 1.0, "label_smoothing": 0.1},
    ],
    ids=lambda overrides: "-".join(map(str, overrides.values())),
)
def test_every_way_to_train_learns(kind: str, overrides: dict[str, Any], fit: Fit) -> None:
    _, trained, _ = fit(kind, **{"max_epochs": 8, "batch_size": 16, **overrides})
    assert trained.summary["best"]["validation"]["balanced_accuracy"] > 0.8


@both
def test_the_same_seed_gives_the_same_weights_and_another_seed_others(kind: str, fit: Fit) -> None:
    first, again, other = (fit(kind, seed=seed, dropout=0.2) for seed in (1, 1, 2))
    assert first[2] == again[2]
    for name, weight in first[1].weights.items():
        assert torch.equal(weight, again[1].weights[name]), name
    assert any(
        not torch.equal(weight, other[1].weights[name]) for name, weight in first[1].weights.items()
    )


@both
def test_a_frozen_embedding_stays_and_the_rest_moves(
    kind: str, fit: Fit, embedding: Embedding
) -> None:
    start = torch.from_numpy(embedding.table)
    _, frozen, _ = fit(kind, fine_tune_embedding=False)
    assert torch.equal(frozen.weights[TABLE], start)
    if kind == "mlp":
        assert frozen.weights["bigrams.weight"].abs().sum() > 0
    _, fine_tuned, _ = fit(kind, fine_tune_embedding=True)
    assert not torch.equal(fine_tuned.weights[TABLE], start)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_rows_that_no_training_title_has_stay_as_they_were(
    optimizer: str, fit: Fit, embedding: Embedding, learnable: Learnable
) -> None:
    train_split, _, rows = learnable
    few = np.flatnonzero(train_split.targets == 0)[:5]
    split = TitleFeatures(
        train_split.tokens.take(few),
        train_split.bigrams.take(few),
        train_split.targets[few],
        train_split.reliable[few],
        train_split.has_oov[few],
    )
    _, trained, _ = fit("mlp", (split, split, rows), optimizer=optimizer, weight_decay=0.1)
    used = np.zeros(len(embedding.table), dtype=bool)
    used[rows.take(np.unique(split.tokens.values)).values] = True
    moved = (trained.weights[TABLE].numpy() != embedding.table).any(axis=1)
    assert not used.all()
    np.testing.assert_array_equal(moved, used)


def test_each_epoch_shows_each_title_once_in_batches_of_its_own(
    make_features: MakeFeatures, hyperparameters: MakeHyperparameters
) -> None:
    split, rows = plain(12, make_features)
    split.targets[:] = np.arange(12)

    class Numbered(Scripted):
        def forward(self, batch: Batch) -> torch.Tensor:
            super().forward(batch)
            return self.bias.repeat(len(batch.targets), 3)

    model = Numbered([0] * 3, steps_an_epoch=3)
    params = hyperparameters("mlp", max_epochs=3, batch_size=4)
    train(model, split, split, rows, params, 12, 1, "cpu", lambda epoch, metrics: None, Path.cwd())
    assert [sorted(chain.from_iterable(epoch)) for epoch in model.shown] == [list(range(12))] * 3
    neighbours = {frozenset(frozenset(batch) for batch in epoch) for epoch in model.shown}
    assert len(neighbours) == 3


@pytest.mark.parametrize(
    ("right", "best"), [([2, 8, 5], 1), ([9, 8, 7], 0), ([1, 2, 3], 2), ([4, 7, 7, 5, 7], 1)]
)
def test_the_kept_epoch_is_the_first_of_the_best_balanced_accuracy(
    right: list[int], best: int, make_features: MakeFeatures, hyperparameters: MakeHyperparameters
) -> None:
    params = hyperparameters("mlp", max_epochs=len(right), batch_size=10)
    trained, history = run(Scripted(right), scripted_data(make_features), params)
    assert [metrics[BEST] for metrics in history] == pytest.approx([n / 10 for n in right])
    assert trained.summary["best"]["epoch"] == best
    assert int(trained.weights["steps"]) == best + 1
    assert trained.summary["best"]["validation"]["balanced_accuracy"] == right[best] / 10
    assert trained.summary["last"]["epoch"] == len(right) - 1
    assert trained.summary["last"]["validation"]["accuracy"] == right[-1] / 10


def test_the_summary_is_of_the_kept_epoch_even_when_epochs_hardly_differ(
    make_features: MakeFeatures, hyperparameters: MakeHyperparameters
) -> None:
    titles = 1_500_000
    nothing = Ragged(np.zeros(0, np.int32), np.zeros(titles + 1, np.int64))
    flags = np.ones(titles, dtype=bool)
    validation = TitleFeatures(nothing, nothing, np.zeros(titles, np.int32), flags, flags)
    right = next(
        n for n in range(titles // 2, titles) if round(n / titles, 6) == round((n + 1) / titles, 6)
    )
    split, rows = plain(2, make_features)
    params = hyperparameters("mlp", max_epochs=2, batch_size=titles)
    trained, _ = run(Scripted([right, right + 1]), (split, validation, rows), params)
    assert int(trained.weights["steps"]) == 2
    assert trained.summary["best"]["epoch"] == 1


def test_training_stops_when_patience_is_over(
    make_features: MakeFeatures, hyperparameters: MakeHyperparameters
) -> None:
    right = [5, 9, 8, 9, 10, 10]
    for patience, epochs in ((1, 3), (2, 4), (3, 6), (0, 6)):
        params = hyperparameters(
            "mlp", max_epochs=6, batch_size=10, early_stopping_patience=patience
        )
        trained, history = run(Scripted(right), scripted_data(make_features), params)
        assert len(history) == epochs
        assert trained.summary["last"]["epoch"] == epochs - 1


@both
def test_the_kept_weights_give_the_metrics_of_the_summary(
    kind: str, fit: Fit, learnable: Learnable
) -> None:
    _, validation, rows = learnable
    model, trained, history = fit(kind, max_epochs=4, learning_rate=3e-3)
    assert 0 < history[0][BEST] < 1
    model.load_state_dict(trained.weights)
    probabilities = softmax(predict_logits(model.eval(), validation, rows), axis=1)
    predictions, targets = probabilities.argmax(axis=1), validation.targets
    expected = {
        "loss": log_loss(targets, probabilities, labels=range(CLASSES)),
        "accuracy": accuracy_score(targets, predictions),
        "balanced_accuracy": balanced_accuracy_score(targets, predictions),
    }
    assert trained.summary["best"]["validation"] == pytest.approx(expected, abs=1e-5)
    best = max(history, key=lambda metrics: metrics[BEST])
    assert trained.summary["best"]["train"]["loss"] == best["train/loss"]


def test_the_summary_counts_the_parameters(fit: Fit) -> None:
    model, trained, _ = fit("cnn", max_epochs=1)
    assert trained.summary["parameters"] == sum(w.numel() for w in model.parameters())
    assert set(trained.weights) == set(model.state_dict())


def test_training_leaves_nothing_in_the_folder_it_runs_in(fit: Fit, tmp_path: Path) -> None:
    fit("mlp", max_epochs=1)
    assert list(tmp_path.iterdir()) == []


@both
def test_classes_without_validation_titles_are_fine(
    kind: str, fit: Fit, learnable: Learnable
) -> None:
    train_split, validation, rows = learnable
    some = np.flatnonzero(validation.targets < 2)
    part = TitleFeatures(
        validation.tokens.take(some),
        validation.bigrams.take(some),
        validation.targets[some],
        validation.reliable[some],
        validation.has_oov[some],
    )
    _, trained, _ = fit(kind, (train_split, part, rows), max_epochs=8)
    assert trained.summary["best"]["validation"]["balanced_accuracy"] > 0.9


@both
def test_titles_without_any_token_can_be_trained_on(
    kind: str, fit: Fit, make_features: MakeFeatures
) -> None:
    split, rows = make_features([""] * 8, [0, 1] * 4)
    _, trained, _ = fit(kind, (split, split, rows), batch_size=3)
    assert np.isfinite(trained.summary["last"]["validation"]["loss"])
    assert all(bool(torch.isfinite(weight).all()) for weight in trained.weights.values())


# Weights of titles


def weighted(make_features: MakeFeatures) -> TitleFeatures:
    features, _ = make_features(
        ["apple"] * 6, [0, 0, 0, 1, 1, 3], [True, True, False, True, False, False]
    )
    return features


@pytest.mark.parametrize(
    ("quality", "expected"),
    [
        ("ignore", [1, 1, 1, 1, 1, 1]),
        ("weight", [1, 1, 0.25, 1, 0.25, 0.25]),
        ("drop", [1, 1, 0, 1, 0, 0]),
    ],
)
def test_label_quality_weighs_unreliable_titles(
    quality: str,
    expected: list[float],
    make_features: MakeFeatures,
    hyperparameters: MakeHyperparameters,
) -> None:
    params = hyperparameters("mlp", label_quality=quality, unreliable_weight=0.25)
    weights = title_weights(weighted(make_features), CLASSES, params)
    assert weights.dtype == np.float32
    assert weights.tolist() == expected


def test_balanced_class_weights_are_those_of_scikit_learn(
    learnable: Learnable, hyperparameters: MakeHyperparameters
) -> None:
    split = learnable[0]
    random = np.random.default_rng(0)
    split = TitleFeatures(
        split.tokens,
        split.bigrams,
        random.choice(CLASSES, len(split), p=[0.6, 0.2, 0.15, 0.05]).astype(np.int32),
        random.random(len(split)) < 0.7,
        split.has_oov,
    )
    for quality, kept in (
        ("ignore", np.ones(len(split), dtype=bool)),
        ("drop", split.reliable),
    ):
        params = hyperparameters("mlp", class_weights="balanced", label_quality=quality)
        own = compute_class_weight("balanced", classes=np.arange(CLASSES), y=split.targets[kept])
        np.testing.assert_allclose(
            title_weights(split, CLASSES, params), np.where(kept, own[split.targets], 0), rtol=1e-6
        )


def test_balanced_weights_without_titles_of_a_class_are_finite(
    make_features: MakeFeatures, hyperparameters: MakeHyperparameters
) -> None:
    params = hyperparameters("mlp", class_weights="balanced", label_quality="drop")
    weights = title_weights(weighted(make_features), CLASSES, params)
    assert weights.tolist() == pytest.approx([3 / 8, 3 / 8, 0, 3 / 4, 0, 0])


def test_dropping_every_title_is_an_error_that_names_the_parameter(
    make_features: MakeFeatures, hyperparameters: MakeHyperparameters
) -> None:
    features, rows = make_features(["apple", "drill"], [0, 1], [False, False])
    params = hyperparameters("mlp", label_quality="drop")
    with pytest.raises(DataError, match="label_quality"):
        title_weights(features, CLASSES, params)
    with pytest.raises(DataError, match="label_quality"):
        run(Scripted([0] * 3), (features, features, rows), params)


@pytest.mark.parametrize(
    ("overrides", "share"),
    [
        ({}, 0.2),
        ({"class_weights": "balanced"}, 0.5),
        ({"label_quality": "weight", "unreliable_weight": 0.5}, 1 / 9),
        ({"label_quality": "drop"}, 0.0),
        ({"prior_adjustment": 1.0}, 0.5),
        ({"prior_adjustment": 0.5}, 1 / 3),
        ({"prior_adjustment": 1.0, "label_quality": "weight", "unreliable_weight": 0.5}, 0.5),
        ({"prior_adjustment": 1.0, "class_weights": "balanced"}, 0.5),
    ],
)
def test_weights_reach_the_loss(
    overrides: dict[str, Any], share: float, fit: Fit, make_features: MakeFeatures
) -> None:
    # The same title has two labels: what is learnt is the weight of each.
    targets = [0] * 32 + [1] * 8
    split, rows = make_features(["apple"] * 40, targets, [target == 0 for target in targets])
    model, _, _ = fit(
        "mlp",
        (split, split, rows),
        hidden_sizes=[],
        batch_size=40,
        max_epochs=60,
        learning_rate=0.1,
        embedding_learning_rate=1e-6,
        **overrides,
    )
    learnt = softmax(predict_logits(model.eval(), split, rows), axis=1)[0, 1]
    assert learnt == pytest.approx(share, abs=0.03)


@pytest.mark.parametrize("doubt", [0.0, 0.5])
@pytest.mark.parametrize(("adjustment", "share"), [(0.0, 0.1), (0.5, 0.25), (1.0, 0.5)])
def test_logits_follow_the_shares_of_the_classes_as_far_as_the_prior_adjustment_leaves_them(
    adjustment: float,
    share: float,
    doubt: float,
    make_features: MakeFeatures,
    hyperparameters: MakeHyperparameters,
) -> None:
    split, rows = make_features(["apple"] * 40, [2] * 36 + [1] * 4)
    params = hyperparameters(
        "mlp",
        prior_adjustment=adjustment,
        label_doubt=doubt,
        max_epochs=150,
        learning_rate=0.04,
        batch_size=40,
    )
    model = FreeLogits()
    run(model, (split, split, rows), params)
    rare, common = model.logits.detach().softmax(1)[0, [1, 2]].tolist()
    assert rare / (rare + common) == pytest.approx(share, abs=0.02)


def test_classes_without_training_titles_get_a_share_all_the_same(
    make_features: MakeFeatures,
) -> None:
    features, _ = make_features(["apple"] * 6, [0, 0, 0, 1, 1, 3])
    weights = np.array([1, 0.5, 0.5, 0.25, 0.25, 0], np.float32)
    # 2 to class 0 and 0.5 to class 1; half of that to the others, to which no weight is left.
    assert _shares(features, weights, 4).tolist() == pytest.approx([2 / 3, 1 / 6, 1 / 12, 1 / 12])
    evenly = _shares(features, np.array([1, 1, 1, 3, 0, 3], np.float32), 5)
    assert evenly == pytest.approx(np.array([2, 2, 1, 2, 1]) / 8)


@both
def test_classes_without_training_titles_leave_an_adjusted_training_finite(
    kind: str, fit: Fit, make_features: MakeFeatures
) -> None:
    split, rows = make_features(["apple", "drill"] * 20, [0, 1] * 20, [True, False] * 20)
    overrides = {"prior_adjustment": 2.0, "label_doubt": 1.0, "label_quality": "drop"}
    _, trained, _ = fit(kind, (split, split, rows), max_epochs=20, **overrides)
    assert np.isfinite(trained.summary["last"]["validation"]["loss"])
    assert all(bool(torch.isfinite(weight).all()) for weight in trained.weights.values())


def test_a_step_follows_the_gradient_that_all_weights_leave(
    make_features: MakeFeatures, hyperparameters: MakeHyperparameters
) -> None:
    titles, targets = [" ".join(["apple"] * n) for n in range(1, 7)], [0, 0, 0, 1, 1, 2]
    reliable = [True, True, False, True, False, True]
    split, rows = make_features(titles, targets, reliable)
    params = hyperparameters(
        "mlp",
        optimizer="sgd",
        learning_rate=1.0,
        max_epochs=1,
        label_quality="weight",
        unreliable_weight=0.5,
        label_doubt=0.7,
        prior_adjustment=0.5,
        label_smoothing=0.2,
    )
    model = FreeLogits(len(titles))
    start = model.logits.detach().clone()
    run(model, (split, split, rows), params)
    labels = torch.tensor(targets)
    quality = torch.where(torch.tensor(reliable), 1.0, 0.5)
    # Doubt is of what the model says, the loss of what the shares of the classes make of it.
    weights = quality * Doubt(CLASSES, 0.7)(start, labels) / quality.sum()
    shares = torch.tensor([2.5, 1.5, 1.0, 0.5]) / 5.5
    smooth = 0.8 * nn.functional.one_hot(labels, CLASSES) + 0.2 / CLASSES
    step = weights.unsqueeze(1) * (smooth - (start + 0.5 * shares.log()).softmax(1))
    torch.testing.assert_close(model.logits.detach(), start + step, atol=1e-6, rtol=1e-5)


def test_label_smoothing_leaves_its_share_to_all_classes(
    fit: Fit, make_features: MakeFeatures
) -> None:
    split, rows = make_features(["apple"] * 8, [2] * 8)
    model, _, _ = fit(
        "mlp", (split, split, rows), max_epochs=60, learning_rate=0.1, label_smoothing=0.4
    )
    # 0.6 for the class, and a quarter of 0.4 for each of the four.
    learnt = softmax(predict_logits(model.eval(), split, rows), axis=1)[0]
    assert learnt == pytest.approx([0.1, 0.1, 0.7, 0.1], abs=0.03)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_weight_decay_shrinks_the_dense_layers(optimizer: str, fit: Fit) -> None:
    sizes = []
    for decay in (0.0, 1.0):
        _, trained, _ = fit("mlp", optimizer=optimizer, weight_decay=decay, learning_rate=0.05)
        sizes.append(float(trained.weights["dense.0.weight"].square().sum()))
    assert sizes[1] < 0.8 * sizes[0]


# Schedules


@pytest.mark.parametrize(
    ("schedule", "half_way", "last"), [("constant", 1, 1), ("cosine", 0.5, 0), ("linear", 0.5, 0)]
)
@pytest.mark.parametrize("warmup", [0, 20])
def test_the_learning_rate_warms_up_and_follows_its_schedule(
    schedule: str,
    half_way: float,
    last: float,
    warmup: int,
    fit: Fit,
    hyperparameters: MakeHyperparameters,
    embedding: Embedding,
) -> None:
    params = hyperparameters(
        "mlp",
        schedule=schedule,
        warmup_share=warmup / 100,
        learning_rate=0.5,
        embedding_learning_rate=0.25,
    )
    rows, size = embedding.table.shape
    model = KINDS["mlp"](ModelShape(rows, size, 64, CLASSES), params)
    classifier = TitleClassifier(model, params, 100, EVEN_SHARES, seed=0)
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


@pytest.mark.parametrize(
    ("max_epochs", "min_steps", "epochs"),
    [(2, 0, 2), (2, 6, 2), (2, 7, 3), (2, 12, 4), (2, 13, 5), (5, 13, 5), (6, 13, 6)],
)
def test_few_titles_are_passed_over_until_the_least_number_of_steps(
    max_epochs: int,
    min_steps: int,
    epochs: int,
    make_features: MakeFeatures,
    hyperparameters: MakeHyperparameters,
) -> None:
    # Ten titles, of which two have no weight, are two batches of three and one of two.
    split, rows = make_features(["apple"] * 10, reliable=[True] * 8 + [False] * 2)
    params = hyperparameters(
        "mlp", max_epochs=max_epochs, min_steps=min_steps, batch_size=3, label_quality="drop"
    )
    trained, history = run(FreeLogits(), (split, split, rows), params)
    assert len(history) == epochs
    assert trained.summary["last"]["epoch"] == epochs - 1


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
@pytest.mark.parametrize(("max_epochs", "min_steps"), [(8, 0), (2, 16), (2, 15)])
def test_the_learning_rate_ends_with_the_last_step_however_many_there_are(
    schedule: str,
    max_epochs: int,
    min_steps: int,
    make_features: MakeFeatures,
    hyperparameters: MakeHyperparameters,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("RUBRO_CHECKPOINT_SECONDS", "0")
    split, rows = plain(10, make_features)
    params = hyperparameters(
        "mlp",
        max_epochs=max_epochs,
        min_steps=min_steps,
        batch_size=5,
        schedule=schedule,
        learning_rate=0.5,
    )
    seen: list[dict[str, Any]] = []

    def look(epoch: int = 0, metrics: dict[str, float] | None = None) -> None:
        """At the checkpoint of the epoch before this one."""
        if (checkpoint := tmp_path / "last.ckpt").exists():
            seen.extend(torch.load(checkpoint, weights_only=True)["lr_schedulers"])

    train(FreeLogits(), split, split, rows, params, CLASSES, 1, "cpu", look, tmp_path)
    look()
    assert [state["last_epoch"] for state in seen] == [2, 4, 6, 8, 10, 12, 14, 16]
    rates = np.array([state["_last_lr"][0] for state in seen])
    assert rates[3] == pytest.approx(0.25)
    assert rates[7] == pytest.approx(0, abs=1e-9)
    assert (np.diff(rates) < 0).all()


def test_a_frozen_model_without_bigrams_has_no_optimizer_for_tables(
    hyperparameters: MakeHyperparameters, embedding: Embedding
) -> None:
    params = hyperparameters("cnn", fine_tune_embedding=False)
    rows, size = embedding.table.shape
    model = KINDS["cnn"](ModelShape(rows, size, 0, CLASSES), params)
    model.token_vectors.start_from(embedding, None, False)
    classifier = TitleClassifier(model, params, 10, EVEN_SHARES, seed=0)
    optimizers, schedules = classifier.configure_optimizers()
    assert len(optimizers) == len(schedules) == 1
    optimised = {id(p) for group in optimizers[0].param_groups for p in group["params"]}
    assert optimised == {id(p) for p in model.parameters() if p.requires_grad}


# What the user does


@pytest.fixture
def _restored_interrupts() -> Iterator[None]:
    handler = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, handler)


@pytest.mark.usefixtures("_restored_interrupts")
def test_an_interrupt_in_training_reaches_the_stage(
    make_features: MakeFeatures, hyperparameters: MakeHyperparameters, tmp_path: Path
) -> None:
    def interrupt(epoch: int, metrics: dict[str, float]) -> None:
        signal.raise_signal(signal.SIGINT)

    params = hyperparameters("mlp", batch_size=10)
    with pytest.raises(KeyboardInterrupt):
        data = scripted_data(make_features)
        train(Scripted([1] * 3), *data, params, CLASSES, 1, "cpu", interrupt, tmp_path)


def test_an_error_in_training_reaches_the_stage(
    make_features: MakeFeatures, hyperparameters: MakeHyperparameters, tmp_path: Path
) -> None:
    def fail(epoch: int, metrics: dict[str, float]) -> None:
        raise OSError("no space left on device")

    params = hyperparameters("mlp", batch_size=10)
    with pytest.raises(OSError, match="no space left"):
        data = scripted_data(make_features)
        train(Scripted([1] * 3), *data, params, CLASSES, 1, "cpu", fail, tmp_path)


def test_a_diverged_training_is_an_error_for_the_user(fit: Fit) -> None:
    with pytest.raises(RubroError, match="learning_rate"):
        fit("mlp", optimizer="sgd", learning_rate=1e30)


def test_every_seed_that_the_schema_takes_can_be_set(
    make_params: Callable[[dict[str, Any]], Params],
) -> None:
    L.seed_everything(make_params({"seed": 2**32 - 1}).seed, verbose=False)
    try:
        params = make_params({"seed": 2**32})
    except ValueError:
        return
    L.seed_everything(params.seed, verbose=False)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@both
def test_a_gpu_learns_what_the_cpu_learns(
    kind: str,
    embedding: Embedding,
    hyperparameters: MakeHyperparameters,
    learnable: Learnable,
) -> None:
    every = {"label_doubt": 0.5, "label_smoothing": 0.1, "prior_adjustment": 1.0, "dropout": 0.1}
    params = hyperparameters(kind, max_epochs=5, learning_rate=3e-3, **every)
    scores = {}
    for accelerator in ("cpu", "gpu"):
        model = fresh(kind, params, embedding)
        folder = Path(tempfile.mkdtemp())
        trained = train(model, *learnable, params, CLASSES, 1, accelerator, lambda *_: None, folder)
        scores[accelerator] = trained.summary["best"]["validation"]["balanced_accuracy"]
    assert scores["gpu"] == pytest.approx(scores["cpu"], abs=0.05)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_a_wrong_param(
    hyperparameters: MakeHyperparameters, make_features: MakeFeatures, tmp_path: Path
) -> None:
    data = scripted_data(make_features)
    with pytest.raises(ParamsError, match="accelerator: gpu"):
        params = hyperparameters("mlp")
        train(Scripted([1]), *data, params, CLASSES, 1, "gpu", lambda *_: None, tmp_path)


@both
@pytest.mark.parametrize("patience", [0, 1])
def test_a_training_killed_after_its_last_epoch_ends_as_if_it_had_not_been(
    kind: str,
    patience: int,
    embedding: Embedding,
    hyperparameters: MakeHyperparameters,
    learnable: Learnable,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("RUBRO_CHECKPOINT_SECONDS", "0")
    epochs = 30 if patience else 3
    params = hyperparameters(kind, max_epochs=epochs, early_stopping_patience=patience)
    outcomes = []
    for _ in range(2):
        model = fresh(kind, params, embedding)
        history: History = []

        def report(epoch: int, metrics: dict[str, float], history: History = history) -> None:
            history.append(metrics)

        trained = train(model, *learnable, params, CLASSES, 1, "cpu", report, tmp_path)
        outcomes.append((trained, history))
    (first, first_history), (second, second_history) = outcomes
    assert len(first_history) < 30 if patience else len(first_history) == 3
    assert second_history == first_history
    assert second.summary == first.summary
    for name, weights in first.weights.items():
        assert torch.equal(second.weights[name], weights), name


@both
@pytest.mark.parametrize(
    ("failing", "damaged"), [(1, "none"), (3, "none"), (3, "last.ckpt"), (3, "epoch=*.ckpt")]
)
def test_a_training_stopped_half_way_ends_with_the_same_weights(
    kind: str,
    failing: int,
    damaged: str,
    embedding: Embedding,
    hyperparameters: MakeHyperparameters,
    learnable: Learnable,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("RUBRO_CHECKPOINT_SECONDS", "0")
    params = hyperparameters(
        kind,
        max_epochs=2,
        min_steps=25,
        learning_rate=3e-3,
        schedule="cosine",
        dropout=0.2,
        label_doubt=0.5,
        prior_adjustment=1.0,
    )

    def attempt(folder: str, failing: int | None) -> tuple[Trained, History]:
        history: History = []

        def report(epoch: int, metrics: dict[str, float]) -> None:
            if epoch == failing:
                raise OSError("no space left on device")
            history.append(metrics)

        model, path = fresh(kind, params, embedding), tmp_path / folder
        trained = train(model, *learnable, params, CLASSES, 1, "cpu", report, path)
        return trained, history

    whole, whole_history = attempt("whole", None)
    with pytest.raises(OSError, match="no space left"):
        attempt("stopped", failing)
    for file in tmp_path.glob(f"stopped/{damaged}"):
        os.truncate(file, file.stat().st_size // 2)
    capsys.readouterr()
    resumed, resumed_history = attempt("stopped", None)
    said = capsys.readouterr().err
    assert ("going on after epoch" in said) == (damaged == "none")
    assert ("the training starts anew" in said) == (damaged != "none")
    assert len(whole_history) == 5
    assert resumed_history == whole_history
    assert resumed.summary == whole.summary
    for name, weights in whole.weights.items():
        assert torch.equal(resumed.weights[name], weights), name
