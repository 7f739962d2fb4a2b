"""Training loop: learning, reproducibility, epochs, the best epoch, resuming and errors."""

from __future__ import annotations

import os
import signal
from itertools import chain
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch

from rubro.base.errors import ParamsError, RubroError
from rubro.features.embedding import Embedding
from rubro.features.featurizer import TitleFeatures
from rubro.features.ragged import Ragged
from rubro.features.titles import LabelledTitles, Labels
from rubro.models.batches import Batch
from rubro.training.loop import TrainingData, TrainingResult, train
from support.tiny_models import (
    LABELS,
    NETWORKS,
    VECTOR_SIZE,
    Learnable,
    MakeHyperparameters,
    MakeTitles,
    whole_words,
)
from support.trainings import CLASSES, Fit, FreeLogits, History, Scripted, fresh, run, same_titles

pytest_plugins = ["support.trainings"]
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*LeafSpec.* is deprecated"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty"),
]

TABLE = "token_vectors.table.weight"
both = pytest.mark.parametrize("kind", list(NETWORKS))


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, other[name]) for name, value in one.items())


@both
def test_a_network_learns_a_small_catalogue(kind: str, fit: Fit) -> None:
    rates = {"learning_rate": 0.03, "embedding_learning_rate": 0.03}
    _, trained, history = fit(kind, max_epochs=10, **rates)
    assert trained.summary["last"]["train"]["accuracy"] > 0.98
    assert trained.summary["best"]["validation"]["balanced_accuracy"] > 0.95
    assert history[-1]["train/loss"] < 0.3 * history[0]["train/loss"]


@pytest.mark.parametrize("kind", ["mlp", pytest.param("cnn", marks=pytest.mark.slow)])
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
def test_a_network_learns_with_every_option(kind: str, overrides: dict[str, Any], fit: Fit) -> None:
    _, trained, _ = fit(kind, **{"max_epochs": 8, "batch_size": 16, **overrides})
    assert trained.summary["best"]["validation"]["balanced_accuracy"] > 0.8


@both
def test_the_weights_depend_on_the_seed_only(kind: str, fit: Fit) -> None:
    first, again, other = (fit(kind, seed=seed, dropout=0.2) for seed in (1, 1, 2))
    assert first[2] == again[2]
    assert equal(first[1].state, again[1].state)
    assert not equal(first[1].state, other[1].state)


@both
def test_a_frozen_embedding_does_not_change(kind: str, fit: Fit, embedding: Embedding) -> None:
    start = torch.from_numpy(embedding.table)
    _, frozen, _ = fit(kind, fine_tune_embedding=False)
    assert torch.equal(frozen.state[TABLE], start)
    assert frozen.state["bigrams.weight"].abs().sum() > 0
    _, fine_tuned, _ = fit(kind, fine_tune_embedding=True)
    assert not torch.equal(fine_tuned.state[TABLE], start)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_rows_that_occur_in_no_training_title_do_not_change(
    optimizer: str, fit: Fit, embedding: Embedding, learnable: Learnable
) -> None:
    titles, _, tokens = learnable
    few = titles.take(np.flatnonzero(titles.labels.targets == 0)[:5])
    _, trained, _ = fit("mlp", (few, few, tokens), optimizer=optimizer, weight_decay=0.1)
    used = np.zeros(len(embedding.table), dtype=bool)
    used[tokens.take(np.unique(few.features.tokens.values)).values] = True
    moved = (trained.state[TABLE].numpy() != embedding.table).any(axis=1)
    assert not used.all()
    np.testing.assert_array_equal(moved, used)


def test_each_epoch_shows_each_title_once_in_new_batches(
    make_titles: MakeTitles, hyperparameters: MakeHyperparameters
) -> None:
    titles, tokens = make_titles(["apple"] * 12, list(range(12)))

    class Numbered(Scripted):
        def forward(self, batch: Batch) -> torch.Tensor:
            super().forward(batch)
            return self.bias.repeat(len(batch.targets), 3)

    model = Numbered([0] * 3, steps_per_epoch=3)
    params = hyperparameters("mlp", max_epochs=3, batch_size=4)
    data = TrainingData(titles, titles, tokens, 12)
    options: dict[str, Any] = {"seed": 1, "objective": "accuracy", "accelerator": "cpu"}
    train(model, data, params, lambda *_: None, checkpoints=Path.cwd(), **options)
    assert [sorted(chain.from_iterable(epoch)) for epoch in model.shown] == [list(range(12))] * 3
    neighbours = {frozenset(frozenset(batch) for batch in epoch) for epoch in model.shown}
    assert len(neighbours) == 3


