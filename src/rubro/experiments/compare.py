"""Compare the metrics of experiments, averaged over seeds, for `rubro compare`."""

from __future__ import annotations

import csv
import difflib
import json
import re
import shlex
import statistics
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from itertools import groupby
from typing import Any, get_args

from rubro.base.console import say
from rubro.base.errors import ParamsError
from rubro.base.metric_names import Objective, lower_is_better
from rubro.base.params_file import load_params
from rubro.experiments.dvc_experiments import (
    LAST_COMMIT,
    Experiment,
    format_setting,
    read_experiments,
    setting_in_name,
)
from rubro.experiments.git import git
from rubro.experiments.run_data import DataCache, DataDifference, level_of

_MAX_CHANGES, _MAX_NAMES = 6, 6
_MIN_WIDTH = 20
_OMITTED = re.compile(r"\+\d+")  # the end of a name that has no place for all of its settings
# Files that may be replaced: their changes are other settings to try, or `dvc repro` wrote them.
_NOT_APPLIED = ":!params.yaml", ":!dvc.lock", ":!metrics"


@dataclass(frozen=True)
class SeedGroup:
    """Experiments that differ only in their seed.

    Attributes:
        experiments: Experiments, sorted by seed.
        params: Parameters that differ from the last commit, by dotted key; the seed is left out if
            there are several experiments.
        files: Code and data files that differ from the last commit.
        difference: What differs from the data of the base.
    """

    experiments: list[Experiment]
    params: dict[str, Any]
    files: list[str]
    difference: DataDifference = ""

    @property
    def is_comparable(self) -> bool:
        """False if the categories differ from the categories of the base."""
        return self.difference != "categories"

    def values(self, metric: str) -> list[float]:
        """Return the value of a metric in each experiment that has it."""
        return [one.metrics[metric] for one in self.experiments if metric in one.metrics]

    def changes(self) -> list[str]:
        """Return a text for each changed parameter, then for each changed file."""
        settings = [format_setting(key, value) for key, value in self.params.items()]
        return [*settings, *(f"{path} edited" for path in self.files)]

    def without(self, keys: Iterable[str]) -> SeedGroup:
        """Return the group without some of its changed parameters."""
        kept = {key: value for key, value in self.params.items() if key not in keys}
        return replace(self, params=kept)


def compare(
    patterns: Sequence[str] | None = None,
    metrics: Sequence[str] | None = None,
    sort: str | None = None,
    output_format: str = "table",
    each: bool = False,
    all_commits: bool = False,
    base_name: str | None = None,
) -> None:
    """Print the metrics of the last commit and of its experiments, best experiment first.

    Experiments with other categories than the base come last, because their metrics are not
    comparable with its metrics.

    Args:
        patterns: Names of experiments to print, with wildcards; None = all.
        metrics: Names of metrics to print, with wildcards; None = default_metrics of the objective in
            params.yaml.
        sort: Name of the metric to sort by; None = the first one shown.
        output_format: "table", "csv" or "json".
        each: Whether to print experiments that differ only in their seed separately.
        all_commits: Whether to include the experiments of other commits.
        base_name: Name of the experiment whose categories and titles are those to compare with; None
            = the last commit.

    Raises:
        DataError: There is no Git repository here.
        ParamsError: An experiment or a metric does not exist, or params.yaml is wrong.
    """
    last, experiments = _experiments(patterns, all_commits)
    known = list(dict.fromkeys(name for one in (last, *experiments) for name in one.metrics))
    objective = load_params().objective
    shown = expand_metrics(metrics, known) if metrics else default_metrics(objective)
    sort_metric = expand_metrics([sort], known)[0] if sort else shown[0]
    data = DataCache()
    # The last commit has no data if its pipeline has not run.
    by_name = sorted((last, *experiments), key=lambda one: one.name != base_name)
    base = next((one for one in by_name if one.data.subset), last)
    groups = [SeedGroup([last], {}, []), *_group_by_seed(last, experiments, each)]
    groups = _ranked([_compared(group, base, sort_metric, data) for group in groups], sort_metric)
    others = [group.experiments[0] for group in groups if not group.is_comparable]
    levels = {data.shared_level(one.data, base.data) or 0 for one in others} - {0}
    at_levels = [
        name
        for level in sorted(levels)
        for name in default_metrics(objective, level)
        if name in known
    ]
    if not metrics:
        shown += at_levels
    if output_format == "json":
        records = [_record(group, shown) for group in groups]
        print(json.dumps(records, ensure_ascii=False, indent=1))
    elif output_format == "csv":
        _write_csv(groups, shown)
    else:
        _print_table(groups, shown)
        complete = [group for group in groups if not group.experiments[0].problem]
        if any(not group.values(metric) for group in complete for metric in shown):
            say("")
            say("-: not every stage has run with these settings")
        _say_differences(groups, base, at_levels)
        if len(groups) > 1 and sort_metric.startswith("validation."):
            _say_best(groups[0], sort_metric, "comparable " if others else "")


