"""Pretrained vectors: every format, spellings of words, n-grams and damaged files."""

from __future__ import annotations

import gzip
import pickle
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gensim.models import FastText, KeyedVectors, Word2Vec
from gensim.models.fasttext import save_facebook_model

from rubro.base.errors import DataError
from rubro.base.params import EmbedParams
from rubro.features.embedding import Embedding
from rubro.features.ngrams import ngram_buckets
from rubro.features.subwords import SubwordParams, Subwords
from rubro.training.fasttext import train_fasttext
from rubro.training.pretrained_vectors import PretrainedVectors, read_pretrained_vectors

SIZE = 8
TITLES = [
    title.split()
    for title in (
        "mesa ratona de madera",
        "mesa plegable de aluminio",
        "silla de madera plegable",
        "lampara ñandu led 00 w",
    )
]
SUBWORDS = Subwords(
    {"mesa": 4, "silla": 3, "ñandu": 2, "00": 2, "sillon": 1},
    SubwordParams(min_n=3, max_n=5, buckets=5000, titles=5),
)
KNOWN = ["mesa", "silla", "ñandu", "00"]  # sillon is in no title
Save = Callable[[Path], Path]


@pytest.fixture(scope="module")
def word2vec() -> Word2Vec:
    return Word2Vec(TITLES, vector_size=SIZE, min_count=1, epochs=2, workers=1, seed=3)


@pytest.fixture(scope="module")
def fasttext() -> FastText:
    return FastText(TITLES, vector_size=SIZE, min_count=1, bucket=3000, epochs=2, workers=1, seed=3)


def gzipped(path: Path) -> Path:
    packed = path.with_name(f"{path.name}.gz")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    return packed


def read(path: Path, subwords: Subwords = SUBWORDS, size: int = SIZE) -> PretrainedVectors:
    found = read_pretrained_vectors(path, subwords, size)
    assert found is not None
    return found