@pytest.mark.parametrize(
    ("right", "best"), [([2, 8, 5], 1), ([9, 8, 7], 0), ([1, 2, 3], 2), ([4, 7, 7, 5, 7], 1)]
)
def test_the_first_epoch_with_the_best_balanced_accuracy_is_kept(
    right: list[int], best: int, make_titles: MakeTitles, hyperparameters: MakeHyperparameters
) -> None:
    params = hyperparameters("mlp", max_epochs=len(right), batch_size=10)
    trained, history = run(Scripted(right), same_titles(10, make_titles), params)
    assert [metrics["validation/balanced_accuracy"] for metrics in history] == pytest.approx(
        [n / 10 for n in right]
    )
    assert trained.summary["best"]["epoch"] == best
    assert int(trained.state["steps"]) == best + 1
    assert trained.summary["best"]["validation"]["balanced_accuracy"] == right[best] / 10
    assert trained.summary["last"]["epoch"] == len(right) - 1
    assert trained.summary["last"]["validation"]["accuracy"] == right[-1] / 10


def test_unrounded_metrics_determine_the_best_epoch(
    make_titles: MakeTitles, hyperparameters: MakeHyperparameters
) -> None:
    count = 1_500_000
    nothing = Ragged(np.zeros(0, np.int32), np.zeros(count + 1, np.int64))
    labels = Labels(np.zeros(count, np.int32), np.ones(count, dtype=bool))
    validation = LabelledTitles(TitleFeatures(nothing, nothing), labels)
    right = next(
        n for n in range(count // 2, count) if round(n / count, 6) == round((n + 1) / count, 6)
    )
    titles, _, tokens = same_titles(2, make_titles)
    params = hyperparameters("mlp", max_epochs=2, batch_size=count)
    trained, _ = run(Scripted([right, right + 1]), (titles, validation, tokens), params)
    assert int(trained.state["steps"]) == 2
    assert trained.summary["best"]["epoch"] == 1


def test_training_stops_early_after_epochs_without_improvement(
    make_titles: MakeTitles, hyperparameters: MakeHyperparameters
) -> None:
    right = [5, 9, 8, 9, 10, 10]
    for patience, epochs in ((1, 3), (2, 4), (3, 6), (0, 6)):
        params = hyperparameters(
            "mlp", max_epochs=6, batch_size=10, early_stopping_patience=patience
        )
        trained, history = run(Scripted(right), same_titles(10, make_titles), params)
        assert len(history) == epochs
        assert trained.summary["last"]["epoch"] == epochs - 1


def test_the_summary_counts_the_parameters(fit: Fit) -> None:
    model, trained, _ = fit("cnn", max_epochs=1)
    assert trained.summary["parameters"] == sum(w.numel() for w in model.parameters())
    assert set(trained.state) == set(model.state_dict())


@both
def test_classes_without_validation_titles_are_allowed(
    kind: str, fit: Fit, learnable: Learnable
) -> None:
    titles, validation, tokens = learnable
    some = validation.take(np.flatnonzero(validation.labels.targets < 2))
    _, trained, _ = fit(kind, (titles, some, tokens), max_epochs=8)
    assert trained.summary["best"]["validation"]["balanced_accuracy"] > 0.9


@both
def test_titles_without_tokens_are_allowed(kind: str, fit: Fit, make_titles: MakeTitles) -> None:
    titles, tokens = make_titles([""] * 8, [0, 1] * 4)
    _, trained, _ = fit(kind, (titles, titles, tokens), batch_size=3)
    assert np.isfinite(trained.summary["last"]["validation"]["loss"])
    assert all(bool(torch.isfinite(weight).all()) for weight in trained.state.values())


# Epochs


def test_auto_epochs_depend_on_the_number_of_titles_with_a_weight(
    make_titles: MakeTitles, hyperparameters: MakeHyperparameters
) -> None:
    count = 48_000
    titles, tokens = make_titles(
        [""] * count, reliable=[True] * (count // 2) + [False] * (count // 2)
    )
    for quality, epochs in (("ignore", 10), ("drop", 20)):
        params = hyperparameters("mlp", max_epochs="auto", batch_size=count, label_quality=quality)
        model = Scripted([1] * epochs)
        _, history = run(model, (titles, titles.take(np.arange(9)), tokens), params)
        assert len(history) == epochs


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_the_schedule_ends_with_the_last_step(
    schedule: str,
    make_titles: MakeTitles,
    hyperparameters: MakeHyperparameters,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("RUBRO_CHECKPOINT_SECONDS", "0")
    params = hyperparameters(
        "mlp", max_epochs=8, batch_size=5, schedule=schedule, learning_rate=0.5
    )
    seen: list[dict[str, Any]] = []

    def look(epoch: int = 0, metrics: dict[str, float] | None = None) -> None:
        """Read the schedules from the checkpoint of the previous epoch."""
        if (checkpoint := tmp_path / "last.ckpt").exists():
            seen.extend(torch.load(checkpoint, weights_only=True)["lr_schedulers"])

    run(FreeLogits(), same_titles(10, make_titles), params, folder=tmp_path, report=look)
    look()
    assert [state["last_epoch"] for state in seen] == [2, 4, 6, 8, 10, 12, 14, 16]
    rates = np.array([state["_last_lr"][0] for state in seen])
    assert rates[3] == pytest.approx(0.25)
    assert rates[7] == pytest.approx(0, abs=1e-9)
    assert (np.diff(rates) < 0).all()


# Wrong labels


def noisy(seed: int, make_titles: MakeTitles) -> tuple[Learnable, Embedding]:
    """Return 800 training titles, 30 % with flipped labels, 400 for validation, random vectors."""
    random = np.random.default_rng(seed)
    targets = [position % CLASSES for position in range(1200)]
    texts = [
        " ".join(
            [f"{LABELS[target]}{n}" for n in random.integers(0, 30, random.integers(1, 4))]
            + [f"any{n}" for n in random.integers(0, 30, random.integers(0, 4))]
        )
        for target in targets
    ]
    vocabulary = sorted({word for text in texts for word in text.split()})
    subwords = whole_words(dict.fromkeys(vocabulary, 1), len(texts))
    titles, tokens = make_titles(texts, targets, subwords=subwords)
    train, validation = titles.take(np.arange(800)), titles.take(np.arange(800, 1200))
    flipped = random.random(800) < 0.3
    train.labels.targets[flipped] += random.integers(1, CLASSES, flipped.sum())
    train.labels.targets[:] %= CLASSES
    table = random.standard_normal((len(vocabulary), VECTOR_SIZE), dtype=np.float32)
    return (train, validation, tokens), Embedding(subwords, table)


@pytest.mark.slow
@both
def test_label_doubt_helps_against_flipped_labels(
    kind: str, make_titles: MakeTitles, hyperparameters: MakeHyperparameters
) -> None:
    scores: list[list[list[float]]] = []
    for seed in (0, 1):
        splits, vectors = noisy(seed, make_titles)
        scores.append([])
        for doubt in (0.0, 0.5, 1.0):
            params = hyperparameters(
                kind,
                label_doubt=doubt,
                max_epochs=12,
                learning_rate=0.02,
                embedding_learning_rate=0.03,
                embedding_scale=0.1,
            )
            model = fresh(kind, params, vectors, seed)
            trained, _ = run(model, splits, params, seed)
            summaries = (trained.summary[epoch]["validation"] for epoch in ("best", "last"))
            scores[-1].append([summary["balanced_accuracy"] for summary in summaries])
    (best, last), (best_half, last_half), (best_full, last_full) = np.mean(scores, axis=0)
    assert best_half > best + 0.01
    assert best_full > best + 0.02
    assert last_half > last + 0.02
    assert last_full > last + 0.1


# Signals and errors


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_an_interrupt_or_error_in_training_is_raised(
    error: type[BaseException], make_titles: MakeTitles, hyperparameters: MakeHyperparameters
) -> None:
    def report(epoch: int, metrics: dict[str, float]) -> None:
        if error is KeyboardInterrupt:
            signal.raise_signal(signal.SIGINT)
        raise error("no space left on device")

    params = hyperparameters("mlp", batch_size=10)
    with pytest.raises(error):
        run(Scripted([1] * 3), same_titles(10, make_titles), params, report=report)


def test_a_diverged_training_is_an_error(fit: Fit) -> None:
    with pytest.raises(RubroError, match="learning_rate"):
        fit("mlp", optimizer="sgd", learning_rate=1e30)


def test_the_largest_seed_of_the_schema_can_be_set() -> None:
    L.seed_everything(2**32 - 1, verbose=False)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@both
def test_a_gpu_learns_as_well_as_the_cpu(
    kind: str, embedding: Embedding, hyperparameters: MakeHyperparameters, learnable: Learnable
) -> None:
    every = {"label_doubt": 0.5, "label_smoothing": 0.1, "prior_adjustment": 1.0, "dropout": 0.1}
    params = hyperparameters(kind, max_epochs=5, learning_rate=3e-3, **every)
    scores = {}
    for accelerator in ("cpu", "gpu"):
        model = fresh(kind, params, embedding)
        trained, _ = run(model, learnable, params, accelerator=accelerator)
        scores[accelerator] = trained.summary["best"]["validation"]["balanced_accuracy"]
    assert scores["gpu"] == pytest.approx(scores["cpu"], abs=0.05)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_an_error(
    hyperparameters: MakeHyperparameters, make_titles: MakeTitles
) -> None:
    data, params = same_titles(10, make_titles), hyperparameters("mlp")
    with pytest.raises(ParamsError, match="accelerator: gpu"):
        run(Scripted([1]), data, params, accelerator="gpu")


@both
@pytest.mark.parametrize("patience", [0, 1])
def test_a_training_killed_after_its_last_epoch_resumes_to_the_same_result(
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
        outcomes.append(run(model, learnable, params, folder=tmp_path))
    (first, first_history), (second, second_history) = outcomes
    assert len(first_history) < 30 if patience else len(first_history) == 3
    assert second_history == first_history
    assert second.summary == first.summary
    assert equal(first.state, second.state)


@both
@pytest.mark.parametrize(
    ("failing", "damaged"),
    [pytest.param(1, "none", marks=pytest.mark.slow), (3, "none"), (3, "last.ckpt")],
)
def test_a_training_that_failed_resumes_to_the_same_result(
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
    options = {"schedule": "cosine", "dropout": 0.2, "label_doubt": 0.5, "prior_adjustment": 1.0}
    params = hyperparameters(kind, max_epochs=5, learning_rate=3e-3, **options)

    def attempt(folder: str, failing: int | None) -> tuple[TrainingResult, History]:
        def report(epoch: int, metrics: dict[str, float]) -> None:
            if epoch == failing:
                raise OSError("no space left on device")

        model, path = fresh(kind, params, embedding), tmp_path / folder
        return run(model, learnable, params, folder=path, report=report)

    whole, whole_history = attempt("whole", None)
    with pytest.raises(OSError, match="no space left"):
        attempt("stopped", failing)
    for file in tmp_path.glob(f"stopped/{damaged}"):
        os.truncate(file, file.stat().st_size // 2)
    capsys.readouterr()
    resumed, resumed_history = attempt("stopped", None)
    output = capsys.readouterr().err
    assert ("resuming after epoch" in output) == (damaged == "none")
    assert ("last.ckpt is damaged" in output) == (damaged != "none")
    assert f"epoch {whole.summary['best']['epoch'] + 1} of 5 " in output  # the chosen epoch
    assert len(whole_history) == 5
    assert resumed_history == whole_history
    assert resumed.summary == whole.summary
    assert equal(whole.state, resumed.state)


@both
def test_the_number_of_threads_does_not_change_the_weights(
    kind: str, fit: Fit, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcomes = []
    for threads in ("1", "2", "3"):
        monkeypatch.setenv("RUBRO_THREADS", threads)
        outcomes.append(fit(kind, max_epochs=3, batch_size=64, dropout=0.2, row_dropout=0.2)[1])
    first, *others = outcomes
    for other in others:
        assert other.summary == first.summary
        assert equal(first.state, other.state)