def _experiments(
    patterns: Sequence[str] | None, all_commits: bool
) -> tuple[Experiment, list[Experiment]]:
    """Return the last commit and the experiments to print, and report those with problems."""
    last, found = read_experiments(all_commits)
    if not found:
        say(
            "The last commit has no experiments (--all-commits shows experiments of other commits). "
            "To run one: dvc exp run -S train_cnn.dropout=0.4"
        )
    if patterns is not None:
        found = _matching(patterns, found)
    _say_problems([last, *found])
    return last, [experiment for experiment in found if experiment.params]


def _compared(group: SeedGroup, base: Experiment, metric: str, data: DataCache) -> SeedGroup:
    """Return a group with the largest difference of its data from the data of the base."""
    level = level_of(metric)
    found = {data.difference(one.data, base.data, level) for one in group.experiments}
    return replace(
        group, difference=next(each for each in get_args(DataDifference) if each in found)
    )


def _ranked(groups: Sequence[SeedGroup], metric: str) -> list[SeedGroup]:
    """Sort groups by a metric, best first; groups that are not comparable come last."""

    def rank(group: SeedGroup) -> tuple[bool, bool, float]:
        values = group.values(metric)
        mean = statistics.mean(values) if values else 0.0
        order = mean if lower_is_better(metric) else -mean
        return not group.is_comparable, not values, order

    return sorted(groups, key=rank)


def _matching(patterns: Sequence[str], experiments: Sequence[Experiment]) -> list[Experiment]:
    """Return the experiments whose names match some of the patterns; each must match a name."""
    names = [experiment.name for experiment in experiments]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ParamsError(f"{pattern}: no such experiment; {_hint(pattern, names)}")
    return [one for one in experiments if any(fnmatchcase(one.name, each) for each in patterns)]


def _say_best(group: SeedGroup, metric: str, among: str) -> None:
    """Print how to apply the best experiment, unless it is the last commit."""
    best = group.experiments[0]
    if metric not in best.metrics:
        return
    say("")
    if best.name == LAST_COMMIT:
        say(f"No {among}experiment is better on validation than the last commit.")
    else:
        say(f"The best {among}on validation:{_how_to_apply(group)}")


def default_metrics(objective: Objective, level: int | None = None) -> list[str]:
    """Return the names of an objective's metrics of the ensemble, on validation and on test.

    Args:
        objective: Metric that the models are trained for.
        level: Level of the category tree; None = the categories.
    """
    part = "" if level is None else f"levels.{level}."
    return [f"{split}.ensemble.{part}{objective}" for split in ("validation", "test")]


def _say_problems(experiments: Sequence[Experiment]) -> None:
    """Print each problem after the names of the experiments that have it."""
    names: dict[str, list[str]] = {}
    for experiment in experiments:
        if experiment.problem:
            omitted = "" if experiment.params else "; left out"
            names.setdefault(experiment.problem + omitted, []).append(experiment.name)
    for problem, affected in names.items():
        say(f"{_first(affected)}: {problem}")


def _say_differences(
    groups: Sequence[SeedGroup], base: Experiment, at_levels: Sequence[str]
) -> None:
    """Print which experiments have other data than the base, and what this means.

    Args:
        groups: Rows of the table.
        base: Experiment that the data of the others are compared with.
        at_levels: Metrics at levels whose nodes some of the experiments share with the base.
    """
    meaning: dict[DataDifference, str] = {
        "categories": "other categories than {base}, so the metrics are not comparable, and these "
        "experiments are listed last",
        "titles": "measured on other titles than {base}, so small differences can be chance",
        "labels": "the categories of some validation or test titles differ from {base} (such as "
        "corrected ones), so differences of the metrics may come from the labels",
        "data": "other data than {base}, which are not in the cache of DVC, so the categories may "
        "differ, and then the metrics are not comparable",
    }
    if at_levels:
        meaning["categories"] += (
            f". Some levels have the same nodes: rubro compare -m {at_levels[0]}"
        )
    for kind, text in meaning.items():
        if names := [group.experiments[0].name for group in groups if group.difference == kind]:
            say("")
            say(f"{_first(names)}: {text.format(base=base.name)}")