def write_vec(path: Path, words: list[str], header: bool = True) -> np.ndarray:
    """Write words with random vectors in the text format of word2vec; return the vectors."""
    vectors = np.random.default_rng(5).standard_normal((len(words), SIZE)).astype(np.float32)
    lines = [f"{len(words)} {SIZE}"] * header
    lines += [
        " ".join([word, *map(str, row)]) for word, row in zip(words, vectors.tolist(), strict=True)
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return vectors


WORD_FORMATS: dict[str, Callable[[Any, Path], object]] = {
    "x.kv": lambda model, path: model.wv.save(str(path)),
    "arrays.kv": lambda model, path: model.wv.save(str(path), separately=["vectors"]),
    "x.model": lambda model, path: model.save(str(path)),
    "arrays.model": lambda model, path: model.save(str(path), sep_limit=0),
    "x.vec": lambda model, path: model.wv.save_word2vec_format(str(path)),
}


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gz"])
@pytest.mark.parametrize("name", WORD_FORMATS)
def test_words_start_from_the_vectors_of_a_file(
    name: str, packed: bool, word2vec: Word2Vec, tmp_path: Path
) -> None:
    path = tmp_path / name
    WORD_FORMATS[name](word2vec, path)
    if packed and "arrays" not in name:
        path = gzipped(path)
    found = read(path)
    assert found.file == path.name
    assert found.words == 4
    assert found.known[:5].tolist() == [True, True, True, True, False]
    np.testing.assert_allclose(found.vectors[:4], word2vec.wv[KNOWN], rtol=1e-6)
    assert not found.vectors[~found.known].any()


def test_ngrams_start_from_the_mean_of_the_words_with_them(
    word2vec: Word2Vec, tmp_path: Path
) -> None:
    word2vec.wv.save_word2vec_format(str(tmp_path / "x.vec"))
    found = read(tmp_path / "x.vec")
    assert found.ngram_buckets == found.known[5:].sum()
    rows = {word: {*SUBWORDS.rows_of([word]).values.tolist()} for word in KNOWN}
    assert {*found.known.nonzero()[0].tolist()} == set().union(*rows.values())
    for row in found.known.nonzero()[0].tolist():
        words = [word for word in KNOWN if row in rows[word]]
        weights = [SUBWORDS.vocabulary[word] for word in words]
        expected = np.average(word2vec.wv[words], axis=0, weights=weights)
        np.testing.assert_allclose(found.vectors[row], expected, rtol=1e-4, atol=1e-7)
    shared = SUBWORDS.params.model_copy(update={"buckets": 1})
    one = read(tmp_path / "x.vec", Subwords(SUBWORDS.vocabulary, shared))
    weights = [SUBWORDS.vocabulary[word] for word in KNOWN]
    expected = np.average(word2vec.wv[KNOWN], axis=0, weights=weights)
    np.testing.assert_allclose(one.vectors[5], expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("name", ["x.bin", "x.bin.gz", "x.kv", "x.model", "arrays.kv"])
@pytest.mark.parametrize("max_n", [5, 4, 6])
def test_ngrams_start_from_a_fasttext_model(
    name: str, max_n: int, fasttext: FastText, tmp_path: Path
) -> None:
    path = tmp_path / name.removesuffix(".gz")
    if ".bin" in name:
        save_facebook_model(fasttext, str(path))
    else:
        WORD_FORMATS[name](fasttext, path)
    path = gzipped(path) if name.endswith(".gz") else path
    sizes = SUBWORDS.params.model_copy(update={"max_n": max_n})
    embedding = embedding_of(read(path, Subwords(SUBWORDS.vocabulary, sizes)), sizes)
    own = {word: fasttext.wv.vectors_vocab[fasttext.wv.key_to_index[word]] for word in KNOWN}
    for row, word in enumerate(KNOWN):
        np.testing.assert_array_equal(embedding.table[row], own[word])
    for word in SUBWORDS.vocabulary:
        for length in range(3, max_n + 1):
            ours, theirs = (
                ngram_buckets([word], length, length, buckets).values for buckets in (5000, 3000)
            )
            for bucket, their_bucket in zip(ours, theirs, strict=True):
                expected = fasttext.wv.vectors_ngrams[their_bucket] if length <= 6 else 0
                actual = embedding.table[len(SUBWORDS.vocabulary) + bucket]
                np.testing.assert_allclose(actual, expected, rtol=1e-5)
    if max_n == 6:  # the same n-grams as in the model
        assert "sillon" not in fasttext.wv.key_to_index
        for word in SUBWORDS.vocabulary:
            vector = embedding.table[embedding.subwords.rows_of([word]).values].mean(axis=0)
            np.testing.assert_allclose(vector, fasttext.wv[word], rtol=1e-4, atol=1e-7)


def embedding_of(found: PretrainedVectors, sizes: SubwordParams) -> Embedding:
    return Embedding(Subwords(SUBWORDS.vocabulary, sizes), found.vectors)


def test_ngrams_in_one_bucket_start_from_their_mean_weighted_by_titles(
    fasttext: FastText, tmp_path: Path
) -> None:
    save_facebook_model(fasttext, str(tmp_path / "x.bin"))
    words = {"mesa": 3, "silla": 1}
    one_bucket = SubwordParams(min_n=3, max_n=3, buckets=1, titles=5)
    found = read(tmp_path / "x.bin", Subwords(words, one_bucket))
    total = sum(
        count * fasttext.wv.vectors_ngrams[ngram_buckets([word], 3, 3, 3000).values].sum(axis=0)
        for word, count in words.items()
    )
    number = sum(
        count * len(ngram_buckets([word], 3, 3, 3000).values) for word, count in words.items()
    )
    np.testing.assert_allclose(found.vectors[2], total / number, rtol=1e-5)
    assert found.ngram_buckets == 1


def test_without_ngrams_only_words_are_read(fasttext: FastText, tmp_path: Path) -> None:
    save_facebook_model(fasttext, str(tmp_path / "x.bin"))
    none = SUBWORDS.params.model_copy(update={"max_n": 0, "buckets": 0})
    found = read(tmp_path / "x.bin", Subwords(SUBWORDS.vocabulary, none))
    ngrams = fasttext.wv.vectors_ngrams[ngram_buckets(["sillon"], 3, 6, 3000).values]
    np.testing.assert_allclose(found.vectors[4], ngrams.mean(axis=0), rtol=1e-5)
    assert found.known.all()


def test_the_same_spelling_is_preferred_to_the_first_one_with_the_same_normal_form(
    tmp_path: Path,
) -> None:
    words = ["Mesa", "MESA", "mesa", "Sillón", "sillón", "47", "85", "mesa", "ñandu mesa", "a  b"]
    vectors = write_vec(tmp_path / "x.vec", words)
    found = read(tmp_path / "x.vec")
    assert found.words == 3
    for word, place in {"mesa": 2, "sillon": 3, "00": 5}.items():
        row = [*SUBWORDS.vocabulary].index(word)
        np.testing.assert_allclose(found.vectors[row], vectors[place], rtol=1e-6)


def test_text_may_have_trailing_spaces_and_windows_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "x.vec"
    vectors = write_vec(path, ["la mesa", "mesa", "\ufffd", "\xa0", "silla"])
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b" \r\n"))
    found = read(path)
    np.testing.assert_allclose(found.vectors[:2], vectors[[1, 4]], rtol=1e-6)


def test_a_word_that_is_not_utf8_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "x.vec"
    write_vec(path, ["silla", "mesa"])
    path.write_bytes(path.read_bytes().replace(b"silla", b"s\xedlla"))
    assert read(path).words == 1


