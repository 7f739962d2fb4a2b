"""Training stages and the ensemble stage: outputs, calibration, curves and MLflow runs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score

from rubro.base.errors import TrainingError
from rubro.base.params import Params
from rubro.data.splits import SourceInfo, load_split, save_splits
from rubro.features.embedding import Embedding
from rubro.features.titles import LabelledTitles, Labels, class_shares, save_features
from rubro.features.vocabulary import save_subwords
from rubro.prediction.calibration import Calibration, softmax
from rubro.prediction.classifier import Classifier
from rubro.prediction.folder import Model
from rubro.prediction.networks import Table
from rubro.prediction.thresholds import Thresholds
from rubro.training.calibration import fit_calibration
from rubro.training.ensemble import member_weights
from support.curves import CURVES, curve, curves_on_disk, post, serving, trainings_of
from support.keyword_model import called
from support.tiny_models import (
    BIGRAM_BUCKETS,
    LABELS,
    MAX_TOKENS,
    MEMBERS,
    NETWORKS,
    Learnable,
    MakeHyperparameters,
    MakeParams,
)

pytest_plugins = ["support.curves", "support.tiny_models"]
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec.* is deprecated")

TABLE = "token_vectors.table"
Train = Callable[..., dict[str, Any]]
both = pytest.mark.parametrize("kind", list(NETWORKS))


@pytest.fixture(scope="session")
def stage(project_root: Path) -> Iterator[Callable[[str], Any]]:
    """Function that imports a file of stages/; its changes of the environment are undone."""
    variables, path = dict(os.environ), list(sys.path)
    sys.path.insert(0, str(project_root / "stages"))
    import_module("process_setup")
    yield import_module
    os.environ.clear()
    os.environ.update(variables)
    sys.path[:] = path


def write_titles(
    folder: Path,
    learnable: Learnable,
    texts: list[str],
    validation_targets: np.ndarray,
    reliable: np.ndarray,
) -> None:
    """Write data/subset and data/features with the given labels of the validation titles."""
    train, validation, tokens = learnable
    labels = Labels(validation_targets.astype(np.int32), reliable)
    splits = {"train": train, "validation": LabelledTitles(validation.features, labels)}
    save_features(folder / "data/features", splits, tokens)
    parts = {"train": texts[: len(train)], "validation": texts[len(train) :]}
    tables = {
        name: pd.DataFrame(
            {
                "title": parts[name],
                "category": [LABELS[target] for target in splits[name].labels.targets],
                "label_quality": np.where(splits[name].labels.reliable, "reliable", "unreliable"),
            }
        )
        for name in splits
    }
    info = SourceInfo(title_column="title", category_column="category", max_title_length=1000)
    save_splits(folder / "data/subset", tables, LABELS, info)


@pytest.fixture
def workspace(
    elsewhere: Path,
    learnable: Learnable,
    learnable_texts: tuple[list[str], list[int]],
    embedding: Embedding,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """Current folder with the outputs of the stages before the training."""
    targets = learnable[1].labels.targets
    write_titles(elsewhere, learnable, learnable_texts[0], targets, np.ones(len(targets), bool))
    embedding.save(elsewhere / "models/embedding")
    save_subwords(elsewhere / "data/vocabulary", embedding.subwords)
    return elsewhere


@pytest.fixture
def params_of(make_params: MakeParams) -> MakeParams:
    def make(**changes: Any) -> Params:
        sizes = {"featurize.bigram_buckets": BIGRAM_BUCKETS, "featurize.max_tokens": MAX_TOKENS}
        return make_params({"accelerator": "cpu", "final_fit": False, **sizes, **changes})

    return make


@pytest.fixture
def train(
    workspace: Path,
    stage: Callable[[str], Any],
    params_of: MakeParams,
    hyperparameters: MakeHyperparameters,
) -> Train:
    """Function that runs the training stage of a network and returns its metrics."""

    def run(kind: str, min_reliable_titles: int = 1, **overrides: Any) -> dict[str, Any]:
        params = params_of(min_reliable_titles=min_reliable_titles)
        chosen = hyperparameters(kind, **overrides)
        stage("train_network").train_network(kind, NETWORKS[kind], MEMBERS[kind], params, chosen)
        return metrics_of(workspace, f"train_{kind}")

    return run


def metrics_of(folder: Path, stage: str) -> dict[str, Any]:
    metrics: dict[str, Any] = json.loads((folder / f"metrics/{stage}.json").read_text("utf-8"))
    return metrics


def table_of(folder: Path, kind: str) -> np.ndarray:
    """Return the embedding table of a model."""
    tensors = Model.load(folder / "models" / kind).tensors[kind]
    return Table(tensors, TABLE)(np.arange(len(tensors[f"{TABLE}.weight"])))


# Networks


@both
def test_a_training_writes_curves_with_a_point_per_epoch(
    kind: str, workspace: Path, train: Train
) -> None:
    summary = train(kind, max_epochs=3)
    folder = workspace / "metrics/curves" / kind
    assert curves_on_disk(folder) == CURVES
    for name in CURVES:
        steps, values = curve(folder, name)
        assert steps == [0, 1, 2]
        split, metric = name.split("/")
        assert values[-1] == summary["last"][split][metric]
        assert values[summary["best"]["epoch"]] == summary["best"][split][metric]
    losses = curve(folder, "train/loss")[1]
    assert losses[-1] < losses[0]


def test_a_training_writes_only_the_declared_files(workspace: Path, train: Train) -> None:
    before = {path for path in workspace.rglob("*") if path.is_file()}
    summary = train("mlp", max_epochs=1, hidden_sizes=[4000])
    written = {
        path.relative_to(workspace).as_posix()
        for path in workspace.rglob("*")
        if path.is_file() and path not in before and path.parent.name != "locks"
    }
    assert written == {
        *(f"metrics/curves/mlp/plots/metrics/{name}.tsv" for name in CURVES),
        "metrics/curves/mlp/metrics.json",
        "metrics/train_mlp.json",
        "data/validation_logits/mlp.safetensors",
        "models/mlp/model.json",
        "models/mlp/mlp.safetensors",
        "models/mlp/vocabulary.json",
    }
    description = Model.load(workspace / "models/mlp").description
    assert description.labels == LABELS
    assert description.name == "mlp"
    assert description.text.model_dump() == {
        "title_column": "title",
        "category_column": "category",
        "max_title_length": 1000,
        "max_tokens": MAX_TOKENS,
        "bigram_buckets": BIGRAM_BUCKETS,
        "columns": [],
    }
    training = description.members["mlp"].training
    assert (training["max_epochs"], training["hidden_sizes"]) == (1, [4000])
    size = sum(path.stat().st_size for path in (workspace / "models/mlp").iterdir())
    assert summary["model_megabytes"] == round(size / 1e6, 1) > 0
    assert training.keys() > {"seed", "torch_version", "machine", "device", "devices"}


@both
def test_a_training_starts_from_the_chosen_vectors(
    kind: str, train: Train, workspace: Path, embedding: Embedding, make_params: MakeParams
) -> None:
    starts = {"fasttext": embedding, "random": embedding.randomised(make_params().seed)}
    for initial, start in starts.items():
        # The saved model still has the initial vectors, because they are frozen.
        train(kind, max_epochs=1, fine_tune_embedding=False, initial_embedding=initial)
        np.testing.assert_array_equal(table_of(workspace, kind), start.table)
    train(kind, max_epochs=1, initial_embedding="random", embedding_scale=0.05)
    vectors = table_of(workspace, kind).ravel()
    assert np.corrcoef(vectors, starts["random"].table.ravel())[0, 1] > 0.5
    assert abs(np.corrcoef(vectors, starts["fasttext"].table.ravel())[0, 1]) < 0.3


@both
@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_a_training_saves_its_best_epoch_calibrated_on_validation(
    kind: str,
    precision: str,
    workspace: Path,
    train: Train,
    learnable: Learnable,
    learnable_texts: tuple[list[str], list[int]],
) -> None:
    texts = learnable_texts[0]
    targets = learnable[1].labels.targets.copy()
    targets[::8] = (targets[::8] + 1) % len(LABELS)
    write_titles(workspace, learnable, texts, targets, np.ones(len(targets), dtype=bool))
    rates = {"learning_rate": 0.05, "embedding_learning_rate": 0.05}
    summary = train(kind, max_epochs=9, table_precision=precision, **rates)
    assert summary["best"]["epoch"] < summary["last"]["epoch"]
    classifier = Classifier.load(workspace / "models" / kind)
    calibration = classifier.calibration
    decision = classifier.description.decision
    assert decision.shift == summary["shift"]["balanced_accuracy"]
    assert decision.shift == 0
    assert calibration != Calibration()
    logits = classifier.logits(texts[160:])
    assert calibration == fit_calibration(logits, targets)

    def loss(probabilities: np.ndarray) -> float:
        return float(-np.log(probabilities[np.arange(len(targets)), targets]).mean())

    assert loss(calibration.probabilities(logits)) < loss(softmax(logits))
    predictions = logits.argmax(axis=1)
    assert summary["validation"] == {
        "titles": 80,
        "accuracy": pytest.approx(accuracy_score(targets, predictions), abs=1e-6),
        "balanced_accuracy": pytest.approx(balanced_accuracy_score(targets, predictions), abs=1e-6),
        "macro_f1": pytest.approx(f1_score(targets, predictions, average="macro"), abs=1e-6),
    }
    if precision == "float32":
        best = summary["best"]["validation"]
        assert loss(softmax(logits)) == pytest.approx(best["loss"], abs=1e-5)
        assert summary["validation"]["accuracy"] == best["accuracy"]


@pytest.mark.parametrize(("minimum", "titles"), [(40, 40), (41, 80)])
def test_only_reliable_titles_are_used_for_selection_if_there_are_enough(
    minimum: int,
    titles: int,
    workspace: Path,
    train: Train,
    learnable: Learnable,
    learnable_texts: tuple[list[str], list[int]],
) -> None:
    texts, targets = learnable_texts[0], learnable[1].labels.targets.copy()
    reliable = np.arange(80) % 8 < 4
    targets[~reliable] = (targets[~reliable] + 1) % len(LABELS)  # all wrong
    write_titles(workspace, learnable, texts, targets, reliable)
    rates = {"learning_rate": 0.03, "embedding_learning_rate": 0.03}
    summary = train("mlp", min_reliable_titles=minimum, max_epochs=9, **rates)
    assert summary["validation"]["titles"] == titles
    for measured in (summary["validation"], summary["best"]["validation"]):
        assert (measured["accuracy"] > 0.8) == (titles == 40)
    chosen = reliable if titles == 40 else np.ones(80, dtype=bool)
    classifier = Classifier.load(workspace / "models/mlp")
    logits = classifier.logits([text for text, own in zip(texts[160:], chosen, strict=True) if own])
    assert classifier.calibration == fit_calibration(logits, targets[chosen])


@both
def test_a_final_fit_uses_validation_titles_and_keeps_the_decisions(
    workspace: Path,
    stage: Callable[[str], Any],
    params_of: MakeParams,
    hyperparameters: MakeHyperparameters,
    kind: str,
) -> None:
    chosen = hyperparameters(kind, max_epochs=6)
    models, summaries = {}, {}
    for final in (False, True):
        params = params_of(min_reliable_titles=1, final_fit=final)
        stage("train_network").train_network(kind, NETWORKS[kind], MEMBERS[kind], params, chosen)
        stage("train_svm").main(params)
        for name in (kind, "svm"):
            models[name, final] = Model.load(workspace / "models" / name)
            summaries[name, final] = metrics_of(workspace, f"train_{name}")
    for name in (kind, "svm"):
        before, after = (models[name, final] for final in (False, True))
        assert (before.description.final_fit, after.description.final_fit) == (False, True)
        assert before.description.decisions == after.description.decisions
        for key in ("validation", "shift"):
            assert summaries[name, False][key] == summaries[name, True][key]
        left, right = (each.tensors[name] for each in (before, after))
        assert any(not np.array_equal(left[key], right[key]) for key in left)


def test_a_final_fit_that_is_interrupted_at_its_start_gives_the_same_model(
    workspace: Path,
    stage: Callable[[str], Any],
    params_of: MakeParams,
    hyperparameters: MakeHyperparameters,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RUBRO_CHECKPOINT_SECONDS", "0")
    module, params = stage("train_network"), params_of(min_reliable_titles=1, final_fit=True)
    chosen = hyperparameters("mlp", max_epochs=2)
    fit, models = module.train, []

    def interrupted(*args: Any, **options: Any) -> Any:
        if options.get("last_epoch") is not None:
            raise KeyboardInterrupt
        return fit(*args, **options)

    for interrupt in (False, True):
        if interrupt:
            with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
                patch.setattr(module, "train", interrupted)
                module.train_network("mlp", NETWORKS["mlp"], MEMBERS["mlp"], params, chosen)
        module.train_network("mlp", NETWORKS["mlp"], MEMBERS["mlp"], params, chosen)
        models.append((workspace / "models/mlp/mlp.safetensors").read_bytes())
    assert models[0] == models[1]


def test_curves_end_with_the_training_and_replace_longer_curves(
    workspace: Path, train: Train
) -> None:
    train("mlp", max_epochs=4)
    rates = {"learning_rate": 1e-12, "embedding_learning_rate": 1e-12}
    train("mlp", max_epochs=9, early_stopping_patience=2, **rates)
    for name in CURVES:
        assert curve(workspace / "metrics/curves/mlp", name)[0] == [0, 1, 2]


def test_an_mlflow_server_receives_parameters_curves_outcome_and_model(
    workspace: Path, mlflow_client: Any, train: Train
) -> None:
    summary = train("mlp", max_epochs=3)
    (run,) = trainings_of(mlflow_client)
    assert run.info.run_name == "train_mlp"
    assert run.info.status == "FINISHED"
    assert run.data.params["train_mlp.max_epochs"] == "3"
    assert run.data.params["train_mlp.hidden_sizes"] == "[16]"
    assert "train_mlp.seed" in run.data.params
    for name in CURVES:
        history = mlflow_client.get_metric_history(run.info.run_id, name)
        steps, values = curve(workspace / "metrics/curves/mlp", name)
        assert [point.step for point in history] == steps == [0, 1, 2]
        assert [point.value for point in history] == values
        split, metric = name.split("/")
        assert run.data.metrics[f"best/{name}"] == summary["best"][split][metric]
    check_model(f"runs:/{run.info.run_id}/model", Path("models/mlp"))


def check_model(uri: str, folder: Path) -> None:
    """Check that an MLflow model gives the same answers as the model folder."""
    import mlflow

    titles = ["apple", "", "new hammer"]
    table = pd.DataFrame({"id": [1, 2, 3], "title": titles}, index=[7, 7, 9])
    answers = mlflow.pyfunc.load_model(uri).predict(table)
    classifier = Classifier.load(folder)
    assert answers["predicted_category"].to_list() == [
        category if title else ""
        for category, title in zip(classifier.predict(titles), titles, strict=True)
    ]
    confidences = classifier.predict_proba(titles).max(axis=1)
    confidences[1] = 0
    np.testing.assert_allclose(answers["confidence"], confidences, atol=1e-6)
    assert answers.index.to_list() == table.index.to_list()


# The SVM and the ensemble


@pytest.fixture
def three_models(
    workspace: Path, stage: Callable[[str], Any], train: Train, params_of: MakeParams
) -> Path:
    """Workspace with three trained models; only the SVM is accurate."""
    for kind in NETWORKS:
        train(kind, max_epochs=1, table_precision="int8", learning_rate=1e-3)
    stage("train_svm").main(params_of(min_reliable_titles=1))
    return workspace


@pytest.mark.filterwarnings("error")
def test_an_svm_with_infinite_weights_is_not_written(
    workspace: Path, stage: Callable[[str], Any], params_of: MakeParams
) -> None:
    with pytest.raises(TrainingError, match=r"svm: .*C of the SVM"):
        stage("train_svm").main(params_of(min_reliable_titles=1, **{"train_svm.C": 1e308}))
    assert not (workspace / "models/svm").exists()


def test_the_ensemble_sums_the_weighted_logits_of_three_models(
    three_models: Path,
    stage: Callable[[str], Any],
    params_of: MakeParams,
    learnable_texts: tuple[list[str], list[int]],
) -> None:
    folder, texts = three_models, learnable_texts[0]
    targets = np.array(learnable_texts[1][160:])
    svm = metrics_of(folder, "train_svm")
    tensors = Model.load(folder / "models/svm").tensors["svm"]
    assert svm["weights"] == len(tensors["weights"]) > 100
    assert svm["validation"]["accuracy"] > 0.9
    stage("ensemble").main(params_of(min_reliable_titles=1))
    written = metrics_of(folder, "ensemble")
    logits = {
        name: Classifier.load(folder / "models" / name).logits(texts[160:])
        for name in ("mlp", "cnn", "svm")
    }
    counts = np.bincount(learnable_texts[1][:160])
    assert written["weights"] == member_weights(
        logits, targets, np.log(class_shares(counts)), "balanced_accuracy"
    )
    assert "svm" in written["weights"]
    assert written["validation"]["accuracy"] > 0.9
    together = Classifier.load(folder / "models/ensemble")
    summed = sum(weight * logits[name] for name, weight in written["weights"].items())
    np.testing.assert_allclose(together.logits(texts[160:]), summed, atol=1e-4)
    decisions = together.description.decisions
    assert {name: each.shift for name, each in decisions.items()} == written["shift"]
    assert decisions.keys() == {"balanced_accuracy", "accuracy", "macro_f1"}
    for name in written["weights"]:
        own_file = folder / "models" / name / f"{name}.safetensors"
        assert (folder / "models/ensemble" / own_file.name).read_bytes() == own_file.read_bytes()
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    stage("ensemble").main(params_of(min_reliable_titles=1))
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before


def test_the_folder_of_the_ensemble_contains_the_thresholds_of_the_command(
    three_models: Path, stage: Callable[[str], Any], params_of: MakeParams
) -> None:
    stage("ensemble").main(params_of(min_reliable_titles=1, **{"thresholds.precision": 0.6}))
    path = three_models / "models/ensemble/thresholds.json"
    command = "thresholds", "--precision", "0.6", "--output", "chosen.json"
    assert called(three_models, *command).returncode == 0
    assert path.read_bytes() == (three_models / "chosen.json").read_bytes()
    assert Thresholds.load(path, path.parent, Classifier.load(path.parent).description).all.kept
    for precision in (None, 0.99):  # no promise, and a promise that 40 titles cannot keep
        stage("ensemble").main(
            params_of(min_reliable_titles=1, **{"thresholds.precision": precision})
        )
        assert not path.exists()
        stage("ensemble").main(params_of(min_reliable_titles=1, **{"thresholds.precision": 0.6}))


def test_an_mlflow_server_receives_the_svm_and_the_ensemble(
    mlflow_client: Any, three_models: Path, stage: Callable[[str], Any], params_of: MakeParams
) -> None:
    stage("ensemble").main(params_of(min_reliable_titles=1))
    runs = {run.info.run_name: run for run in trainings_of(mlflow_client)}
    assert runs.keys() == {"train_mlp", "train_cnn", "train_svm", "ensemble"}
    assert "train_svm.C" in runs["train_svm"].data.params
    for name, folder in (("train_svm", "svm"), ("ensemble", "ensemble")):
        run = runs[name]
        assert run.info.status == "FINISHED"
        measured = metrics_of(three_models, name)["validation"]
        assert run.data.metrics["model/validation/accuracy"] == measured["accuracy"]
        check_model(f"runs:/{run.info.run_id}/model", Path("models") / folder)


@pytest.mark.slow
def test_an_mlflow_process_receives_a_training_and_serves_its_model(
    workspace: Path, mlflow_command: str, monkeypatch: pytest.MonkeyPatch, train: Train
) -> None:
    import mlflow

    backend = ["--backend-store-uri", f"sqlite:///{workspace}/mlflow.db"]
    artifacts = ["--artifacts-destination", str(workspace / "artifacts"), "--workers", "1"]
    with serving(mlflow_command, "/health", "server", *backend, *artifacts) as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        mlflow.set_tracking_uri(address)
        train("mlp", max_epochs=2)
        (run,) = trainings_of(mlflow.MlflowClient(address))
        assert run.info.status == "FINISHED"
        assert run.data.params["train_mlp.max_epochs"] == "2"
        history = mlflow.MlflowClient(address).get_metric_history(run.info.run_id, CURVES[0])
        assert [point.step for point in history] == [0, 1]
        uri = f"runs:/{run.info.run_id}/model"
        check_model(uri, Path("models/mlp"))
        options = ["--model-uri", uri, "--env-manager", "local"]
        with serving(mlflow_command, "/ping", "models", "serve", *options) as model:
            body = {"dataframe_records": [{"title": "apple"}, {"title": ""}]}
            first, second = post(f"{model}/invocations", body)["predictions"]
    assert [first["predicted_category"]] == Classifier.load("models/mlp").predict(["apple"])
    assert 0.25 < first["confidence"] <= 1
    assert second == {"predicted_category": "", "confidence": 0.0}


def test_an_ensemble_with_one_member_equals_the_model(
    three_models: Path, stage: Callable[[str], Any], params_of: MakeParams
) -> None:
    stage("ensemble").main(params_of(min_reliable_titles=1, **{"ensemble.members": ["svm"]}))
    assert metrics_of(three_models, "ensemble")["weights"] == {"svm": 1.0}
    titles = load_split(three_models / "data/subset", "validation")["title"].to_list()
    one, other = (Classifier.load(three_models / "models" / n) for n in ("ensemble", "svm"))
    np.testing.assert_array_equal(one.predict_proba(titles), other.predict_proba(titles))
