"""What `rubro gate` found, for a terminal and as Markdown."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

from rubro.base.console import output_console, printable
from rubro.gate.verdicts import FAILURES, Change, Comparison, Verdict

_FOLDED = (Verdict.noise, Verdict.unjudged)
_HEAD = ("verdict", "metric", "before", "now", "change", "tolerance")
_TEXTS = 2  # first columns that are no numbers
_STYLES = {Verdict.worse: "red", Verdict.missing: "red", Verdict.better: "green"}
_LEAST_WIDTH = 110  # where there is no terminal: rows of a log need not be folded


def print_report(report: Comparison, all_changes: bool) -> None:
    """Print a report to standard output.

    Args:
        report: Differences.
        all_changes: Whether changes within noise and those that are not judged are listed.
    """
    console = output_console()
    if not console.is_terminal:
        console.width = max(console.width, _LEAST_WIDTH)
    console.print(f"working tree beside {report.revision}")
    listed = [change for change in report.changes if all_changes or change.verdict not in _FOLDED]
    if listed:
        _show_changes(console, listed)
    if len(listed) < len(report.changes):
        console.print(f"{_counted(report, _FOLDED)}: --all lists them")
    for name, (before, now) in report.params.items():
        console.print(printable(f"param  {name}: {_value(before)} → {_value(now)}"))
    for stage, inputs in report.stages.items():
        console.print(printable(f"reran  {stage}" + ": " * bool(inputs) + ", ".join(inputs)))
    for note in report.notes:
        console.print(printable(f"note   {note}"), style="yellow")
    console.print(conclusion(report), style="bold red" if report.failed else "bold green")


def _show_changes(console: Console, changes: Sequence[Change]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for position, name in enumerate(_HEAD):
        justify: Literal["left", "right"] = "left" if position < _TEXTS else "right"
        table.add_column(name, justify=justify, overflow="fold", no_wrap=name != "metric")
    for change in changes:
        table.add_row(*map(printable, _cells(change)), style=_STYLES.get(change.verdict, ""))
    console.print(table)


def format_markdown(report: Comparison) -> str:
    """Return a report as GitHub's Markdown.

    Args:
        report: Differences.

    Returns:
        Text that ends with a line break; changes within noise and those that are not judged are
        folded.
    """
    parts = [f"### rubro gate: {conclusion(report)}", f"Beside {_code(report.revision)}."]
    if listed := [change for change in report.changes if change.verdict not in _FOLDED]:
        parts.append(_metrics_table(listed))
    if folded := [change for change in report.changes if change.verdict in _FOLDED]:
        summary = f"<details><summary>{_counted(report, _FOLDED)}</summary>"
        parts += [summary, _metrics_table(folded), "</details>"]
    if report.params:
        rows = [
            (_code(name), _code(_value(before)), _code(_value(now)))
            for name, (before, now) in report.params.items()
        ]
        parts.append(_table(("param", "before", "now"), rows, left=3))
    if report.stages:
        reran = [
            _code(stage) + ": " * bool(inputs) + ", ".join(map(_code, inputs))
            for stage, inputs in report.stages.items()
        ]
        parts.append("\n".join(["Reran:", "", *(f"- {stage}" for stage in reran)]))
    parts += [f"> {printable(note)}" for note in report.notes]
    return "\n\n".join(parts) + "\n"


def conclusion(report: Comparison) -> str:
    """Return whether a report is a failure, and what counts for it.

    Args:
        report: Differences.
    """
    found = _counted(report, [verdict for verdict in Verdict if verdict not in _FOLDED])
    if report.failed:
        return f"fail: {found}"
    return f"pass: {found or 'nothing changed by more than the noise of seeds'}"


def _counted(report: Comparison, verdicts: Sequence[Verdict]) -> str:
    counts = Counter(change.verdict for change in report.changes)
    return ", ".join(f"{counts[verdict]} {verdict}" for verdict in verdicts if counts[verdict])


def _metrics_table(changes: Sequence[Change]) -> str:
    rows = []
    for change in changes:
        verdict, name, *numbers = _cells(change)
        shown = f"**{verdict}**" if change.verdict in FAILURES else verdict
        rows.append((shown, _code(name), *numbers))
    return _table(_HEAD, rows, left=_TEXTS)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> str:
    """Return a table of Markdown whose first columns, so many, are aligned to the left."""
    rule = ["---"] * left + ["---:"] * (len(head) - left)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *rows))


def _cells(change: Change) -> tuple[str, ...]:
    return (
        change.verdict.value,
        change.name,
        _number(change.before),
        _number(change.now),
        _number(change.difference, "+"),
        _number(change.tolerance),
    )


def _number(value: float | None, sign: str = "") -> str:
    """Return a count whole, a small figure with four decimals and a large one with one."""
    if value is None:
        return "-"
    decimals = 0 if isinstance(value, int) else 4 if abs(value) < 10 else 1
    return f"{value:{sign},.{decimals}f}"


def _value(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _code(text: str) -> str:
    """Return text as code, where a cell of a table may hold it and nothing in it is markup."""
    kept = printable(text).replace("`", "'").replace("|", r"\|")
    return f"`{kept}`"