def save(name: str, word2vec: Word2Vec, fasttext: FastText, path: Path) -> None:
    """Write vectors in the format of a name in WORD_FORMATS, or in the format of fastText."""
    if name in WORD_FORMATS:
        WORD_FORMATS[name](word2vec, path)
    else:
        save_facebook_model(fasttext, str(path))


@pytest.mark.parametrize("name", ["x.vec", "x.bin", "x.kv"])
def test_another_vector_size_is_an_error_with_both_sizes(
    name: str, word2vec: Word2Vec, fasttext: FastText, tmp_path: Path
) -> None:
    path = tmp_path / name
    save(name, word2vec, fasttext, path)
    with pytest.raises(DataError, match=r"\b8 numbers.*embed\.vector_size is 200.* to 8"):
        read(path, size=200)


@pytest.mark.parametrize("name", WORD_FORMATS | {"ft.bin": None})
def test_a_truncated_file_is_an_error_with_its_path(
    name: str, word2vec: Word2Vec, fasttext: FastText, tmp_path: Path
) -> None:
    path = tmp_path / name
    save(name, word2vec, fasttext, path)
    content = path.read_bytes()
    packed, zipped = path.with_suffix(".gz"), gzip.compress(content)
    for length in {1, 3, 9, 40, *range(60, len(content) * 2 // 3, len(content) // 20 + 1)}:
        path.write_bytes(content[:length])
        with pytest.raises(DataError, match=re.escape(str(path))):
            read(path)
        if length >= len(zipped):
            continue
        packed.write_bytes(zipped[:length])
        with pytest.raises(DataError, match=re.escape(str(packed))):
            read(packed)


@pytest.mark.parametrize("name", [*WORD_FORMATS, "ft.bin"])
def test_damaged_bytes_never_end_in_another_exception(
    name: str, word2vec: Word2Vec, fasttext: FastText, tmp_path: Path
) -> None:
    path = tmp_path / name
    save(name, word2vec, fasttext, path)
    content, random = path.read_bytes(), np.random.default_rng(7)
    for _ in range(60):
        damaged = bytearray(content)
        for place in random.integers(0, min(len(content), 300), 3):
            damaged[place] = random.integers(256)
        path.write_bytes(damaged)
        try:
            read(path)
        except DataError as error:
            assert str(path) in str(error)


UNUSABLE: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "empty"),
    "parquet": (b"PAR1" + bytes(100), "format"),
    "old fastText": (struct.pack("<2i", 8, 5) + bytes(100), "format"),
    "csv": (b"title,category\nmesa,MESAS\n", "format"),
    "html": (b"<!DOCTYPE html>\n<html>\n", "format"),
    "zip": (b"PK\x03\x04" + bytes(100), "format"),
    "array": (b"\x93NUMPY\x01\x00" + bytes(100), "format"),
    "damaged gzip": (b"\x1f\x8b\x08\x00" + b"x" * 100, "gzip"),
    "no words": (f"0 {SIZE}\n".encode(), "none of the 5 words"),
    "short line": (f"2 {SIZE}\nmesa{' 1' * SIZE}\nsilla 1 2\n".encode(), "line 3"),
    "fewer words": (f"3 {SIZE}\nmesa{' 1' * SIZE}\n".encode(), "line 3"),
    "binary word2vec": (f"1 {SIZE}\nmesa ".encode() + bytes([200]) * 60, "line 2"),
    "commas": (f"1 {SIZE}\nmesa{' 1,5' * SIZE}\n".encode(), "line 2"),
    "not a number": (f"1 {SIZE}\nmesa{' 1' * (SIZE - 1)} 1-5\n".encode(), "line 2"),
    "nan": (f"1 {SIZE}\nmesa{' nan' * SIZE}\n".encode(), "vector 1 contains NaN"),
    "other words": (f"1 {SIZE}\ntable{' 1' * SIZE}\n".encode(), "none of the 5 words"),
    "only the start of fastText": (struct.pack("<2i", 793712314, 12), "early"),
    "newer fastText": (struct.pack("<14id", 793712314, 13, *[0] * 12, 0), "version 13"),
    "another pickle": (pickle.dumps({"mesa": 1}), "not a complete file"),
    "pickled text": (pickle.dumps("mesa"), "not a complete file"),
}


@pytest.mark.parametrize(("content", "fragment"), UNUSABLE.values(), ids=[*UNUSABLE])
def test_an_unusable_file_is_an_error_with_a_remedy(
    content: bytes, fragment: str, tmp_path: Path
) -> None:
    path = tmp_path / "x.vec"
    path.write_bytes(content)
    with pytest.raises(DataError) as error:
        read(path)
    assert str(path) in str(error.value)
    assert fragment in str(error.value)


