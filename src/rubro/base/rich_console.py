"""A rich console for text from users: it shows control characters and does not interpret markup."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import IO, Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from rubro.base.console import visible

_SIZE = re.compile(r"[2-9]\d|[1-9]\d\d", re.ASCII)


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
        return super().render_str(visible(text), **options)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Render an object as segments of visible text without links."""
        for segment in super().render(renderable, options):
            text, style, control = segment
            style = style.update_link(None) if style and style.link else style
            yield segment if control else Segment(visible(text), style)
