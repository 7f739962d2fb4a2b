"""The `rubro compare` command: experiments side by side, seeds as mean and deviation."""

from __future__ import annotations

import csv
import difflib
import json
import shlex
import statistics
import sys
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import groupby
from typing import Any

from rubro.base.console import say
from rubro.base.errors import ParamsError
from rubro.experiments.dvc_experiments import (
    LAST_COMMIT,
    Experiment,
    format_setting,
    read_experiments,
    setting_in_name,
)

SELECTION_METRIC = "validation.ensemble.balanced_accuracy"
DEFAULT_METRICS = (SELECTION_METRIC, "test.ensemble.balanced_accuracy")
_LESS_IS_BETTER = ("loss", "ece", "ece_before_calibration", "model_megabytes", "parameters")
_MOST_CHANGES = 6
_LEAST_WIDTH = 20


@dataclass(frozen=True)
class Options:
    """Options of `rubro compare`.

    Attributes:
        patterns: Names of experiments, with wildcards; none = all.
        metrics: Names of metrics, with wildcards in place of their parts; none = DEFAULT_METRICS.
        sort: Name of the metric to sort by; None = the first one shown.
        format: "table", "csv" or "json".
        each: Whether seeds stay apart.
        all_commits: Whether experiments of other commits are shown too.
    """

    patterns: Sequence[str] = ()
    metrics: Sequence[str] = ()
    sort: str | None = None
    format: str = "table"
    each: bool = False
    all_commits: bool = False


@dataclass(frozen=True)
class SeedGroup:
    """Experiments that differ in nothing but their seed.

    Attributes:
        experiments: Experiments, sorted by seed.
        changes: Values that are not those of the last commit, by dotted key; without the seed where
            there are several experiments.
        files: Files of code and data that are not those of the last commit.
    """

    experiments: list[Experiment]
    changes: dict[str, Any]
    files: list[str]

    def values(self, metric: str) -> list[float]:
        """Return a metric of each experiment that has it."""
        return [
            experiment.metrics[metric]
            for experiment in self.experiments
            if metric in experiment.metrics
        ]


def compare(options: Options) -> None:
    """Print the experiments of the last commit, best first.

    Raises:
        DataError: There is no Git repository here.
        ParamsError: No experiment has a metric, or a name, that is asked for.
    """
    last, experiments = read_experiments(options.all_commits)
    chosen = _chosen(experiments, options.patterns)
    if not experiments:
        say(
            "No experiment of the last commit yet (--all-commits shows others). One would be: "
            "dvc exp run -S train_cnn.dropout=0.4"
        )
    print_experiments(last, chosen, options)


def print_experiments(
    last: Experiment, experiments: Sequence[Experiment], options: Options
) -> None:
    """Print experiments beside the last commit, to standard output.

    Args:
        last: The last commit.
        experiments: Experiments.
        options: Metrics, order and form.

    Raises:
        ParamsError: No experiment has a metric that is asked for.
    """
    known = list(dict.fromkeys(name for one in (last, *experiments) for name in one.metrics))
    metrics = expand_metrics(options.metrics, known) if options.metrics else list(DEFAULT_METRICS)
    [sort] = expand_metrics([options.sort], known) if options.sort else metrics[:1]
    rows = [SeedGroup([last], {}, []), *group_by_seed(last, experiments, options.each)]
    rows.sort(key=lambda row: _rank(row, sort))
    if options.format == "json":
        print(json.dumps([_record(row, metrics) for row in rows], ensure_ascii=False, indent=1))
    elif options.format == "csv":
        _write_csv(rows, metrics)
    else:
        _print_table(rows, metrics)
        if any(not row.values(metric) for row in rows for metric in metrics):
            say("\n-: not every stage has run with these settings")
        _say_how_to_use_the_best(rows, sort)


