"""Titles as integers: nothing is lost, nothing crosses from one title to the next."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rubro.base.params import FeaturizeParams, Params
from rubro.features.embedding import Subwords
from rubro.features.titles import (
    Featurizer,
    Ragged,
    TitleFeatures,
    Tokens,
    load_features,
    save_features,
)

pytest_plugins = ["helpers"]

MakeFeatures = Callable[..., tuple[TitleFeatures, Tokens]]

LISTS = st.lists(st.lists(st.integers(0, 2**31 - 1), max_size=6), max_size=8)
TITLES = st.lists(st.lists(st.sampled_from("abcdef"), max_size=5), max_size=8)


def as_lists(ragged: Ragged) -> list[list[int]]:
    return [ragged[index].tolist() for index in range(len(ragged))]


def whole_words(vocabulary: str, buckets: int, max_tokens: int = 10) -> Featurizer:
    return Featurizer(
        Subwords(dict.fromkeys(vocabulary, 1), 1, 0, 0, titles=9),
        FeaturizeParams(max_tokens=max_tokens, bigram_buckets=buckets),
    )


@given(LISTS)
def test_a_ragged_array_holds_the_lists_it_was_made_from(lists: list[list[int]]) -> None:
    ragged = Ragged.from_lists(lists)
    assert as_lists(ragged) == lists
    assert ragged.lengths.tolist() == [len(items) for items in lists]
    assert len(ragged) == len(lists)
    assert ragged.values.dtype == np.int32
    assert ragged.offsets.dtype == np.int64


@given(LISTS.filter(bool), st.data())
def test_take_gives_the_lists_at_the_positions_in_their_order(
    lists: list[list[int]], data: st.DataObject
) -> None:
    positions = data.draw(st.lists(st.integers(0, len(lists) - 1), max_size=12))
    taken = Ragged.from_lists(lists).take(np.array(positions, dtype=np.int64))
    assert as_lists(taken) == [lists[position] for position in positions]
    assert taken.offsets[0] == 0
    assert taken.offsets[-1] == len(taken.values)


@given(TITLES)
def test_the_features_of_a_title_do_not_depend_on_its_neighbours(titles: list[list[str]]) -> None:
    featurizer = whole_words("abc", buckets=1000)
    tokens, bigrams, has_oov = featurizer(titles)
    for index, title in enumerate(titles):
        alone = featurizer([title])
        assert tokens[index].tolist() == alone[0][0].tolist()
        assert bigrams[index].tolist() == alone[1][0].tolist()
        assert has_oov[index] == alone[2][0]


@given(TITLES)
def test_a_title_has_one_bigram_less_than_tokens_and_none_below_two(
    titles: list[list[str]],
) -> None:
    _, bigrams, _ = whole_words("abc", buckets=7)(titles)
    assert bigrams.lengths.tolist() == [max(len(title) - 1, 0) for title in titles]
    assert ((bigrams.values >= 0) & (bigrams.values < 7)).all()


@given(TITLES)
def test_a_title_has_oov_where_one_of_its_tokens_is_not_in_the_vocabulary(
    titles: list[list[str]],
) -> None:
    _, _, has_oov = whole_words("abc", buckets=7)(titles)
    assert has_oov.tolist() == [not set(title) <= set("abc") for title in titles]


def test_a_bigram_knows_the_order_of_its_tokens() -> None:
    _, bigrams, _ = whole_words("ab", buckets=2**30)([["a", "b"], ["b", "a"], ["a", "b"]])
    first, swapped, again = bigrams.values.tolist()
    assert first == again
    assert first != swapped


def test_bigrams_are_the_same_in_another_process_with_other_titles_before() -> None:
    fresh, used = whole_words("ab", buckets=2**30), whole_words("ab", buckets=2**30)
    used([["x", "y", "b", "a"]])
    assert fresh([["a", "b"]])[1].values.tolist() == used([["a", "b"]])[1].values.tolist()


def test_bigrams_of_one_first_token_collide_no_more_than_random_hashes() -> None:
    count, buckets = 20_000, 2**20
    titles = [["red", f"w{number}"] for number in range(count)]
    _, bigrams, _ = whole_words("", buckets)(titles)
    expected = buckets * (1 - (1 - 1 / buckets) ** count)
    assert len(np.unique(bigrams.values)) == pytest.approx(expected, rel=0.005)


def test_bigrams_fill_the_buckets_evenly() -> None:
    random, buckets = np.random.default_rng(0), 100
    titles = [[f"w{a}", f"v{b}"] for a, b in random.integers(0, 200, (20_000, 2))]
    _, bigrams, _ = whole_words("", buckets)(titles)
    counts = np.bincount(bigrams.values, minlength=buckets)
    assert counts.min() > 100
    assert counts.max() < 300


def test_without_buckets_no_title_has_a_bigram() -> None:
    tokens, bigrams, _ = whole_words("abc", buckets=0)([["a", "b"], [], ["c"]])
    assert as_lists(bigrams) == [[], [], []]
    assert tokens.lengths.tolist() == [2, 0, 1]


def test_what_lies_beyond_max_tokens_leaves_no_trace() -> None:
    featurizer = whole_words("abc", buckets=1000, max_tokens=2)
    tokens, bigrams, has_oov = featurizer([["a", "b", "unknown"], ["unknown"]])
    assert tokens.lengths.tolist() == [2, 1]
    assert bigrams.lengths.tolist() == [1, 0]
    assert has_oov.tolist() == [False, True]
    assert len(featurizer.tokens) == 3


def test_each_distinct_token_has_the_rows_of_its_subwords(subwords: Subwords) -> None:
    featurizer = Featurizer(subwords, FeaturizeParams(max_tokens=9, bigram_buckets=0))
    titles = [["apple", "zzz"], ["drill", "apple"], ["zzz"]]
    tokens, _, has_oov = featurizer(titles)
    assert as_lists(featurizer.tokens) == [
        subwords.rows_of(token) for token in ("apple", "zzz", "drill")
    ]
    assert as_lists(tokens) == [[0, 1], [2, 0], [1]]
    assert has_oov.tolist() == [True, False, True]


def test_a_second_split_shares_the_tokens_of_the_first() -> None:
    featurizer = whole_words("abc", buckets=0)
    featurizer([["a", "b"]])
    tokens, _, _ = featurizer([["c", "b"]])
    assert tokens.values.tolist() == [2, 1]
    assert len(featurizer.tokens) == 3


def test_features_know_the_class_and_the_label_quality(make_features: MakeFeatures) -> None:
    features, _ = make_features(["apple", "drill", "boot"], [2, 0, 1], [True, False, True])
    assert features.targets.tolist() == [2, 0, 1]
    assert features.reliable.tolist() == [True, False, True]
    assert len(features) == 3


@pytest.mark.parametrize("titles", [["apple red", "", "zzz drill saw"], [""], []])
def test_saved_features_come_back_as_they_were_in_the_same_bytes(
    titles: list[str], make_features: MakeFeatures, tmp_path: Path
) -> None:
    features, rows = make_features(titles)
    for folder in ("once", "twice"):
        save_features(tmp_path / folder, {"train": features}, rows)
    (loaded,), loaded_rows = load_features(tmp_path / "once", "train")
    for name in ("tokens", "bigrams"):
        before, after = getattr(features, name), getattr(loaded, name)
        np.testing.assert_array_equal(before.values, after.values, strict=True)
        np.testing.assert_array_equal(before.offsets, after.offsets, strict=True)
    for name in ("targets", "reliable", "has_oov"):
        np.testing.assert_array_equal(getattr(features, name), getattr(loaded, name), strict=True)
    np.testing.assert_array_equal(rows.values, loaded_rows.values, strict=True)
    np.testing.assert_array_equal(rows.offsets, loaded_rows.offsets, strict=True)
    for name in ("train", "tokens"):
        once, twice = (tmp_path / folder / f"{name}.safetensors" for folder in ("once", "twice"))
        assert once.read_bytes() == twice.read_bytes()


def test_splits_load_in_the_order_asked_for(make_features: MakeFeatures, tmp_path: Path) -> None:
    one, rows = make_features(["apple"])
    two, _ = make_features(["apple", "apple"])
    save_features(tmp_path, {"train": one, "test": two}, rows)
    splits, _ = load_features(tmp_path, "test", "train")
    assert [len(split) for split in splits] == [2, 1]


def test_the_default_parameters_featurize(make_params: Callable[..., Params]) -> None:
    featurizer = Featurizer(Subwords({"a": 1}, 1, 0, 0, titles=1), make_params().featurize)
    tokens, _, has_oov = featurizer([["a", "b"]])
    assert tokens.values.tolist() == [0, 1]
    assert has_oov.tolist() == [True]
