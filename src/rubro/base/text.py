"""Normal form and tokens of a title."""

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

    Titles with the same normal form are duplicates.

    Args:
        title: Any text.

    Returns:
        Normal form, possibly empty.
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
        title: Any text.

    Returns:
        Tokens in order; none for a title without visible characters.
    """
    return _TOKEN.findall(_DIGIT.sub("0", normalise(title)))
