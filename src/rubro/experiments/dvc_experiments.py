"""DVC's experiments, read from Git: `dvc exp show` takes seconds, these few calls of git do not."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from rubro.base.params_file import flat, override_value
from rubro.base.yaml_files import parse_yaml
from rubro.experiments.dvc_lock import ran_with
from rubro.experiments.git import git

# Files of metrics; names of metrics in evaluate.json stand alone, others follow that of their file.
METRIC_FILES = (
    "evaluate",
    "subset",
    "featurize",
    "train_svm",
    "train_mlp",
    "train_cnn",
    "ensemble",
)
# What besides params.yaml decides the outcome of an experiment.
CODE = ("src", "stages", "dvc.yaml", "data")
LAST_COMMIT = "last commit"
_EXPERIMENTS = "refs/exps"
# DVC's own references to what runs and to what was stashed are no experiments.
_REFERENCE = re.compile(_EXPERIMENTS + r"/[0-9a-f]{2}/[0-9a-f]{38}/([^/]+)")
_LONGEST_NAME = 100


@dataclass(frozen=True)
class Experiment:
    """An experiment, or the last commit.

    Attributes:
        name: Name by which DVC knows it.
        revision: Hash of its commit.
        params: Values of params.yaml by dotted key.
        metrics: Numbers by name, such as test.mlp.accuracy or train_cnn.best.epoch; none where its
            stages have not all run.
        files: Files of code and data that differ from the last commit, with the hash of each.
    """

    name: str
    revision: str
    params: dict[str, Any]
    metrics: dict[str, float]
    files: tuple[tuple[str, str], ...] = ()

    @property
    def seed(self) -> int:
        """Seed of the experiment."""
        return int(self.params["seed"])

    def changes(self, base: Experiment) -> dict[str, Any]:
        """Return the values that differ from those of another experiment, by dotted key."""
        return {
            key: value
            for key, value in self.params.items()
            if key not in base.params or value != base.params[key]
        }


def read_experiments(all_commits: bool = False) -> tuple[Experiment, list[Experiment]]:
    """Read the last commit and its experiments.

    Args:
        all_commits: Whether to read the experiments of earlier commits and other branches too.

    Returns:
        The last commit; experiments, sorted by name.

    Raises:
        DataError: There is no Git repository with a commit here.
    """
    head = git("rev-parse", "HEAD")
    where = _EXPERIMENTS if all_commits else f"{_EXPERIMENTS}/{head[:2]}/{head[2:]}"
    listed = git("for-each-ref", "--format=%(objectname) %(refname)", where)
    found = [(LAST_COMMIT, head)]
    for line in listed.splitlines():
        revision, _, reference = line.partition(" ")
        if name := _REFERENCE.fullmatch(reference):
            found.append((name[1], revision))
    revisions = [revision for _, revision in found]
    files = _changed_files(head, revisions[1:])
    contents = _contents(revisions)
    last, *experiments = (
        Experiment(name, revision, *content, files.get(revision, ()))
        for (name, revision), content in zip(found, contents, strict=True)
    )
    return last, sorted(experiments, key=lambda experiment: experiment.name)


def experiment_name(settings: Iterable[tuple[str, Any]], taken: Iterable[str] = ()) -> str:
    """Return a name for an experiment that says what changed.

    >>> experiment_name([("train_mlp.hidden_sizes", [64, 32]), ("seed", 2)])
    'train_mlp.hidden_sizes=64+32,seed=2'

    Args:
        settings: Pairs of a dotted key and a value.
        taken: Names of other experiments.

    Returns:
        Name that Git allows, with as many settings as fit and a number where it was taken.
    """
    parts = [setting_in_name(key, value) for key, value in settings]
    shown = next(
        count
        for count in range(len(parts), -1, -1)
        if count < 2 or len(",".join(parts[:count])) <= _LONGEST_NAME
    )
    more = [f"+{len(parts) - shown}"] if shown < len(parts) else []
    name = ",".join([*parts[:shown], *more])[: 2 * _LONGEST_NAME]
    numbered, number, taken = name, 1, set(taken)
    while numbered in taken:
        number += 1
        numbered = f"{name},run={number}"
    return numbered


def setting_in_name(key: str, value: Any) -> str:
    """Return KEY=VALUE of characters that Git allows in a name.

    Args:
        key: Dotted key.
        value: Value of params.yaml.
    """
    text = format_setting(key, value).replace("[]", "none").replace(",", "+")
    text = re.sub(r"[][ \"]", "", text)
    return re.sub(r"[^A-Za-z0-9_.=+-]|\.(?=\.|$|lock$)", "_", text)


def format_setting(key: str, value: Any) -> str:
    """Return KEY=VALUE in the notation of `dvc exp run --set-param`.

    Args:
        key: Dotted key.
        value: Value of params.yaml.
    """
    return f"{key}={override_value(value)}"


def _contents(revisions: list[str]) -> Iterator[tuple[dict[str, Any], dict[str, float]]]:
    """Yield parameters and metrics of each revision."""
    names = ["params.yaml", "dvc.lock", *(f"metrics/{name}.json" for name in METRIC_FILES)]
    wanted = [f"{revision}:./{name}" for revision in revisions for name in names]
    blobs = _blobs(wanted)
    for _ in revisions:
        params, lock = (parse_yaml(next(blobs), name) or {} for name in names[:2])
        files = {name: json.loads(next(blobs) or "{}") for name in METRIC_FILES}
        stages = lock.get("stages", {})
        # Not those before the target of an experiment.
        measured = files if "evaluate" in stages and ran_with(params, stages) else {}
        yield dict(flat(params)), dict(_numbers(measured))


def _blobs(names: list[str]) -> Iterator[str]:
    """Yield the content of each file, "" where there is none."""
    done = subprocess.run(
        ["git", "cat-file", "--batch"],
        input="".join(f"{name}\n" for name in names).encode(),
        capture_output=True,
        check=True,
    )
    output, start = done.stdout, 0
    for _ in names:
        end = output.index(b"\n", start)
        *_, kind, size = output[start:end].split(b" ")
        start = end + 1
        if kind == b"blob":
            yield output[start : start + int(size)].decode()
            start += int(size) + 1
        else:  # NAME missing
            yield ""


def _numbers(files: dict[str, Any]) -> Iterator[tuple[str, float]]:
    for file, content in files.items():
        for key, value in flat(content):
            if isinstance(value, int | float):
                yield key if file == METRIC_FILES[0] else f"{file}.{key}", value


def _changed_files(head: str, revisions: list[str]) -> dict[str, tuple[tuple[str, str], ...]]:
    """Return the files of code and data of each revision that differ from those of a commit.

    Returns:
        Pairs of a path and the hash of its content, by revision; none for one without any.
    """
    pairs = "".join(f"{revision} {head}\n" for revision in revisions)
    listed = git("diff-tree", "--stdin", "-r", "--no-renames", "--", *CODE, given=pairs)
    found: dict[str, tuple[tuple[str, str], ...]] = {}
    revision = ""
    for line in listed.splitlines():
        if line.startswith(":"):
            facts, _, path = line.partition("\t")
            found[revision] = (*found.get(revision, ()), (path, facts.split()[3]))
        else:
            revision = line
    return found
