"""Curves on disk always, on an MLflow server where there is one, and imports only when needed."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rubro.base.errors import RubroError
from rubro.base.files import write_json
from rubro.base.params import CnnParams, MlpParams, Params, TrainParams
from rubro.features.embedding import Embedding
from rubro.features.titles import TitleFeatures, Tokens, save_features
from rubro.models.cnn import Cnn
from rubro.models.folder import load_model
from rubro.models.inference import predict_logits
from rubro.models.mlp import Mlp
from rubro.prediction.calibration import Calibration
from rubro.training.loop import train_and_save
from rubro.training.tracking import tracked

pytest_plugins = ["helpers"]
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec.* is deprecated")

MakeHyperparameters = Callable[..., TrainParams]
Learnable = tuple[TitleFeatures, TitleFeatures, Tokens]
Train = Callable[..., None]

KINDS: dict[str, Any] = {"mlp": (Mlp, MlpParams), "cnn": (Cnn, CnnParams)}
CURVES = [
    f"{split}/{metric}"
    for split in ("train", "validation")
    for metric in ("accuracy", "balanced_accuracy", "loss")
]


@pytest.fixture
def workspace(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    learnable: Learnable,
    embedding: Embedding,
    labels: list[str],
) -> Path:
    """What the earlier stages write, in a folder that is the current one; no MLflow server."""
    train_split, validation, rows = learnable
    save_features(
        tmp_path / "data/features", {"train": train_split, "validation": validation}, rows
    )
    embedding.save(tmp_path / "models/embedding")
    write_json(tmp_path / "data/subset/labels.json", labels)
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith(("MLFLOW_", "DVC"))]:
        monkeypatch.delenv(name)
    return tmp_path


@pytest.fixture
def train(make_params: Callable[..., Params], hyperparameters: MakeHyperparameters) -> Train:
    """The training stage of a kind of model."""
    params = make_params({"accelerator": "cpu", "featurize.bigram_buckets": 64})

    def run(kind: str, **overrides: Any) -> None:
        train_and_save(KINDS[kind][0], kind, params, hyperparameters(kind, **overrides))

    return run


@pytest.fixture
def server(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """MLflow's client, of a store in a folder."""
    mlflow = pytest.importorskip("mlflow")
    uri = (workspace / "mlflow").as_uri()
    before = mlflow.get_tracking_uri()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri(uri)
    yield mlflow.MlflowClient(uri)
    mlflow.set_tracking_uri(before)


def runs_of(client: Any, experiment: str = "rubro") -> list[Any]:
    found = client.get_experiment_by_name(experiment)
    return list(client.search_runs([found.experiment_id]))


def curve(folder: Path, name: str) -> tuple[list[int], list[float]]:
    path = folder / "plots/metrics" / f"{name}.tsv"
    with open(path, newline="", encoding="utf-8") as file:
        points = list(csv.DictReader(file, delimiter="\t"))
    metric = name.split("/")[1]
    return [int(p["step"]) for p in points], [float(p[metric]) for p in points]


def curves_on_disk(folder: Path) -> list[str]:
    root = folder / "plots/metrics"
    return sorted(path.relative_to(root).with_suffix("").as_posix() for path in root.rglob("*.tsv"))


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_training_writes_six_curves_of_one_point_an_epoch(
    kind: str, workspace: Path, train: Train
) -> None:
    train(kind, max_epochs=3)
    folder = workspace / "metrics/curves" / kind
    assert curves_on_disk(folder) == CURVES
    summary = json.loads((workspace / f"metrics/train_{kind}.json").read_text(encoding="utf-8"))
    for name in CURVES:
        steps, values = curve(folder, name)
        assert steps == [0, 1, 2]
        split, metric = name.split("/")
        assert values[-1] == summary["last"][split][metric]
        assert values[summary["best"]["epoch"]] == summary["best"][split][metric]
    losses = curve(folder, "train/loss")[1]
    assert losses[-1] < losses[0]


