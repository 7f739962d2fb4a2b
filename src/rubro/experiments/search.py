"""Search for the best hyperparameters with Optuna, for `rubro search`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, TypeAdapter, ValidationError, model_validator

from rubro.base.console import say
from rubro.base.errors import DataError, ParamsError, TrainingError
from rubro.base.metric_names import lower_is_better
from rubro.base.params_file import load_params, with_settings
from rubro.base.schema import Section
from rubro.base.yaml_files import load_yaml
from rubro.experiments.compare import compare, default_metrics, expand_metrics
from rubro.experiments.dvc_experiments import (
    CODE,
    Experiment,
    format_setting,
    read_experiments,
)
from rubro.experiments.git import git
from rubro.experiments.run_data import DataCache, level_of
from rubro.experiments.sweep import (
    EXIT_SOME_FAILED,
    FOLDER,
    Plan,
    find_experiment,
    run_experiment,
)

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial, TrialState

_DATABASE = FOLDER / "search.db"
_DIGITS = 3


class Dimension(Section):
    """The values that a search tries for one parameter: a range of numbers, or choices.

    Attributes:
        low: Minimum of the range, included; the range has only integers if both ends are integers.
        high: Maximum of the range, included.
        log: Whether to sample the range uniformly on a logarithmic scale.
        choices: Values to choose from, instead of a range.
    """

    low: int | float = 0
    high: int | float = 0
    log: bool = False
    choices: list[Any] = Field(default=[], min_length=1)

    @model_validator(mode="after")
    def _check(self) -> Dimension:
        given = self.model_fields_set
        if "choices" not in given and not {"low", "high"} <= given:
            raise ValueError("low, high or choices are missing")
        if "choices" in given and len(given) > 1:
            raise ValueError("choices cannot be combined with low, high or log")
        if not self.choices and (self.low >= self.high or (self.log and self.low <= 0)):
            raise ValueError("low must be below high, and above 0 with log")
        return self

    def distribution(self) -> BaseDistribution:
        """Return the Optuna distribution of this dimension, with choices encoded as JSON."""
        from optuna import distributions

        if self.choices:
            return distributions.CategoricalDistribution([json.dumps(one) for one in self.choices])
        if isinstance(self.low, int) and isinstance(self.high, int):
            return distributions.IntDistribution(self.low, self.high, log=self.log)
        return distributions.FloatDistribution(self.low, self.high, log=self.log)

    def value(self, suggested: Any) -> Any:
        """Convert a value that Optuna suggests; fractions are rounded to three digits."""
        if self.choices:
            return json.loads(suggested)
        return suggested if isinstance(suggested, int) else float(f"{suggested:.{_DIGITS}g}")


Space = dict[str, Dimension]


def search(space_file: Path, trials: int, metric: str | None, settings: Sequence[str]) -> int:
    """Run trials of a search until enough have succeeded, and print all trials.

    Args:
        space_file: Path of the search space.
        trials: Number of successful trials, including trials of earlier calls.
        metric: Name of the validation metric to optimize; None = the objective.
        settings: Parameters KEY=VALUE that are fixed in every trial.

    Returns:
        Exit code: 0, or 3 if a trial of this call failed or has other categories than the study.

    Raises:
        DataError: There is no Git repository here, or the database of the search is not usable.
        ParamsError: The search space, a setting or the metric is wrong; no trial has run.
        TrainingError: Another search is running, or somebody committed while a trial ran.
    """
    from filelock import FileLock, Timeout

    defaults = default_metrics(with_settings("params.yaml", [*settings]).objective)
    metric = metric or defaults[0]
    if not metric.startswith("validation."):
        raise ParamsError(
            f"--metric {metric}: a search selects settings, so its metric must be on validation, "
            f"such as {defaults[0]}"
        )
    space = read_space(space_file, settings)
    last, _ = read_experiments()
    if last.metrics:
        expand_metrics([metric], list(last.metrics))
    FOLDER.mkdir(exist_ok=True)
    try:
        # A second search would resume the unfinished trials of the first one.
        with FileLock(FOLDER / "search.lock", timeout=0), _database_errors():
            study = _open_study(space, space_file.stem, metric, settings)
            failed = _run_trials(study, space, trials, metric, settings)
            _print_trials(study, space, [metric, *defaults], settings)
    except Timeout:
        raise TrainingError(
            "another rubro search is running in this folder; wait until it ends"
        ) from None
    return EXIT_SOME_FAILED if failed else 0


def read_space(path: Path, settings: Sequence[str] = ()) -> Space:
    """Read a search space and check its values against params.yaml.

    Args:
        path: Path of a YAML file with keys of params.yaml, each with a range or with choices.
        settings: Parameters KEY=VALUE that are fixed in every trial.

    Raises:
        ParamsError: The file is missing, not valid YAML or not a search space, or params.yaml does
            not allow a value or a setting.
    """
    try:
        space = TypeAdapter(Space).validate_python(load_yaml(path))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = str(first["loc"][0]) if first["loc"] else "the file"
        raise ParamsError(
            f"{path}: {key}: {first['msg'].removeprefix('Value error, ')}; each key needs low and "
            "high (and log: true for a logarithmic scale), or choices"
        ) from None
    if not space:
        raise ParamsError(f"{path}: no keys to search over; add keys of params.yaml")
    Plan([*settings])
    for key, dimension in space.items():
        # The other values of a range are valid if both of its ends are.
        for value in dimension.choices or [dimension.low, dimension.high]:
            try:
                Plan([*settings, format_setting(key, value)])
            except ParamsError as error:
                raise ParamsError(f"{path}: {error}") from None
    return space


@contextmanager
def _database_errors() -> Iterator[None]:
    """Raise DataError if the database is damaged, locked or written by a newer Optuna."""
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (StorageInternalError, SQLAlchemyError) as error:
        cause = error.__cause__ or error
        reason = str(cause).partition("\n")[0]
        raise DataError(
            f"{_DATABASE}: {reason}. Close other programs that use the file. If it is damaged, delete "
            "it: a new study repeats the search, and experiments that have already run are skipped"
        ) from None


def _open_study(space: Space, name: str, metric: str, settings: Sequence[str]) -> Study:
    """Open the Optuna study of earlier calls with the same arguments and commit, or create one."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    described = {key: dimension.model_dump() for key, dimension in space.items()}
    code = git("rev-parse", "HEAD"), git("diff", "HEAD", "--", *CODE, "params.yaml")
    facts = json.dumps([described, metric, list(settings), *code])
    try:
        return optuna.create_study(
            study_name=f"{name}-{hashlib.sha256(facts.encode()).hexdigest()[:8]}",
            storage=f"sqlite:///{_DATABASE}",
            direction="minimize" if lower_is_better(metric) else "maximize",
            load_if_exists=True,
        )
    except RuntimeError as error:  # the tables are of another version of Optuna
        raise DataError(f"{_DATABASE}: {error}") from None


