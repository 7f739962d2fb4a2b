"""Training word vectors: agreement with gensim and reproducibility."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import chain
from typing import Any

import numpy as np
import pytest
from gensim.models import FastText

from rubro.base.errors import DataError
from rubro.base.params import EmbedParams
from rubro.features.embedding import Embedding
from rubro.features.subwords import SubwordParams, Subwords
from rubro.training.fasttext import train_fasttext

TITLES = [
    title.split()
    for title in (
        "mesa ratona de madera",
        "mesa plegable de aluminio",
        "silla de madera",
        "silla plegable ñandu",
        "lampara led 00 w",
        "lampara de mesa 00 w",
        "mesa",
        "a b a b",
    )
]
SEED = 11


@pytest.fixture
def embed(make_params: Callable[..., Any]) -> Callable[..., EmbedParams]:
    def make(**changes: Any) -> EmbedParams:
        small = {"vector_size": 8, "epochs": 2, "workers": 1, **changes}
        params: EmbedParams = make_params({f"embed.{k}": v for k, v in small.items()}).embed
        return params

    return make


def words_of(titles: list[list[str]] = TITLES, min_count: int = 2, **sizes: int) -> Subwords:
    """Return the vocabulary and n-grams of titles."""
    counts = Counter(chain.from_iterable(titles))
    words = sorted(word for word, count in counts.items() if count >= min_count)
    params = SubwordParams(**{"min_n": 3, "max_n": 5, "buckets": 50, "titles": 8, **sizes})
    return Subwords({word: sum(word in title for title in titles) for word in words}, params)


def gensim_model(params: EmbedParams, subwords: Subwords, min_count: int = 2) -> FastText:
    return FastText(
        sentences=TITLES,
        sg=1 if params.model == "skipgram" else 0,
        vector_size=params.vector_size,
        window=params.window,
        min_count=min_count,
        epochs=params.epochs,
        negative=params.negative,
        alpha=params.learning_rate,
        min_n=subwords.params.min_n,
        max_n=subwords.params.max_n,
        bucket=subwords.params.buckets or 1,
        workers=1,
        seed=SEED,
    )


def vector(embedding: Embedding, token: str) -> np.ndarray:
    return np.asarray(embedding.table[embedding.subwords.rows_of([token]).values].mean(axis=0))


@pytest.mark.parametrize(
    ("model", "min_count", "sizes"),
    [
        ("skipgram", 2, {}),
        ("cbow", 2, {}),
        ("skipgram", 2, {"min_n": 2, "max_n": 2, "buckets": 7}),
        ("skipgram", 1, {"min_n": 4, "max_n": 6}),
    ],
)
def test_vectors_of_known_and_unknown_words_equal_gensim(
    embed: Callable[..., EmbedParams], model: str, min_count: int, sizes: dict[str, int]
) -> None:
    params, subwords = embed(model=model), words_of(TITLES, min_count, **sizes)
    ours = train_fasttext(TITLES, subwords, params, SEED)
    gensims = gensim_model(params, subwords, min_count).wv
    assert ours.subwords == subwords
    for token in ("mesa", "madera", "a", "00"):
        assert token in ours.subwords
        np.testing.assert_allclose(vector(ours, token), gensims[token], rtol=1e-5, atol=1e-7)
    for token in ("mesita", "lamparas", "ñandues", "日本語", "000000"):
        assert token not in ours.subwords
        np.testing.assert_allclose(vector(ours, token), gensims[token], rtol=1e-5, atol=1e-7)


def test_without_ngrams_an_unknown_word_has_no_rows(embed: Callable[..., EmbedParams]) -> None:
    params, words = embed(), words_of(max_n=0, buckets=0)
    ours = train_fasttext(TITLES, words, params, SEED)
    gensims = gensim_model(params, words).wv
    assert ours.table.shape == (len(ours.subwords.vocabulary), params.vector_size)
    for token in ours.subwords.vocabulary:
        np.testing.assert_allclose(vector(ours, token), gensims[token], rtol=1e-5, atol=1e-7)
    assert len(ours.subwords.rows_of(["nunca"]).values) == 0


def test_the_seed_changes_the_vectors(embed: Callable[..., EmbedParams]) -> None:
    one, other = (train_fasttext(TITLES, words_of(), embed(), seed).table for seed in (1, 2))
    assert not np.allclose(one, other)


@pytest.mark.parametrize(("copies", "epochs"), [(1, 10), (40_000, 1)])
def test_fewer_titles_get_more_epochs_by_default(
    copies: int, epochs: int, embed: Callable[..., EmbedParams], capsys: pytest.CaptureFixture[str]
) -> None:
    words, params = words_of(max_n=0, buckets=0), embed(epochs="auto", vector_size=1)
    train_fasttext(TITLES * copies, words, params, SEED)
    assert f"{epochs}/{epochs}\n" in capsys.readouterr().err


def test_a_vocabulary_of_other_titles_is_an_error(embed: Callable[..., EmbedParams]) -> None:
    with pytest.raises(DataError, match=r"'ratona'.*dvc repro"):
        train_fasttext(TITLES[1:], words_of(min_count=1), embed(), SEED)