def test_a_training_writes_a_model_that_loads_and_nothing_unexpected(
    workspace: Path, train: Train, labels: list[str]
) -> None:
    before = {path for path in workspace.rglob("*") if path.is_file()}
    train("mlp", max_epochs=1)
    written = {
        path.relative_to(workspace).as_posix()
        for path in workspace.rglob("*")
        if path.is_file() and path not in before and path.parent.name != "locks"
    }
    assert written == {
        *(f"metrics/curves/mlp/plots/metrics/{name}.tsv" for name in CURVES),
        "metrics/curves/mlp/metrics.json",
        "metrics/train_mlp.json",
        "models/mlp/model.json",
        "models/mlp/model.safetensors",
        "models/mlp/subwords.json",
        "models/mlp/vocabulary.json",
    }
    model: Any = load_model(Path("models/mlp"), *KINDS["mlp"])
    assert model.dense[-1].out_features == len(labels)


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_training_starts_from_the_vectors_asked_for(
    kind: str,
    train: Train,
    workspace: Path,
    embedding: Embedding,
    make_params: Callable[..., Params],
) -> None:
    starts = {"fasttext": embedding, "random": embedding.randomised(make_params().seed)}
    for initial, start in starts.items():
        # Frozen, so that the model that is saved has them still.
        train(kind, max_epochs=1, fine_tune_embedding=False, initial_embedding=initial)
        model: Any = load_model(Path(f"models/{kind}"), *KINDS[kind])
        vectors = model.token_vectors.table.weight.detach().numpy()
        np.testing.assert_array_equal(vectors, start.table)
    train(kind, max_epochs=1, initial_embedding="random", embedding_scale=0.05)
    model = load_model(Path(f"models/{kind}"), *KINDS[kind])
    vectors = model.token_vectors.table.weight.detach().numpy()
    assert np.corrcoef(vectors.ravel(), starts["random"].table.ravel())[0, 1] > 0.5
    assert abs(np.corrcoef(vectors.ravel(), starts["fasttext"].table.ravel())[0, 1]) < 0.3


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_a_training_saves_its_best_epoch_with_the_calibration_that_suits_validation(
    kind: str,
    precision: str,
    workspace: Path,
    train: Train,
    learnable: Learnable,
    labels: list[str],
) -> None:
    train_split, validation, rows = learnable
    targets = validation.targets.copy()
    targets[::8] = (targets[::8] + 1) % len(labels)
    validation = replace(validation, targets=targets)
    splits = {"train": train_split, "validation": validation}
    save_features(workspace / "data/features", splits, rows)
    rates = {"learning_rate": 0.05, "embedding_learning_rate": 0.05}
    train(kind, max_epochs=9, table_precision=precision, **rates)
    summary = json.loads((workspace / f"metrics/train_{kind}.json").read_text(encoding="utf-8"))
    assert summary["best"]["epoch"] < summary["last"]["epoch"]
    model: Any = load_model(Path(f"models/{kind}"), *KINDS[kind])
    assert model.calibration == Calibration(**summary["calibration"]) != Calibration()
    logits = predict_logits(model, validation, rows)

    def loss(calibration: Calibration) -> float:
        own = np.arange(len(validation)), validation.targets
        return float(-np.log(calibration.probabilities(logits)[own]).mean())

    assert loss(model.calibration) < loss(Calibration())
    if precision == "float32":
        assert loss(Calibration()) == pytest.approx(summary["best"]["validation"]["loss"], abs=1e-5)


@pytest.mark.parametrize("kind", list(KINDS))
def test_the_size_in_the_summary_is_that_of_the_model_folder(
    kind: str, workspace: Path, train: Train
) -> None:
    train(kind, max_epochs=1, hidden_sizes=[4000])
    summary = json.loads((workspace / f"metrics/train_{kind}.json").read_text(encoding="utf-8"))
    size = sum(path.stat().st_size for path in (workspace / "models" / kind).iterdir())
    assert summary["model_megabytes"] == round(size / 1e6, 1) > 0


