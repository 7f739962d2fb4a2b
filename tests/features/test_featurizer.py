"""The featurizer turns each title into integers, independently of other titles."""

from __future__ import annotations

from zlib import crc32

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rubro.features.featurizer import Featurizer
from rubro.features.ragged import Ragged
from rubro.features.subwords import Subwords
from support.tiny_models import whole_words

pytest_plugins = ["support.tiny_models"]

TITLES = st.lists(st.lists(st.sampled_from("abcdef"), max_size=5), max_size=8)


def as_lists(ragged: Ragged) -> list[list[int]]:
    return [ragged[index].tolist() for index in range(len(ragged))]


@given(TITLES)
def test_the_features_of_a_title_do_not_depend_on_its_neighbours(titles: list[list[str]]) -> None:
    featurizer = Featurizer(10, 1000)
    features = featurizer(titles)
    assert len(features) == len(titles)
    for index, title in enumerate(titles):
        alone = featurizer([title])
        assert features.tokens[index].tolist() == alone.tokens[0].tolist()
        assert features.bigrams[index].tolist() == alone.bigrams[0].tolist()


@given(TITLES, st.integers(2, 3))
def test_the_columns_of_a_title_have_lists_and_distinct_tokens_of_their_own(
    titles: list[list[str]], columns: int
) -> None:
    texts = titles[: len(titles) // columns * columns]
    featurizer = Featurizer(10, 1000, [2] * (columns - 1))
    features = featurizer(texts)
    assert len(features) == len(texts) // columns
    for column in range(columns):
        expected = [text[: 2 if column else 10] for text in texts[column::columns]]
        alone = Featurizer(10, 1000)
        own = alone(expected)
        lists = np.arange(column, len(texts), columns)
        assert as_lists(features.bigrams.take(lists)) == as_lists(own.bigrams)
        found = features.tokens.take(lists)
        words = featurizer.words()
        assert [[words[token] for token in found[i]] for i in range(len(found))] == expected
    whole = whole_words({"a": 1})
    tokens = featurizer.tokens(whole)
    own_column = np.repeat(np.arange(len(texts)) % columns, features.tokens.lengths)
    np.testing.assert_array_equal(tokens.columns[features.tokens.values], own_column)
    assert len(set(zip(featurizer.words(), tokens.columns, strict=True))) == len(featurizer)


def test_tokens_of_any_column_are_forgotten() -> None:
    featurizer = Featurizer(10, 100, [10])
    first = featurizer([["a"], ["b"]])
    featurizer([["c", "b"], ["a", "b"]])
    featurizer.forget(2)
    assert featurizer.words() == ["a", "b"]
    again = featurizer([["a"], ["b"]])
    assert again.tokens.values.tolist() == first.tokens.values.tolist() == [0, 1]
    assert featurizer([["b"], ["a"]]).tokens.values.tolist() == [2, 3]


def test_titles_are_taken_with_all_their_columns() -> None:
    features = Featurizer(10, 0, [10])([["a"], ["b", "c"], ["d"], [], ["e"], ["f"]])
    taken = features.take(np.array([2, 0]))
    assert len(taken) == 2
    assert as_lists(taken.tokens) == [[2], [5], [0], [3, 4]]
    hidden = features.without_columns(np.array([True, False, True]))
    assert as_lists(hidden.tokens) == [[0], [], [1], [], [2], []]
    assert hidden.columns == 2


@given(TITLES)
def test_a_title_has_a_bigram_for_each_pair_of_neighbouring_tokens(titles: list[list[str]]) -> None:
    bigrams = Featurizer(10, 7)(titles).bigrams
    assert bigrams.lengths.tolist() == [max(len(title) - 1, 0) for title in titles]
    assert ((bigrams.values >= 0) & (bigrams.values < 7)).all()
    assert bigrams.values.dtype == np.int32


def test_a_bigram_is_a_hash_of_its_tokens_that_does_not_depend_on_earlier_titles() -> None:
    fresh, used = Featurizer(10, 2**30), Featurizer(10, 2**30)
    used([["x", "y", "b", "a"]])
    # CRC-32 of each token, combined by Fibonacci hashing.
    golden, first, second = 0x9E3779B97F4A7C15, crc32(b"a"), crc32(b"b")
    expected = ((first * golden + second) * golden % 2**64 >> 32) % 2**30
    for featurizer in (fresh, used):
        assert featurizer([["a", "b"]]).bigrams.values.tolist() == [expected]


def test_bigrams_with_the_same_first_token_collide_like_random_hashes() -> None:
    count, buckets = 20_000, 2**20
    titles = [["red", f"w{number}"] for number in range(count)]
    bigrams = Featurizer(10, buckets)(titles).bigrams
    expected = buckets * (1 - (1 - 1 / buckets) ** count)
    assert len(np.unique(bigrams.values)) == pytest.approx(expected, rel=0.005)


def test_titles_have_no_bigrams_without_buckets() -> None:
    features = Featurizer(10, 0)([["a", "b"], [], ["c"]])
    assert as_lists(features.bigrams) == [[], [], []]
    assert features.tokens.lengths.tolist() == [2, 0, 1]


def test_tokens_beyond_max_tokens_are_ignored() -> None:
    featurizer = Featurizer(2, 1000)
    features = featurizer([["a", "b", "unknown"], ["c"]])
    assert features.tokens.lengths.tolist() == [2, 1]
    assert features.bigrams.lengths.tolist() == [1, 0]
    assert len(featurizer) == 3


def test_a_featurizer_with_some_tokens_gives_them_the_first_positions() -> None:
    featurizer = Featurizer(9, 1000, [9])
    texts = [["apple", "drill"], ["drill"], ["zzz"], ["apple"]]
    before = featurizer(texts)
    assert featurizer.words() == ["apple", "drill", "zzz", "drill", "apple"]
    kept = featurizer.with_tokens(np.array([1, 3, 4]))
    assert kept.words() == ["drill", "drill", "apple"]
    after = kept(texts)
    assert as_lists(after.tokens) == [[3, 0], [1], [4], [2]]
    np.testing.assert_array_equal(after.bigrams.values, before.bigrams.values)


def test_each_distinct_token_has_its_rows_and_weight(subwords: Subwords) -> None:
    featurizer = Featurizer(9, 0)
    features = featurizer([["apple", "zzz"], ["drill", "apple"], ["zzz"]])
    assert as_lists(features.tokens) == [[0, 1], [2, 0], [1]]
    for first, names in ((0, ["apple", "zzz", "drill"]), (2, ["drill"]), (3, [])):
        tokens = featurizer.tokens(subwords, first)
        assert as_lists(tokens) == as_lists(subwords.rows_of(names))
        assert tokens.weights.dtype == np.float32
        assert tokens.weights.tolist() == pytest.approx(list(map(subwords.weight_of, names)))


def test_later_titles_share_the_tokens_of_earlier_ones() -> None:
    featurizer = Featurizer(10, 0)
    featurizer([["a", "b"]])
    assert featurizer([["c", "b"]]).tokens.values.tolist() == [2, 1]
    assert len(featurizer) == 3
    assert featurizer.words() == ["a", "b", "c"]
    assert featurizer.words(2) == ["c"]


def test_take_returns_the_features_of_the_titles_at_the_given_positions() -> None:
    features = Featurizer(10, 100)([["a", "b"], [], ["c", "a", "b"], ["b"]])
    taken = features.take(np.array([2, 0, 2]))
    assert as_lists(taken.tokens) == [as_lists(features.tokens)[i] for i in (2, 0, 2)]
    assert as_lists(taken.bigrams) == [as_lists(features.bigrams)[i] for i in (2, 0, 2)]
