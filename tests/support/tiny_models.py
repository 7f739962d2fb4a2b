"""Fixtures: titles that are learned in a few epochs, and networks and models with random weights.

A test file imports them with `pytest_plugins = ["support.tiny_models"]`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from rubro.base.category_tree import CategoryTree
from rubro.base.params import CnnParams, MlpParams, NetworksParams, Params, TrainParams
from rubro.features.embedding import Embedding
from rubro.features.featurizer import Featurizer, Tokens
from rubro.features.subwords import SubwordParams, Subwords
from rubro.features.titles import LabelledTitles, Labels
from rubro.models.batches import Batch, Batches, gather
from rubro.models.cnn import Cnn
from rubro.models.layers import ModelShape, Network, stored
from rubro.models.mlp import Mlp
from rubro.prediction.folder import (
    AnyMember,
    CnnMember,
    MlpMember,
    Model,
    ModelColumn,
    ModelDescription,
    SvmMember,
    TextParams,
)
from rubro.training.optimizers import taken_row_gradient

LABELS = ["FRUIT", "TOOL", "SHOE", "PHONE"]
# Paths of the same categories.
PATHS = ["Food > Fruit", "Home > Garage > Tool", "Home > Garage > Shoe", "Phone"]
TREE = CategoryTree(
    separator=" > ", order="root_first", paths={path: path.split(" > ") for path in PATHS}
)
WORDS = [
    ["apple", "pear", "mango", "melon", "cherry"],
    ["hammer", "drill", "saw", "pliers", "wrench"],
    ["boot", "sandal", "sneaker", "heel", "slipper"],
    ["nokia", "screen", "charger", "battery", "antenna"],
]
COMMON = ["new", "red", "offer"]
# Not in the vocabulary, so that they only have rows of n-grams.
OUT_OF_VOCABULARY = ["cherry", "antenna"]
VECTOR_SIZE = 8
BIGRAM_BUCKETS = 64
MAX_TOKENS = 20
NETWORKS: dict[str, Any] = {"mlp": Mlp, "cnn": Cnn}
MEMBERS: dict[str, Any] = {"mlp": MlpMember, "cnn": CnnMember}

Learnable = tuple[LabelledTitles, LabelledTitles, Tokens]
MakeParams = Callable[..., Params]
MakeTitles = Callable[..., tuple[LabelledTitles, Tokens]]
MakeHyperparameters = Callable[..., TrainParams]
MakeNetwork = Callable[..., Network]
MakeModel = Callable[..., Model]


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def subwords() -> Subwords:
    """Vocabulary of all words except OUT_OF_VOCABULARY, with hashed n-grams."""
    words = [word for group in [*WORDS, COMMON] for word in group]
    known = {word: 1 + n for n, word in enumerate(words) if word not in OUT_OF_VOCABULARY}
    return Subwords(known, SubwordParams(min_n=3, max_n=4, buckets=40, titles=100))


def whole_words(vocabulary: dict[str, int], titles: int = 100) -> Subwords:
    """Return subwords without n-grams."""
    return Subwords(vocabulary, SubwordParams(min_n=1, max_n=0, buckets=0, titles=titles))


@pytest.fixture(scope="session")
def embedding(subwords: Subwords) -> Embedding:
    """Random vectors, which contain no information about the words."""
    random = np.random.default_rng(5)
    return Embedding(
        subwords, random.normal(size=(subwords.row_count, VECTOR_SIZE)).astype(np.float32)
    )


@pytest.fixture(scope="session")
def make_titles(subwords: Subwords) -> MakeTitles:
    """Function that returns titles, given as tokens separated by spaces, and their distinct tokens.

    With several columns, each title is followed by the texts of its further columns.
    """

    def make(
        titles: list[str],
        targets: list[int] | None = None,
        reliable: list[bool] | None = None,
        subwords: Subwords = subwords,
        bigram_buckets: int = BIGRAM_BUCKETS,
        max_tokens: int = MAX_TOKENS,
        columns: int = 1,
    ) -> tuple[LabelledTitles, Tokens]:
        featurizer = Featurizer(max_tokens, bigram_buckets, [max_tokens] * (columns - 1))
        features = featurizer([title.split() for title in titles])
        labels = Labels(
            np.array(targets or [0] * len(features), dtype=np.int32),
            np.array(reliable or [True] * len(features), dtype=bool),
        )
        return LabelledTitles(features, labels), featurizer.tokens(subwords)

    return make


@pytest.fixture(scope="session")
def learnable_texts() -> tuple[list[str], list[int]]:
    """240 titles of up to 6 words, some common to all classes, and their targets."""
    random = np.random.default_rng(11)
    texts, targets = [], []
    for position in range(240):
        target = position % len(LABELS)
        words = list(random.choice(WORDS[target], random.integers(1, 4)))
        words += list(random.choice(COMMON, random.integers(0, 4)))
        texts.append(" ".join(words) if position != 7 else "")
        targets.append(target)
    return texts, targets


@pytest.fixture(scope="session")
def learnable(make_titles: MakeTitles, learnable_texts: tuple[list[str], list[int]]) -> Learnable:
    """160 training titles and 80 validation titles from learnable_texts."""
    titles, tokens = make_titles(*learnable_texts)
    return titles.take(np.arange(160)), titles.take(np.arange(160, 240)), tokens


@pytest.fixture(scope="session")
def hyperparameters(make_params: MakeParams) -> MakeHyperparameters:
    """Function that returns small hyperparameters of an "mlp" or "cnn", with overrides."""

    def make(name: str, **overrides: Any) -> TrainParams:
        values: dict[str, Any] = {
            "hidden_sizes": [16],
            "max_epochs": 3,
            "batch_size": 32,
            "optimizer": "adamw",
            "learning_rate": 1e-2,
            "embedding_learning_rate": 1e-2,
            "initial_embedding": "fasttext",
            "embedding_scale": None,
            "schedule": "constant",
            "early_stopping_patience": 0,
            "fine_tune_embedding": True,
            "pooling": "sqrt",
            "token_weighting": "none",
            "class_weights": "off",
            "label_quality": "ignore",
            "table_precision": "float32",
        }
        switched_off = ["weight_decay", "warmup_share", "row_dropout", "dropout", "label_doubt"]
        switched_off += ["label_smoothing", "prior_adjustment"]
        values |= dict.fromkeys(switched_off, 0.0)
        if name == "cnn":
            values |= {"filters": 8, "filter_sizes": [1, 2, 3], "linear_path": True}
        values |= overrides
        shared = NetworksParams.model_fields
        params = make_params(
            {
                f"{'networks' if key in shared else f'train_{name}'}.{key}": value
                for key, value in values.items()
            }
        )
        if name == "cnn":
            return CnnParams.merged(params.networks, params.train_cnn)
        return MlpParams.merged(params.networks, params.train_mlp)

    return make


@pytest.fixture(scope="session")
def make_network(embedding: Embedding, hyperparameters: MakeHyperparameters) -> MakeNetwork:
    """Function that returns an "mlp" or "cnn" whose weights, also of bigrams, are all random."""

    def make(
        name: str, bigram_buckets: int = BIGRAM_BUCKETS, columns: int = 1, **overrides: Any
    ) -> Network:
        torch.manual_seed(3)
        rows, size = embedding.table.shape
        shape = ModelShape(rows, size, bigram_buckets, len(LABELS), columns)
        network: Network = NETWORKS[name](shape, hyperparameters(name, **overrides))
        for weight in network.parameters():
            nn.init.normal_(weight, std=0.5)
        return network.eval()

    return make


def network_member(
    name: str, network: Network, params: TrainParams
) -> tuple[AnyMember, dict[str, np.ndarray]]:
    """Return the description of a network as a member of a model, and its tensors."""
    kind = MEMBERS[name]
    own = {key: value for key, value in params.model_dump().items() if key in kind.model_fields}
    size = network.token_vectors.table.weight.shape[1]
    return kind(vector_size=size, **own), stored(network, params.table_precision)


def random_svm(inputs: int, seed: int = 6) -> tuple[SvmMember, dict[str, np.ndarray]]:
    """Return the description and tensors of an SVM with random weights, a third of them nonzero."""
    random = np.random.default_rng(seed)
    shape = inputs, len(LABELS)
    weights = random.normal(size=shape) * (random.random(shape) < 1 / 3)
    return SvmMember(weights=int(np.count_nonzero(weights))), {
        "idf": random.uniform(1, 4, inputs).astype(np.float32),
        "starts": np.append(0, np.cumsum(np.count_nonzero(weights, axis=1))).astype(np.int32),
        "categories": np.nonzero(weights)[1].astype(np.int16),
        "weights": weights[np.nonzero(weights)].astype(np.float16),
        "bias": random.normal(size=len(LABELS)).astype(np.float32),
    }


@pytest.fixture(scope="session")
def make_model(
    subwords: Subwords, make_network: MakeNetwork, hyperparameters: MakeHyperparameters
) -> MakeModel:
    """Function that returns a model with random parameters, given the names of its members."""

    def make(
        *names: str,
        weights: dict[str, float] | None = None,
        bigram_buckets: int = BIGRAM_BUCKETS,
        text_columns: Sequence[ModelColumn] = (),
        **overrides: Any,
    ) -> Model:
        columns = 1 + len(text_columns)
        members: dict[str, AnyMember] = {}
        member: AnyMember
        tensors = {}
        for name in names:
            if name == "svm":
                member, tensors[name] = random_svm(columns * (subwords.row_count + bigram_buckets))
            else:
                params = hyperparameters(name, **overrides)
                network = make_network(name, bigram_buckets, columns, **overrides)
                member, tensors[name] = network_member(name, network, params)
            weight = (weights or {}).get(name, 1.0)
            members[name] = member.model_copy(update={"weight": weight})
        description = ModelDescription(
            name=names[0] if len(names) == 1 else "ensemble",
            labels=LABELS,
            text=TextParams(
                title_column="title",
                category_column="category",
                max_title_length=1000,
                max_tokens=MAX_TOKENS,
                bigram_buckets=bigram_buckets,
                columns=list(text_columns),
            ),
            subwords=subwords.params,
            members=members,
        )
        return Model(description, subwords.vocabulary, tensors)

    return make


def with_tree(model: Model) -> Model:
    """Return a model whose categories are the paths of TREE."""
    description = model.description.model_copy(update={"labels": PATHS, "tree": TREE})
    return replace(model, description=description)


def rehash(folder: Path) -> None:
    """Write the SHA-256 of changed files to model.json, so that the files are read."""
    path = folder / "model.json"
    content = json.loads(path.read_text())
    for name in content["files"]:
        content["files"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    path.write_text(json.dumps(content))


def batch_of(titles: LabelledTitles, tokens: Tokens, chosen: list[int] | None = None) -> Batch:
    """Return all titles, or the chosen ones, as one batch."""
    indices = np.arange(len(titles)) if chosen is None else np.array(chosen)
    return gather(titles, tokens, indices, np.ones(len(titles), np.float32))


def token_vectors(network: Any, batch: Batch) -> torch.Tensor:
    """Return the vector of each token of a batch, float32 (titles, length, vector size)."""
    return in_places(batch, network.token_vectors.distinct(batch))


def in_places(batch: Batch, distinct: torch.Tensor) -> torch.Tensor:
    """Return the vectors of distinct tokens at the positions of the tokens, padded with zeros."""
    return nn.functional.embedding(batch.tokens, nn.functional.pad(distinct, (0, 0, 0, 1)))


def gradient_of(parameter: Any) -> torch.Tensor:
    """Return the gradient of a parameter, or of the rows of a table, as a dense tensor."""
    if (gradient := taken_row_gradient(parameter)) is not None:
        return gradient.to_sparse(parameter.shape).to_dense()
    dense: torch.Tensor = parameter.grad.to_dense()
    return dense


def given_to(layer: nn.Module, network: nn.Module, batch: Batch) -> torch.Tensor:
    """Return the input of a layer of a network for a batch."""
    received: list[torch.Tensor] = []
    handle = layer.register_forward_pre_hook(lambda _, inputs: received.append(*inputs))
    with torch.inference_mode():
        network(batch)
    handle.remove()
    return received[0]


def logits_of(network: nn.Module, titles: LabelledTitles, tokens: Tokens) -> np.ndarray:
    """Return the logits of a network in evaluation mode, float64 (titles, classes)."""
    network.eval()
    with torch.inference_mode():
        parts = [network(batch).numpy() for batch in Batches(titles, tokens, batch_size=512)]
    return np.concatenate(parts).astype(np.float64)
