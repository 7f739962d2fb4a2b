"""Filters of the CNN over neighbouring tokens, their maxima, and the linear path."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from rubro.features.featurizer import Tokens
from rubro.features.titles import LabelledTitles
from support.tiny_models import Learnable, MakeNetwork, MakeTitles, batch_of, given_to, gradient_of

pytest_plugins = ["support.tiny_models"]


def plain_cnn(network: Any, titles: LabelledTitles, tokens: Tokens) -> torch.Tensor:
    """Return the logits of a CNN, computed title by title and window by window."""
    table = network.token_vectors.table.weight
    size = table.shape[1]
    inputs, pooled_tokens = [], []
    for index in range(len(titles)):
        own = [tokens[token] for token in titles.features.tokens[index]]
        vectors = [table[rows].sum(0) / len(rows) ** 0.5 for rows in own]
        title = torch.stack([*vectors, torch.zeros(size)])[: len(vectors)]
        maxima = []
        for filters in network.filters:
            span = filters.in_features // size
            padded = torch.cat([title, torch.zeros(span, size)])
            windows = padded.unfold(0, span, 1).transpose(1, 2).flatten(1)[: len(vectors)]
            none = torch.zeros(1, filters.out_features)
            maxima.append(torch.cat([filters(windows).relu(), none]).amax(0))
        inputs.append(torch.cat(maxima))
        pooled_tokens.append(title.sum(0) / max(len(vectors), 1) ** 0.5)
    path: torch.Tensor = network.linear(torch.stack(pooled_tokens))
    return path.add(network.dense(torch.stack(inputs)))


def test_logits_and_gradients_equal_a_naive_computation(
    make_network: MakeNetwork, make_titles: MakeTitles
) -> None:
    texts = ["red apple drill saw", "", "boot", "apple apple", "saw red red apple boot new", "boot"]
    titles, tokens = make_titles(texts, [0, 1, 2, 3, 0, 1], bigram_buckets=0)
    network = make_network("cnn", filter_sizes=[1, 2, 3], bigram_buckets=0)
    batch = batch_of(titles, tokens)
    assert batch.lengths.tolist() == [4, 0, 1, 2, 6, 1]
    logits, gradients = [], []
    for outputs in (network(batch), plain_cnn(network, titles, tokens)):
        network.zero_grad()
        loss: Any = nn.functional.cross_entropy(outputs, batch.targets)
        loss.backward()
        logits.append(outputs)
        gradients.append({name: gradient_of(p) for name, p in network.named_parameters()})
    torch.testing.assert_close(*logits, atol=1e-5, rtol=1e-5)
    parts = {name.split(".")[0] for name in gradients[0]}
    assert parts == {"token_vectors", "filters", "dense", "linear"}
    for name, gradient in gradients[0].items():
        assert gradient.any(), name
        torch.testing.assert_close(gradient, gradients[1][name], atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("hidden_sizes", [[], [8]])
def test_the_linear_path_adds_logits_computed_from_the_title_vector(
    hidden_sizes: list[int], make_network: MakeNetwork, learnable: Learnable
) -> None:
    titles, _, tokens = learnable
    batch = batch_of(titles.take(np.arange(5)), tokens)
    network: Any = make_network("cnn", hidden_sizes=hidden_sizes, linear_path=True)
    without: Any = make_network("cnn", hidden_sizes=hidden_sizes, linear_path=False)
    missing = without.load_state_dict(network.state_dict(), strict=False)
    # The filters do not see bigrams.
    assert set(missing.unexpected_keys) == {"linear.0.weight", "linear.0.bias", "bigrams.weight"}
    assert not missing.missing_keys
    title = given_to(network.linear, network, batch)
    with torch.inference_mode():
        path = network.linear(title)
        torch.testing.assert_close(network(batch) - without(batch), path, atol=1e-4, rtol=1e-4)
        (layer,) = network.linear
        torch.testing.assert_close(path, layer(title))
