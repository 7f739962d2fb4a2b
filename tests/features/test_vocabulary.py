"""The vocabulary contains the frequent words in order, with their weights."""

from __future__ import annotations

from collections import Counter
from itertools import chain
from typing import Any

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

from rubro.base.errors import DataError
from rubro.base.params import FeaturizeParams
from rubro.features import vocabulary
from rubro.features.featurizer import Featurizer
from rubro.features.subwords import Subwords
from rubro.features.vocabulary import count_subwords
from support.tiny_models import MakeParams

pytest_plugins = ["support.tiny_models"]

TITLES = [
    title.split()
    for title in (
        "mesa ratona de madera",
        "mesa plegable de aluminio",
        "silla de madera",
        "lampara de mesa 00 w",
        "mesa",
        "a b a b a",
    )
]


@pytest.fixture
def sizes(make_params: MakeParams) -> Any:
    def make(**changes: int) -> FeaturizeParams:
        params = make_params({f"featurize.{key}": value for key, value in changes.items()})
        return params.featurize

    return make


def counted(titles: list[list[str]], params: FeaturizeParams) -> Subwords:
    featurizer = Featurizer(max_tokens=9, bigram_buckets=0)
    tokens = featurizer(titles).tokens
    return count_subwords(featurizer.words(), tokens, params)


def test_words_are_counted_in_all_columns_and_once_in_each_row(sizes: Any) -> None:
    rows = ["mesa", "mesa roble", "silla", "", "mesa", "silla silla"]
    featurizer = Featurizer(9, 0, [9])
    features = featurizer([text.split() for text in rows])
    words, params = featurizer.words(), sizes(min_count=1)
    subwords = count_subwords(words, features.joined_tokens, params)
    assert subwords.vocabulary == {"mesa": 2, "silla": 2, "roble": 1}
    assert list(subwords.vocabulary) == ["mesa", "silla", "roble"]
    assert subwords.params.titles == 3


def test_words_are_ordered_by_frequency_then_alphabetically(sizes: Any) -> None:
    counts = Counter(chain.from_iterable(TITLES))
    words = list(counted(TITLES, sizes(min_count=1)).vocabulary)
    assert sorted(words) == sorted(counts)
    assert words[:5] == ["de", "mesa", "a", "b", "madera"]
    keys = [(-counts[word], word) for word in words]
    assert keys == sorted(keys)
    again = counted(TITLES[::-1], sizes(min_count=1))
    assert list(again.vocabulary) == words


def test_words_below_min_count_are_left_out(sizes: Any) -> None:
    assert list(counted(TITLES, sizes(min_count=3)).vocabulary) == ["de", "mesa", "a"]


@pytest.mark.parametrize(("max_words", "words"), [(2, 2), (0, 12), (99, 12)])
def test_the_most_frequent_words_are_kept(sizes: Any, max_words: int, words: int) -> None:
    every = list(counted(TITLES, sizes(min_count=1, max_words=0)).vocabulary)
    kept = list(counted(TITLES, sizes(min_count=1, max_words=max_words)).vocabulary)
    assert kept == every[:words]
    assert len(kept) == words


def test_an_empty_vocabulary_is_an_error_with_a_remedy(sizes: Any) -> None:
    with pytest.raises(DataError, match=r"99 times.*featurize\.min_count"):
        counted(TITLES, sizes(min_count=99))


def test_there_are_no_buckets_without_ngrams(sizes: Any) -> None:
    subwords = counted(TITLES, sizes(max_n=0, ngram_buckets=50))
    assert subwords.row_count == len(subwords.vocabulary)
    assert counted(TITLES, sizes(ngram_buckets=50)).params.buckets == 50


def test_the_weight_of_a_token_is_its_smoothed_idf_divided_by_the_mean(sizes: Any) -> None:
    subwords = counted(TITLES, sizes(min_count=1))
    vectorizer = TfidfVectorizer(analyzer=lambda title: title)
    found = (vectorizer.fit_transform(TITLES) > 0).sum(axis=0).A1
    idf = dict(zip(vectorizer.get_feature_names_out(), vectorizer.idf_, strict=True))
    assert dict(zip(idf, found, strict=True)) == subwords.vocabulary
    mean = sum(idf[word] * count for word, count in subwords.vocabulary.items()) / found.sum()
    for word, value in idf.items():
        assert subwords.weight_of(word) == pytest.approx(value / mean)
    assert subwords.weight_of("unseen") == pytest.approx((np.log(1 + len(TITLES)) + 1) / mean)


def test_counting_in_chunks_does_not_change_the_vocabulary(
    sizes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = counted(TITLES, sizes(min_count=1))
    monkeypatch.setattr(vocabulary, "_CHUNK", 2)
    assert counted(TITLES, sizes(min_count=1)) == whole
