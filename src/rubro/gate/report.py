"""Format the comparison of `rubro gate` for a terminal and as Markdown."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal

from rich.table import Table

from rubro.base.console import output_console, printable
from rubro.gate.metric_changes import FAILURES, Change, Comparison, Verdict

UNIMPORTANT = (Verdict.noise, Verdict.unjudged)
HEADINGS = ("verdict", "metric", "before", "now", "change", "tolerance")
_TEXT_COLUMNS = 2  # the other columns are numbers
_STYLES = {Verdict.worse: "red", Verdict.missing: "red", Verdict.better: "green"}
# Used if the output is not a terminal, because a log need not fold its lines.
_MIN_WIDTH = 110


def print_report(comparison: Comparison, all_changes: bool) -> None:
    """Print a comparison to standard output.

    Args:
        comparison: Differences from a revision.
        all_changes: Whether to list the changes that are within noise or not judged.
    """
    console = output_console()
    if not console.is_terminal:
        console.width = max(console.width, _MIN_WIDTH)
    console.print(printable(f"working tree compared with {comparison.revision}"))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for position, name in enumerate(HEADINGS):
        justify: Literal["left", "right"] = "left" if position < _TEXT_COLUMNS else "right"
        table.add_column(name, justify=justify, overflow="fold", no_wrap=name != "metric")
    for change in comparison.changes:
        if all_changes or change.verdict not in UNIMPORTANT:
            table.add_row(
                *map(printable, change_cells(change)), style=_STYLES.get(change.verdict, "")
            )
    if table.row_count:
        console.print(table)
    if table.row_count < len(comparison.changes):
        console.print(f"{_count(comparison, UNIMPORTANT)}: --all lists them")
    for name, (before, now) in comparison.params.items():
        console.print(printable(f"param  {name}: {_to_json(before)} → {_to_json(now)}"))
    for stage, inputs in comparison.stages.items():
        names = ", ".join(map(printable, inputs))
        console.print(f"reran  {printable(stage)}" + ": " * bool(inputs) + names)
    for note in comparison.notes:
        console.print(printable(f"note   {note}"), style="yellow")
    style = "bold red" if comparison.failed else "bold green"
    console.print(conclusion(comparison), style=style)


def format_markdown(comparison: Comparison) -> str:
    """Return a comparison as GitHub Markdown, with unimportant changes collapsed.

    Args:
        comparison: Differences from a revision.
    """
    parts = [f"### rubro gate: {conclusion(comparison)}"]
    parts.append(f"Compared with {_code(comparison.revision)}.")
    important: list[Sequence[str]] = []
    unimportant: list[Sequence[str]] = []
    for change in comparison.changes:
        verdict, name, *numbers = change_cells(change)
        shown = f"**{verdict}**" if change.verdict in FAILURES else verdict
        rows = unimportant if change.verdict in UNIMPORTANT else important
        rows.append((shown, _code(name), *numbers))
    if important:
        parts.append(_markdown_table(HEADINGS, important, _TEXT_COLUMNS))
    if unimportant:
        parts.append(f"<details><summary>{_count(comparison, UNIMPORTANT)}</summary>")
        parts.append(_markdown_table(HEADINGS, unimportant, _TEXT_COLUMNS))
        parts.append("</details>")
    if comparison.params:
        params = [
            (_code(name), _code(_to_json(before)), _code(_to_json(now)))
            for name, (before, now) in comparison.params.items()
        ]
        parts.append(_markdown_table(("param", "before", "now"), params, text_columns=3))
    if comparison.stages:
        stages = [
            f"- {_code(stage)}" + ": " * bool(inputs) + ", ".join(map(_code, inputs))
            for stage, inputs in comparison.stages.items()
        ]
        parts.append("\n".join(["Reran:", "", *stages]))
    parts += [f"> {_code(note)}" for note in comparison.notes]
    return "\n\n".join(parts) + "\n"


def conclusion(comparison: Comparison) -> str:
    """Return "pass" or "fail", and how many metrics are worse, missing, better and new.

    Args:
        comparison: Differences from a revision.
    """
    found = _count(comparison, [verdict for verdict in Verdict if verdict not in UNIMPORTANT])
    if comparison.failed:
        return f"fail: {found}"
    if not comparison.has_same_categories:
        return f"pass: {found + ', ' if found else ''}not judged, because the categories differ"
    return f"pass: {found or 'nothing changed by more than the noise of seeds'}"


def _count(comparison: Comparison, verdicts: Sequence[Verdict]) -> str:
    counts = Counter(change.verdict for change in comparison.changes)
    return ", ".join(f"{counts[verdict]} {verdict}" for verdict in verdicts if counts[verdict])


def _markdown_table(
    headings: Sequence[str], rows: Sequence[Sequence[str]], text_columns: int
) -> str:
    """Return a Markdown table; the first `text_columns` are aligned left, the others right."""
    rule = ["---"] * text_columns + ["---:"] * (len(headings) - text_columns)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (headings, rule, *rows))


def change_cells(change: Change) -> tuple[str, ...]:
    """Return the cells of a change in a table whose columns have the names HEADINGS.

    Args:
        change: Metric that differs.
    """
    before, now = change.before, change.now
    difference = None if before is None or now is None else now - before
    numbers = _number(before), _number(now), _number(difference, "+"), _number(change.tolerance)
    return change.verdict.value, change.name, *numbers


def _number(value: float | None, sign: str = "") -> str:
    """Format a number with 0 decimals if it is an integer, 1 if it is at least 10, otherwise 4."""
    if value is None:
        return "-"
    decimals = 0 if isinstance(value, int) else 4 if abs(value) < 10 else 1
    return f"{value:{sign},.{decimals}f}"


def _to_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _code(text: str) -> str:
    """Format text as Markdown code that the text itself cannot end, not even in a table cell."""
    text = printable(text)
    if text.strip() and not set(text) & set("`|\\"):
        return f"`{text}`"
    entities = (char if char.isalnum() else f"&#{ord(char)};" for char in text)
    return f"<code>{''.join(entities)}</code>"
