"""Model folders of a whole run are self-contained and agree with the trained torch modules."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from rubro.base.params import CnnParams, MlpParams
from rubro.base.params_file import load_params
from rubro.base.text import tokenise
from rubro.data.splits import load_split
from rubro.features.featurizer import Featurizer
from rubro.features.titles import LabelledTitles, labels_of
from rubro.features.vocabulary import load_subwords
from rubro.models.batches import Batches
from rubro.models.cnn import Cnn
from rubro.models.layers import ModelShape
from rubro.models.mlp import Mlp
from rubro.prediction.classifier import Classifier
from support.tiny_project import change_params, run_here, run_in

pytest_plugins = ["support.tiny_project"]

MODELS = ("mlp", "cnn", "svm", "ensemble")
KINDS: dict[str, Any] = {"mlp": (Mlp, MlpParams), "cnn": (Cnn, CnnParams)}


@pytest.fixture(scope="module")
def titles(first_project: Path) -> list[str]:
    """Every test title."""
    return load_split(first_project / "data" / "subset", "test")["title"].to_list()


@pytest.mark.parametrize("model", MODELS)
def test_copied_model_folder_gives_same_predictions(
    first_project: Path,
    titles: list[str],
    model: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(first_project / "models" / model, tmp_path / "elsewhere")
    members = ["mlp", "cnn", "svm"] if model == "ensemble" else [model]
    files = {"model.json", "vocabulary.json", *(f"{member}.safetensors" for member in members)}
    assert {file.name for file in Path("elsewhere").iterdir()} == files
    here, there = Classifier.load(first_project / "models" / model), Classifier.load("elsewhere")
    np.testing.assert_array_equal(there.predict_proba(titles), here.predict_proba(titles))
    assert there.predict(titles) == here.predict(titles)
    assert len(set(there.predict(titles))) >= 11


def weights_of(file: Path) -> dict[str, torch.Tensor]:
    """Return the state dict of a network, with int8 tables multiplied by the scale of each row."""
    stored = load_file(file)
    scales = {name: tensor for name, tensor in stored.items() if name.endswith(".scale")}
    state = {name: tensor for name, tensor in stored.items() if name not in scales}
    for name, scale in scales.items():
        table = name.removesuffix("scale") + "weight"
        assert state[table].dtype == torch.int8
        state[table] = state[table].float() * scale
    return state


def logits_in_torch(project: Path, name: str, titles: list[str]) -> np.ndarray:
    """Return the logits of the torch module with the weights of the model folder."""
    params = load_params(project / "params.yaml")
    subwords = load_subwords(project / "data" / "vocabulary")
    sizes, (kind, all_params) = params.featurize, KINDS[name]
    hyperparameters = all_params.merged(params.networks, getattr(params, f"train_{name}"))
    classes = Classifier.load(project / "models" / name).classes_
    shape = ModelShape(
        subwords.row_count, params.embed.vector_size, sizes.bigram_buckets, len(classes)
    )
    network = kind(shape, hyperparameters).eval()
    network.load_state_dict(weights_of(project / "models" / name / f"{name}.safetensors"))
    featurizer = Featurizer(sizes.max_tokens, sizes.bigram_buckets)
    features = featurizer([tokenise(title) for title in titles])
    labels = labels_of([classes[0]] * len(titles), ["reliable"] * len(titles), classes)
    batches = Batches(LabelledTitles(features, labels), featurizer.tokens(subwords), len(titles))
    with torch.no_grad():
        (logits,) = (network(batch) for batch in batches)
    return np.asarray(logits.numpy())


@pytest.mark.parametrize("name", KINDS)
def test_classifier_agrees_with_torch_module(
    first_project: Path, titles: list[str], name: str
) -> None:
    classifier = Classifier.load(first_project / "models" / name)
    titles = [*titles, "", "?", "ñandú 3090 ti sin stock", " ".join(titles)]
    logits = classifier.combine({name: logits_in_torch(first_project, name, titles)})
    expected = classifier.calibration.probabilities(logits)
    found = classifier.predict_proba(titles)
    np.testing.assert_allclose(found, expected, atol=1e-4, rtol=0)
    assert classifier.predict(titles) == [classifier.classes_[i] for i in logits.argmax(axis=1)]


def test_training_titles_are_stored_on_request(project: Path) -> None:
    change_params(project, training_titles="true")
    code, messages = run_here(project, "ensemble")
    assert code == 0, messages
    table = load_split(project / "data" / "subset", "train")
    classifier = Classifier.load(project / "models" / "ensemble")
    for title in table["title"].iloc[[0, 100, -1]]:
        nearest = classifier.explain(title, nearest=5).nearest
        assert nearest[0].similarity == pytest.approx(1, abs=1e-6)
        own = table.loc[table["title"] == nearest[0].title, "category"]
        assert [nearest[0].category] == own.to_list()
        assert sorted(tokenise(nearest[0].title)) == sorted(tokenise(title))


@pytest.mark.slow
def test_thresholds_keep_promised_precision_on_test_titles(
    first_project: Path, tmp_path: Path
) -> None:
    subset, output = first_project / "data" / "subset", tmp_path / "thresholds.json"
    command = [sys.executable, "-m", "rubro.cli", "thresholds"]
    command += ["--model", str(first_project / "models" / "ensemble")]
    # A few dozen reliable titles cannot guarantee a high precision.
    precision = 0.6
    options = ["--precision", f"{precision}", "--output", str(output)]
    run_in(tmp_path, *command, str(subset / "validation.parquet"), *options)
    written = json.loads(output.read_text())
    assert written["all"]["low"] >= precision
    assert written["all"]["kept"] > 0.5 * written["all"]["titles"]
    test = str(subset / "test.parquet")
    checked = run_in(tmp_path, *command, test, "--check", str(output)).stdout
    (line,) = [line for line in checked.splitlines() if "all categories" in line]
    high = float(line.split()[-1].rpartition("-")[2].removesuffix("%")) / 100
    assert high >= precision
