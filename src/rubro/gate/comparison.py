"""Compare metrics, parameters and stages of the working tree with a Git revision."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from rubro.base.errors import DataError, ParamsError
from rubro.base.params_file import flat
from rubro.base.yaml_files import parse_yaml
from rubro.experiments.dvc_experiments import numbers_in
from rubro.experiments.dvc_lock import changed_stages, parse_stages, ran_with
from rubro.experiments.git import git
from rubro.experiments.run_data import SUBSET, DataCache, RunData, level_of, subset_hash
from rubro.gate.metric_changes import Comparison, changes_between

T = TypeVar("T")
_METRICS, _LOCK, _PARAMS = "metrics", "dvc.lock", "params.yaml"
_CLASSES = "subset.classes"
_MAIN_BRANCHES = ("origin/HEAD", "origin/main", "main", "origin/master", "master")


def compare_with_revision(revision: str | None, noise: Path) -> Comparison:
    """Compare the metrics, parameters and stages of the working tree with a Git revision.

    Args:
        revision: Name of the revision; None = the merge base with the main branch.
        noise: Path of the file from `make noise`, with the deviation of each metric over seeds.

    Raises:
        DataError: The revision does not exist, neither side has metrics, or a file is damaged.
    """
    commit, name = find_commit(revision)
    metrics, metrics_before = _read_metrics(None), _read_metrics(commit)
    if not metrics and not metrics_before:
        raise DataError(
            f"{_METRICS}: no metrics here or in {name}; run this in the folder of {_PARAMS}, after "
            "`dvc repro`"
        )
    params, params_before = _read_params(None), _read_params(commit)
    flat_params, flat_before = dict(flat(params)), dict(flat(params_before))
    stages, stages_before = (_read(of, _LOCK, parse_stages) for of in (None, commit))
    noise_data, tolerances = _read_noise(noise)
    objective = str(params.get("objective", ""))
    cache = DataCache()
    data, data_before = (
        RunData(subset_hash(locked), values.get(_CLASSES))
        for locked, values in ((stages, metrics), (stages_before, metrics_before))
    )
    difference = cache.difference(data, data_before)

    def is_comparable(metric: str) -> bool:
        level = level_of(metric)
        found = difference if level is None else cache.difference(data, data_before, level)
        return found != "categories"

    changes = changes_between(metrics_before, metrics, tolerances, objective, is_comparable)
    notes = []
    if not metrics_before:
        notes.append(f"{name} has no {_METRICS}, so all metrics are new")
    if git("status", "--porcelain", "--", _METRICS, _LOCK, _PARAMS, check=False):
        notes.append(f"{_METRICS}, {_LOCK} or {_PARAMS} have changes that are not committed")
    if not ran_with(params, stages):
        notes.append(f"{_PARAMS} changed after {_LOCK} was written; run `dvc repro` first")
    if difference == "categories":
        counts = (
            f" ({data_before.classes:,} before, {data.classes:,} now)"
            if data.classes and data_before.classes
            else ""
        )
        notes.append(f"the categories differ{counts}, so their metrics are not judged")
    elif difference == "labels":
        notes.append(
            "the categories of some validation or test titles differ (such as corrected ones), so "
            "the metrics were measured on other labels"
        )
    elif difference:
        notes.append(f"{SUBSET} differs, so the metrics were measured on other titles or labels")
    if noise_data != flat_params.get("data.path"):
        notes.append(f"{noise} was measured on {noise_data}; `make noise` measures it on your data")
    if any(change.tolerance and change.name not in tolerances for change in changes):
        notes.append(f"{noise} lacks some of these metrics; `make noise` measures them too")
    inputs, _ = changed_stages(stages_before, stages)
    return Comparison(
        name if commit.startswith(name) else f"{name} ({commit[:7]})",
        changes,
        {
            key: (flat_before.get(key), flat_params.get(key))
            for key in {**flat_before, **flat_params}
            if flat_before.get(key) != flat_params.get(key)
        },
        {
            stage: inputs.get(stage, [])
            for stage in stages
            if stages[stage] != stages_before.get(stage)
        },
        notes,
        difference != "categories",
    )


def find_commit(revision: str | None) -> tuple[str, str]:
    """Return the hash of the commit to compare with, and its name for messages.

    Args:
        revision: Name of the revision; None = the merge base with the main branch.

    Raises:
        DataError: There is no such commit.
    """
    if not _hash_of("HEAD"):
        raise DataError("no commit here to compare with; `git status` shows why")
    if revision is not None:
        commit = _hash_of(revision)
        if not commit:
            raise DataError(
                f"{revision}: no such commit here; `git fetch origin` fetches branches, and "
                "`git fetch --unshallow` completes a shallow clone"
            )
        return commit, revision
    main = next((branch for branch in _MAIN_BRANCHES if _hash_of(branch)), None)
    if main is None:
        raise DataError(
            f"no main branch here ({', '.join(_MAIN_BRANCHES)}); name a revision: rubro gate REV"
        )
    # The name of the branch, if this is origin/HEAD.
    main = git("rev-parse", "--abbrev-ref", main, check=False) or main
    base = git("merge-base", "HEAD", main, check=False)
    if not base:
        raise DataError(
            f"no common commit with {main}, perhaps because the clone is shallow; run "
            f"`git fetch --unshallow`, or compare with the branch itself: rubro gate {main}"
        )
    return base, f"the merge base with {main}"


def _hash_of(revision: str) -> str:
    """Return the hash of the commit that a revision names, or "" if it does not exist."""
    options = "--verify", "--quiet", "--end-of-options"
    return git("rev-parse", *options, f"{revision}^{{commit}}", check=False)


# The functions below read from a commit, or from the working tree if the commit is None.


def _read(commit: str | None, file: str, parse: Callable[[str, str], T]) -> T:
    """Return a file, parsed from its text and its name; a file that does not exist has no text."""
    path, text = Path(file), ""
    if commit:
        text = git("show", f"{commit}:./{file}", check=False)
    elif path.is_file():
        text = path.read_text(encoding="utf-8", errors="replace")
    try:
        return parse(text, file)
    except (ParamsError, ValueError, RecursionError) as error:
        problem = str(error).removeprefix(f"{file}: ")
        where, remedy = file, f"`git checkout {file}` restores the committed file"
        if commit:
            where, remedy = f"{file} in commit {commit[:7]}", "compare with another revision"
        raise DataError(f"{where}: {problem}; {remedy}") from None


def _read_params(commit: str | None) -> dict[str, Any]:
    values = _read(commit, _PARAMS, parse_yaml)
    return values if isinstance(values, dict) else {}


def _read_metrics(commit: str | None) -> dict[str, float]:
    """Return all metrics in a commit, by dotted name."""
    if commit:
        listed = git("ls-tree", "--name-only", commit, f"{_METRICS}/", check=False)
        files = [name for name in listed.splitlines() if name.endswith(".json")]
    else:
        files = sorted(path.as_posix() for path in Path(_METRICS).glob("*.json"))
    return numbers_in({Path(file).stem: _read(commit, file, _parse_json) for file in files})


def _parse_json(text: str, _: str) -> Any:
    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is not valid in JSON")

    return json.loads(text, parse_constant=refuse)


def _read_noise(file: Path) -> tuple[str, dict[str, float]]:
    """Return the hash of the titles used to measure noise, and the tolerance of each metric."""
    if not file.is_file():
        raise DataError(f"{file}: no such file; `make noise` writes it")
    content = _read(None, str(file), _parse_json)
    try:
        factor, deviations = content["factor"], content["deviations"]
        tolerances = {name: float(factor * value) for name, value in deviations.items()}
        return content["data"], tolerances
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        raise DataError(f"{file}: not a file of `make noise`; run it again") from None
