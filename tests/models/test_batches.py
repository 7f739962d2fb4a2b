"""Batches say what the features say, and a pass over a split shows each title once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import chain

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from rubro.features.embedding import Embedding, Subwords
from rubro.features.titles import TitleFeatures, Tokens
from rubro.models.batches import Batch, Batches, gather
from rubro.models.layers import ModelShape, TokenVectors

pytest_plugins = ["helpers"]

MakeFeatures = Callable[..., tuple[TitleFeatures, Tokens]]
Learnable = tuple[TitleFeatures, TitleFeatures, Tokens]

ALPHABET = ["apple", "drill", "boot", "cherry", "xq"]
TITLES = st.lists(st.lists(st.sampled_from(ALPHABET), max_size=5), min_size=1, max_size=6)


def numbered(features: TitleFeatures) -> TitleFeatures:
    """The target of each title is its position."""
    return replace(features, targets=np.arange(len(features), dtype=np.int32))


def titles_of(batches: Batches) -> list[list[int]]:
    return [batch.targets.tolist() for batch in batches]


def joined(lists: list[list[int]]) -> list[int]:
    return list(chain.from_iterable(lists))


def same(one: Batch, other: Batch) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def ones(features: TitleFeatures) -> np.ndarray:
    return np.ones(len(features), np.float32)


@settings(max_examples=60, deadline=None)
@given(
    titles=TITLES,
    pooling=st.sampled_from(["mean", "sqrt"]),
    weighting=st.sampled_from(["none", "idf"]),
    with_ngrams=st.booleans(),
    data=st.data(),
)
def test_a_batch_gives_the_token_vectors_of_a_naive_computation(
    titles: list[list[str]],
    pooling: str,
    weighting: str,
    with_ngrams: bool,
    data: st.DataObject,
    make_features: MakeFeatures,
) -> None:
    known = {"apple": 1, "drill": 3, "boot": 7}
    longest, buckets = (4, 20) if with_ngrams else (0, 0)
    subwords = Subwords(known, 3, longest, buckets, titles=8)
    table = np.random.default_rng(1).normal(size=(subwords.row_count, 4)).astype(np.float32)
    features, rows = make_features([" ".join(title) for title in titles], subwords=subwords)
    chosen = data.draw(st.lists(st.integers(0, len(titles) - 1), min_size=1, max_size=8))
    batch = gather(features, rows, np.array(chosen), ones(features))
    layer = TokenVectors(ModelShape(subwords.row_count, 4, 0, 2), pooling, weighting)
    layer.start_from(Embedding(subwords, table), None, True)
    vectors = F.embedding(batch.tokens, layer.distinct(batch)).detach().numpy()

    expected = np.zeros((len(chosen), max([len(titles[i]) for i in chosen] + [1]), 4))
    for row, index in enumerate(chosen):
        for column, token in enumerate(titles[index]):
            own = table[subwords.rows_of(token)]
            if len(own):
                divisor = len(own) if pooling == "mean" else np.sqrt(len(own))
                weight = subwords.weight_of(token) if weighting == "idf" else 1.0
                expected[row, column] = weight * own.sum(axis=0) / divisor
    np.testing.assert_allclose(vectors, expected, atol=1e-5)
    assert batch.lengths.tolist() == [len(titles[index]) for index in chosen]


def test_a_batch_holds_the_bigrams_targets_and_weights_of_its_titles(learnable: Learnable) -> None:
    features, _, rows = learnable
    weights = np.linspace(0.1, 1, len(features), dtype=np.float32)
    chosen = np.array([3, 7, 0, 3])  # 7 is empty
    batch = gather(features, rows, chosen, weights)
    ends = [*batch.bigram_offsets.tolist()[1:], len(batch.bigram_index)]
    for index, start, end in zip(chosen, batch.bigram_offsets.tolist(), ends, strict=True):
        own = batch.bigrams[batch.bigram_index[start:end]]
        assert own.tolist() == features.bigrams[index].tolist()
    assert batch.bigram_counts.tolist() == [len(features.bigrams[index]) for index in chosen]
    assert batch.targets.tolist() == features.targets[chosen].tolist()
    assert batch.weights.tolist() == weights[chosen].tolist()


@pytest.mark.parametrize("batch_size", [1, 7, 32, 160, 500])
def test_an_epoch_shows_each_title_once(batch_size: int, learnable: Learnable) -> None:
    features, _, rows = learnable
    batches = Batches(numbered(features), rows, batch_size, seed=(1, 0))
    shown = titles_of(batches)
    assert sorted(joined(shown)) == list(range(len(features)))
    assert len(shown) == len(batches)
    assert max(map(len, shown)) <= batch_size


def test_titles_of_weight_zero_are_left_out(learnable: Learnable) -> None:
    features, _, rows = learnable
    weights = ones(features)
    weights[::3] = 0
    batches = Batches(numbered(features), rows, 16, weights, seed=(1, 0))
    shown = titles_of(batches)
    assert sorted(joined(shown)) == np.flatnonzero(weights).tolist()
    assert len(shown) == len(batches)


def test_without_a_seed_titles_come_in_the_order_of_the_split(learnable: Learnable) -> None:
    features, _, rows = learnable
    shown = titles_of(Batches(numbered(features), rows, 50))
    assert joined(shown) == list(range(len(features)))


def test_the_same_seed_gives_the_same_batches(learnable: Learnable) -> None:
    features, _, rows = learnable
    first, second = (list(Batches(features, rows, 32, seed=(4, 2))) for _ in range(2))
    assert all(same(one, other) for one, other in zip(first, second, strict=True))


@pytest.mark.parametrize("other", [(4, 1), (5, 0)])
def test_another_epoch_or_seed_gives_other_neighbours_not_only_another_order(
    other: tuple[int, int], learnable: Learnable
) -> None:
    features, _, rows = learnable
    first, second = (
        {frozenset(titles) for titles in titles_of(Batches(numbered(features), rows, 4, seed=seed))}
        for seed in ((4, 0), other)
    )
    assert len(first & second) < len(first) / 4


def test_batches_of_a_large_split_hold_titles_of_like_length(make_features: MakeFeatures) -> None:
    random = np.random.default_rng(3)
    features, rows = make_features(["apple " * n for n in random.integers(0, 15, 600)])
    batches = list(Batches(features, rows, 30, seed=(1, 0)))
    padding = 1 - sum(int(b.lengths.sum()) for b in batches) / sum(
        b.tokens.numel() for b in batches
    )
    assert padding < 0.15
    means = [float(b.lengths.float().mean()) for b in batches]
    assert means != sorted(means)