def test_infinity_in_a_used_row_is_an_error(fasttext: FastText, tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    save_facebook_model(fasttext, str(path))
    row = fasttext.wv.vectors_vocab[fasttext.wv.key_to_index["mesa"]].tobytes()
    content = path.read_bytes()
    assert row in content
    path.write_bytes(content.replace(row, np.full(SIZE, np.inf, "<f4").tobytes()))
    with pytest.raises(DataError, match="infinity"):
        read(path)


def test_ngrams_of_a_model_may_start_at_any_length(tmp_path: Path) -> None:
    """fastText counts characters from 1 if the shortest length is 0."""
    sizes = {"min_n": 0, "max_n": 3, "bucket": 3000}
    model = FastText(TITLES, vector_size=SIZE, min_count=1, workers=1, seed=3, **sizes)
    save_facebook_model(model, str(tmp_path / "x.bin"))
    common = {
        bucket
        for word in SUBWORDS.vocabulary
        for bucket in ngram_buckets([word], 3, 3, 5000).values
    }
    assert read(tmp_path / "x.bin").ngram_buckets == len(common)


def test_quantised_vectors_are_refused(fasttext: FastText, tmp_path: Path) -> None:
    path = tmp_path / "x.ftz"
    save_facebook_model(fasttext, str(path))
    content = bytearray(path.read_bytes())
    shape = struct.pack("<2q", len(fasttext.wv) + 3000, SIZE)
    content[content.index(shape) - 1] = 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"x\.ftz: .*\.ftz"):
        read(path)


def test_a_file_of_gensim_runs_no_code(tmp_path: Path) -> None:
    class Attack:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "attacked",)

    model = KeyedVectors(SIZE)
    model.add_vectors(["mesa"], np.ones((1, SIZE), np.float32))
    model.expandos["attack"] = Attack()
    (tmp_path / "x.kv").write_bytes(pickle.dumps(model))
    assert read(tmp_path / "x.kv").words == 1
    assert not (tmp_path / "attacked").exists()


def test_a_missing_array_of_gensim_is_named(word2vec: Word2Vec, tmp_path: Path) -> None:
    path = tmp_path / "arrays.kv"
    WORD_FORMATS["arrays.kv"](word2vec, path)
    companion = tmp_path / "arrays.kv.vectors.npy"
    companion.write_bytes(companion.read_bytes()[:-50])
    with pytest.raises(DataError, match=r"arrays\.kv: not a complete file.*\.npy"):
        read(path)
    companion.unlink()
    with pytest.raises(DataError, match=r"arrays\.kv\.vectors\.npy: no such file"):
        read(path)


def test_a_folder_contains_at_most_one_file(word2vec: Word2Vec, tmp_path: Path) -> None:
    for name in ("README.md", ".gitignore"):
        (tmp_path / name).write_text("text")
    assert read_pretrained_vectors(tmp_path, SUBWORDS, SIZE) is None
    WORD_FORMATS["arrays.kv"](word2vec, tmp_path / "arrays.kv")
    (tmp_path / "arrays.kv.dvc").write_text("text")
    assert read(tmp_path).file == "arrays.kv"
    write_vec(tmp_path / "other.vec", ["mesa"])
    with pytest.raises(DataError, match=r"arrays\.kv, other\.vec.*embed\.pretrained"):
        read(tmp_path)
    with pytest.raises(DataError, match=r"none\.vec: no such file.*embed\.pretrained"):
        read(tmp_path / "none.vec")


def test_a_file_that_dvc_tracks_but_that_is_missing_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "x.vec.dvc").write_text("text")
    with pytest.raises(DataError, match=r"x\.vec: no such file.*dvc pull"):
        read_pretrained_vectors(tmp_path, SUBWORDS, SIZE)


def test_training_continues_from_the_vectors(
    fasttext: FastText, make_params: Callable[..., Any], tmp_path: Path
) -> None:
    """A learning rate of almost 0 leaves known rows unchanged, and the others as without vectors."""
    save_facebook_model(fasttext, str(tmp_path / "x.bin"))
    found = read(tmp_path / "x.bin")
    titles = [[*title, "sillon"] for title in TITLES] * 50

    def trained(learning_rate: float, vectors: PretrainedVectors | None) -> np.ndarray:
        changes = {"vector_size": SIZE, "learning_rate": learning_rate, "epochs": 2}
        params: EmbedParams = make_params({f"embed.{k}": v for k, v in changes.items()}).embed
        table: np.ndarray = train_fasttext(titles, SUBWORDS, params, 3, vectors).table
        return table

    still, without = trained(1e-30, found), trained(1e-30, None)
    np.testing.assert_allclose(still[found.known], found.vectors[found.known], atol=1e-6)
    np.testing.assert_allclose(still[~found.known], without[~found.known], atol=1e-6)
    np.testing.assert_array_equal(trained(0.05, found), trained(0.05, found))
    assert np.abs(trained(0.05, found) - still).max() > 1e-4
