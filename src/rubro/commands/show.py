"""Answers in a terminal: tables and bars."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

_BAR_CELLS = 20
_EIGHTHS = " ▏▎▍▌▋▊▉█"
_MOST_CHARACTERS = 300


def show_answers(
    titles: Sequence[str],
    errors: Sequence[str],
    answers: Sequence[Sequence[tuple[str, float]]],
    least: float = 0.0,
) -> None:
    """Print a table of titles and their categories, to standard output.

    Args:
        titles: Any texts.
        errors: Reason why a title has no answer; "" where it has one.
        answers: Categories and confidences of each title, best first; none where it has an error.
        least: Confidence below which a category is shown dimly.
    """
    console = output_console()
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("title", overflow="fold", ratio=1)
    for name in ("category", "confidence"):
        table.add_column(name, overflow="fold")
    for title, error, categories in zip(titles, errors, answers, strict=True):
        shown = printable(title)
        if error:
            table.add_row(shown, Text(printable(error), style="red"), "")
        for category, confidence in categories:
            style = "dim" if confidence < least else ""
            table.add_row(shown, Text(category, style=style), bar(confidence, console))
            shown = ""
    console.print(table)


def show_title(answer: Sequence[tuple[str, float]]) -> None:
    """Print the categories of one title with bars, to standard output.

    Args:
        answer: Categories and confidences, best first.
    """
    console = output_console()
    table = Table(box=None, pad_edge=False, show_header=False)
    for category, confidence in answer:
        table.add_row(bar(confidence, console), category)
    console.print(table)


def bar(confidence: float, console: Console) -> Text:
    """Return a percentage with a bar of its length.

    Args:
        confidence: Number from 0 to 1.
        console: Console that shows it.
    """
    eighths = round(confidence * _BAR_CELLS * 8)
    filled = _EIGHTHS[8] * (eighths // 8) + _EIGHTHS[eighths % 8].strip()
    if not console.encoding.startswith("utf"):
        filled = "#" * (eighths // 8)
    return Text.assemble(
        (filled.ljust(_BAR_CELLS), "green" if confidence >= 0.5 else "yellow"),
        f" {confidence:6.1%}",
    )


def printable(text: str) -> str:
    """Return text without what moves the cursor, turns the writing round or rings the bell.

    Args:
        text: Any text; its beginning alone is returned where it is long.
    """
    shown = "".join(char if char.isprintable() else "·" for char in text[:_MOST_CHARACTERS])
    return shown + "…" * (len(text) > _MOST_CHARACTERS)


def output_console() -> Console:
    """Return a console of standard output that shows any text."""
    # A terminal in an old encoding cannot show every title.
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")
    return Console(highlight=False, markup=False, emoji=False)