def _run_trials(
    study: Study, space: Space, trials: int, metric: str, settings: Sequence[str]
) -> int:
    """Resume interrupted trials, run new ones and return the number of trials that failed."""
    from optuna.trial import TrialState

    done = len(_trials(study, space, TrialState.COMPLETE))
    unfinished = _trials(study, space, TrialState.RUNNING)
    say(
        f"{study.study_name}: {done} trials done, {max(trials - done, 0)} to run; Ctrl-C stops, "
        "the same command resumes"
    )
    failed = 0
    data, base = DataCache(), _base(study, space, settings)
    for number in range(done + 1, trials + 1):
        trial = unfinished.pop(0) if unfinished else _ask(study, space)
        plan = _plan(trial.params, space, settings)
        experiment = run_experiment(plan, f"{number}/{trials}", [metric])
        base = base or experiment
        if (
            experiment
            and base
            and data.difference(experiment.data, base.data, level_of(metric)) == "categories"
        ):
            say(
                f"{experiment.name}: other categories than {base.name}, so the search does not use its "
                "metric; remove the parameters from the space that change the categories"
            )
            experiment = None
        if experiment is None:
            failed += 1
            study.tell(trial.number, state=TrialState.FAIL)
        else:
            name, *_ = expand_metrics([metric], list(experiment.metrics))
            study.tell(trial.number, experiment.metrics[name])
    return failed


def _base(study: Study, space: Space, settings: Sequence[str]) -> Experiment | None:
    """Return the experiment that has the categories of the study; None = the first trial has them.

    It is the last commit, unless fixed settings may change the categories of all trials.
    """
    from optuna.trial import TrialState

    last, experiments = read_experiments()
    if last.data.subset and not settings:
        return last
    for trial in _trials(study, space, TrialState.COMPLETE):
        if found := find_experiment(_plan(trial.params, space, settings), experiments):
            return found
    return None


def _trials(study: Study, space: Space, state: TrialState) -> list[FrozenTrial]:
    """Return the trials in a state, except those whose parameters a kill left incomplete."""
    trials = study.get_trials(states=[state])
    return [trial for trial in trials if trial.params.keys() == space.keys()]


def _ask(study: Study, space: Space) -> Trial:
    """Return a new trial, whose values do not depend on interruptions of the search."""
    from optuna.samplers import TPESampler

    # With the same seed in each call, a resumed search would repeat its first trials.
    number = len(study.get_trials())
    study.sampler = TPESampler(seed=load_params().seed + number)
    return study.ask({key: dimension.distribution() for key, dimension in space.items()})


def _plan(suggested: dict[str, Any], space: Space, settings: Sequence[str]) -> Plan:
    """Return the plan of an experiment with the values that Optuna suggests."""
    own = [format_setting(key, space[key].value(suggested[key])) for key in space]
    return Plan([*own, *settings])


def _print_trials(
    study: Study, space: Space, metrics: Sequence[str], settings: Sequence[str]
) -> None:
    """Print the experiments of a study, and the command that applies the best experiment."""
    from optuna.trial import TrialState

    _, experiments = read_experiments()
    trials = _trials(study, space, TrialState.COMPLETE)
    plans = [_plan(trial.params, space, settings) for trial in trials]
    names = [found.name for plan in plans if (found := find_experiment(plan, experiments))]
    say("")
    base = names[0] if names and settings else None
    compare(names, list(dict.fromkeys(metrics)), each=True, base_name=base)
