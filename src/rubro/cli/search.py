"""Search for better settings with Optuna, and compare the trials.

`dvc exp run --temp` runs each trial under a name that describes its changes. The study is saved in
.rubro/search.db, and the same command resumes it. A different space, metric, setting or commit starts
a new study. The log of a failed trial is kept in .rubro/logs.

\b
rubro search spaces/mlp.yaml --trials 30 \\
  -m validation.mlp.balanced_accuracy
dvc exp apply NAME    # discards uncommitted changes

The last line of the output names the best trial.

Exit codes: 0 if all trials are done, 2 if the space, the metric or a setting is wrong and nothing has
run, 3 if some trials failed, 130 if interrupted.

Requires the training and search packages: pip install 'rubro[train,search]'.
"""

from pathlib import Path
from typing import Annotated

import typer

from rubro.cli import options


def main(
    space: Annotated[
        Path,
        typer.Argument(
            metavar="SPACE.yaml",
            help="File with keys of params.yaml, each with low and high (and optionally log: true), "
            "or with choices.",
        ),
    ],
    trials: Annotated[
        int,
        typer.Option(
            min=1, metavar="N", help="Total number of trials, including trials of earlier calls."
        ),
    ] = 20,
    metric: Annotated[
        str | None,
        typer.Option(
            "--metric",
            "-m",
            metavar="NAME",
            help="Validation metric to improve. Default: the objective, measured for the ensemble.",
        ),
    ] = None,
    fixed: options.FixedSettings = None,
) -> int:
    from rubro.experiments.search import search

    return search(space, trials, metric, fixed or [])
