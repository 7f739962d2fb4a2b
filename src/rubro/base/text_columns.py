"""Text columns of a catalogue next to the title, such as brand, description and price."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping
from typing import Any

from rubro.base.schema import Section
from rubro.base.text import tokenise, tokenise_with_spans

# A product to classify: its title, or its texts by the name of their column.
Product = str | Mapping[str, Any]
# Number of characters of a text that are read.
MAX_TEXT_CHARACTERS = 10_000


class TextColumn(Section):
    """A column that is read in addition to the title.

    Attributes:
        name: Name of the column.
        bounds: Ascending bounds of the bins that numbers are sorted into; None = the column contains
            text.
    """

    name: str
    bounds: list[float] | None = None

    def tokens(self, text: str) -> list[str]:
        """Return the tokens of a cell. The token of a number names its bin."""
        if self.bounds is None:
            return tokenise(text[:MAX_TEXT_CHARACTERS])
        try:
            number = float(text)
        except ValueError:
            return []
        return [] if math.isnan(number) else [f"#{bisect_right(self.bounds, number)}"]

    def tokens_with_spans(self, text: str) -> list[tuple[str, list[tuple[int, int]]]]:
        """Return the tokens of a cell, each with the start and end of every character in the cell."""
        if self.bounds is None:
            return tokenise_with_spans(text[:MAX_TEXT_CHARACTERS])
        return [(token, [(0, len(text))] * len(token)) for token in self.tokens(text)]
