"""The models in numpy have the logits of the torch modules, and of dense matrices for the SVM."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.preprocessing import normalize

from rubro.features.featurizer import TitleFeatures, Tokens
from rubro.features.ragged import Ragged
from rubro.features.subwords import Subwords
from rubro.models.layers import Network
from rubro.prediction.networks import Scorer, SvmScorer, Table
from support.tiny_models import (
    BIGRAM_BUCKETS,
    LABELS,
    MAX_TOKENS,
    MakeHyperparameters,
    MakeModel,
    MakeNetwork,
    MakeTitles,
    logits_of,
    network_member,
    random_svm,
)

pytest_plugins = ["support.tiny_models"]

TEXTS = [
    "",
    "apple",
    "apple drill saw",
    "zzz",
    " ".join(["new red offer boot heel"] * 9),
    "cherry antenna",
    "drill drill drill",
    "",
    "red new apple drill boot saw nokia",
    "saw apple",
]
MLP: list[dict[str, Any]] = [
    {},
    {"hidden_sizes": [16, 8]},
    {"pooling": "mean", "hidden_sizes": [], "token_weighting": "idf"},
    {"token_weighting": "idf"},
    {"table_precision": "float16"},
    {"table_precision": "int8", "token_weighting": "idf"},
    {"bigram_buckets": 0, "table_precision": "int8", "pooling": "mean"},
]
CNN: list[dict[str, Any]] = [
    *MLP,
    {"filter_sizes": [1]},
    {"filter_sizes": [3], "hidden_sizes": []},
    {"filter_sizes": [3, 1, 5], "filters": 3},
    {"filter_sizes": [30]},
    {"linear_path": False},
    {"linear_path": False, "bigram_buckets": 0, "hidden_sizes": [16, 8], "pooling": "mean"},
    {"linear_path": False, "filter_sizes": [3], "table_precision": "int8"},
]


def read_back(network: Network, tensors: dict[str, np.ndarray]) -> Network:
    """Replace the tables of a network by the rounded ones that are stored in its file."""
    state = network.state_dict()
    for name in ("token_vectors.table", "bigrams"):
        if f"{name}.weight" in tensors:
            rows = np.arange(len(tensors[f"{name}.weight"]))
            state[f"{name}.weight"] = torch.from_numpy(Table(tensors, name)(rows))
    network.load_state_dict(state)
    return network


def scores_of(scorer: Scorer, features: TitleFeatures, tokens: Tokens) -> np.ndarray:
    states = scorer.token_states(tokens)
    assert states.shape == (len(tokens), scorer.state_size)
    assert states.dtype == np.float32
    logits = scorer.logits(features, states)
    assert logits.shape == (len(features), len(LABELS))
    assert logits.dtype == np.float32
    return logits


EVERY_NETWORK = pytest.mark.parametrize(
    ("kind", "overrides"),
    [(kind, overrides) for kind, every in (("mlp", MLP), ("cnn", CNN)) for overrides in every],
    ids=str,
)


@EVERY_NETWORK
def test_logits_equal_those_of_the_torch_module(
    kind: str,
    overrides: dict[str, Any],
    make_network: MakeNetwork,
    hyperparameters: MakeHyperparameters,
    make_titles: MakeTitles,
    subwords: Subwords,
) -> None:
    buckets = overrides.get("bigram_buckets", BIGRAM_BUCKETS)
    titles, tokens = make_titles(TEXTS, bigram_buckets=buckets)
    assert titles.features.tokens.lengths.max() == MAX_TOKENS
    network = make_network(kind, **overrides)
    params = {name: value for name, value in overrides.items() if name != "bigram_buckets"}
    member, tensors = network_member(kind, network, hyperparameters(kind, **params))
    expected = logits_of(read_back(network, tensors), titles, tokens)
    found = scores_of(member.scorer(tensors, subwords), titles.features, tokens)
    np.testing.assert_allclose(found, expected, atol=2e-5, rtol=2e-5)
    assert np.ptp(expected, axis=0).min() > 0.1


@EVERY_NETWORK
@pytest.mark.parametrize("columns", [2, 5])
def test_logits_of_titles_with_several_columns_equal_those_of_the_torch_module(
    columns: int,
    kind: str,
    overrides: dict[str, Any],
    make_network: MakeNetwork,
    hyperparameters: MakeHyperparameters,
    make_titles: MakeTitles,
    subwords: Subwords,
) -> None:
    buckets = overrides.get("bigram_buckets", BIGRAM_BUCKETS)
    titles, tokens = make_titles(TEXTS, bigram_buckets=buckets, columns=columns)
    network = make_network(kind, columns=columns, **overrides)
    params = {name: value for name, value in overrides.items() if name != "bigram_buckets"}
    member, tensors = network_member(kind, network, hyperparameters(kind, **params))
    layout = member.layout(subwords.row_count, buckets, len(LABELS), columns)
    assert {name: each.shape for name, each in tensors.items()} == {
        name: shape for name, (_, shape) in layout.items()
    }
    expected = logits_of(read_back(network, tensors), titles, tokens)
    found = scores_of(member.scorer(tensors, subwords, columns), titles.features, tokens)
    np.testing.assert_allclose(found, expected, atol=2e-5, rtol=2e-5)
    assert len(found) == len(TEXTS) // columns


@settings(max_examples=60, deadline=None)
@given(
    texts=st.lists(
        st.lists(st.sampled_from(["apple", "drill", "zzz", "new"]), max_size=7).map(" ".join),
        max_size=7,
    ),
    sizes=st.lists(st.integers(1, 6), min_size=1, max_size=3),
)
def test_logits_equal_those_of_the_torch_module_for_titles_of_any_length(
    texts: list[str],
    sizes: list[int],
    make_network: MakeNetwork,
    hyperparameters: MakeHyperparameters,
    make_titles: MakeTitles,
    subwords: Subwords,
) -> None:
    titles, tokens = make_titles([*texts, "apple"])
    network = make_network("cnn", filter_sizes=sizes)
    member, tensors = network_member("cnn", network, hyperparameters("cnn", filter_sizes=sizes))
    found = scores_of(member.scorer(tensors, subwords), titles.features, tokens)
    np.testing.assert_allclose(found, logits_of(network, titles, tokens), atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
def test_a_table_returns_its_rows_as_float32(precision: str) -> None:
    random = np.random.default_rng(3)
    rows = random.integers(-127, 128, (9, 4)).astype(precision)
    scales = random.random((9, 1), dtype=np.float32)
    is_scaled = precision == "int8"
    table = Table({"t.weight": rows, **({"t.scale": scales} if is_scaled else {})}, "t")
    wanted = np.array([3, 3, 8, 0])
    found = table(wanted)
    assert table.size == 4
    expected = rows[wanted].astype(np.float32) * (scales[wanted] if is_scaled else np.float32(1))
    np.testing.assert_array_equal(found, expected, strict=True)
    assert table(wanted[:0]).shape == (0, 4)


# The SVM


def dense_scores(
    titles: TitleFeatures, tokens: Tokens, tensors: dict[str, np.ndarray], words: int, rows: int
) -> np.ndarray:
    """Return the scores computed with dense matrices."""

    def counts_of(lists: Ragged, columns: int) -> Any:
        parts = (np.ones(len(lists.values)), lists.values, lists.offsets)
        return sparse.csr_matrix(parts, shape=(len(lists), columns))

    inputs = len(tensors["idf"])
    in_tokens = counts_of(titles.tokens, len(tokens)) @ counts_of(tokens, rows)
    counts = sparse.hstack([in_tokens, counts_of(titles.bigrams, inputs - rows)]).toarray()
    # The length sums the squared IDF of each occurrence, not the squared sums of equal inputs.
    weighted, lengths = counts * tensors["idf"], np.sqrt(counts) * tensors["idf"]
    weights = sparse.csr_matrix(
        (tensors["weights"].astype(float), tensors["categories"], tensors["starts"]),
        shape=(inputs, len(LABELS)),
    ).toarray()
    scores = np.tile(tensors["bias"].astype(float), (len(titles), 1))
    is_ngram = np.zeros(inputs, dtype=bool)
    is_ngram[words:rows] = True
    for group in (is_ngram, ~is_ngram):
        _, norms = normalize(lengths[:, group], return_norm=True)
        scores += weighted[:, group] / np.maximum(norms, 1e-30)[:, None] @ weights[group]
    return scores


@pytest.mark.parametrize(("buckets", "all_zero"), [(0, False), (64, False), (64, True)])
def test_svm_scores_equal_those_of_dense_matrices(
    buckets: int, all_zero: bool, make_titles: MakeTitles, subwords: Subwords
) -> None:
    titles, tokens = make_titles(TEXTS, bigram_buckets=buckets)
    words, rows = len(subwords.vocabulary), subwords.row_count
    _, tensors = random_svm(rows + buckets)
    if all_zero:
        tensors |= {name: tensors[name][:0] for name in ("categories", "weights")}
        tensors["starts"] = np.zeros_like(tensors["starts"])
    found = scores_of(SvmScorer(tensors, words, rows), titles.features, tokens)
    expected = dense_scores(titles.features, tokens, tensors, words, rows)
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=1e-5)
    np.testing.assert_array_equal(found[0], tensors["bias"])
    assert all_zero or np.ptp(found, axis=0).min() > 0.5


def test_svm_scores_of_several_columns_are_sums_of_the_scores_of_the_columns(
    make_titles: MakeTitles, subwords: Subwords
) -> None:
    columns, words, rows = 2, len(subwords.vocabulary), subwords.row_count
    width = rows + BIGRAM_BUCKETS
    _, tensors = random_svm(columns * width)
    titles, tokens = make_titles(TEXTS, columns=columns)
    found = scores_of(SvmScorer(tensors, words, rows, columns), titles.features, tokens)
    expected = np.tile(tensors["bias"].astype(float), (len(titles), 1))
    for column in range(columns):
        starts = tensors["starts"][column * width : (column + 1) * width + 1]
        stored = slice(starts[0], starts[-1])
        own = {
            "idf": tensors["idf"][column * width : (column + 1) * width],
            "starts": starts - starts[0],
            "categories": tensors["categories"][stored],
            "weights": tensors["weights"][stored],
            "bias": np.zeros(len(LABELS), np.float32),
        }
        texts, alone = make_titles(TEXTS[column::columns])
        expected += dense_scores(texts.features, alone, own, words, rows)
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=1e-5)
    assert np.ptp(found, axis=0).min() > 0.5


@pytest.mark.parametrize("kind", ["mlp", "cnn", "svm"])
def test_logits_of_no_titles_and_of_empty_titles(
    kind: str, make_model: MakeModel, make_titles: MakeTitles, subwords: Subwords
) -> None:
    model = make_model(kind)
    scorer = model.description.members[kind].scorer(model.tensors[kind], subwords)
    titles, tokens = make_titles([])
    assert scores_of(scorer, titles.features, tokens).shape == (0, len(LABELS))
    empty, none = make_titles(["", ""])
    first, second = scores_of(scorer, empty.features, none)
    np.testing.assert_array_equal(first, second)
    assert np.isfinite(first).all()
