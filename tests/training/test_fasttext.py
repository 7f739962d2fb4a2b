"""Training word vectors: the same as gensim's own, and the same bytes each time."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gensim.models import FastText
from sklearn.feature_extraction.text import TfidfVectorizer

from rubro.base.errors import DataError
from rubro.base.params import EmbedParams
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
        small = {"vector_size": 8, "epochs": 2, "min_count": 2, "min_n": 3, "max_n": 5}
        small |= {"buckets": 50, "workers": 1, **changes}
        params: EmbedParams = make_params({f"embed.{k}": v for k, v in small.items()}).embed
        return params

    return make


def gensim_model(params: EmbedParams) -> FastText:
    return FastText(
        sentences=TITLES,
        sg=1 if params.model == "skipgram" else 0,
        vector_size=params.vector_size,
        window=params.window,
        min_count=params.min_count,
        epochs=params.epochs,
        negative=params.negative,
        alpha=params.learning_rate,
        min_n=params.min_n,
        max_n=params.max_n,
        bucket=params.buckets,
        workers=1,
        seed=SEED,
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "skipgram"},
        {"model": "cbow"},
        {"min_n": 2, "max_n": 2, "buckets": 7},
        {"min_n": 4, "max_n": 6, "min_count": 1},
    ],
)
def test_vectors_are_those_of_gensim_for_known_and_unknown_words(
    embed: Callable[..., EmbedParams], changes: dict[str, Any]
) -> None:
    params = embed(**changes)
    ours, gensims = train_fasttext(TITLES, params, SEED), gensim_model(params).wv
    for token in ("mesa", "madera", "a", "00"):
        assert token in ours.subwords
        np.testing.assert_allclose(ours.vector(token), gensims[token], rtol=1e-5, atol=1e-7)
    for token in ("mesita", "lamparas", "ñandues", "日本語", "000000"):
        assert token not in ours.subwords
        np.testing.assert_allclose(
            ours.vector(token), gensims.get_vector(token), rtol=1e-5, atol=1e-7
        )


def test_a_word_is_near_its_misspelling_and_not_near_a_stranger(
    embed: Callable[..., EmbedParams],
) -> None:
    ours = train_fasttext(TITLES, embed(epochs=1, vector_size=50, buckets=5000), SEED)

    def similarity(one: str, other: str) -> float:
        a, b = ours.vector(one), ours.vector(other)
        return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))

    assert similarity("plegable", "plegables") > similarity("plegable", "ratona") + 0.2


def test_without_ngrams_a_known_word_is_its_row_and_an_unknown_one_is_zero(
    embed: Callable[..., EmbedParams],
) -> None:
    params = embed(max_n=0)
    ours, gensims = train_fasttext(TITLES, params, SEED), gensim_model(params).wv
    assert ours.table.shape == (len(ours.subwords.vocabulary), params.vector_size)
    for token in ours.subwords.vocabulary:
        np.testing.assert_allclose(ours.vector(token), gensims[token], rtol=1e-5, atol=1e-7)
    assert ours.subwords.rows_of("nunca") == []
    assert not ours.vector("nunca").any()
    assert ours.vector("nunca").shape == (params.vector_size,)


def test_words_rarer_than_min_count_have_no_row_of_their_own(
    embed: Callable[..., EmbedParams],
) -> None:
    ours = train_fasttext(TITLES, embed(min_count=3), SEED)
    assert sorted(ours.subwords.vocabulary) == ["de", "mesa"]


def test_another_process_trains_the_same_bytes(
    tmp_path: Path, embed: Callable[..., EmbedParams]
) -> None:
    params = embed()
    script = (
        "import sys; from pathlib import Path\n"
        "from rubro.training.fasttext import train_fasttext\n"
        "from rubro.base.params import EmbedParams\n"
        f"params = EmbedParams(**{params.model_dump()!r})\n"
        f"train_fasttext({TITLES!r}, params, {SEED}).save(Path(sys.argv[1]))\n"
    )
    subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "there")],
        env={**os.environ, "PYTHONHASHSEED": "1"},
        check=True,
        timeout=60,
        capture_output=True,
    )
    train_fasttext(TITLES, params, SEED).save(tmp_path / "here")
    for name in ("table.safetensors", "vocabulary.json", "subwords.json"):
        assert (tmp_path / "here" / name).read_bytes() == (tmp_path / "there" / name).read_bytes()


def test_another_seed_gives_other_vectors(embed: Callable[..., EmbedParams]) -> None:
    one, other = (train_fasttext(TITLES, embed(), seed).table for seed in (1, 2))
    assert not np.allclose(one, other)


def test_no_word_frequent_enough_is_an_error_that_names_the_remedy(
    embed: Callable[..., EmbedParams],
) -> None:
    with pytest.raises(DataError, match=r"no word appears 99 times.*lower embed\.min_count"):
        train_fasttext(TITLES, embed(min_count=99), SEED)


def test_a_token_weighs_its_smooth_idf_over_that_of_the_mean_token(
    embed: Callable[..., EmbedParams],
) -> None:
    subwords = train_fasttext(TITLES, embed(min_count=1), SEED).subwords
    vectorizer = TfidfVectorizer(analyzer=lambda title: title)
    found = (vectorizer.fit_transform(TITLES) > 0).sum(axis=0).A1
    idf = dict(zip(vectorizer.get_feature_names_out(), vectorizer.idf_, strict=True))
    assert dict(zip(idf, found, strict=True)) == subwords.vocabulary
    mean = sum(idf[word] * count for word, count in subwords.vocabulary.items()) / found.sum()
    for word, value in idf.items():
        assert subwords.weight_of(word) == pytest.approx(value / mean)
    assert subwords.weight_of("unseen") == pytest.approx((np.log(1 + len(TITLES)) + 1) / mean)


def test_auto_passes_over_few_titles_ten_times(
    embed: Callable[..., EmbedParams], capsys: pytest.CaptureFixture[str]
) -> None:
    auto = train_fasttext(TITLES, embed(epochs="auto"), SEED)
    ten = train_fasttext(TITLES, embed(epochs=10), SEED)
    np.testing.assert_array_equal(auto.table, ten.table)
    assert "FastText epoch 10/10" in capsys.readouterr().err


def test_many_titles_are_passed_over_once(
    embed: Callable[..., EmbedParams], capsys: pytest.CaptureFixture[str]
) -> None:
    train_fasttext(TITLES * 40_000, embed(epochs="auto", vector_size=1, max_n=0), SEED)
    assert "FastText epoch 1/1\n" in capsys.readouterr().err


def test_the_most_frequent_words_are_kept(embed: Callable[..., EmbedParams]) -> None:
    every = train_fasttext(TITLES, embed(min_count=1, max_words=0), SEED).subwords.vocabulary
    most = train_fasttext(TITLES, embed(min_count=1, max_words=4), SEED).subwords.vocabulary
    assert 0 < len(most) <= 4 < len(every)
    assert list(most) == list(every)[: len(most)]
