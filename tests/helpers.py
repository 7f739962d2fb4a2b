"""A tiny catalogue that can be learnt in a few epochs, as fixtures.

A test file takes them with `pytest_plugins = ["helpers"]`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from rubro.base.params import Params, TrainParams
from rubro.features.embedding import Embedding, Subwords
from rubro.features.titles import Featurizer, TitleFeatures, Tokens, featurize

LABELS = ["FRUIT", "TOOL", "SHOE", "PHONE"]
WORDS = [
    ["apple", "pear", "mango", "melon", "cherry"],
    ["hammer", "drill", "saw", "pliers", "wrench"],
    ["boot", "sandal", "sneaker", "heel", "slipper"],
    ["nokia", "screen", "charger", "battery", "antenna"],
]
COMMON = ["new", "red", "offer"]
# Known by their n-grams alone.
OUT_OF_VOCABULARY = ["cherry", "antenna"]
VECTOR_SIZE = 8
BIGRAM_BUCKETS = 64

MakeParams = Callable[..., Params]
MakeFeatures = Callable[..., tuple[TitleFeatures, Tokens]]
MakeHyperparameters = Callable[..., TrainParams]


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def labels() -> list[str]:
    return LABELS


@pytest.fixture(scope="session")
def subwords() -> Subwords:
    """Words and hashed n-grams."""
    words = [word for group in [*WORDS, COMMON] for word in group]
    known = {word: 1 + n for n, word in enumerate(words) if word not in OUT_OF_VOCABULARY}
    return Subwords(known, 3, 4, 40, titles=100)


@pytest.fixture(scope="session")
def embedding(subwords: Subwords) -> Embedding:
    """Random vectors: what is learnt is learnt in training."""
    random = np.random.default_rng(5)
    return Embedding(
        subwords, random.normal(size=(subwords.row_count, VECTOR_SIZE)).astype(np.float32)
    )


@pytest.fixture(scope="session")
def make_features(subwords: Subwords, make_params: MakeParams) -> MakeFeatures:
    """Features of titles given as text, tokens separated by spaces.

    Called with titles, and perhaps targets, reliable, subwords, bigram_buckets and max_tokens.
    """

    def make(
        titles: list[str],
        targets: list[int] | None = None,
        reliable: list[bool] | None = None,
        subwords: Subwords = subwords,
        bigram_buckets: int = BIGRAM_BUCKETS,
        max_tokens: int = 20,
    ) -> tuple[TitleFeatures, Tokens]:
        params = make_params(
            {"featurize.bigram_buckets": bigram_buckets, "featurize.max_tokens": max_tokens}
        ).featurize
        table = pd.DataFrame(
            {
                "category": [LABELS[target] for target in targets or [0] * len(titles)],
                "label_quality": [
                    "reliable" if is_reliable else "unreliable"
                    for is_reliable in reliable or [True] * len(titles)
                ],
            }
        )
        featurizer = Featurizer(subwords, params)
        features = featurize(table, [title.split() for title in titles], LABELS, featurizer)
        return features, featurizer.tokens

    return make


@pytest.fixture(scope="session")
def learnable(make_features: MakeFeatures) -> tuple[TitleFeatures, TitleFeatures, Tokens]:
    """Training and validation titles, of 0 to 6 words of their class and of all classes."""
    random = np.random.default_rng(11)
    titles, targets = [], []
    for position in range(240):
        target = position % len(LABELS)
        words = list(random.choice(WORDS[target], random.integers(1, 4)))
        words += list(random.choice(COMMON, random.integers(0, 4)))
        titles.append(" ".join(words) if position != 7 else "")
        targets.append(target)
    features, rows = make_features(titles, targets)
    return part(features, np.arange(160)), part(features, np.arange(160, 240)), rows


@dataclass(frozen=True)
class Noisy:
    """Training titles of which some have a wrong label, validation titles, random vectors."""

    splits: tuple[TitleFeatures, TitleFeatures, Tokens]
    flipped: np.ndarray
    embedding: Embedding


@pytest.fixture(scope="session")
def make_noisy(make_features: MakeFeatures) -> Callable[[int], Noisy]:
    """Noisy titles of a seed: 800 for training, of which 30 % are flipped, 400 for validation."""
    training_titles, words = 800, 30

    def make(seed: int) -> Noisy:
        random = np.random.default_rng(seed)
        targets = [position % len(LABELS) for position in range(training_titles + 400)]
        titles = [
            " ".join(
                [f"{LABELS[target]}{n}" for n in random.integers(0, words, random.integers(1, 4))]
                + [f"any{n}" for n in random.integers(0, words, random.integers(0, 4))]
            )
            for target in targets
        ]
        vocabulary = sorted({word for title in titles for word in title.split()})
        subwords = Subwords(dict.fromkeys(vocabulary, 1), 1, 0, 0, titles=len(titles))
        features, rows = make_features(titles, targets, subwords=subwords)
        train = part(features, np.arange(training_titles))
        validation = part(features, np.arange(training_titles, len(titles)))
        flipped = random.random(training_titles) < 0.3
        train.targets[flipped] += random.integers(1, len(LABELS), flipped.sum())
        train.targets[:] %= len(LABELS)
        table = random.standard_normal((len(vocabulary), VECTOR_SIZE), dtype=np.float32)
        return Noisy((train, validation, rows), flipped, Embedding(subwords, table))

    return make


@pytest.fixture(scope="session")
def hyperparameters(make_params: MakeParams) -> MakeHyperparameters:
    """Small and plain: called with "mlp" or "cnn" and what differs."""

    def make(name: str, **overrides: Any) -> TrainParams:
        values: dict[str, Any] = {
            "hidden_sizes": [16],
            "max_epochs": 3,
            "batch_size": 32,
            "min_steps": 0,
            "optimizer": "adamw",
            "learning_rate": 1e-2,
            "embedding_learning_rate": 1e-2,
            "initial_embedding": "fasttext",
            "embedding_scale": None,
            "weight_decay": 0.0,
            "schedule": "constant",
            "warmup_share": 0.0,
            "early_stopping_patience": 0,
            "fine_tune_embedding": True,
            "token_weighting": "none",
            "dropout": 0.0,
            "label_doubt": 0.0,
            "label_smoothing": 0.0,
            "prior_adjustment": 0.0,
            "svm_weight": 0.0,
            "class_weights": "off",
            "label_quality": "ignore",
            "table_precision": "float32",
        }
        if name == "cnn":
            values |= {"filters": 8, "filter_sizes": [1, 2, 3]}
        values |= overrides
        params = make_params({f"train_{name}.{key}": value for key, value in values.items()})
        section: TrainParams = getattr(params, f"train_{name}")
        return section

    return make


def part(features: TitleFeatures, titles: np.ndarray) -> TitleFeatures:
    """Some of the titles, as features of their own."""
    return TitleFeatures(
        features.tokens.take(titles),
        features.bigrams.take(titles),
        features.targets[titles],
        features.reliable[titles],
        features.has_oov[titles],
    )
