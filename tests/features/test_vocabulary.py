"""The vocabulary: which words it holds, in which order, and what they weigh."""

from __future__ import annotations

from collections import Counter
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

from rubro.base.errors import DataError
from rubro.base.params import FeaturizeParams
from rubro.features import vocabulary
from rubro.features.featurizer import Featurizer
from rubro.features.subwords import Subwords
from rubro.features.vocabulary import count_subwords, load_subwords, save_subwords
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


def test_words_are_in_the_order_of_their_number_then_of_the_alphabet(sizes: Any) -> None:
    counts = Counter(chain.from_iterable(TITLES))
    words = list(counted(TITLES, sizes(min_count=1)).vocabulary)
    assert sorted(words) == sorted(counts)
    assert words[:5] == ["de", "mesa", "a", "b", "madera"]
    keys = [(-counts[word], word) for word in words]
    assert keys == sorted(keys)
    again = counted(TITLES[::-1], sizes(min_count=1))
    assert list(again.vocabulary) == words


def test_rare_words_have_no_row_of_their_own(sizes: Any) -> None:
    assert list(counted(TITLES, sizes(min_count=3)).vocabulary) == ["de", "mesa", "a"]


@pytest.mark.parametrize(("most", "words"), [(2, 2), (0, 12), (99, 12)])
def test_the_most_frequent_words_are_kept(sizes: Any, most: int, words: int) -> None:
    every = list(counted(TITLES, sizes(min_count=1, max_words=0)).vocabulary)
    kept = list(counted(TITLES, sizes(min_count=1, max_words=most)).vocabulary)
    assert kept == every[:words]
    assert len(kept) == words


def test_no_word_frequent_enough_is_an_error_that_names_the_remedy(sizes: Any) -> None:
    with pytest.raises(DataError, match=r"no word appears 99 times.*lower featurize\.min_count"):
        counted(TITLES, sizes(min_count=99))


def test_without_ngrams_there_are_no_buckets(sizes: Any) -> None:
    subwords = counted(TITLES, sizes(max_n=0, ngram_buckets=50))
    assert subwords.row_count == len(subwords.vocabulary)
    assert counted(TITLES, sizes(ngram_buckets=50)).params.buckets == 50


def test_a_token_weighs_its_smooth_idf_over_that_of_the_mean_token(sizes: Any) -> None:
    subwords = counted(TITLES, sizes(min_count=1))
    vectorizer = TfidfVectorizer(analyzer=lambda title: title)
    found = (vectorizer.fit_transform(TITLES) > 0).sum(axis=0).A1
    idf = dict(zip(vectorizer.get_feature_names_out(), vectorizer.idf_, strict=True))
    assert dict(zip(idf, found, strict=True)) == subwords.vocabulary
    mean = sum(idf[word] * count for word, count in subwords.vocabulary.items()) / found.sum()
    for word, value in idf.items():
        assert subwords.weight_of(word) == pytest.approx(value / mean)
    assert subwords.weight_of("unseen") == pytest.approx((np.log(1 + len(TITLES)) + 1) / mean)


def test_what_is_saved_is_read_again(sizes: Any, tmp_path: Path) -> None:
    subwords = counted(TITLES, sizes(min_count=1))
    save_subwords(tmp_path, subwords)
    loaded = load_subwords(tmp_path)
    assert loaded == subwords
    assert list(loaded.vocabulary) == list(subwords.vocabulary)


def test_many_titles_are_counted_as_few_are(sizes: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = counted(TITLES, sizes(min_count=1))
    monkeypatch.setattr(vocabulary, "_CHUNK", 2)
    assert counted(TITLES, sizes(min_count=1)) == whole
