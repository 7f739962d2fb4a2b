"""The `rubro search` command: Optuna looks for the settings with the best metric on validation."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Discriminator, Field, Tag, TypeAdapter, ValidationError, model_validator

from rubro.base.console import say
from rubro.base.errors import ParamsError, TrainingError
from rubro.base.params_file import load_params, with_settings
from rubro.base.schema import Section
from rubro.base.yaml_files import load_yaml
from rubro.experiments import compare
from rubro.experiments.dvc_experiments import (
    CODE,
    format_setting,
    read_experiments,
)
from rubro.experiments.git import git
from rubro.experiments.sweep import (
    EXIT_SOME_FAILED,
    FOLDER,
    Plan,
    check_metrics,
    find_experiment,
    run_experiment,
)

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.distributions import BaseDistribution

_DATABASE = FOLDER / "search.db"
_DIGITS = 3


class Range(Section):
    """Numbers from low to high, both included; whole ones where both are.

    Attributes:
        low: Least value.
        high: Greatest value.
        log: Whether values are spread evenly over their logarithms.
    """

    low: int | float
    high: int | float
    log: bool = False

    @model_validator(mode="after")
    def _in_order(self) -> Range:
        if self.low >= self.high or (self.log and self.low <= 0):
            raise ValueError("low must be below high, and above 0 with log")
        return self

    @property
    def ends(self) -> list[Any]:
        """Least and greatest value."""
        return [self.low, self.high]

    def distribution(self) -> BaseDistribution:
        """Return the range as Optuna's distribution."""
        from optuna.distributions import FloatDistribution, IntDistribution

        if isinstance(self.low, int) and isinstance(self.high, int):
            return IntDistribution(self.low, self.high, log=self.log)
        return FloatDistribution(self.low, self.high, log=self.log)

    def value(self, suggested: Any) -> Any:
        """Return the value of a setting: three digits of a number with a fraction."""
        return suggested if isinstance(suggested, int) else float(f"{suggested:.{_DIGITS}g}")


class Choices(Section):
    """Some values.

    Attributes:
        choices: Values.
    """

    choices: Annotated[list[Any], Field(min_length=1)]

    @property
    def ends(self) -> list[Any]:
        """All values."""
        return self.choices

    def distribution(self) -> BaseDistribution:
        """Return the choices as Optuna's distribution over their JSON."""
        from optuna.distributions import CategoricalDistribution

        return CategoricalDistribution([json.dumps(choice) for choice in self.choices])

    def value(self, suggested: Any) -> Any:
        """Return the value of a setting."""
        return json.loads(suggested)


def _kind(values: Any) -> str:
    """Return the tag of the schema that is meant: a mistake is told in its terms."""
    return "choices" if isinstance(values, dict) and "choices" in values else "range"


_Values = Annotated[
    Annotated[Range, Tag("range")] | Annotated[Choices, Tag("choices")], Discriminator(_kind)
]
Space = dict[str, _Values]


@dataclass(frozen=True)
class Options:
    """Options of `rubro search`.

    Attributes:
        space: Path of the file of the search space.
        trials: Number of trials that have succeeded in the end, those of earlier calls included.
        metric: Name of the metric to improve, on validation.
        settings: Settings KEY=VALUE of every experiment.
    """

    space: Path
    trials: int
    metric: str = compare.SELECTION_METRIC
    settings: Sequence[str] = ()


def search(options: Options) -> int:
    """Run trials until there are as many as asked for, and print all of them.

    Returns:
        Exit code: 0, or 3 where a trial of this call failed.

    Raises:
        DataError: There is no Git repository here.
        ParamsError: The space, a setting or the metric is wrong; nothing has run.
        TrainingError: Another search is at work, or a commit was made meanwhile.
    """
    if not options.metric.startswith("validation."):
        raise ParamsError(
            f"--metric {options.metric}: a search chooses, so it needs a metric on validation, such as "
            f"{compare.SELECTION_METRIC}"
        )
    space = read_space(options.space)
    _check(space, options)
    last, _ = read_experiments()
    check_metrics([options.metric], last)
    with _alone():
        study = _study(space, options)
        failed = _run_trials(study, space, options)
        _show(study, space, options)
    return EXIT_SOME_FAILED if failed else 0


