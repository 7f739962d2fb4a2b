"""The model folders of a whole run: what they need, and what their networks say in torch."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from rubro.base.settings import load_params
from rubro.base.text import tokenise
from rubro.data.splits import load_split
from rubro.features.embedding import load_subwords
from rubro.features.featurizer import Featurizer
from rubro.features.titles import LabelledTitles, labels_of
from rubro.models.batches import Batches
from rubro.models.cnn import Cnn
from rubro.models.layers import ModelShape
from rubro.models.mlp import Mlp
from rubro.prediction.classifier import Classifier

pytest_plugins = ["tiny_project"]

MODELS = ("mlp", "cnn", "svm", "ensemble")
KINDS: dict[str, Any] = {"mlp": Mlp, "cnn": Cnn}


@pytest.fixture(scope="module")
def titles(first_project: Path) -> list[str]:
    """Every test title."""
    return load_split(first_project / "data" / "subset", "test")["title"].to_list()


@pytest.mark.parametrize("model", MODELS)
def test_a_model_folder_needs_nothing_beside_it(
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
    """The state of a network: int8 tables times the scale of each row."""
    stored = load_file(file)
    scales = {name: tensor for name, tensor in stored.items() if name.endswith(".scale")}
    state = {name: tensor for name, tensor in stored.items() if name not in scales}
    for name, scale in scales.items():
        table = name.removesuffix("scale") + "weight"
        assert state[table].dtype == torch.int8
        state[table] = state[table].float() * scale
    return state


def logits_in_torch(project: Path, name: str, titles: list[str]) -> np.ndarray:
    """What the module that was trained says, with the weights of the model folder."""
    params = load_params(project / "params.yaml")
    subwords = load_subwords(project / "models" / "embedding")
    sizes, hyperparameters = params.featurize, getattr(params, f"train_{name}")
    classes = Classifier.load(project / "models" / name).classes_
    shape = ModelShape(
        subwords.row_count, params.embed.vector_size, sizes.bigram_buckets, len(classes)
    )
    network = KINDS[name](shape, hyperparameters).eval()
    network.load_state_dict(weights_of(project / "models" / name / f"{name}.safetensors"))
    featurizer = Featurizer(subwords, sizes.max_tokens, sizes.bigram_buckets)
    features = featurizer([tokenise(title) for title in titles])
    labels = labels_of([classes[0]] * len(titles), ["reliable"] * len(titles), classes)
    batches = Batches(LabelledTitles(features, labels), featurizer.tokens(), len(titles))
    with torch.no_grad():
        (logits,) = (network(batch) for batch in batches)
    return np.asarray(logits.numpy())


@pytest.mark.parametrize("name", KINDS)
def test_the_classifier_says_what_the_trained_module_says(
    first_project: Path, titles: list[str], name: str
) -> None:
    classifier = Classifier.load(first_project / "models" / name)
    titles = [*titles, "", "?", "ñandú 3090 ti sin stock", " ".join(titles)]
    logits = logits_in_torch(first_project, name, titles)
    expected = classifier.description.calibration.probabilities(logits)
    found = classifier.predict_proba(titles)
    np.testing.assert_allclose(found, expected, atol=1e-4, rtol=0)
    assert classifier.predict(titles) == [classifier.classes_[i] for i in logits.argmax(axis=1)]


def test_the_ensemble_is_the_weighted_sum_of_the_models(
    first_project: Path, titles: list[str]
) -> None:
    ensemble = Classifier.load(first_project / "models" / "ensemble")
    weighted = [
        member.weight * Classifier.load(first_project / "models" / name).logits(titles)
        for name, member in ensemble.description.members.items()
    ]
    assert len(weighted) == 3
    np.testing.assert_allclose(ensemble.logits(titles), sum(weighted), atol=1e-4)
