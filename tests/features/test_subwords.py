"""Embedding rows and weights of tokens."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfTransformer

from rubro.features.ngrams import ngram_buckets
from rubro.features.subwords import SubwordParams, Subwords, inverse_document_frequency

VOCABULARY = {"mesa": 1, "silla": 2}


def params_of(**changes: int) -> SubwordParams:
    return SubwordParams(**{"min_n": 3, "max_n": 4, "buckets": 10, "titles": 5, **changes})


def subwords_of(**changes: int) -> Subwords:
    return Subwords(VOCABULARY, params_of(**changes))


@pytest.mark.parametrize("documents", [1, 7, 200])
def test_the_inverse_document_frequency_agrees_with_scikit_learn(documents: int) -> None:
    counts = np.random.default_rng(2).integers(0, 4, (documents, 40))
    counts[:, 0], counts[:, 1] = 0, 1
    expected = TfidfTransformer().fit(counts).idf_
    ours = [inverse_document_frequency(int(n), documents) for n in (counts > 0).sum(axis=0)]
    np.testing.assert_allclose(ours, expected, rtol=1e-12)


@given(
    token=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12),
    min_n=st.integers(1, 4),
    extra=st.integers(0, 3),
    buckets=st.integers(1, 20),
)
def test_a_token_has_the_row_of_its_word_and_the_rows_of_its_ngrams(
    token: str, min_n: int, extra: int, buckets: int
) -> None:
    subwords = subwords_of(min_n=min_n, max_n=min_n + extra, buckets=buckets)
    assert subwords.row_count == 2 + buckets
    for word, own in ((token, []), ("silla", [1])):
        if word in VOCABULARY and not own:
            continue
        hashed = ngram_buckets([word], min_n, min_n + extra, buckets).values
        rows = subwords.rows_of([word, "mesa"])
        assert rows[0].tolist() == own + [2 + bucket for bucket in hashed]
        assert rows[1][0] == 0
        assert rows.values.max() < subwords.row_count
        assert (word in subwords) == bool(own)


def test_an_out_of_vocabulary_token_without_ngrams_has_no_row() -> None:
    subwords = subwords_of(max_n=0, buckets=0)
    rows = subwords.rows_of(["silla", "sillas", "mesa"])
    assert [rows[number].tolist() for number in range(3)] == [[1], [], [0]]
    assert subwords.row_count == 2


@given(st.dictionaries(st.text(max_size=3), st.integers(1, 50), max_size=6))
def test_the_mean_weight_of_the_tokens_of_the_training_titles_is_one(
    vocabulary: dict[str, int],
) -> None:
    subwords = Subwords(vocabulary, params_of(titles=50))
    for word, count in vocabulary.items():
        ratio = subwords.weight_of(word) / inverse_document_frequency(count, 50)
        assert ratio == pytest.approx(subwords.weight_of("unseen") / (np.log(51) + 1))
    total = sum(count * subwords.weight_of(word) for word, count in vocabulary.items())
    assert total == pytest.approx(sum(vocabulary.values()))
    assert subwords.weight_of("unseen") > 0


@pytest.mark.parametrize(
    ("vocabulary", "changes", "problem"),
    [
        (VOCABULARY, {}, None),
        (VOCABULARY, {"max_n": 0, "buckets": 0}, None),
        ({}, {}, "vocabulary is empty"),
        ({"mesa": 6}, {}, "more titles"),
        (VOCABULARY, {"max_n": 2}, "impossible lengths"),
        (VOCABULARY, {"buckets": 0}, "no buckets"),
    ],
)
def test_impossible_sizes_are_reported(
    vocabulary: dict[str, int], changes: dict[str, int], problem: str | None
) -> None:
    found = params_of(**changes).problem(vocabulary)
    assert found is None if problem is None else problem in str(found)
