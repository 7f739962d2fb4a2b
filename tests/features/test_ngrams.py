"""N-gram hashes agree with gensim for all of Unicode."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pytest
from gensim.models.fasttext import ft_hash_bytes, ft_ngram_hashes
from hypothesis import given
from hypothesis import strategies as st

from rubro.features.ngrams import ngram_bounds, ngram_buckets

PLANES = range(17)
WORD_LENGTH = 50
# Unicode blocks are multiples of 16 code points, so every 13th code point covers each block.
STRIDE = 13


def words_of(plane: int, stride: int = 1) -> Iterator[str]:
    """Yield words of 50 code points that cover every code point of a plane, or every n-th."""
    first = plane * 0x10000
    points = range(first, first + 0x10000, stride)
    characters = [chr(point) for point in points if not 0xD800 <= point <= 0xDFFF]
    for start in range(0, len(characters), WORD_LENGTH):
        yield "".join(characters[start : start + WORD_LENGTH])


def assert_same(words: Iterable[str], *sizes: int) -> None:
    listed = list(words)
    found = ngram_buckets(listed, *sizes)
    assert len(found) == len(listed)
    for number, word in enumerate(listed):
        assert found[number].tolist() == list(ft_ngram_hashes(word, *sizes)), ascii(word)


@pytest.mark.parametrize("plane", PLANES)
def test_every_code_point_hashes_as_in_gensim(plane: int) -> None:
    assert_same(words_of(plane), 3, 5, 100_000)


@pytest.mark.parametrize("sizes", [(1, 1, 7), (2, 6, 2**31 - 1)], ids=str)
def test_a_code_point_of_every_block_hashes_as_in_gensim(sizes: tuple[int, int, int]) -> None:
    for plane in PLANES:
        assert_same(words_of(plane, STRIDE), *sizes)


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [(1, 1, 7), (1, 60, 2**31 - 1)], ids=str)
@pytest.mark.parametrize("plane", PLANES)
def test_every_code_point_with_other_sizes_hashes_as_in_gensim(
    plane: int, sizes: tuple[int, int, int]
) -> None:
    assert_same(words_of(plane), *sizes)


def test_the_words_of_all_planes_cover_unicode_except_surrogates() -> None:
    seen = "".join(word for plane in PLANES for word in words_of(plane))
    assert len(set(seen)) == len(seen) == 0x110000 - 0x800
    some = "".join(word for plane in PLANES for word in words_of(plane, STRIDE))
    assert len({ord(char) // 16 for char in some}) == (0x110000 - 0x800) // 16


@given(
    words=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=12), max_size=4),
    min_n=st.integers(1, 5),
    extra=st.integers(-2, 6),
    buckets=st.integers(1, 2**31 - 1),
)
def test_any_words_with_any_sizes_hash_as_in_gensim(
    words: list[str], min_n: int, extra: int, buckets: int
) -> None:
    assert_same(words, min_n, max(min_n + extra, 0), buckets)


def test_many_words_hash_as_in_gensim() -> None:
    assert_same([f"ñ{number}" for number in range(40_000)], 3, 5, 100_000)


@pytest.mark.parametrize("sizes", [(1, 1), (1, 3), (3, 5), (2, 9)], ids=str)
@pytest.mark.parametrize("word", ["", "a", "ab", "ñandú", "abcdefgh"])
def test_ngram_bounds_are_in_the_order_of_the_buckets(word: str, sizes: tuple[int, int]) -> None:
    whole = 2**31 - 1
    marked = f"<{word}>"
    grams = [marked[start:stop] for start, stop in ngram_bounds(word, *sizes)]
    hashes = [ft_hash_bytes(gram.encode()) % whole for gram in grams]
    assert hashes == ngram_buckets([word], *sizes, whole).values.tolist()
