"""Text columns of a catalogue next to the title, such as brand, description and price."""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Mapping
from typing import Any

from rubro.base.schema import Section
from rubro.base.text import tokenise, tokenise_with_spans

# A product to classify: its title, or its texts by the name of their column.
Product = str | Mapping[str, Any]
# Number of characters of a text that are read.
MAX_TEXT_CHARACTERS = 10_000
# A cell with more text around its number than this, or more text in all, is not a number.
_MAX_AROUND = 12
_MAX_NUMBER_CHARACTERS = 100
_NUMBER = re.compile(r"(?<!\w)[-+]?[.,]?\d(?:[\d.,]*\d)?(?:e[-+]?\d+)?", re.IGNORECASE)
_SPACED_THOUSANDS = re.compile(r"(?<=\d)[\s'\u2019](?=\d{3}(?!\d))")
_THOUSANDS = re.compile(r"[-+]?\d{1,3}(?:[.,]\d{2,3})*[.,]\d{3}")
# The separator in such a number may separate thousands or decimals.
_AMBIGUOUS = re.compile(r"[-+]?[1-9]\d{0,2}[.,]\d{3}")


class TextColumn(Section):
    """A column that is read in addition to the title.

    Attributes:
        name: Name of the column.
        bounds: Ascending bounds of the bins that numbers are sorted into; None = the column contains
            text.
        decimal_comma: Whether a comma before three digits, as in 1,299, separates decimals, and a
            point separates thousands.
    """

    name: str
    bounds: list[float] | None = None
    decimal_comma: bool = False

    def tokens(self, text: str) -> list[str]:
        """Return the tokens of a cell. The token of a number names its bin."""
        if self.bounds is None:
            return tokenise(text[:MAX_TEXT_CHARACTERS])
        number = parse_number(text, self.decimal_comma)
        return [] if number is None else [f"#{bisect_right(self.bounds, number)}"]

    def range_of(self, token: str) -> str:
        """Return the range of the bin that the token of a number names, such as "10 <= price < 20"."""
        bounds, place = self.bounds or [], int(token.removeprefix("#"))
        low = "".join(f"{bound:.12g} <= " for bound in bounds[:place][-1:])
        high = "".join(f" < {bound:.12g}" for bound in bounds[place:][:1])
        return f"{low}{self.name}{high}"

    def tokens_with_spans(self, text: str) -> list[tuple[str, list[tuple[int, int]]]]:
        """Return the tokens of a cell, each with the start and end of every character in the cell."""
        if self.bounds is None:
            return tokenise_with_spans(text[:MAX_TEXT_CHARACTERS])
        return [(token, [(0, len(text))] * len(token)) for token in self.tokens(text)]


def parse_number(text: str, decimal_comma: bool) -> float | None:
    """Return the number in a cell, or None if the cell does not contain exactly one number.

    A currency or a unit may stand around the number. If both a point and a comma occur in the number,
    the last one separates decimals. A separator that occurs several times separates thousands.

    >>> parse_number("$ 1.299,50", decimal_comma=False)
    1299.5
    >>> parse_number("12 kg", decimal_comma=False)
    12.0
    >>> parse_number("1.299", decimal_comma=True)
    1299.0

    Args:
        text: Text of the cell.
        decimal_comma: Whether the comma in a number such as 1,299 separates decimals.
    """
    digits = _digits(text)
    if digits is None:
        return None
    separators = re.findall("[.,]", digits)
    decimal = separators[-1] if separators else ""
    if len(separators) == 1:
        if _AMBIGUOUS.fullmatch(digits):
            decimal = "," if decimal_comma else "."
    elif len(set(separators)) == 1:
        if not _THOUSANDS.fullmatch(digits):
            return None
        decimal = ""
    elif separators.count(decimal) > 1:
        return None
    point = {ord(decimal): "."} if decimal else {}
    number = float(digits.translate({ord("."): None, ord(","): None, **point}))
    return number if math.isfinite(number) else None


def has_decimal_commas(texts: list[str]) -> bool:
    """Return whether the numbers in the cells of a column have decimal commas.

    Numbers with an unambiguous decimal separator decide. If there are none, the separator before three
    digits separates thousands, as in prices without decimals.
    """
    clear = ambiguous = 0
    for text in texts:
        digits = _digits(text) or ""
        separators = re.findall("[.,]", digits)
        if _AMBIGUOUS.fullmatch(digits):
            ambiguous += 1 if separators == ["."] else -1
        elif separators:
            is_decimal = separators.count(separators[-1]) == 1
            clear += 1 if (separators[-1] == ",") == is_decimal else -1
    return clear > 0 or (clear == 0 and ambiguous > 0)


def _digits(text: str) -> str | None:
    """Return the only number in a text as it is written, but without spaces between thousands."""
    if len(text) > _MAX_NUMBER_CHARACTERS:
        return None
    text = _SPACED_THOUSANDS.sub("", text.replace("\u2212", "-"))
    found = _NUMBER.findall(text)
    if len(found) != 1 or len("".join(text.split())) > len(found[0]) + _MAX_AROUND:
        return None
    return str(found[0])