def _first(names: Sequence[str]) -> str:
    """Return the first few names, and how many more there are."""
    more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
    return f"{', '.join(names[:_MAX_NAMES])}{more}"


def _how_to_apply(group: SeedGroup) -> str:
    """Return how to apply the first experiment of a group and keep all local changes.

    `dvc exp apply` replaces all files, so uncommitted changes of other files would be lost.
    """
    best = group.experiments[0]
    changed, different = (
        set(git("diff", "--name-only", revision, "--", ":/", *_NOT_APPLIED).splitlines())
        for revision in ("HEAD", best.revision)
    )
    command = f"dvc exp apply {shlex.quote(best.name)}"
    if not changed & different:
        return f"\n  {command}"
    options = " ".join(f"-S {shlex.quote(format_setting(*item))}" for item in group.params.items())
    is_by_params = options and not group.files
    return (
        f" {best.name}. `{command}` would discard the uncommitted changes in "
        f"{', '.join(sorted(changed & different))}. To keep them, "
        + (
            f"run:\n  dvc exp run {options}"
            if is_by_params
            else "copy them to another folder first"
        )
    )


def _group_by_seed(
    last: Experiment, experiments: Sequence[Experiment], each: bool
) -> list[SeedGroup]:
    """Group the experiments that differ only in their seed.

    A damaged experiment is a group of its own. If `each` is true, every experiment is.
    """

    def all_but_seed(experiment: Experiment) -> str:
        params = {key: value for key, value in experiment.params.items() if key != "seed"}
        alone = each or experiment.problem
        return json.dumps(
            [params, experiment.files, experiment.name if alone else ""], sort_keys=True
        )

    groups = []
    for _, members in groupby(sorted(experiments, key=all_but_seed), key=all_but_seed):
        group = sorted(members, key=lambda experiment: (experiment.seed, experiment.name))
        params = {
            key: value
            for key, value in group[0].params.items()
            if (key not in last.params or value != last.params[key])
            and not (key == "seed" and len(group) > 1)
        }
        groups.append(SeedGroup(group, params, [path for path, _ in group[0].files]))
    return groups


