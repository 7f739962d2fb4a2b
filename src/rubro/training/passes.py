"""Number of passes over the training titles."""

from __future__ import annotations

from typing import Literal, NamedTuple


class Passes(NamedTuple):
    """A rule for the number of passes: the fewer the titles, the more.

    Attributes:
        titles: Number of titles that all passes together are to see.
        least: Least number of passes.
        most: Greatest number of passes.
    """

    titles: int
    least: int
    most: int

    def over(self, titles: int, asked: int | Literal["auto"]) -> int:
        """Return the number of passes.

        >>> Passes(480_000, 2, 20).over(40_000, "auto")
        12

        Args:
            titles: Number of training titles, >= 1.
            asked: Number of passes that the user wants; "auto" = by the rule.
        """
        if asked != "auto":
            return asked
        return min(max(round(self.titles / titles), self.least), self.most)
