"""Fail if a metric got worse than seed noise explains.

The metrics of the working tree are compared with the metrics of a Git revision. Changed params and
rerun stages are listed. The comparison needs Git only, without a DVC cache or data. If the categories
differ, their metrics are not judged.

\b
rubro gate
rubro gate HEAD~1 --all
rubro gate origin/main --markdown > gate.md

Exit codes: 0 if nothing got worse, 1 if a metric got worse or is missing, 2 if there is nothing to
compare or a file is damaged, 130 if interrupted.

Requires the training packages: pip install 'rubro[train]'.
"""

import sys
from pathlib import Path
from typing import Annotated

import typer

_EXIT_WORSE = 1


def main(
    revision: Annotated[
        str | None,
        typer.Argument(
            metavar="REV",
            help="Commit, branch or tag to compare with. Default: the merge base with the main branch.",
        ),
    ] = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the report as GitHub Markdown.")
    ] = False,
    all_changes: Annotated[
        bool,
        typer.Option(
            "--all", help="Also list changes within noise and changes that are not judged."
        ),
    ] = False,
    noise: Annotated[
        Path, typer.Option(metavar="FILE", help="Noise of seeds, measured by `make noise`.")
    ] = Path("benchmarks/results/noise.json"),
) -> int:
    from rubro.gate.comparison import compare_with_revision
    from rubro.gate.report import format_markdown, print_report

    comparison = compare_with_revision(revision, noise)
    if markdown:
        sys.stdout.write(format_markdown(comparison))
    else:
        print_report(comparison, all_changes)
    return _EXIT_WORSE if comparison.failed else 0
