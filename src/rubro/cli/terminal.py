"""Answers in a terminal: tables and bars."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from rubro.base.console import output_console, printable

if TYPE_CHECKING:
    from rubro.prediction.explanation import Explanation, WordContribution

_BAR_CELLS = 20
_EIGHTHS = " ▏▎▍▌▋▊▉█"
_MOST_INPUTS = 10
_CONTRIBUTION_CELLS = 10


def show_answers(
    titles: Sequence[str],
    errors: Sequence[str],
    answers: Sequence[Sequence[tuple[str, float]]],
    accepted: Sequence[bool],
    notes: Sequence[str],
) -> None:
    """Print a table of titles and their categories, to standard output.

    Args:
        titles: Any texts.
        errors: Reason why a title has no answer; "" where it has one.
        answers: Categories and confidences of each title, best first; none where it has an error.
        accepted: Whether the answer of each title is accepted; others are shown dimly.
        notes: What else is to be said of each title.
    """
    console = output_console()
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("title", overflow="fold", ratio=1)
    for name in ("category", "confidence"):
        table.add_column(name, overflow="fold")
    if any(notes):
        table.add_column("")
    for title, error, categories, is_accepted, note in zip(
        titles, errors, answers, accepted, notes, strict=True
    ):
        shown = printable(title)
        if error:
            table.add_row(shown, Text(printable(error), style="red"), "")
        for category, confidence in categories:
            style = "" if is_accepted else "dim"
            cells = [note] if any(notes) else []
            table.add_row(shown, Text(category, style=style), bar(confidence, console), *cells)
            shown = note = ""
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


def show_table(
    title: str, rows: Iterable[Sequence[Any]], columns: Sequence[str] = ("", "", "")
) -> None:
    """Print a table to standard output, and an empty line.

    Args:
        title: Line above the table.
        rows: Cells of each row; numbers that are no integers get four decimals.
        columns: Names of the columns; no header where all are empty.
    """
    table = Table(title=title, title_justify="left", box=None, show_header=any(columns))
    for column in columns:
        table.add_column(column.replace("_", " "), overflow="fold")
    for row in rows:
        cells = (f"{cell:.4f}" if isinstance(cell, float) else f"{cell}" for cell in row)
        table.add_row(*map(printable, cells))
    output_console().print(table, "")


def show_explanation(explanation: Explanation) -> None:
    """Print a title in the colours of its words, and tables of what they contribute."""
    console = output_console()
    most = max((abs(word.contribution) for word in explanation.words), default=0.0) or 1.0
    console.print(_coloured(explanation, most))
    console.print(
        Text.assemble(
            (explanation.category, "bold green"),
            f" {explanation.confidence:.1%}, against ",
            (explanation.other, "bold red"),
            f" {explanation.other_confidence:.1%}: {explanation.lead:+.2f} in logits",
        )
    )
    if explanation.foreign:
        unknown = f"{explanation.out_of_vocabulary:.0%} of the tokens are unknown"
        console.print(Text(f"foreign to the training: {unknown}", style="yellow"))
    console.print(_words_table(explanation, most, console), "")
    if explanation.linear:
        console.print(_linear_table(explanation), "")
    if explanation.nearest:
        console.print(_nearest_table(explanation), "")


def _coloured(explanation: Explanation, most: float) -> Text:
    shown = Text("".join(map(printable, explanation.title)))
    for word in explanation.words:
        shown.stylize(_style(word, most), word.start, word.end)
    return shown


def _style(word: WordContribution, most: float) -> str:
    """Green for what speaks for the category, red for what speaks against it."""
    strength = abs(word.contribution) / most
    if strength < 0.1:
        return "dim"
    colour = "green" if word.contribution > 0 else "red"
    return f"{'bold reverse' if strength > 0.5 else 'bold'} {colour}"


def _words_table(explanation: Explanation, most: float, console: Console) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("word", overflow="fold")
    table.add_column("its part in logits")
    for name in explanation.words[0].members if explanation.words else ():
        table.add_column(name, justify="right")
    table.add_column("")
    block = "█" if console.encoding.startswith("utf") else "#"
    for word in explanation.words:
        filled = block * round(abs(word.contribution) / most * _CONTRIBUTION_CELLS)
        colour = "green" if word.contribution > 0 else "red"
        part = Text.assemble(
            f"{word.contribution:+7.2f} ", (filled.ljust(_CONTRIBUTION_CELLS), colour)
        )
        members = (f"{each:+.2f}" for each in word.members.values())
        note = "" if word.known else Text("unknown", style="yellow")
        table.add_row(printable(word.text), part, *members, note)
    return table


def _linear_table(explanation: Explanation) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("strongest inputs of the svm", "kind", "part"):
        table.add_column(name, overflow="fold", justify="right" if name == "part" else "left")
    for each in explanation.linear[:_MOST_INPUTS]:
        style = "green" if each.contribution > 0 else "red"
        table.add_row(
            printable(each.text),
            "n-gram" if each.kind == "ngram" else each.kind,
            Text(f"{each.contribution:+.3f}", style=style),
        )
    others = sum(each.contribution for each in explanation.linear[_MOST_INPUTS:])
    table.add_row("all others", "", f"{others + explanation.linear_bias:+.3f}", style="dim")
    return table


def _nearest_table(explanation: Explanation) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("nearest training titles", "category", "similarity"):
        table.add_column(name, overflow="fold")
    for near in explanation.nearest:
        table.add_row(printable(near.title), near.category, f"{near.similarity:.2f}")
    return table


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