def group_by_seed(
    last: Experiment, experiments: Sequence[Experiment], each: bool = False
) -> list[SeedGroup]:
    """Return a row for all experiments that differ in nothing but their seed.

    Args:
        last: The last commit.
        experiments: Experiments.
        each: Whether seeds stay apart.
    """

    def alike(experiment: Experiment) -> str:
        others = {key: value for key, value in experiment.params.items() if key != "seed"}
        return json.dumps([others, experiment.files], sort_keys=True) + experiment.name * each

    rows = []
    for _, group in groupby(sorted(experiments, key=alike), key=alike):
        members = sorted(group, key=lambda experiment: (experiment.seed, experiment.name))
        changes = members[0].changes(last)
        if len(members) > 1:
            changes.pop("seed", None)
        rows.append(SeedGroup(members, changes, [path for path, _ in members[0].files]))
    return rows


def expand_metrics(patterns: Iterable[str], known: list[str]) -> list[str]:
    """Return the names of metrics that patterns describe.

    >>> expand_metrics(["test.*.ece"], ["test.mlp.ece", "test.cnn.ece", "test.cnn.loss"])
    ['test.mlp.ece', 'test.cnn.ece']

    Args:
        patterns: Names with wildcards in place of their parts.
        known: Names of all metrics.

    Raises:
        ParamsError: A pattern describes none.
    """
    found: dict[str, None] = {}
    for pattern in patterns:
        parts = pattern.split(".")
        names = [
            name
            for name in known
            if len(name.split(".")) == len(parts) and all(map(fnmatchcase, name.split("."), parts))
        ]
        if not names:
            raise ParamsError(f"{pattern}: no such metric; {_hint(pattern, known)}")
        found |= dict.fromkeys(names)
    return list(found)


def lower_is_better(metric: str) -> bool:
    """Whether the least value of a metric is its best.

    Args:
        metric: Name of a metric.
    """
    return metric.split(".")[-1] in _LESS_IS_BETTER


def _chosen(experiments: list[Experiment], patterns: Sequence[str]) -> list[Experiment]:
    """Return the experiments whose name one of the patterns describes; without patterns, all."""
    for pattern in patterns:
        if not any(fnmatchcase(experiment.name, pattern) for experiment in experiments):
            names = [experiment.name for experiment in experiments]
            raise ParamsError(f"{pattern}: no such experiment; {_hint(pattern, names)}")
    return [
        experiment
        for experiment in experiments
        if not patterns or any(fnmatchcase(experiment.name, pattern) for pattern in patterns)
    ]


