"""Hash the character n-grams of words, as gensim's FastText does."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rubro.features.ragged import Ragged

_OFFSET_BASIS = 2166136261
_PRIME = np.uint32(16777619)
_MOST_WORDS = 2**14  # hashed at once, to limit the memory


def ngram_buckets(words: Sequence[str], min_n: int, max_n: int, buckets: int) -> Ragged:
    """Return the hash bucket of each character n-gram of each word.

    A word is enclosed in `<` and `>`; an n-gram that consists only of one of these marks is skipped.
    The hash is FNV-1a over the UTF-8 bytes of the n-gram, where each byte is sign-extended to 32
    bits, as in fastText.

    Source: Fowler, Noll, Vo, The FNV Non-Cryptographic Hash Algorithm; Bojanowski et al. 2017,
    Enriching Word Vectors with Subword Information.

    Args:
        words: Texts without lone surrogates.
        min_n: Length of the shortest n-gram, in characters, >= 1.
        max_n: Length of the longest n-gram, in characters.
        buckets: Number of buckets, >= 1.

    Returns:
        Bucket numbers from 0 to buckets - 1 of each word, in the order of gensim's `ft_ngram_hashes`.
    """
    starts = range(0, len(words), _MOST_WORDS)
    parts = (words[start : start + _MOST_WORDS] for start in starts)
    return Ragged.concatenated([_hashed(part, min_n, max_n, buckets) for part in parts])


def _hashed(words: Sequence[str], min_n: int, max_n: int, buckets: int) -> Ragged:
    ends = np.cumsum([len(word) + 2 for word in words])
    is_mark = np.zeros(ends[-1], dtype=bool)
    is_mark[ends - 1] = is_mark[ends[:-1]] = is_mark[0] = True
    end_of = np.repeat(ends, np.diff(ends, prepend=0))
    text = np.frombuffer("".join(f"<{word}>" for word in words).encode(), np.int8)
    first_bytes = np.flatnonzero(text >= -64)  # 10xxxxxx, below -64, continues a character
    byte_counts = np.diff(first_bytes, append=len(text))
    signed = text.astype(np.int32).view(np.uint32)
    # A row for each character, with the bucket of the n-gram of each length that starts there.
    found = np.full((len(is_mark), max(max_n - min_n + 1, 0)), -1, dtype=np.int32)
    hashes = np.full(len(is_mark), _OFFSET_BASIS, dtype=np.uint32)
    starts = np.arange(len(is_mark))
    for length in range(1, max_n + 1):
        starts = starts[starts + length <= end_of[starts]]
        last = starts + length - 1
        for place in range(byte_counts[last].max(initial=0)):
            has_byte = place < byte_counts[last]
            own = starts[has_byte]
            hashes[own] = (hashes[own] ^ signed[first_bytes[last[has_byte]] + place]) * _PRIME
        if length >= min_n:
            kept = starts[~is_mark[starts]] if length == 1 else starts
            found[kept, length - min_n] = hashes[kept] % np.uint32(buckets)
    counts = np.add.reduceat((found >= 0).sum(axis=1), np.concatenate([[0], ends[:-1]]))
    return Ragged.from_lengths(found[found >= 0], counts)


def ngram_bounds(word: str, min_n: int, max_n: int) -> list[tuple[int, int]]:
    """Return start and end of each n-gram in the word enclosed in < and >, as in ngram_buckets."""
    end = len(word) + 2
    return [
        (start, stop)
        for start in range(end)
        for stop in range(start + min_n, min(start + max_n, end) + 1)
        if stop - start > 1 or 0 < start < end - 1
    ]