def test_a_second_training_writes_the_same_bytes(workspace: Path, train: Train) -> None:
    def contents() -> dict[Path, bytes]:
        return {p: p.read_bytes() for p in workspace.rglob("*") if p.is_file()}

    train("cnn", max_epochs=2, dropout=0.2)
    first = contents()
    train("cnn", max_epochs=2, dropout=0.2)
    assert contents() == first


def test_curves_of_an_earlier_longer_training_do_not_linger(workspace: Path, train: Train) -> None:
    train("mlp", max_epochs=3)
    train("mlp", max_epochs=2)
    for name in CURVES:
        assert curve(workspace / "metrics/curves/mlp", name)[0] == [0, 1]


def test_a_training_that_stops_early_has_a_point_for_each_epoch_it_had(
    workspace: Path, train: Train
) -> None:
    rates = {"learning_rate": 1e-12, "embedding_learning_rate": 1e-12}
    train("mlp", max_epochs=9, early_stopping_patience=2, **rates)
    for name in CURVES:
        assert curve(workspace / "metrics/curves/mlp", name)[0] == [0, 1, 2]


def test_a_server_receives_parameters_curves_outcome_and_model(
    workspace: Path, train: Train, server: Any
) -> None:
    train("mlp", max_epochs=3)
    (run,) = runs_of(server)
    assert run.info.run_name == "train_mlp"
    assert run.info.status == "FINISHED"
    assert run.data.params["train_mlp.max_epochs"] == "3"
    assert run.data.params["train_mlp.hidden_sizes"] == "[16]"
    assert "seed" in run.data.params
    summary = json.loads(Path("metrics/train_mlp.json").read_text(encoding="utf-8"))
    for name in CURVES:
        history = server.get_metric_history(run.info.run_id, name)
        steps, values = curve(workspace / "metrics/curves/mlp", name)
        assert [point.step for point in history] == steps == [0, 1, 2]
        assert [point.value for point in history] == values
        split, metric = name.split("/")
        assert run.data.metrics[f"best/{name}"] == summary["best"][split][metric]
    stored = Path(server.download_artifacts(run.info.run_id, "model", str(workspace)))
    for path in Path("models/mlp").iterdir():
        if path != stored:
            assert (stored / path.name).read_bytes() == path.read_bytes()
    assert len(list(stored.iterdir())) == len(list(Path("models/mlp").iterdir())) == 4


def test_two_trainings_are_two_runs(workspace: Path, server: Any) -> None:
    for name in ("train_mlp", "train_cnn"):
        with tracked(workspace / "curves" / name, name, {name: {"a": 1}}) as tracker:
            tracker.log_epoch(0, {"train/loss": 1.0})
    assert {run.info.run_name for run in runs_of(server)} == {"train_mlp", "train_cnn"}


def test_runs_bear_the_names_that_the_user_set(
    workspace: Path, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "titles")
    monkeypatch.setenv("DVC_EXP_NAME", "wider")
    with tracked(workspace / "curves", "train_mlp", {"train_mlp": {"deep": {"er": None}}}):
        pass
    (run,) = runs_of(server, "titles")
    assert run.info.run_name == "wider train_mlp"
    assert run.data.params == {"train_mlp.deep.er": "None"}


def test_a_training_that_fails_is_a_failed_run_with_the_curves_so_far(
    workspace: Path, server: Any
) -> None:
    with (
        pytest.raises(RuntimeError, match="out of memory"),
        tracked(workspace / "curves", "train_mlp", {}) as tracker,
    ):
        tracker.log_epoch(0, {"train/loss": 2.0})
        raise RuntimeError("out of memory")
    (run,) = runs_of(server)
    assert run.info.status == "FAILED"
    assert run.data.metrics["train/loss"] == 2.0
    assert curve(workspace / "curves", "train/loss") == ([0], [2.0])


