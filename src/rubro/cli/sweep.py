"""Run an experiment for each combination of settings.

`dvc exp run --temp` runs each experiment in a copy of the repository, under a name that describes
its changes, and all of them are compared at the end. Experiments that have already run are skipped.
The log of a failed experiment is kept in .rubro/logs.

\b
rubro sweep seed=1,2,3,4,5
rubro sweep train_mlp.learning_rate=5e-4,1e-3,2e-3,4e-3
rubro sweep train_mlp.dropout=0.1,0.3 seed=1,2,3 \\
  -S subset.top_categories=20

Exit codes: 0 if all experiments have run, 2 if a setting is wrong and nothing has run, 3 if some
experiments failed, 130 if interrupted.

Requires the training packages: pip install 'rubro[train]'.
"""

from typing import Annotated

import typer

from rubro.base.console import say
from rubro.cli import options


def main(
    settings: Annotated[
        list[str],
        typer.Argument(
            metavar="KEY=VALUE,VALUE...",
            help="Keys of params.yaml, each with the values to try. Every combination is one "
            "experiment.",
        ),
    ],
    fixed: options.FixedSettings = None,
    metric: options.Metrics = None,
) -> int:
    from rubro.base.params_file import with_settings
    from rubro.experiments.compare import compare, default_metrics, expand_metrics
    from rubro.experiments.dvc_experiments import read_experiments
    from rubro.experiments.sweep import (
        EXIT_SOME_FAILED,
        find_experiment,
        make_plans,
        run_experiment,
    )

    plans = make_plans(settings, fixed or [])
    last, experiments = read_experiments()
    shown = metric or default_metrics(with_settings("params.yaml", fixed or []).objective)
    if last.metrics:
        expand_metrics(shown, list(last.metrics))
    waiting = sum(find_experiment(plan, experiments) is None for plan in plans)
    say(f"{len(plans)} experiments, {waiting} to run; Ctrl-C stops, the same command resumes")
    found = [
        experiment
        for number, plan in enumerate(plans, start=1)
        if (experiment := run_experiment(plan, f"{number}/{len(plans)}", shown))
    ]
    say("")
    names = [experiment.name for experiment in found]
    base = names[0] if names and fixed else None
    compare(names, shown if found else metric, base_name=base)
    return EXIT_SOME_FAILED if len(found) < len(plans) else 0
