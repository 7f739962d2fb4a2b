"""From a title as a seller wrote it to tokens."""

from __future__ import annotations

import re
import unicodedata

_TOKEN = re.compile(r"[^\W\d_]+|0+|[^\w\s]|_")
_DIGIT = re.compile(r"\d")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
# Combining marks; invisible characters; halves of surrogate pairs.
_DROPPED = {"Mn", "Mc", "Me", "Cf", "Cs"}


def normalise(title: str) -> str:
    """Lower-case a title, strip accents and invisible characters, and collapse white space.

    Two titles with the same normal form count as duplicates.

    Args:
        title: any text.

    Returns:
        The normal form, possibly empty.
    """
    if not title.isascii():
        decomposed = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", title).lower())
        title = "".join(char for char in decomposed if unicodedata.category(char) not in _DROPPED)
    return " ".join(_CONTROL.sub(" ", title.lower()).split())


def tokenise(title: str) -> list[str]:
    """Split a title into runs of letters, runs of digits (each digit folded to 0) and symbols.

    >>> tokenise("Lámpara Led 32w = 130W")
    ['lampara', 'led', '00', 'w', '=', '000', 'w']

    Args:
        title: any text.

    Returns:
        The tokens in order; empty for a title without any visible character.
    """
    return _TOKEN.findall(_DIGIT.sub("0", normalise(title)))
