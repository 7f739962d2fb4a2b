"""Hash the character n-grams of words, as gensim's FastText does."""

from __future__ import annotations

_OFFSET_BASIS = 2166136261
_PRIME = 16777619
_MASK = 0xFFFFFFFF


def ngram_buckets(word: str, min_n: int, max_n: int, buckets: int) -> list[int]:
    """Return the hash bucket of each character n-gram of a word.

    The word is enclosed in `<` and `>`; an n-gram that consists only of one of these marks is
    skipped. The hash is FNV-1a over the UTF-8 bytes of the n-gram, where each byte is sign-extended
    to 32 bits, as in fastText.

    Source: Fowler, Noll, Vo, The FNV Non-Cryptographic Hash Algorithm; Bojanowski et al. 2017,
    Enriching Word Vectors with Subword Information.

    Args:
        word: Text without lone surrogates.
        min_n: Length of the shortest n-gram, in characters, >= 1.
        max_n: Length of the longest n-gram, in characters.
        buckets: Number of buckets, >= 1.

    Returns:
        Bucket numbers from 0 to buckets - 1, in the order of gensim's `ft_ngram_hashes`.
    """
    characters = [
        [byte if byte < 128 else byte | 0xFFFFFF00 for byte in character.encode("utf-8")]
        for character in f"<{word}>"
    ]
    end = len(characters)
    found = []
    for start in range(end):
        hashed = _OFFSET_BASIS
        for stop in range(start + 1, min(start + max_n, end) + 1):
            for byte in characters[stop - 1]:
                hashed = ((hashed ^ byte) * _PRIME) & _MASK
            length = stop - start
            if length >= min_n and not (length == 1 and (start == 0 or stop == end)):
                found.append(hashed % buckets)
    return found


def ngram_bounds(word: str, min_n: int, max_n: int) -> list[tuple[int, int]]:
    """Return start and end of each n-gram in the word enclosed in < and >, as in ngram_buckets."""
    end = len(word) + 2
    return [
        (start, stop)
        for start in range(end)
        for stop in range(start + min_n, min(start + max_n, end) + 1)
        if stop - start > 1 or 0 < start < end - 1
    ]