def _hint(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"known: {', '.join(known[:12]) or 'none'}"


def _rank(row: SeedGroup, metric: str) -> tuple[bool, float]:
    """Return what sorts rows: the best first, those without the metric last."""
    values = row.values(metric)
    if not values:
        return True, 0.0
    mean = statistics.mean(values)
    return False, mean if lower_is_better(metric) else -mean


def _record(row: SeedGroup, metrics: Sequence[str]) -> dict[str, Any]:
    """Return a row for JSON."""
    return {
        "experiments": [experiment.name for experiment in row.experiments],
        "changed": row.changes,
        "changed_files": row.files,
        "seeds": [experiment.seed for experiment in row.experiments],
        "metrics": {metric: mean_and_deviation(row.values(metric)) for metric in metrics},
    }


def mean_and_deviation(values: list[float]) -> dict[str, Any] | None:
    """Return mean, standard deviation and values; None of no values."""
    if not values:
        return None
    return {
        "mean": round(statistics.mean(values), 6),
        "deviation": round(statistics.stdev(values), 6) if len(values) > 1 else None,
        "values": values,
    }


def _write_csv(rows: list[SeedGroup], metrics: Sequence[str]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    of_metrics = [column for name in metrics for column in (name, f"{name}.deviation")]
    writer.writerow(["experiments", "changed", "seeds", *of_metrics])
    for row in rows:
        spreads = [mean_and_deviation(row.values(metric)) or {} for metric in metrics]
        numbers = [each.get(key) for each in spreads for key in ("mean", "deviation")]
        names = " ".join(experiment.name for experiment in row.experiments)
        seeds = " ".join(str(experiment.seed) for experiment in row.experiments)
        writer.writerow([names, " ".join(_changed(row)), seeds, *numbers])


def _print_table(rows: list[SeedGroup], metrics: Sequence[str]) -> None:
    """Print rows as a table as wide as the terminal, or of 80 columns where there is none."""
    from rich.table import Table
    from rich.text import Text

    from rubro.base.console import output_console, printable

    console = output_console()
    cells = {metric: [_cell(row.values(metric)) for row in rows] for metric in metrics}
    seeds = [_seeds(row) for row in rows]
    widths = {
        name: max(map(len, [*column, *name.replace("_", ".").split(".")]))
        for name, column in {"seeds": seeds, **cells}.items()
    }
    room = max(console.width - sum(2 + width for width in widths.values()), _LEAST_WIDTH)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("experiment", vertical="bottom", no_wrap=True, overflow="fold")
    for name, width in widths.items():
        heading = name.replace(".", "\n").replace("_", "\n")
        table.add_column(heading, justify="right", width=width, no_wrap=True)
    for position, row in enumerate(rows):
        label = Text("\n".join(_name_lines(printable(row.experiments[0].name), room)))
        for line in textwrap.wrap(", ".join(_unsaid(row)), room - 2):
            label.append(f"\n  {printable(line)}", style="dim")
        numbers = [column[position] for column in cells.values()]
        table.add_row(label, seeds[position], *numbers)
    console.print(table)


def _cell(values: list[float]) -> str:
    """Return mean and deviation as text; a dash where there are no values."""
    if not values:
        return "-"
    mean = statistics.mean(values)
    if all(isinstance(value, int) for value in values) and len(set(values)) == 1:
        return f"{values[0]:,}"
    digits = 4 if abs(mean) < 10 else 1
    deviation = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{mean:,.{digits}f}{deviation}"


def _seeds(row: SeedGroup) -> str:
    """Return the seeds of a row, runs of them as FIRST-LAST."""
    seeds = sorted({experiment.seed for experiment in row.experiments})
    runs = groupby(enumerate(seeds), key=lambda pair: pair[1] - pair[0])
    numbers = [[seed for _, seed in run] for _, run in runs]
    shown = [f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in numbers]
    return ",".join(shown) if len(shown) <= 3 else f"{len(seeds)} seeds"


def _unsaid(row: SeedGroup) -> list[str]:
    """Return what a row changes, unless its name says it; the beginning of a long list."""
    said = row.experiments[0].name.split(",")
    if all(setting_in_name(*change) in said for change in row.changes.items()) and not row.files:
        return []
    changed = _changed(row)
    more = [f"{len(changed) - _MOST_CHANGES} more"] if len(changed) > _MOST_CHANGES else []
    return [*changed[:_MOST_CHANGES], *more]


def _changed(row: SeedGroup) -> list[str]:
    """Return what a row changes, setting by setting, then file by file."""
    settings = [format_setting(key, value) for key, value in row.changes.items()]
    return [*settings, *(f"{path} edited" for path in row.files)]


def _name_lines(name: str, width: int) -> list[str]:
    """Return the lines of a name, broken behind commas where that is possible."""
    lines = textwrap.wrap(name.replace(",", ", "), width, break_on_hyphens=False)
    return [line.replace(", ", ",") for line in lines]


def _say_how_to_use_the_best(rows: list[SeedGroup], sort: str) -> None:
    """Say on standard error how to apply the first row, if validation has chosen it."""
    best = rows[0].experiments[0]
    if len(rows) == 1 or not sort.startswith("validation.") or sort not in best.metrics:
        return
    if best.name == LAST_COMMIT:
        say("\nNo experiment is better on validation than the last commit.")
    else:
        say(f"\nThe best on validation: dvc exp apply {shlex.quote(best.name)}")
