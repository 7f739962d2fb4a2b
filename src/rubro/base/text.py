"""Normal form and tokens of a title."""

from __future__ import annotations

import re
import unicodedata

_TOKEN = re.compile(r"[^\W\d_]+|0+|[^\w\s]|_")
_DIGIT = re.compile(r"\d")
# Combining marks; invisible characters; halves of surrogate pairs.
_DROPPED = {"Mn", "Mc", "Me", "Cf", "Cs"}
_CONTROL_TO_BLANK = dict.fromkeys([*range(0x20), *range(0x7F, 0xA0)], " ")
_DIGITS_TO_ZERO = str.maketrans("123456789", "000000000")


class _Visible(dict[int, int | None]):
    """Table for str.translate without the dropped characters, filled as they are met."""

    def __missing__(self, code: int) -> int | None:
        self[code] = None if unicodedata.category(chr(code)) in _DROPPED else code
        return self[code]


_VISIBLE = _Visible()


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
        title = decomposed.translate(_VISIBLE)
    return " ".join(title.lower().translate(_CONTROL_TO_BLANK).split())


def tokenise(title: str) -> list[str]:
    """Split a title into runs of letters, runs of digits (each digit folded to 0) and symbols.

    >>> tokenise("Lámpara Led 32w = 130W")
    ['lampara', 'led', '00', 'w', '=', '000', 'w']

    Args:
        title: Any text.

    Returns:
        Tokens in order; none for a title without visible characters.
    """
    text = normalise(title)
    text = text.translate(_DIGITS_TO_ZERO) if text.isascii() else _DIGIT.sub("0", text)
    return _TOKEN.findall(text)
