"""Logits of a title do not depend on its batch, and stored networks equal trained ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from rubro.features.embedding import Embedding
from rubro.features.featurizer import Tokens
from rubro.features.titles import LabelledTitles
from rubro.models.layers import Dense, ModelShape, Network, RowTable, TokenVectors, stored
from rubro.prediction.networks import Table
from support.tiny_models import (
    BIGRAM_BUCKETS,
    LABELS,
    NETWORKS,
    Learnable,
    MakeHyperparameters,
    MakeNetwork,
    MakeTitles,
    batch_of,
    given_to,
    gradient_of,
    logits_of,
    token_vectors,
    whole_words,
)

pytest_plugins = ["support.tiny_models"]

CLASSES = len(LABELS)
both = pytest.mark.parametrize("kind", list(NETWORKS))
precisions = pytest.mark.parametrize("precision", ["float32", "float16", "int8"])


def logits_together(
    network: nn.Module, titles: LabelledTitles, tokens: Tokens, chosen: list[int]
) -> np.ndarray:
    """Return the logits of titles in one batch."""
    with torch.inference_mode():
        logits: np.ndarray = network(batch_of(titles, tokens, chosen)).numpy()
    return logits


@both
@pytest.mark.parametrize(
    "overrides",
    [{}, {"hidden_sizes": []}, {"hidden_sizes": [8, 8]}, {"pooling": "mean"}, {"dropout": 0.5}],
)
def test_logits_of_a_title_do_not_depend_on_other_titles_of_the_batch(
    kind: str, overrides: dict[str, Any], make_network: MakeNetwork, learnable: Learnable
) -> None:
    titles, _, tokens = learnable
    network = make_network(kind, **overrides)
    alone = np.concatenate([logits_together(network, titles, tokens, [i]) for i in range(40)])
    together = logits_together(network, titles, tokens, list(range(40)))
    backwards = logits_together(network, titles, tokens, list(range(39, -1, -1)))[::-1]
    twice = logits_together(network, titles, tokens, [i // 2 for i in range(80)])[::2]
    for other in (together, backwards, twice):
        np.testing.assert_allclose(alone, other, atol=1e-5)
    assert np.ptp(alone, axis=0).min() > 0.1


@both
def test_empty_and_long_titles_of_a_batch_do_not_change_each_other(
    kind: str, make_network: MakeNetwork, make_titles: MakeTitles
) -> None:
    texts = ["", "apple", "apple drill", "", " ".join(["boot", "saw"] * 9)]
    titles, tokens = make_titles(texts)
    network = make_network(kind)
    together = logits_together(network, titles, tokens, [0, 1, 2, 3, 4])
    assert np.isfinite(together).all()
    for index in range(5):
        alone = logits_together(network, titles, tokens, [index])[0]
        np.testing.assert_allclose(alone, together[index], atol=1e-5)
    empty = logits_together(network, titles, tokens, [0, 3])
    np.testing.assert_allclose(empty, together[[0, 3]], atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "blind", "seeing"),
    [
        ("mlp", {}, {"bigram_buckets": BIGRAM_BUCKETS}),
        ("cnn", {"filter_sizes": [1]}, {"filter_sizes": [2]}),
    ],
)
def test_only_bigrams_and_long_filters_distinguish_word_order(
    kind: str,
    blind: dict[str, Any],
    seeing: dict[str, Any],
    make_network: MakeNetwork,
    make_titles: MakeTitles,
) -> None:
    differences = []
    for overrides in (blind, seeing):
        buckets = overrides.pop("bigram_buckets", 0)
        titles, tokens = make_titles(["apple drill", "drill apple"], bigram_buckets=buckets)
        network = make_network(kind, bigram_buckets=buckets, **overrides)
        first, second = logits_of(network, titles, tokens)
        differences.append(np.abs(first - second).max())
    assert differences[0] < 1e-5
    assert differences[1] > 1e-3


@both
def test_a_batch_of_empty_titles_has_finite_gradients(
    kind: str, make_network: MakeNetwork, make_titles: MakeTitles
) -> None:
    titles, tokens = make_titles(["", ""])
    network = make_network(kind).train()
    loss = network(batch_of(titles, tokens)).square().sum()
    loss.backward()
    gradients = [gradient_of(parameter) for parameter in network.parameters()]
    assert len(gradients) > 3
    for gradient in gradients:
        assert bool(torch.isfinite(gradient).all())


@both
def test_a_token_without_rows_has_a_vector_of_zeros(
    kind: str, hyperparameters: MakeHyperparameters, make_titles: MakeTitles
) -> None:
    subwords = whole_words({"apple": 1})
    titles, tokens = make_titles(["zzz", "apple zzz", "zzz zzz apple"], subwords=subwords)
    torch.manual_seed(0)
    shape = ModelShape(1, 4, BIGRAM_BUCKETS, CLASSES)
    network: Network = NETWORKS[kind](shape, hyperparameters(kind)).eval()
    network.token_vectors.start_from(Embedding(subwords, np.ones((1, 4), np.float32)), None, True)
    batch = batch_of(titles, tokens)
    vectors = token_vectors(network, batch).detach()
    assert vectors.abs().sum(2).bool().tolist() == [
        [False, False, False],
        [True, False, False],
        [False, False, True],
    ]
    assert bool(torch.isfinite(network(batch)).all())


@both
@pytest.mark.parametrize(("pooling", "root"), [("mean", 1.0), ("sqrt", 0.5)])
def test_a_title_vector_pools_the_vectors_of_tokens_and_bigrams(
    kind: str, pooling: str, root: float, make_network: MakeNetwork, make_titles: MakeTitles
) -> None:
    titles, tokens = make_titles(["apple drill saw", "boot", ""])
    batch = batch_of(titles, tokens)
    network: Any = make_network(kind, pooling=pooling)
    expected = []
    with torch.inference_mode():
        for index, title in enumerate(token_vectors(network, batch)):
            parts = list(title[: len(titles.features.tokens[index])])
            parts += [network.bigrams.weight[n] for n in titles.features.bigrams[index].tolist()]
            total = sum(parts, torch.zeros(title.shape[1]))
            expected.append(total / max(len(parts), 1) ** root)
    title = given_to(network.dense if kind == "mlp" else network.linear, network, batch)
    torch.testing.assert_close(title, torch.stack(expected), atol=1e-5, rtol=1e-5)


@both
def test_dropout_is_active_in_training_and_inactive_in_evaluation(
    kind: str, make_network: MakeNetwork, learnable: Learnable
) -> None:
    titles, _, tokens = learnable
    network = make_network(kind, dropout=0.5)
    first, second = (logits_together(network, titles, tokens, [0, 1, 2]) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    network.train()
    first, second = (logits_together(network, titles, tokens, [0, 1, 2]) for _ in range(2))
    assert np.abs(first - second).max() > 1e-3


@pytest.mark.parametrize("scale", [0.1, 3.0])
def test_the_embedding_is_scaled_to_the_given_root_mean_square(
    scale: float, embedding: Embedding
) -> None:
    rows, size = embedding.table.shape
    layer = TokenVectors(ModelShape(rows, size, 0, 2), "sqrt", "idf")
    layer.start_from(embedding, scale, True)
    table = layer.table.weight.detach().numpy()
    words = len(embedding.subwords.vocabulary)
    assert np.sqrt(np.square(table[:words]).mean()) == pytest.approx(scale, rel=1e-5)
    ratio = table / embedding.table
    np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-4)


def test_without_a_scale_the_embedding_is_copied_unchanged(embedding: Embedding) -> None:
    before = embedding.table.copy()
    rows, size = before.shape
    layer = TokenVectors(ModelShape(rows, size, 0, 2), "sqrt", "idf")
    layer.start_from(embedding, None, False)
    np.testing.assert_array_equal(layer.table.weight.detach().numpy(), before)
    assert not layer.table.weight.requires_grad
    with torch.no_grad():
        layer.table.weight.zero_()
    np.testing.assert_array_equal(embedding.table, before)


def test_dense_layers_have_a_relu_after_each_but_the_last() -> None:
    torch.manual_seed(2)
    dense: Any = Dense(5, [4, 3], 2, dropout_rate=0.5).eval()
    first, second, last = dense
    values = torch.randn(7, 5)
    hidden = second(first(values).clamp(min=0)).clamp(min=0)
    torch.testing.assert_close(dense(values), last(hidden))
    assert [tuple(layer.weight.shape) for layer in dense] == [(4, 5), (3, 4), (2, 3)]


@pytest.mark.parametrize("hidden_sizes", [[], [400]])
def test_dropout_precedes_the_output_layer(hidden_sizes: list[int]) -> None:
    torch.manual_seed(2)
    dense: Any = Dense(400, hidden_sizes, 2, dropout_rate=0.3)
    received: list[torch.Tensor] = []
    dense[-1].register_forward_pre_hook(lambda _, inputs: received.append(*inputs))
    values = torch.rand(50, 400) + 0.1
    dense(values)
    dense.eval()(values)
    trained, evaluated = received
    dropped = (trained == 0) & (evaluated != 0)
    assert dropped.float().sum() / (evaluated != 0).sum() == pytest.approx(0.3, abs=0.02)
    torch.testing.assert_close(trained[trained != 0], evaluated[trained != 0] / 0.7)


# Stored networks


def tables_of(network: nn.Module) -> dict[str, torch.Tensor]:
    return {
        name: module.weight.detach()
        for name, module in network.named_modules()
        if isinstance(module, RowTable)
    }


def stored_tables(network: nn.Module, precision: str) -> dict[str, torch.Tensor]:
    """Return the tables of a stored network as they are read for predictions."""
    arrays = stored(network, precision)
    return {
        name: torch.from_numpy(Table(arrays, name)(np.arange(len(table))))
        for name, table in tables_of(network).items()
    }


def half_a_step(table: torch.Tensor, precision: str) -> torch.Tensor:
    """Return the maximum rounding error of each value of a table."""
    if precision == "int8":
        return table.abs().amax(dim=1, keepdim=True).expand_as(table) / 127 / 2
    # 11 bits of mantissa; the step next to zero is 2 ** -24.
    return (table.abs() * 2**-11).clamp(min=2**-25)


@both
@pytest.mark.parametrize("precision", ["float16", "int8"])
@pytest.mark.parametrize("size", [1e-4, 0.05, 100.0])
def test_the_error_of_a_stored_table_is_at_most_half_a_rounding_step(
    kind: str, precision: str, size: float, make_network: MakeNetwork
) -> None:
    network = make_network(kind)
    before = tables_of(network)
    assert len(before) == 2
    for table in before.values():  # rows of very different sizes
        table *= size * torch.logspace(-2, 0, len(table)).unsqueeze(1)
    after = stored_tables(network, precision)
    for name, table in before.items():
        assert after[name].dtype == torch.float32
        moved = (after[name] - table).abs()
        assert bool((moved <= half_a_step(table, precision) * 1.0001).all())
        assert bool(moved.any())


@both
@precisions
def test_only_copies_of_the_tables_are_rounded(
    kind: str, precision: str, make_network: MakeNetwork
) -> None:
    network = make_network(kind)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    arrays = stored(network, precision)
    tables = {f"{name}.weight" for name in tables_of(network)}
    scales = {f"{name}.scale" for name in tables_of(network)} if precision == "int8" else set()
    assert arrays.keys() == network.state_dict().keys() | scales
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, before[name], atol=0, rtol=0)
        assert arrays[name].dtype == (precision if name in tables else np.float32)
        if name not in tables or precision == "float32":
            np.testing.assert_array_equal(arrays[name], value.numpy())


@precisions
def test_rows_with_a_single_value_are_stored_exactly(
    precision: str, make_network: MakeNetwork
) -> None:
    network = make_network("mlp")
    for table in tables_of(network).values():
        table[:4] = torch.tensor([0.0, 30_000.0, -30_000.0, -(2.0**-20)]).unsqueeze(1)
    for name, table in stored_tables(network, precision).items():
        expected = tables_of(network)[name][:4]
        torch.testing.assert_close(table[:4], expected, rtol=1e-6, atol=0)
        assert not table[0].any()


@pytest.mark.parametrize("value", [1e-44, 1e-38, 1e30, 3e38])
def test_int8_rows_keep_the_smallest_and_largest_floats(
    value: float, make_network: MakeNetwork
) -> None:
    network = make_network("mlp")
    tables_of(network)["bigrams"][:2] = torch.tensor([value, -value]).unsqueeze(1)
    loaded = stored_tables(network, "int8")["bigrams"]
    assert bool(torch.isfinite(loaded).all())
    torch.testing.assert_close(loaded[:2], tables_of(network)["bigrams"][:2], rtol=1e-5, atol=1e-40)
