"""The `rubro sweep` command: an experiment for each combination of settings."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from rubro.base.console import console, say
from rubro.base.errors import ParamsError, TrainingError
from rubro.base.params import Params
from rubro.base.params_file import flat, with_settings
from rubro.experiments import compare
from rubro.experiments.dvc_experiments import CODE, Experiment, experiment_name, read_experiments
from rubro.experiments.git import git

EXIT_SOME_FAILED = 3
FOLDER = Path(".rubro")  # ignored by Git
LOGS = FOLDER / "logs"
_PARAMS = Path("params.yaml")
_STAGE = "Running stage '"


@dataclass(frozen=True)
class Options:
    """Options of `rubro sweep`.

    Attributes:
        sweeps: Settings KEY=VALUE,VALUE...
        settings: Settings KEY=VALUE of every experiment.
        metrics: Names of metrics to show; none = those of `rubro compare`.
    """

    sweeps: Sequence[str]
    settings: Sequence[str] = ()
    metrics: Sequence[str] = ()


@dataclass(frozen=True)
class Plan:
    """Settings of an experiment to run.

    Attributes:
        settings: Settings KEY=VALUE, those that make its name first.
        params: All parameters.
    """

    settings: list[str]
    params: Params

    @property
    def values(self) -> list[tuple[str, Any]]:
        """Pairs of a dotted key and a value, for a name."""
        params = dict(flat(self.params.model_dump()))
        return [(key, params[key]) for key in (s.partition("=")[0] for s in self.settings)]


def sweep(options: Options) -> int:
    """Run the experiments of a sweep that have not run yet, and print all of them.

    Returns:
        Exit code: 0, or 3 where an experiment failed.

    Raises:
        ParamsError: A setting or the name of a metric is wrong; nothing has run.
        DataError: There is no Git repository here.
        TrainingError: A commit was made meanwhile.
    """
    plans = make_plans(options.sweeps, options.settings)
    last, experiments = read_experiments()
    metrics = options.metrics or compare.DEFAULT_METRICS
    check_metrics(metrics, last)
    waiting = sum(find_experiment(plan, experiments) is None for plan in plans)
    say(f"{len(plans)} experiments, {waiting} to run; Ctrl-C stops, the same command resumes")
    found = [
        ran
        for number, plan in enumerate(plans, start=1)
        if (
            ran := run_experiment(
                plan, f"{number}/{len(plans)}", metrics, find_experiment(plan, experiments)
            )
        )
    ]
    say("")
    compare.print_experiments(last, found, compare.Options(metrics=options.metrics))
    return EXIT_SOME_FAILED if len(found) < len(plans) else 0


def make_plans(sweeps: Sequence[str], settings: Sequence[str]) -> list[Plan]:
    """Return a plan for each combination of settings.

    Args:
        sweeps: Settings KEY=VALUE,VALUE... in the notation of `dvc exp run --queue --set-param`.
        settings: Settings KEY=VALUE of every experiment.

    Raises:
        ParamsError: A setting is wrong.
    """
    from dvc.exceptions import DvcException
    from dvc.utils.hydra import get_hydra_sweeps
    from hydra.errors import HydraException

    for setting in sweeps:
        if "=" not in setting:
            raise ParamsError(f"{setting}: not of the form KEY=VALUE,VALUE...")
    try:
        combinations = get_hydra_sweeps({str(_PARAMS): list(sweeps)})
    except (DvcException, HydraException) as error:
        raise ParamsError(f"{' '.join(sweeps)}: {str(error).splitlines()[0]}") from None
    plans: list[Plan] = []
    for combination in combinations:
        own = [*combination[str(_PARAMS)], *settings]
        params = with_settings(_PARAMS, own)
        if all(params != plan.params for plan in plans):
            plans.append(Plan(own, params))
    return plans


def find_experiment(plan: Plan, experiments: Sequence[Experiment]) -> Experiment | None:
    """Return the experiment that has run with the settings of a plan and the code of the workspace.

    Args:
        plan: Settings.
        experiments: Experiments of the last commit.
    """
    wanted = dict(flat(plan.params.model_dump()))
    alike = (one for one in experiments if one.metrics and _checked(one.params) == wanted)
    return next((one for one in alike if not _differs_in_code(one)), None)


def check_metrics(names: Sequence[str], last: Experiment) -> None:
    """Check names of metrics before anything runs, against those of the last commit if it has some.

    Args:
        names: Names with wildcards in place of their parts.
        last: The last commit.

    Raises:
        ParamsError: There is no such metric.
    """
    if last.metrics:
        compare.expand_metrics(names, list(last.metrics))


def run_experiment(
    plan: Plan, position: str, metrics: Sequence[str], ran: Experiment | None = None
) -> Experiment | None:
    """Run an experiment in a copy of the repository and say how it ends.

    Args:
        plan: Settings.
        position: Number of the experiment among all, for the messages.
        metrics: Names of metrics with wildcards; the first is said at the end.
        ran: Experiment of an earlier call that makes this one unnecessary.

    Returns:
        Experiment; None where it failed. Its log is in LOGS then.

    Raises:
        ParamsError: There is no such metric.
        TrainingError: A commit was made meanwhile.
    """
    if ran:
        say(f"{position} {ran.name}: has run")
        return ran
    _, everywhere = read_experiments(all_commits=True)
    name = experiment_name(plan.values, [experiment.name for experiment in everywhere])
    log = LOGS / f"{name}.log"
    start = time.monotonic()
    if _run_logged(plan, name, position, log):
        say(f"{position} {name}: failed: {_reason(log)}; log: {log}")
        return None
    _, experiments = read_experiments()
    found = next((one for one in experiments if one.name == name), None)
    if found is None:
        raise TrainingError(f"{name} is of another commit: one was made while it ran")
    log.unlink()
    metric, *_ = compare.expand_metrics(metrics, list(found.metrics))
    words = metric.replace(".", " ").replace("_", " ")
    duration = _duration(time.monotonic() - start)
    say(f"{position} {name}: {words} {found.metrics[metric]:.4f}, {duration}")
    return found


def _differs_in_code(experiment: Experiment) -> bool:
    """Whether code or data of an experiment is not that of the workspace."""
    return bool(git("diff", "--name-only", experiment.revision, "--", *CODE))


def _checked(values: dict[str, Any]) -> dict[str, Any] | None:
    """Return parameters as the schema has them; None where it refuses them."""
    nested: dict[str, Any] = {}
    for key, value in values.items():
        *sections, name = key.split(".")
        section = nested
        for step in sections:
            section = section.setdefault(step, {})
        section[name] = value
    try:
        return dict(flat(Params.model_validate(nested).model_dump()))
    except ValidationError:
        return None


def _run_logged(plan: Plan, name: str, position: str, log: Path) -> int:
    """Run an experiment with its output in a file; in a terminal, show the stage that runs."""
    settings = [argument for setting in plan.settings for argument in ("-S", setting)]
    command = [sys.executable, "-m", "dvc", "exp", "run", "--temp", "--name", name, *settings]
    log.parent.mkdir(parents=True, exist_ok=True)
    with (
        console().status(f"{position} begins") as status,
        open(log, "w", encoding="utf-8") as file,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", bufsize=1
        ) as process,
    ):
        assert process.stdout
        for line in process.stdout:
            file.write(line)
            if line.startswith(_STAGE):
                stage = line.removeprefix(_STAGE).rstrip()[:-2]
                shown = f"{position} {stage}: {name}"
                status.update(shown[: console().width - len("⠋  ")])
    return process.returncode


def _reason(log: Path) -> str:
    """Return the message of a stage that failed, or of dvc."""
    lines = log.read_text(encoding="utf-8").splitlines()
    for beginning in ("error: ", "ERROR: "):
        if found := [line for line in lines if line.startswith(beginning)]:
            return found[-1].removeprefix(beginning)
    return lines[-1] if lines else "it said nothing"


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
