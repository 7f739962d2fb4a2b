"""Plan experiments, and run each of them in a copy of the repository."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
import time
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from rubro.base.console import console, say
from rubro.base.errors import DataError, ParamsError, TrainingError
from rubro.base.params_file import flat, with_settings
from rubro.experiments.compare import expand_metrics
from rubro.experiments.dvc_experiments import (
    CODE,
    Experiment,
    experiment_name,
    format_setting,
    read_experiments,
)
from rubro.experiments.git import git

EXIT_SOME_FAILED = 3
FOLDER = Path(".rubro")  # ignored by Git
_LOGS = FOLDER / "logs"
_PARAMS = "params.yaml"
_STAGE = "Running stage '"
# A script that runs dvc. In the copy, dvc writes a configuration with the path of the cache and the
# name of the Git user, and by default the library that it uses can only write ASCII.
_DVC = """
import sys
from functools import partialmethod
from configobj import ConfigObj
from dvc.cli import main
ConfigObj.__init__ = partialmethod(ConfigObj.__init__, default_encoding="utf-8")
sys.exit(main(sys.argv[1:]))
"""
# DVC gives Git the path of the copy in a URL, and formats the path, where these characters mean something
# else. It also fails with bytes that are not UTF-8, which git() replaces by the last character.
_UNUSABLE = re.compile(r"[#?{}\x00-\x1f\ufffd]|%[0-9a-f]{2}", re.IGNORECASE)


class Plan:
    """An experiment to run, with its parameters.

    Attributes:
        settings: Changed parameters by dotted key, in the order of the experiment's name.
        varied: Keys of the settings that differ between the experiments of a sweep.
        params: All parameters of the experiment, by dotted key.

    Raises:
        ParamsError: A setting is wrong.
    """

    def __init__(self, settings: list[str]) -> None:
        params = with_settings(_PARAMS, settings)
        self.params = dict(flat(params.model_dump(mode="json")))
        keys = [setting.partition("=")[0] for setting in settings]
        # A setting of a whole block, such as train_mlp={dropout: 0.1}, changes all of its keys.
        self.settings = {
            name: value
            for key in keys
            for name, value in self.params.items()
            if name == key or name.startswith(f"{key}.")
        }
        self.varied: list[str] = []


def make_plans(sweeps: Sequence[str], settings: Sequence[str]) -> list[Plan]:
    """Return a plan of an experiment for each combination of settings.

    Args:
        sweeps: Settings KEY=VALUE,VALUE... to combine, in the notation of `dvc exp run --queue`.
        settings: Settings KEY=VALUE that are the same in every plan.

    Raises:
        ParamsError: A setting is wrong, or a key is both in `sweeps` and in `settings`.
    """
    from dvc.exceptions import DvcException
    from dvc.utils.hydra import get_hydra_sweeps
    from hydra.errors import HydraException

    for setting in sweeps:
        if "=" not in setting:
            raise ParamsError(f"{setting}: not of the form KEY=VALUE,VALUE...")
    fixed = Plan(list(settings)).settings
    for setting in sweeps:
        key = setting.partition("=")[0]
        if same := [name for name in fixed if f"{name}.".startswith(f"{key}.")]:
            raise ParamsError(
                f"{setting}: -S {format_setting(same[0], fixed[same[0]])} fixes {same[0]} in every "
                "experiment, so it cannot vary; remove one of the two settings"
            )
    try:
        combinations = get_hydra_sweeps({_PARAMS: list(sweeps)})
    except (DvcException, HydraException) as error:
        raise ParamsError(f"{' '.join(sweeps)}: {str(error).splitlines()[0]}") from None
    plans: list[Plan] = []
    for combination in combinations:
        plan = Plan([*combination[_PARAMS], *settings])
        if all(plan.params != other.params for other in plans):
            plans.append(plan)
    first = plans[0]
    keys = [
        key for key in first.settings if any(one.params[key] != first.params[key] for one in plans)
    ]
    for plan in plans:
        plan.varied = keys
        plan.settings = {key: plan.settings[key] for key in (*keys, *plan.settings)}
    return plans


def find_experiment(plan: Plan, experiments: Sequence[Experiment]) -> Experiment | None:
    """Return the experiment that ran with the parameters of a plan and the code of the workspace.

    Args:
        plan: Experiment to run.
        experiments: Experiments of the last commit.
    """
    for experiment in experiments:
        if (
            experiment.metrics
            and experiment.params == plan.params
            and not git("diff", "--name-only", experiment.revision, "--", *CODE)
        ):
            return experiment
    return None


def run_experiment(plan: Plan, position: str, metrics: Sequence[str]) -> Experiment | None:
    """Run an experiment in a copy of the repository, unless it has already run.

    Args:
        plan: Experiment to run.
        position: Position of the experiment, such as 2/8, for messages.
        metrics: Names of metrics, with wildcards; the first one is printed at the end.

    Returns:
        The experiment with its metrics, or None if it failed. The log of a failed run is kept.

    Raises:
        DataError: The path of the folder contains characters that DVC cannot handle.
        ParamsError: A metric does not exist.
        TrainingError: Somebody committed while the experiment ran.
    """
    _, experiments = read_experiments()
    if found := find_experiment(plan, experiments):
        say(f"{position} {found.name}: has already run")
        return found
    folder = git("rev-parse", "--show-toplevel")
    if wrong := _UNUSABLE.search(folder):
        raise DataError(
            f"{folder}: DVC cannot run an experiment in a copy of this folder, because its path contains "
            f"{wrong[0]!a}; rename or move the folder"
        )
    _, everywhere = read_experiments(all_commits=True)
    name = experiment_name(plan.settings.items(), [one.name for one in everywhere])
    log = _LOGS / f"{name}.log"
    start = time.monotonic()
    if _run_logged(plan, name, position, log):
        say(f"{position} {name}: failed: {_failure_in(log)}; log: {log}")
        return None
    _, experiments = read_experiments()
    found = next((experiment for experiment in experiments if experiment.name == name), None)
    if found is None:
        raise TrainingError(
            f"{name} belongs to another commit, because somebody committed while it ran; run the "
            "same command again"
        )
    log.unlink()
    metric = expand_metrics(metrics, list(found.metrics))[0]
    words = metric.replace(".", " ").replace("_", " ")
    minutes, seconds = divmod(round(time.monotonic() - start), 60)
    duration = f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
    say(f"{position} {name}: {words} {found.metrics[metric]:.4f}, {duration}")
    return found


def _run_logged(plan: Plan, name: str, position: str, log: Path) -> int:
    """Run DVC, write its output to a log, show the stage in a terminal; return the exit code."""
    from rich.text import Text

    # The values are validated ones, because YAML and Hydra read texts such as ~ and "" differently.
    settings = chain.from_iterable(
        ("-S", format_setting(*setting)) for setting in plan.settings.items()
    )
    command = [sys.executable, "-c", _DVC, "exp", "run", "--temp", "--name", name, *settings]
    varied = ", ".join(format_setting(key, plan.settings[key]) for key in plan.varied) or name
    width = console().width - len("⠋  ")
    log.parent.mkdir(parents=True, exist_ok=True)
    with (
        console().status(f"{position} begins") as status,
        open(log, "w", encoding="utf-8") as file,
        subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=os.environ | {"PYTHONUTF8": "1"},
            encoding="utf-8",
            errors="replace",
            bufsize=1,
        ) as process,
    ):
        assert process.stdout
        for line in process.stdout:
            file.write(line)
            if line.startswith(_STAGE):
                stage = line.removeprefix(_STAGE).rstrip()[:-2]
                shown = f"{position} {stage}: {varied}"
                status.update(Text(textwrap.shorten(shown, width, placeholder=" …")))
    return process.returncode


def _failure_in(log: Path) -> str:
    """Return the last error message of a stage in a log, or of DVC if no stage has failed."""
    lines = log.read_text(encoding="utf-8").splitlines()
    for beginning in ("error: ", "ERROR: "):
        if found := [line for line in lines if line.startswith(beginning)]:
            return found[-1].removeprefix(beginning)
    return lines[-1] if lines else "no output"