def expand_metrics(patterns: Iterable[str], known: list[str]) -> list[str]:
    """Return the names of the metrics that match the patterns.

    >>> expand_metrics(["test.*.ece"], ["test.mlp.ece", "test.cnn.ece", "test.cnn.loss"])
    ['test.mlp.ece', 'test.cnn.ece']

    Args:
        patterns: Dotted names; a wildcard matches within one part of a name.
        known: Names of all metrics.

    Raises:
        ParamsError: A pattern matches no metric.
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


def mean_and_deviation(values: list[float]) -> dict[str, Any] | None:
    """Return the mean, standard deviation and values of a metric; None if there are no values.

    Args:
        values: Values of a metric, one per seed; the deviation of a single value is None.
    """
    if not values:
        return None
    return {
        "mean": round(statistics.mean(values), 6),
        "deviation": round(statistics.stdev(values), 6) if len(values) > 1 else None,
        "values": values,
    }


def _hint(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"known: {', '.join(known[:12]) or 'none'}"


def _record(group: SeedGroup, metrics: Sequence[str]) -> dict[str, Any]:
    """Return the experiments, changes, seeds and metrics of a group as an object for JSON."""
    return {
        "experiments": [experiment.name for experiment in group.experiments],
        "changed": group.params,
        "changed_files": group.files,
        "seeds": [experiment.seed for experiment in group.experiments],
        "differs": group.difference or None,
        "categories": group.experiments[0].data.classes,
        "metrics": {metric: mean_and_deviation(group.values(metric)) for metric in metrics},
    }


def _write_csv(groups: list[SeedGroup], metrics: Sequence[str]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    columns = [column for name in metrics for column in (name, f"{name}.deviation")]
    writer.writerow(["experiments", "changed", "seeds", "differs", "categories", *columns])
    for group in groups:
        record = _record(group, metrics)
        spreads = [spread or {} for spread in record["metrics"].values()]
        numbers = [spread.get(key) for spread in spreads for key in ("mean", "deviation")]
        lists = record["experiments"], group.changes(), map(str, record["seeds"])
        facts = record["differs"], record["categories"]
        writer.writerow([*map(" ".join, lists), *facts, *numbers])


def _print_table(groups: list[SeedGroup], metrics: Sequence[str]) -> None:
    """Print a table of groups, as wide as the terminal or 80 columns if there is no terminal."""
    from rich.table import Table
    from rich.text import Text

    from rubro.base.console import output_console, printable
    from rubro.base.rich_console import WordWrapped

    console = output_console()
    shared = _shared_settings(groups)
    columns = {"seeds": [_format_seeds(group) for group in groups]}
    columns |= {
        metric: [_format_values(group.values(metric)) for group in groups] for metric in metrics
    }

    def name_width() -> int:
        return console.width - sum(2 + _width(*column) for column in columns.items())

    def lines_of(text: str, width: int) -> list[str]:
        return [line.plain.rstrip() for line in WordWrapped(text).wrap(console, width)]

    if name_width() < _MIN_WIDTH:
        columns = {
            name: [cell.replace(" ± ", "\n± ") for cell in cells] for name, cells in columns.items()
        }
    width = max(name_width(), _MIN_WIDTH)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("experiment", vertical="bottom", no_wrap=True, overflow="fold")
    for name, cells in columns.items():
        heading = name.replace(".", "\n").replace("_", "\n")
        table.add_column(heading, justify="right", width=_width(name, cells), no_wrap=True)
    for group, *row in zip(groups, *columns.values(), strict=True):
        # Names break after commas if possible.
        name = ", ".join(map(printable, _name_without(shared, group.experiments[0].name)))
        label = Text("\n".join(line.replace(", ", ",") for line in lines_of(name, width)))
        if changes := _unnamed_changes(group.without(shared)):
            for line in lines_of(printable(", ".join(changes)), width - 2):
                label.append(f"\n  {line}", style="dim")
        if group.difference:
            classes = group.experiments[0].data.classes
            counted = f" ({classes:,})" if classes and not group.is_comparable else ""
            label.append(f"\n  other {group.difference}{counted}", style="bold")
        table.add_row(label, *row)
    console.print(table)
    if shared:
        console.print("")
        settings = [format_setting(key, value) for key, value in shared.items()]
        console.print(f"… in all experiments: {', '.join(map(printable, settings))}")


def _width(name: str, cells: Sequence[str]) -> int:
    """Return the width of a column, whose name is broken at dots and underscores."""
    return max(map(len, "\n".join([*cells, *re.split(r"[._]", name)]).split("\n")))


def _shared_settings(groups: Sequence[SeedGroup]) -> dict[str, Any]:
    """Return the settings of all experiments in the table, if there are several, by dotted key."""
    changed = [group.params for group in groups if group.experiments[0].name != LAST_COMMIT]
    if len(changed) < 2:
        return {}
    first, *others = changed
    return {
        key: value
        for key, value in first.items()
        if all(key in params and params[key] == value for params in others)
    }


def _name_without(shared: dict[str, Any], name: str) -> list[str]:
    """Return the settings in the name of an experiment, with … instead of the shared settings."""
    hidden = {setting_in_name(*item) for item in shared.items()}
    parts = name.split(",")
    kept = [part for part in parts if part not in hidden]
    if not hidden or not kept or len(kept) == len(parts):
        return parts
    return [*(part for part in kept if not _OMITTED.fullmatch(part)), "…"]


def _format_values(values: list[float]) -> str:
    """Format the mean and the standard deviation of values, or a dash if there are no values."""
    if not values:
        return "-"
    mean = statistics.mean(values)
    if all(isinstance(value, int) for value in values) and len(set(values)) == 1:
        return f"{values[0]:,}"
    digits = 4 if abs(mean) < 10 else 1
    deviation = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{mean:,.{digits}f}{deviation}"


def _format_seeds(group: SeedGroup) -> str:
    """Format the seeds of a group; consecutive seeds become a range, such as 1-3."""
    seeds = sorted({experiment.seed for experiment in group.experiments})
    runs = groupby(enumerate(seeds), key=lambda pair: pair[1] - pair[0])
    ranges = [[seed for _, seed in run] for _, run in runs]
    shown = [f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in ranges]
    return ",".join(shown) if len(shown) <= 3 else f"{len(seeds)} seeds"


def _unnamed_changes(group: SeedGroup) -> list[str]:
    """Return the first few changes of a group, or no changes if its name lists all of them."""
    named = group.experiments[0].name.split(",")
    if not group.files and all(setting_in_name(*item) in named for item in group.params.items()):
        return []
    changes = group.changes()
    more = [f"{len(changes) - _MAX_CHANGES} more"] if len(changes) > _MAX_CHANGES else []
    return [*changes[:_MAX_CHANGES], *more]
