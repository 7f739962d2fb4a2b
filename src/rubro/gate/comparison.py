"""The `rubro gate` command: whether metrics got worse than those of a Git revision."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from rubro.base.errors import DataError, ParamsError
from rubro.base.params_file import flat
from rubro.base.yaml_files import parse_yaml
from rubro.experiments.dvc_lock import changed_stages, ran_with
from rubro.experiments.git import try_git
from rubro.gate.verdicts import Comparison, changes_between, numbers_in

EXIT_WORSE = 1
_METRICS = "metrics"
_LOCK, _PARAMS, _TITLES = "dvc.lock", "params.yaml", "data/subset"
_MAIN_BRANCHES = ("origin/HEAD", "origin/main", "main", "origin/master", "master")


@dataclass(frozen=True)
class _Noise:
    """Noise of seeds: the data it was measured on, and the largest change that it explains."""

    data: str
    tolerances: dict[str, float]


def gate(revision: str | None, noise: Path, markdown: bool, all_changes: bool) -> int:
    """Compare the metrics of the working tree with those of a revision, and print a report.

    Args:
        revision: Name of the revision; None = the merge base with the main branch.
        noise: Path of the file that `make noise` writes.
        markdown: Whether the report is Markdown.
        all_changes: Whether a report in the terminal lists changes within noise and those that are
            not judged.

    Returns:
        Exit code: 0, or 1 where a metric is worse or missing.

    Raises:
        DataError: There is nothing to compare, or a file is damaged.
    """
    from rubro.gate.report import format_markdown, print_report

    report = compare_with_revision(revision, noise)
    if markdown:
        sys.stdout.write(format_markdown(report))
    else:
        print_report(report, all_changes)
    return EXIT_WORSE if report.failed else 0


def compare_with_revision(revision: str | None, noise: Path) -> Comparison:
    """Compare the working tree with a revision.

    Args:
        revision: Name of the revision; None = the merge base with the main branch.
        noise: Path of the file that `make noise` writes.

    Returns:
        Metrics, parameters and stages that differ.

    Raises:
        DataError: There is no such revision, no metrics anywhere, or a file is damaged.
    """
    commit, name = _commit_of(revision)
    metrics, metrics_before = _metrics(None), _metrics(commit)
    if not metrics and not metrics_before:
        raise DataError(
            f"{_METRICS}: no metrics here or in {name}; run this in the folder of {_PARAMS}, after "
            "`dvc repro`"
        )
    params, params_before = _yaml(None, _PARAMS), _yaml(commit, _PARAMS)
    stages, stages_before = (_yaml(of, _LOCK).get("stages", {}) for of in (None, commit))
    measured = _noise(noise)
    changes = changes_between(metrics_before, metrics, measured.tolerances)
    notes = []
    if not metrics_before:
        notes.append(f"{name} has no {_METRICS}: all are new")
    if try_git("status", "--porcelain", "--", _METRICS, _LOCK, _PARAMS):
        notes.append(f"{_METRICS}, {_LOCK} or {_PARAMS} have changes that are not committed")
    if not ran_with(params, stages):
        notes.append(f"{_PARAMS} changed since {_LOCK} was written: `dvc repro` first")
    if stages_before and _titles(stages_before) != _titles(stages):
        notes.append(f"{_TITLES} differs: the metrics are of other titles")
    if measured.data != dict(flat(params)).get("data.path"):
        notes.append(f"{noise} is of {measured.data}: `make noise` measures it on other data")
    if any(change.tolerance and change.name not in measured.tolerances for change in changes):
        notes.append(f"{noise} lacks some of these metrics: `make noise` measures them too")
    return Comparison(
        name if commit.startswith(name) else f"{name} ({commit[:7]})",
        changes,
        _different(dict(flat(params_before)), dict(flat(params))),
        _reran(stages_before, stages),
        notes,
    )


def _commit_of(revision: str | None) -> tuple[str, str]:
    """Return the commit to compare with, and what the reader knows it by."""
    if not _resolved("HEAD"):
        raise DataError("no commit here to compare with; `git status` tells why")
    if revision is not None:
        commit = _resolved(revision)
        if not commit:
            raise DataError(
                f"{revision}: no such commit here; `git fetch origin` brings branches, and "
                "`git fetch --unshallow` what a shallow clone lacks"
            )
        return commit, revision
    main = next((branch for branch in _MAIN_BRANCHES if _resolved(branch)), None)
    if main is None:
        raise DataError(
            f"no main branch here ({', '.join(_MAIN_BRANCHES)}); name a revision: rubro gate REV"
        )
    main = (
        try_git("rev-parse", "--abbrev-ref", main) or main
    ).strip()  # what origin/HEAD stands for
    base = (try_git("merge-base", "HEAD", main) or "").strip()
    if not base:
        raise DataError(
            f"no common commit with {main}, perhaps as the clone is shallow: "
            f"`git fetch --unshallow`, or compare with the branch itself: rubro gate {main}"
        )
    return base, f"the merge base with {main}"


def _resolved(revision: str) -> str:
    """Return the hash of a commit; "" where there is none of that name."""
    options = "--verify", "--quiet", "--end-of-options"
    return (try_git("rev-parse", *options, f"{revision}^{{commit}}") or "").strip()


# What follows reads a commit, or the working tree where the commit is None.


def _read(commit: str | None, file: str) -> str:
    """Return the text of a file; "" where there is no such file."""
    if commit:
        return try_git("show", f"{commit}:./{file}") or ""
    path = Path(file)
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def _yaml(commit: str | None, file: str) -> dict[str, Any]:
    try:
        values = parse_yaml(_read(commit, file), file)
    except ParamsError as error:
        raise DataError(f"{error}; `git checkout {file}` brings the committed one back") from None
    return values if isinstance(values, dict) else {}


def _metrics(commit: str | None) -> dict[str, float]:
    """Return every number in the metrics, by name."""
    if commit:
        listed = try_git("ls-tree", "--name-only", commit, f"{_METRICS}/") or ""
        files = [name for name in listed.splitlines() if name.endswith(".json")]
    else:
        files = sorted(path.as_posix() for path in Path(_METRICS).glob("*.json"))
    found: dict[str, float] = {}
    for file in files:
        found |= numbers_in(_json(file, _read(commit, file)), Path(file).stem)
    return found


def _json(file: str, text: str) -> Any:
    def refuse(constant: str) -> NoReturn:
        _refuse(file, f"{constant} is no number of JSON")

    try:
        return json.loads(text, parse_constant=refuse)
    except json.JSONDecodeError as error:
        _refuse(file, str(error))


def _refuse(file: str, problem: str) -> NoReturn:
    raise DataError(f"{file}: {problem}; `git checkout {file}` brings the committed one back")


def _noise(file: Path) -> _Noise:
    if not file.is_file():
        raise DataError(f"{file}: no such file; `make noise` writes it")
    content = _json(str(file), file.read_text(encoding="utf-8"))
    try:
        tolerances = {
            name: float(content["factor"] * deviation)
            for name, deviation in content["deviations"].items()
        }
        return _Noise(content["data"], tolerances)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise DataError(f"{file}: not as `make noise` writes it; run it again") from None


def _titles(stages: dict[str, Any]) -> str | None:
    """Return the hash of the titles that were trained and measured on."""
    outs = stages.get("subset", {}).get("outs", [])
    return next((out["md5"] for out in outs if out["path"] == _TITLES), None)


def _different(before: dict[str, Any], now: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    return {
        key: (before.get(key), now.get(key))
        for key in {**before, **now}
        if before.get(key) != now.get(key)
    }


def _reran(before: dict[str, Any], now: dict[str, Any]) -> dict[str, list[str]]:
    own, _ = changed_stages(before, now)
    return {name: own.get(name, []) for name, stage in now.items() if stage != before.get(name)}
