"""A rich console for text from users: it shows control characters and does not interpret markup."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import IO, Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.containers import Lines
from rich.segment import Segment
from rich.text import Text

from rubro.base.console import visible

_SIZE = re.compile(r"[2-9]\d|[1-9]\d\d", re.ASCII)
_SPACES = re.compile(r"\s+")
# Where a long name, such as train_mlp.dropout=0.3, may continue on the next line.
_JOINTS = re.compile(r"(?<=[/_,=>-])(?=\w)|(?<=\.)(?=[^\W\d])")


def line_starts(text: str, width: int) -> list[int]:
    """Return the positions where the second and later lines of a text begin.

    Lines end at white space if possible, else after punctuation, else at any character.

    >>> line_starts("the name train_mlp.dropout=0.3", 12)
    [9, 19]

    Args:
        text: Text without line breaks.
        width: Number of terminal cells of a line.
    """
    starts: list[int] = []
    start = 0
    while cell_len(text[start:].rstrip()) > width:
        end = start + 1
        while cell_len(text[start : end + 1]) <= width:
            end += 1
        spaces = [found.end() for found in _SPACES.finditer(text, start) if found.start() <= end]
        joints = [found.end() for found in _JOINTS.finditer(text, start + 1) if found.end() <= end]
        start = (spaces or joints or [end])[-1]
        starts.append(start)
    return starts


class WordWrapped(Text):
    """Text whose long names are broken after punctuation; see line_starts."""

    def wrap(self, console: Console, width: int, **options: Any) -> Lines:
        """Return the lines of the text; for the arguments, see rich.text.Text.wrap."""
        if options.get("no_wrap") or self.no_wrap or options.get("overflow") == "ignore":
            return super().wrap(console, width, **options)
        lines = [
            part
            for line in self.split(allow_blank=True)
            for part in line.divide(line_starts(line.plain, width))
        ]
        return self.blank_copy("\n").join(lines).wrap(console, width, **options)


class PlainConsole(Console):
    """Console that shows control characters, and prints markup and names of emoji as they are.

    COLUMNS and LINES are ignored unless they are between 20 and 999, because rich prints nothing on a
    terminal of 0 columns.

    Args:
        options: Arguments of `rich.console.Console`.
    """

    def __init__(self, **options: Any) -> None:
        for name in ("COLUMNS", "LINES"):
            if not _SIZE.fullmatch(os.environ.get(name, "")):
                os.environ.pop(name, None)
        super().__init__(highlight=False, markup=False, emoji=False, **options)

    @property
    def file(self) -> IO[str]:
        """The file to write to, without the stream that would also replace rich's colours."""
        file = super().file  # a progress bar may have replaced the standard streams again
        return getattr(file, "rich_proxied_file", file)

    @file.setter
    def file(self, new_file: IO[str]) -> None:
        self._file = new_file

    def render_str(self, text: str, **options: Any) -> Text:
        """Convert text to a renderable before rich removes some of the control characters."""
        rendered = super().render_str(visible(text), **options)
        return WordWrapped(
            rendered.plain, rendered.style, justify=rendered.justify, overflow=rendered.overflow
        )

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Render an object as segments of visible text without links."""
        for segment in super().render(renderable, options):
            text, style, control = segment
            style = style.update_link(None) if style and style.link else style
            yield segment if control else Segment(visible(text), style)
