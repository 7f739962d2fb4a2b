"""Normalise titles, and split them into tokens."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

_ACCENTED = ("LATIN ", "GREEK ", "CYRILLIC ", "MODIFIER LETTER ", "CARON")
_WITHOUT_SPACES = (
    *("CJK ", "IDEOGRAPHIC ", "HIRAGANA ", "KATAKANA", "BOPOMOFO ", "YI "),
    *("THAI ", "LAO ", "KHMER ", "MYANMAR ", "TAI ", "NEW TAI LUE "),
)
_INVISIBLE_MARK = re.compile("VARIATION SELECTOR|GRAPHEME JOINER")
_ASCII_TOKEN = re.compile(r"[a-z]+|0+|\S")
_TOKEN_KINDS = re.compile("[awm]+|cm*|0+|s")
_DIGIT = re.compile(r"\d")
_CONTROL_TO_SPACE = dict.fromkeys([*range(0x20), *range(0x7F, 0xA0)], " ")
_MAX_LISTED_NAMES = 3
_DIGITS_TO_ZERO = str.maketrans("123456789", "000000000")


def first_names(names: Sequence[str]) -> str:
    """Join the first three names, each cut at 80 characters, and count the other names."""
    shown = ", ".join(name[:80] for name in names[:_MAX_LISTED_NAMES])
    more = len(names) - _MAX_LISTED_NAMES
    return shown + (f" and {more:,} more" if more > 0 else "")


class _Kinds(dict[int, str]):
    """Mapping for str.translate from each character to the letter of its kind, filled on demand.

    - a: letter of a script whose combining marks are accents, or a number other than a digit
    - w: letter of another script, whose combining marks belong to the spelling
    - c: character of a script without spaces between words
    - m: combining mark
    - i: invisible character, or half of a surrogate pair
    - 0: digit
    - s: symbol, or control character
    - space: white space
    """

    def __missing__(self, code: int) -> str:
        self[code] = _kind(chr(code))
        return self[code]


class _Unmarked(dict[int, int | None]):
    """Table for str.translate that deletes combining marks and invisible characters."""

    def __missing__(self, code: int) -> int | None:
        self[code] = None if _KINDS[code] in "mi" else code
        return self[code]


_KINDS = _Kinds()
_UNMARKED = _Unmarked()


def _kind(char: str) -> str:
    """Return the letter for the kind of a character; see _Kinds."""
    category = unicodedata.category(char)
    # The Unicode name of a character begins with its script, and is stable across Unicode versions.
    name = unicodedata.name(char, "")
    if category in ("Cf", "Cs") or _INVISIBLE_MARK.search(name):
        return "i"
    if category.startswith("M"):
        return "m"
    if char.isspace():
        return " "
    if not char.isalnum():
        return "s"
    if category == "Nd":
        return "0"
    if not char.isalpha() or name.startswith(_ACCENTED):
        return "a"
    return "c" if name.startswith(_WITHOUT_SPACES) else "w"


def normalise(title: str) -> str:
    """Lower-case a title, strip accents and invisible characters, and collapse white space.

    Accents are combining marks on Latin, Greek or Cyrillic letters, or on no letter at all. Marks of
    other scripts are kept: in Hindi they are vowels, in Japanese they distinguish ga from ka. Titles
    with the same normal form count as duplicates.

    >>> normalise("Lámpara  Ñandú")
    'lampara nandu'

    Args:
        title: Any text.

    Returns:
        Normal form, possibly empty.
    """
    if not title.isascii():
        decomposed = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", title).lower())
        unmarked = decomposed.translate(_UNMARKED)
        # If only ASCII is left, the text contained no letter that keeps its marks.
        title = unmarked if unmarked.isascii() else _without_accents(decomposed)
    return " ".join(title.lower().translate(_CONTROL_TO_SPACE).split())


def _without_accents(decomposed: str) -> str:
    """Remove accents and invisible characters from decomposed text, and recompose it."""
    kept = []
    keeps_marks = False
    for char, kind in zip(decomposed, decomposed.translate(_KINDS), strict=True):
        if kind not in "mi":
            keeps_marks = kind in "wc"
        if kind != "i" and (kind != "m" or keeps_marks):
            kept.append(char)
    return unicodedata.normalize("NFC", "".join(kept))


def tokenise(title: str) -> list[str]:
    """Split a title into words, numbers (with each digit replaced by 0) and single symbols.

    In scripts without spaces between words, each character with its marks is one token. These scripts
    are Chinese characters, Hiragana, Katakana, Bopomofo, Yi, Thai, Lao, Khmer, Myanmar and the Tai
    scripts.

    >>> tokenise("Lámpara Led 32w = 130W")
    ['lampara', 'led', '00', 'w', '=', '000', 'w']
    >>> tokenise("iPhone 13 ケース")
    ['iphone', '00', 'ケ', 'ー', 'ス']

    Args:
        title: Any text.

    Returns:
        Tokens in order; an empty list for a title without visible characters.
    """
    text = normalise(title)
    if text.isascii():
        return _ASCII_TOKEN.findall(text.translate(_DIGITS_TO_ZERO))
    text = _DIGIT.sub("0", text)
    return [text[slice(*run.span())] for run in _TOKEN_KINDS.finditer(text.translate(_KINDS))]


def tokenise_with_spans(title: str) -> list[tuple[str, list[tuple[int, int]]]]:
    """Return the tokens of a title, and the place in the title of each character of a token.

    If normalisation turns one character, such as ½, into several, they all have its position.
    Accents and invisible characters belong to the character before them.

    >>> tokenise_with_spans("Té 2")
    [('te', [(0, 1), (1, 2)]), ('0', [(3, 4)])]

    Args:
        title: Any text.

    Returns:
        Tokens as from tokenise, each with the start and end of every character in the title.
    """
    places: list[tuple[int, int]] = []
    for start, end in _characters(title):
        length = len("".join(normalise(title[start:end]).split()))
        places += [(start, end)] * length
    found, done = [], 0
    for token in tokenise(title):
        found.append((token, places[done : done + len(token)]))
        done += len(token)
    return found


def _characters(title: str) -> list[tuple[int, int]]:
    """Return the start and end of each character of a title together with its marks."""
    if title.isascii():
        return [(place, place + 1) for place in range(len(title))]
    starts: list[int] = []
    for place, char in enumerate(title):
        if not starts or not _is_continued(title[starts[-1] : place], char):
            starts.append(place)
    return list(zip(starts, [*starts[1:], len(title)], strict=True))


def _is_continued(before: str, char: str) -> bool:
    """Return whether a character is invisible, or modifies the characters before it."""
    if char.isascii():
        return False
    if _KINDS[ord(unicodedata.normalize("NFKD", char)[0])] in "mi":
        return True
    together, apart = (unicodedata.normalize("NFKC", text) for text in (before + char, before))
    return len(together) < len(apart) + len(unicodedata.normalize("NFKC", char))