def test_a_tracking_uri_that_mlflow_refuses_is_an_error_for_the_user(
    workspace: Path, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    mlflow.set_tracking_uri("nonsense://nowhere")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nonsense://nowhere")
    with (
        pytest.raises(RubroError, match="MLFLOW_TRACKING_URI"),
        tracked(workspace / "curves", "train_mlp", {}),
    ):
        pass


def modules_after(code: str, folder: Path, **environment: str) -> set[str]:
    """The modules that a fresh interpreter has imported when it has run this code."""
    script = f"{code}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "DVC"))}
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=folder,
        env={**clean, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


TRACK = """
from pathlib import Path
from rubro.training.tracking import tracked
with tracked(Path("curves"), "train_mlp", {"seed": 1}) as tracker:
    tracker.log_epoch(0, {"train/loss": 1.0})
    tracker.log_outcome({"best/train/loss": 1.0}, Path("."))
"""


@pytest.mark.parametrize("environment", [{}, {"MLFLOW_TRACKING_URI": ""}])
def test_without_a_server_mlflow_is_not_imported(
    environment: dict[str, str], tmp_path: Path
) -> None:
    modules = modules_after(TRACK, tmp_path, **environment)
    assert "dvclive" in modules
    assert "mlflow" not in modules
    assert curve(tmp_path / "curves", "train/loss") == ([0], [1.0])


def test_with_a_server_but_without_mlflow_a_message_says_so_and_curves_are_kept(
    tmp_path: Path,
) -> None:
    # None in sys.modules is how Python itself marks a module that cannot be imported.
    missing = "import sys\nsys.modules['mlflow'] = None\n"
    heard = "import io\nfrom rubro import console\nconsole.console.file = io.StringIO()\n"
    said = "assert '.[mlflow]' in console.console.file.getvalue()\n"
    modules_after(missing + heard + TRACK + said, tmp_path, MLFLOW_TRACKING_URI="http://localhost")
    assert curve(tmp_path / "curves", "train/loss") == ([0], [1.0])


@pytest.mark.parametrize(
    ("modules", "heavy"),
    [
        (
            "rubro.data.sources, rubro.data.subset, rubro.base.params, rubro.base.console, rubro.cli",
            {"torch", "lightning", "gensim", "dvclive", "mlflow"},
        ),
        (
            "rubro.features.titles, rubro.features.embedding, rubro.base.text, rubro.data.splits, rubro.evaluation.metrics",
            {"torch", "lightning", "gensim", "dvclive", "mlflow"},
        ),
        (
            "rubro.prediction.calibration, rubro.evaluation.significance",
            {"torch", "lightning", "gensim", "dvclive", "mlflow"},
        ),
        ("rubro.training.fasttext", {"torch", "lightning", "dvclive", "mlflow"}),
        (
            "rubro.evaluation.tables, rubro.models.inference, rubro.models.mlp, rubro.models.cnn",
            {"lightning", "gensim", "dvclive", "mlflow"},
        ),
    ],
    ids=["data", "features", "statistics", "fasttext", "evaluation"],
)
def test_a_module_imports_no_library_that_is_not_its_subject(
    modules: str, heavy: set[str], tmp_path: Path
) -> None:
    assert modules_after(f"import {modules}", tmp_path) & heavy == set()


def test_a_server_that_fails_half_way_does_not_cost_the_training(
    workspace: Path, server: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    with tracked(workspace / "curves", "train_mlp", {}) as tracker:
        tracker.log_epoch(0, {"train/loss": 2.0})
        shutil.rmtree(workspace / "mlflow")
        tracker.log_epoch(1, {"train/loss": 1.0})
    assert capfd.readouterr().err.count("the training goes on without it") == 1
    assert curve(workspace / "curves", "train/loss") == ([0, 1], [2.0, 1.0])
