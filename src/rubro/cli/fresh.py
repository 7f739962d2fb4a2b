"""Check that dvc.lock and metrics match the last commit.

If they differ, the stages with new inputs are listed, and so are the stages whose outputs changed
although their inputs did not.

Exit codes: 0 if they match, 1 if they differ, 2 if dvc.lock is missing, damaged or not in the last
commit.

Requires the training packages: pip install 'rubro[train]'.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rubro.base.console import say
from rubro.base.errors import DataError, ParamsError, RubroError

if TYPE_CHECKING:
    from rubro.experiments.dvc_lock import Stages

_EXIT_DIFFERENT = 1
_LOCK = Path("dvc.lock")
_METRICS = "metrics"


def main(
    exit_zero: Annotated[
        bool,
        typer.Option(
            "--exit-zero",
            help="Exit with 0 whatever is found, and print nothing if there is nothing to compare.",
        ),
    ] = False,
) -> int:
    from rubro.experiments.dvc_lock import changed_stages
    from rubro.experiments.git import git

    try:
        before, now = _stages_before_and_now()
    except RubroError:
        if exit_zero:
            return 0
        raise
    changed, irreproducible = changed_stages(before, now)
    if changed:
        stages = "; ".join(f"{stage} ({', '.join(inputs)})" for stage, inputs in changed.items())
        say(
            f"Stages in {_LOCK} have new inputs: {stages}. Commit {_LOCK} and {_METRICS} together "
            "with the change."
        )
    if irreproducible:
        say(
            f"{', '.join(irreproducible)}: the inputs are the same as in the last commit, but the "
            "outputs have other bytes. This happens on a GPU, or on a CPU that is not x86-64, and "
            "metrics differ only within the noise of seeds. Commit "
            f"{_LOCK} and {_METRICS} on a branch, or use the published outputs: "
            f"git checkout {_LOCK} {_METRICS} && dvc pull"
        )
    files = git("status", "--porcelain", "--", str(_LOCK), _METRICS, check=False).splitlines()
    if files and not (changed or irreproducible):
        say(f"Files differ from the last commit: {', '.join(line[3:] for line in files)}")
    if not files:
        say(f"{_LOCK} and {_METRICS} match the last commit")
    return _EXIT_DIFFERENT if files and not exit_zero else 0


def _stages_before_and_now() -> tuple[Stages, Stages]:
    """Return the stages in dvc.lock, first of the last commit, then of the working tree."""
    from rubro.experiments.dvc_lock import parse_stages
    from rubro.experiments.git import git

    if not _LOCK.is_file():
        raise DataError(f"{_LOCK}: no such file; `dvc repro` writes it")
    committed = git("show", f"HEAD:./{_LOCK}", check=False)
    if not committed:
        raise DataError(f"{_LOCK}: not in the last commit, or empty there; commit it first")
    before = parse_stages(committed, f"{_LOCK} in the last commit")
    try:
        now = parse_stages(_LOCK.read_text(encoding="utf-8", errors="replace"), str(_LOCK))
        if not now:
            raise ParamsError(f"{_LOCK}: contains no stages")
    except ParamsError as error:
        raise DataError(f"{error}; `git checkout {_LOCK}` restores the committed file") from None
    return before, now
