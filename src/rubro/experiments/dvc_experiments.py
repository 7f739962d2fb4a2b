"""Read DVC experiments quickly from Git, and name new ones.

`dvc exp show` takes seconds; reading the same data takes only a few Git commands.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, count
from typing import Any

from rubro.base.errors import DataError, ParamsError
from rubro.base.params_file import flat, override_value
from rubro.base.yaml_files import parse_yaml
from rubro.experiments.dvc_lock import parse_stages, ran_with
from rubro.experiments.git import git
from rubro.experiments.run_data import RunData, subset_hash

# Metrics files, without folder and suffix. The names of metrics begin with the name of their file,
# except in the first file.
METRIC_FILES = (
    *("evaluate", "subset", "featurize", "pseudo_label"),
    *("train_svm", "train_mlp", "train_cnn", "ensemble"),
)
# Files that change the outcome of an experiment, in addition to params.yaml.
CODE = ("src", "stages", "dvc.yaml", "data")
LAST_COMMIT = "last commit"
_PARAMS, _LOCK = "params.yaml", "dvc.lock"
_EXPERIMENTS = "refs/exps"
# DVC also keeps references to running and stashed experiments, which this pattern excludes.
_REFERENCE = re.compile(_EXPERIMENTS + r"/[0-9a-f]{2}/[0-9a-f]{38}/([^/]+)")
_MAX_NAME_LENGTH = 100


@dataclass(frozen=True)
class Experiment:
    """A DVC experiment, or the last commit, with its parameters and metrics.

    Attributes:
        name: Name of the experiment in DVC.
        revision: Hash of the commit of the experiment.
        params: Values of params.yaml, by dotted key; empty if it belongs to another project.
        metrics: Metrics by name, such as test.mlp.accuracy or train_cnn.best.epoch; empty if any
            stage has not run or a file is damaged.
        files: Path and hash of each code or data file that differs from the last commit.
        problem: Description of the first file that is damaged or belongs to another project, or "".
        data: Data that the experiment was trained and measured on.
    """

    name: str
    revision: str
    params: dict[str, Any]
    metrics: dict[str, float]
    files: tuple[tuple[str, str], ...] = ()
    problem: str = ""
    data: RunData = field(default_factory=RunData)

    @property
    def seed(self) -> int:
        """Random seed of the experiment."""
        return int(self.params["seed"])


def read_experiments(all_commits: bool = False) -> tuple[Experiment, list[Experiment]]:
    """Read the parameters and metrics of the last commit and of its experiments.

    Args:
        all_commits: Whether to read the experiments of earlier commits and other branches too.

    Returns:
        The last commit, and the experiments sorted by name.

    Raises:
        DataError: There is no Git repository here, or its last commit has no usable params.yaml.
    """
    head = git("rev-parse", "HEAD")
    prefix = _EXPERIMENTS if all_commits else f"{_EXPERIMENTS}/{head[:2]}/{head[2:]}"
    listed = git("for-each-ref", "--format=%(objectname) %(refname)", prefix)
    names = [(LAST_COMMIT, head)]
    for line in listed.splitlines():
        revision, _, reference = line.partition(" ")
        if name := _REFERENCE.fullmatch(reference):
            names.append((name[1], revision))
    revisions = [revision for _, revision in names]
    files = _changed_files(head, revisions[1:])
    last, *experiments = (
        Experiment(name, revision, params, metrics, files.get(revision, ()), problem, data)
        for (name, revision), (params, metrics, problem, data) in zip(
            names, _contents(revisions), strict=True
        )
    )
    if not last.params:
        raise DataError(
            f"{LAST_COMMIT}: {last.problem}; run this in the folder of the project, and commit "
            f"{_PARAMS} first"
        )
    return last, sorted(experiments, key=lambda experiment: experiment.name)


def numbers_in(values: dict[str, Any]) -> dict[str, float]:
    """Return the finite numbers in nested dictionaries, by dotted name.

    >>> numbers_in({"test": {"mlp": {"accuracy": 0.9, "best": None}}})
    {'test.mlp.accuracy': 0.9}

    Args:
        values: Nested dictionaries, such as the content of a metrics file.
    """
    return {
        name: value
        for name, value in flat(values)
        if isinstance(value, int | float)
        and not isinstance(value, bool)
        and abs(value) <= sys.float_info.max
    }


def experiment_name(settings: Iterable[tuple[str, Any]], taken: Collection[str] = ()) -> str:
    """Return a name for an experiment that describes its settings.

    >>> experiment_name([("train_mlp.hidden_sizes", [64, 32]), ("seed", 2)])
    'train_mlp.hidden_sizes=64+32,seed=2'

    Args:
        settings: Pairs of a dotted parameter key and its value.
        taken: Names that other experiments already have.

    Returns:
        Valid Git reference name with as many settings as fit, and a number if the name is taken.
    """
    parts = [setting_in_name(key, value) for key, value in settings]
    shown = len(parts)
    while shown > 1 and len(",".join(parts[:shown])) > _MAX_NAME_LENGTH:
        shown -= 1
    omitted = [f"+{len(parts) - shown}"] if shown < len(parts) else []
    name = ",".join([*parts[:shown], *omitted])[: 2 * _MAX_NAME_LENGTH]
    names = chain([name], (f"{name},run={number}" for number in count(2)))
    return next(free for free in names if free not in taken)


def setting_in_name(key: str, value: Any) -> str:
    """Return KEY=VALUE without characters that Git does not allow in reference names."""
    text = format_setting(key, value).replace("[]", "none").replace(",", "+")
    text = re.sub(r"[][ \"]", "", text)
    return re.sub(r"[^A-Za-z0-9_.=+-]|\.(?=\.|$|lock$)", "_", text)


def format_setting(key: str, value: Any) -> str:
    """Return KEY=VALUE in the notation of `dvc exp run --set-param`."""
    return f"{key}={override_value(value)}"


def _contents(
    revisions: list[str],
) -> Iterator[tuple[dict[str, Any], dict[str, float], str, RunData]]:
    """Yield the parameters, the metrics, the problem and the data of each commit."""
    names = [_PARAMS, _LOCK, *(f"metrics/{name}.json" for name in METRIC_FILES)]
    blobs = _blobs([f"{revision}:./{name}" for revision in revisions for name in names])
    for _ in revisions:
        texts = {name: next(blobs) for name in names}
        params: dict[str, Any] = {}
        try:
            nested = _parse_params(texts.pop(_PARAMS))
            params = dict(flat(nested))
            stages = parse_stages(texts.pop(_LOCK), _LOCK)
            evaluated, *others = (_parse_metrics(*file) for file in texts.items())
            metrics = numbers_in({**evaluated, **dict(zip(METRIC_FILES[1:], others, strict=True))})
            # The metrics belong to other settings if only a part of the pipeline has run.
            measured = "evaluate" in stages and ran_with(nested, stages)
            data = RunData(subset_hash(stages), metrics.get("subset.classes"))
            yield params, metrics if measured else {}, "", data
        except (ParamsError, DataError, RecursionError) as error:
            yield params, {}, str(error), RunData()


def _parse_params(text: str) -> dict[str, Any]:
    """Return the content of params.yaml as values of JSON."""
    try:
        params = json.loads(json.dumps(parse_yaml(text, _PARAMS), default=str))
    except (ValueError, TypeError, RecursionError) as error:  # such as a key that is a date
        raise ParamsError(f"{_PARAMS}: {error}") from None
    if not isinstance(params, dict) or type(params.get("seed")) is not int:
        raise ParamsError(f"{_PARAMS}: missing, or not of this project, because it has no seed")
    return params


def _parse_metrics(name: str, text: str) -> dict[str, Any]:
    """Return the content of a metrics file, which is empty if the file does not exist."""
    try:
        values = json.loads(text or "{}")
    except (ValueError, RecursionError) as error:
        raise DataError(f"{name}: not valid JSON: {error}") from None
    if not isinstance(values, dict):
        raise DataError(f"{name}: not a metrics file, because it contains no JSON object")
    return values


def _blobs(names: list[str]) -> Iterator[str]:
    """Yield the content of each Git object, or "" if it does not exist, with one Git process."""
    done = subprocess.run(
        ["git", "cat-file", "--batch"],
        input="".join(f"{name}\n" for name in names).encode(),
        capture_output=True,
        check=True,
    )
    output, start = done.stdout, 0
    for _ in names:
        end = output.index(b"\n", start)
        *_, kind, size = output[start:end].split(b" ")  # NAME missing, or HASH blob SIZE
        start = end + 1
        if kind == b"blob":
            yield output[start : start + int(size)].decode(errors="replace")
            start += int(size) + 1
        else:
            yield ""


def _changed_files(head: str, revisions: list[str]) -> dict[str, tuple[tuple[str, str], ...]]:
    """Map each revision to the paths and hashes of code and data files that differ from head."""
    pairs = "".join(f"{revision} {head}\n" for revision in revisions)
    listed = git("diff-tree", "--stdin", "-r", "--no-renames", "--", *CODE, stdin=pairs)
    found: dict[str, tuple[tuple[str, str], ...]] = {}
    revision = ""
    for line in listed.splitlines():
        if line.startswith(":"):
            fields, _, path = line.partition("\t")
            found[revision] = (*found.get(revision, ()), (path, fields.split()[3]))
        else:
            revision = line
    return found
