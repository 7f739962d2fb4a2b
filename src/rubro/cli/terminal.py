"""Print predictions, explanations and tables in a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from rubro.base.console import output_console, printable
from rubro.base.rich_console import WordWrapped

if TYPE_CHECKING:
    from rubro.base.category_tree import CategoryTree
    from rubro.prediction.explanation import Explanation, WordContribution

_MIN_BAR_CELLS, _MAX_BAR_CELLS = 10, 20
_EIGHTHS = " ▏▎▍▌▋▊▉█"
_MAX_LINEAR_ROWS = 10
_CONTRIBUTION_CELLS = 10
RankedCategories = Sequence[tuple[str, float]]  # categories and confidences, best first


def show_answers(
    rows: Sequence[tuple[str, str, RankedCategories, bool, str]], tree: CategoryTree | None = None
) -> None:
    """Print a table of titles and their categories to standard output.

    Args:
        rows: Title, error, answer, whether the answer is accepted, and a note. The error is "" if
            there is an answer. Answers that are not accepted are dimmed.
        tree: Tree of the categories, if they are paths.
    """
    console = output_console()
    has_notes = any(note for *_, note in rows)
    table = _table("title", "category", "confidence", *[""] * has_notes)
    table.columns[0].ratio = 1
    for title, error, answer, is_accepted, note in rows:
        shown = printable(title)
        if error:
            table.add_row(shown, WordWrapped(printable(error), style="red"))
        for category, confidence in answer:
            name = _category(category, tree, "" if is_accepted else "dim")
            table.add_row(shown, name, _bar(confidence, console), *[note] * has_notes)
            shown = note = ""
    console.print(table)


def show_title(
    answer: RankedCategories, tree: CategoryTree | None = None, unknown: Sequence[str] = ()
) -> None:
    """Print the most probable categories of a title, with bars, to standard output.

    Args:
        answer: Categories and confidences.
        tree: Tree of the categories, if they are paths.
        unknown: Words of the title that the model does not know.
    """
    console = output_console()
    if unknown:
        words = ", ".join(map(printable, dict.fromkeys(unknown)))
        console.print(f"words that the model does not know: {words}", style="yellow")
    table = Table(box=None, pad_edge=False, show_header=False)
    for category, confidence in answer:
        table.add_row(_bar(confidence, console), _category(category, tree))
    console.print(table)


def show_table(
    title: str, rows: Iterable[Sequence[Any]], columns: Sequence[str] = ("", "", "")
) -> None:
    """Print a table and an empty line to standard output.

    Args:
        title: Line above the table.
        rows: Cells of each row; floats are shown with four decimals.
        columns: Names of the columns; if all are empty, the table has no header.
    """
    table = Table(title=title, title_justify="left", box=None, show_header=any(columns))
    for column in columns:
        table.add_column(column.replace("_", " "), overflow="fold")
    for row in rows:
        cells = (f"{cell:.4f}" if isinstance(cell, float) else f"{cell}" for cell in row)
        table.add_row(*map(printable, cells))
    output_console().print(table, "")


def show_explanation(explanation: Explanation) -> None:
    """Print a title with coloured words, and tables of word contributions, to standard output."""
    console = output_console()
    largest = max((abs(word.contribution) for word in explanation.words), default=0.0) or 1.0
    title = Text("".join(map(printable, explanation.title)))
    for word in explanation.words:
        title.stylize(_word_style(word, largest), word.start, word.end)
    console.print(title)
    console.print(
        Text.assemble(
            (printable(explanation.category), "bold green"),
            f" {explanation.confidence:.1%}, against ",
            (printable(explanation.other), "bold red"),
            f" {explanation.other_confidence:.1%}: {explanation.lead:+.2f} in logits",
        )
    )
    if explanation.foreign:
        unknown = f"{explanation.out_of_vocabulary:.0%} of the tokens are unknown"
        console.print(Text(f"foreign to the training data: {unknown}", style="yellow"))
    console.print(_words_table(explanation, largest, console), "")
    if explanation.linear:
        console.print(_linear_table(explanation), "")
    if explanation.nearest:
        table = _table("nearest training titles", "category", "similarity")
        for near in explanation.nearest:
            table.add_row(printable(near.title), printable(near.category), f"{near.similarity:.2f}")
        console.print(table, "")


def _category(name: str, tree: CategoryTree | None, style: str = "") -> Text:
    """Return the name of a category; the separators of a path are dimmed."""
    text = WordWrapped(printable(name), style=style)
    if tree and tree.separator.strip():
        text.highlight_words([printable(tree.separator.strip())], "dim")
    return text


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _word_style(word: WordContribution, largest: float) -> str:
    strength = abs(word.contribution) / largest
    if strength < 0.1:
        return "dim"
    return f"{'bold reverse' if strength > 0.5 else 'bold'} {_colour(word.contribution)}"


def _colour(contribution: float) -> str:
    return "green" if contribution > 0 else "red"


def _words_table(explanation: Explanation, largest: float, console: Console) -> Table:
    table = _table("word", "contribution (logits)")
    for name in explanation.words[0].members if explanation.words else ():
        table.add_column(name, justify="right")
    table.add_column("")
    block = "█" if console.encoding.startswith("utf") else "#"
    for word in explanation.words:
        filled = block * round(abs(word.contribution) / largest * _CONTRIBUTION_CELLS)
        contribution = Text.assemble(
            f"{word.contribution:+7.2f} ",
            (filled.ljust(_CONTRIBUTION_CELLS), _colour(word.contribution)),
        )
        members = (f"{each:+.2f}" for each in word.members.values())
        note = "" if word.known else Text("unknown", style="yellow")
        table.add_row(printable(word.text), contribution, *members, note)
    return table


def _linear_table(explanation: Explanation) -> Table:
    table = _table("strongest features of the svm", "kind")
    table.add_column("contribution", justify="right")
    for each in explanation.linear[:_MAX_LINEAR_ROWS]:
        kind = "n-gram" if each.kind == "ngram" else each.kind
        contribution = Text(f"{each.contribution:+.3f}", style=_colour(each.contribution))
        table.add_row(printable(each.text), kind, contribution)
    others = sum(each.contribution for each in explanation.linear[_MAX_LINEAR_ROWS:])
    table.add_row("all others", "", f"{others + explanation.linear_bias:+.3f}", style="dim")
    return table


def _bar(confidence: float, console: Console) -> Text:
    """Return a percentage and a bar that show a confidence from 0 to 1."""
    cells = min(max(console.width // 6, _MIN_BAR_CELLS), _MAX_BAR_CELLS)
    eighths = round(confidence * cells * 8)
    filled = _EIGHTHS[8] * (eighths // 8) + _EIGHTHS[eighths % 8].strip()
    if not console.encoding.startswith("utf"):
        filled = "#" * (eighths // 8)
    colour = "green" if confidence >= 0.5 else "yellow"
    return Text.assemble(f"{confidence:6.1%} ", (filled.ljust(cells), colour), no_wrap=True)