def read_space(path: Path) -> Space:
    """Read a search space: dotted keys of params.yaml, each with low and high, or with choices.

    Args:
        path: Path of the YAML file.

    Raises:
        ParamsError: The file is missing, is no YAML or no search space.
    """
    try:
        content = load_yaml(path)
        space = TypeAdapter(Space).validate_python(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = str(first["loc"][0]) if first["loc"] else "the file"
        raise ParamsError(
            f"{path}: {where}: {first['msg'].removeprefix('Value error, ')}; each key needs low and "
            "high (and log: true, if wanted), or choices"
        ) from None
    if not space:
        raise ParamsError(f"{path}: no keys to search over")
    return space


def _check(space: Space, options: Options) -> None:
    """Check every end of every range, and the fixed settings, against params.yaml."""
    with_settings("params.yaml", list(options.settings))
    for key, values in space.items():
        for value in values.ends:
            try:
                with_settings("params.yaml", [*options.settings, format_setting(key, value)])
            except ParamsError as error:
                raise ParamsError(f"{options.space}: {error}") from None


@contextmanager
def _alone() -> Iterator[None]:
    """Keep other searches away: they would take each other's unfinished trials for their own."""
    from filelock import FileLock, Timeout

    FOLDER.mkdir(exist_ok=True)
    try:
        with FileLock(FOLDER / "search.lock", timeout=0):
            yield
    except Timeout:
        raise TrainingError("another rubro search is at work in this folder; wait for it") from None


def _study(space: Space, options: Options) -> Study:
    """Return the study of this space, metric, settings, code and commit, from earlier calls or new."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    described = {key: values.model_dump() for key, values in space.items()}
    head, uncommitted = (
        git("rev-parse", "HEAD"),
        git("diff", "HEAD", "--", *CODE, "params.yaml"),
    )
    facts = json.dumps([described, options.metric, list(options.settings), head, uncommitted])
    name = f"{options.space.stem}-{hashlib.sha256(facts.encode()).hexdigest()[:8]}"
    return optuna.create_study(
        study_name=name,
        storage=f"sqlite:///{_DATABASE}",
        direction="minimize" if compare.lower_is_better(options.metric) else "maximize",
        load_if_exists=True,
    )


def _run_trials(study: Study, space: Space, options: Options) -> int:
    """Run unfinished trials of an interrupted call, then new ones.

    Returns:
        Number of trials that failed.
    """
    from optuna.trial import TrialState

    done = len(study.get_trials(states=[TrialState.COMPLETE]))
    unfinished = study.get_trials(states=[TrialState.RUNNING])
    say(
        f"{study.study_name}: {done} trials done, {max(options.trials - done, 0)} to run; Ctrl-C "
        "stops, the same command resumes"
    )
    failed = 0
    for number in range(done + 1, options.trials + 1):
        trial = unfinished.pop(0) if unfinished else _ask(study, space)
        plan = _plan(trial.params, space, options)
        _, experiments = read_experiments()
        position, ran = f"{number}/{options.trials}", find_experiment(plan, experiments)
        experiment = run_experiment(plan, position, [options.metric], ran)
        if experiment is None:
            failed += 1
            study.tell(trial.number, state=TrialState.FAIL)
        else:
            [metric] = compare.expand_metrics([options.metric], list(experiment.metrics))
            study.tell(trial.number, experiment.metrics[metric])
    return failed


def _ask(study: Study, space: Space) -> Trial:
    """Return a new trial: an interrupted search asks for the same as another one."""
    from optuna.samplers import TPESampler

    # A sampler that went on from its first seed would suggest its first trials again.
    number = len(study.get_trials())
    study.sampler = TPESampler(seed=load_params().seed + number)
    return study.ask({key: values.distribution() for key, values in space.items()})


def _plan(suggested: dict[str, Any], space: Space, options: Options) -> Plan:
    """Return the settings of a trial."""
    own = [format_setting(key, values.value(suggested[key])) for key, values in space.items()]
    settings = [*own, *options.settings]
    return Plan(settings, with_settings("params.yaml", settings))


def _show(study: Study, space: Space, options: Options) -> None:
    """Print the experiments of a study, and say which one to apply."""
    from optuna.trial import TrialState

    last, experiments = read_experiments()
    done = study.get_trials(states=[TrialState.COMPLETE])
    found = {
        experiment.name: experiment
        for trial in done
        if (experiment := find_experiment(_plan(trial.params, space, options), experiments))
    }
    metrics = dict.fromkeys([options.metric, *compare.DEFAULT_METRICS])
    say("")
    compare.print_experiments(
        last, list(found.values()), compare.Options(metrics=list(metrics), each=True)
    )
