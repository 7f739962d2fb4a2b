"""Batches contain the features of their titles, and an epoch contains each title once."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain, pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rubro.features.embedding import Embedding
from rubro.features.subwords import SubwordParams, Subwords
from rubro.features.titles import LabelledTitles
from rubro.models.batches import Batch, Batches, gather
from rubro.models.layers import ModelShape, TokenVectors
from support.tiny_models import WORDS, Learnable, MakeTitles, in_places

pytest_plugins = ["support.tiny_models"]

ALPHABET = ["apple", "drill", "boot", "cherry", "xq"]
TITLES = st.lists(st.lists(st.sampled_from(ALPHABET), max_size=5), min_size=1, max_size=6)


def numbered(titles: LabelledTitles) -> LabelledTitles:
    """Replace the target of each title by its position."""
    targets = np.arange(len(titles), dtype=np.int32)
    return replace(titles, labels=replace(titles.labels, targets=targets))


def titles_of(batches: Batches) -> list[list[int]]:
    return [batch.targets.tolist() for batch in batches]


def joined(lists: list[list[int]]) -> list[int]:
    return list(chain.from_iterable(lists))


def same(one: Batch, other: Batch) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def ones(titles: LabelledTitles) -> np.ndarray:
    return np.ones(len(titles), np.float32)


@settings(max_examples=60, deadline=None)
@given(
    texts=TITLES,
    pooling=st.sampled_from(["mean", "sqrt"]),
    weighting=st.sampled_from(["none", "idf"]),
    with_ngrams=st.booleans(),
    data=st.data(),
)
def test_token_vectors_of_a_batch_equal_a_naive_computation(
    texts: list[list[str]],
    pooling: str,
    weighting: str,
    with_ngrams: bool,
    data: st.DataObject,
    make_titles: MakeTitles,
) -> None:
    known = {"apple": 1, "drill": 3, "boot": 7}
    longest, buckets = (4, 20) if with_ngrams else (0, 0)
    params = SubwordParams(min_n=3, max_n=longest, buckets=buckets, titles=8)
    subwords = Subwords(known, params)
    table = np.random.default_rng(1).normal(size=(subwords.row_count, 4)).astype(np.float32)
    titles, tokens = make_titles([" ".join(text) for text in texts], subwords=subwords)
    chosen = data.draw(st.lists(st.integers(0, len(texts) - 1), min_size=1, max_size=8))
    batch = gather(titles, tokens, np.array(chosen), ones(titles))
    layer = TokenVectors(ModelShape(subwords.row_count, 4, 0, 2), pooling, weighting)
    layer.start_from(Embedding(subwords, table), None, True)
    vectors = in_places(batch, layer.distinct(batch)).detach().numpy()

    expected = np.zeros((len(chosen), max([len(texts[i]) for i in chosen] + [1]), 4))
    for row, index in enumerate(chosen):
        for column, token in enumerate(texts[index]):
            own = table[subwords.rows_of([token]).values]
            if len(own):
                divisor = len(own) if pooling == "mean" else np.sqrt(len(own))
                weight = subwords.weight_of(token) if weighting == "idf" else 1.0
                expected[row, column] = weight * own.sum(axis=0) / divisor
    np.testing.assert_allclose(vectors, expected, atol=1e-5)
    assert batch.lengths.tolist() == [len(texts[index]) for index in chosen]
    tokens_of_titles = batch.tokens[batch.tokens < len(batch.token_weights)]
    assert batch.token_index.tolist() == tokens_of_titles.tolist()
    assert batch.token_offsets.tolist() == [0, *batch.lengths.cumsum(0).tolist()]


def test_a_batch_contains_the_bigrams_targets_and_weights_of_its_titles(
    learnable: Learnable,
) -> None:
    titles, _, tokens = learnable
    weights = np.linspace(0.1, 1, len(titles), dtype=np.float32)
    chosen = np.array([3, 7, 0, 3])  # 7 is empty
    batch = gather(titles, tokens, chosen, weights)
    for index, (start, end) in zip(chosen, pairwise(batch.bigram_offsets.tolist()), strict=True):
        own = batch.bigrams[batch.bigram_index[start:end]]
        assert own.tolist() == titles.features.bigrams[index].tolist()
    counts = [len(titles.features.bigrams[index]) for index in chosen]
    assert batch.bigram_offsets.diff().tolist() == counts
    assert batch.targets.tolist() == titles.labels.targets[chosen].tolist()
    assert batch.weights.tolist() == weights[chosen].tolist()


@pytest.mark.parametrize("batch_size", [1, 7, 32, 160, 500])
def test_an_epoch_contains_each_title_once(batch_size: int, learnable: Learnable) -> None:
    titles, _, tokens = learnable
    batches = Batches(numbered(titles), tokens, batch_size, seed=(1, 0))
    shown = titles_of(batches)
    assert sorted(joined(shown)) == list(range(len(titles)))
    assert len(shown) == len(batches)
    assert max(map(len, shown)) <= batch_size


def test_titles_of_weight_zero_are_skipped(learnable: Learnable) -> None:
    titles, _, tokens = learnable
    weights = ones(titles)
    weights[::3] = 0
    batches = Batches(numbered(titles), tokens, 16, weights, seed=(1, 0))
    shown = titles_of(batches)
    assert sorted(joined(shown)) == np.flatnonzero(weights).tolist()
    assert len(shown) == len(batches)


def test_without_a_seed_the_order_of_the_split_is_kept(learnable: Learnable) -> None:
    titles, _, tokens = learnable
    shown = titles_of(Batches(numbered(titles), tokens, 50))
    assert joined(shown) == list(range(len(titles)))


@pytest.mark.parametrize("other", [(4, 1), (5, 0)])
def test_another_epoch_or_seed_groups_titles_differently(
    other: tuple[int, int], learnable: Learnable
) -> None:
    titles, _, tokens = learnable
    first, second = (
        {frozenset(batch) for batch in titles_of(Batches(numbered(titles), tokens, 4, seed=seed))}
        for seed in ((4, 0), other)
    )
    assert len(first & second) < len(first) / 4


def test_batches_of_a_large_split_contain_titles_of_similar_length(make_titles: MakeTitles) -> None:
    random = np.random.default_rng(3)
    titles, tokens = make_titles(["apple " * n for n in random.integers(0, 15, 600)])
    batches = list(Batches(titles, tokens, 30, seed=(1, 0)))
    places = sum(b.tokens.numel() for b in batches)
    assert sum(int(b.lengths.sum()) for b in batches) / places > 0.85  # the others are padding
    means = [float(b.lengths.float().mean()) for b in batches]
    assert means != sorted(means)


@pytest.mark.parametrize("batch_size", [1, 7, 32])
@pytest.mark.parametrize("devices", [2, 3])
def test_processes_share_each_batch_that_is_not_too_small(
    batch_size: int, devices: int, learnable: Learnable
) -> None:
    titles, _, tokens = learnable
    whole = titles_of(Batches(numbered(titles), tokens, batch_size, seed=(1, 0)))
    shares = [
        titles_of(Batches(numbered(titles), tokens, batch_size, seed=(1, 0), share=(i, devices)))
        for i in range(devices)
    ]
    for batch, *parts in zip(whole, *shares, strict=True):
        if len(batch) < devices:
            assert parts == [batch] * devices
        else:
            assert sorted(joined(parts)) == sorted(batch)
            assert min(map(len, parts)) == len(batch) // devices


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_row_dropout_discards_a_share_of_rows_and_bigrams(
    share: float, make_titles: MakeTitles
) -> None:
    random = np.random.default_rng(3)
    words = [word for group in WORDS for word in group]
    titles, tokens = make_titles([" ".join(random.choice(words, 9)) for _ in range(300)])
    (whole,) = Batches(titles, tokens, 300)
    kept: list[tuple[int, int]] = []
    for epoch in range(20):
        (batch,) = Batches(titles, tokens, 300, row_dropout=share, seed=(1, epoch))
        kept.append((len(batch.row_index), len(batch.bigram_index)))
        # A subset of the rows and bigrams is left.
        assert set(batch.rows.tolist()) <= set(whole.rows.tolist())
        assert set(batch.bigrams.tolist()) <= set(whole.bigrams.tolist())
        assert bool((batch.row_offsets.diff() <= whole.row_offsets.diff()).all())
        # No token is dropped.
        assert len(batch.token_weights) == len(whole.token_weights)
        assert batch.lengths.tolist() == [9] * 300
        assert int(batch.bigram_offsets.diff().max()) <= 8
    rows, bigrams = np.mean(kept, axis=0) / [len(whole.row_index), len(whole.bigram_index)]
    assert rows == pytest.approx(1 - share, abs=0.03)
    assert bigrams == pytest.approx(1 - share, abs=0.01)
    assert len(set(kept)) > 10  # each epoch drops other rows


def test_row_dropout_depends_on_the_seed_and_needs_one(learnable: Learnable) -> None:
    titles, _, tokens = learnable
    first, second = (
        list(Batches(titles, tokens, 32, row_dropout=0.5, seed=(4, 2))) for _ in range(2)
    )
    assert all(same(one, other) for one, other in zip(first, second, strict=True))
    plain, dropped = (list(Batches(titles, tokens, 32, row_dropout=share)) for share in (0, 0.5))
    assert all(same(one, other) for one, other in zip(plain, dropped, strict=True))
    everything = np.arange(len(titles))
    none = gather(titles, tokens, everything, ones(titles), 0.0, np.random.default_rng(1))
    assert same(none, gather(titles, tokens, everything, ones(titles)))


def test_column_dropout_hides_the_further_columns_of_a_share_of_the_titles(
    make_titles: MakeTitles,
) -> None:
    titles, tokens = make_titles(["apple drill", "boot", "cherry boot"] * 400, columns=3)
    indices, weights = np.arange(len(titles)), ones(titles)
    batch = gather(titles, tokens, indices, weights, 0.0, np.random.default_rng(2), 0.3)
    lengths = batch.lengths.reshape(-1, 3)
    hidden = lengths[:, 1] == 0
    assert (lengths[:, 0] == 2).all()
    assert lengths[hidden, 2].sum() == 0
    assert (lengths[~hidden] == torch.tensor([2, 1, 2])).all()
    assert 0.2 < hidden.float().mean() < 0.4
    bigrams = batch.bigram_offsets.diff().reshape(-1, 3)
    assert (bigrams[~hidden] == torch.tensor([1, 0, 1])).all()
    assert (bigrams[hidden] == torch.tensor([1, 0, 0])).all()


def test_column_dropout_draws_no_numbers_for_titles_without_further_columns(
    make_titles: MakeTitles,
) -> None:
    titles, tokens = make_titles(["apple drill", "boot"] * 20)
    settings = titles, tokens, 8, None, 0.4
    for one, other in zip(
        Batches(*settings, column_dropout=0.0, seed=(1,)),
        Batches(*settings, column_dropout=0.5, seed=(1,)),
        strict=True,
    ):
        assert same(one, other)
