"""Show experiments side by side, best first.

Experiments that differ only in their seed share one row, which shows mean ± standard deviation under
the name of the first experiment. If the name does not describe the changes, they are listed below it.
Experiments with other categories than the last commit are marked and come last, because their metrics
are not comparable.

\b
rubro compare
rubro compare 'train_mlp.*' --each \\
  -m 'validation.*.balanced_accuracy'
rubro compare --format csv > experiments.csv

Metrics in metrics/evaluate.json have names such as test.cnn.accuracy. Metrics in other files are
prefixed with the file name, such as train_cnn.best.epoch.

Exit codes: 0 if done, 2 if an experiment, a metric or the Git repository is not found.

Requires the training packages: pip install 'rubro[train]'.
"""

from typing import Annotated, Literal

import typer

from rubro.cli import options


def main(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME...",
            help="Experiments to show, such as 'train_mlp.*'. Default: all experiments of the last "
            "commit.",
        ),
    ] = None,
    metric: options.Metrics = None,
    sort: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Metric to sort by, best first. Default: the first metric shown.",
        ),
    ] = None,
    format: Annotated[
        Literal["table", "csv", "json"], typer.Option(help="Format of the output.")
    ] = "table",
    each: Annotated[bool, typer.Option("--each", help="Show each seed in its own row.")] = False,
    all_commits: Annotated[
        bool,
        typer.Option("--all-commits", "-A", help="Show experiments of other commits too."),
    ] = False,
) -> None:
    from rubro.experiments.compare import compare

    compare(names, metric, sort, format, each, all_commits)
