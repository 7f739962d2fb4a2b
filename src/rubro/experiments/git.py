"""Run Git commands."""

from __future__ import annotations

import subprocess

from rubro.base.errors import DataError


def git(*arguments: str, stdin: str | None = None, check: bool = True) -> str:
    """Run a Git command and return its output without trailing white space.

    Args:
        arguments: Git command and its arguments.
        stdin: Text for the standard input of the command.
        check: Whether a command that fails raises an error instead of returning "".

    Raises:
        DataError: Git is not installed, or the command fails, for example outside a repository.
    """
    try:
        done = subprocess.run(
            ["git", "-c", "core.quotePath=false", *arguments],
            input=stdin,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
    except FileNotFoundError:
        raise DataError("git: not found; install Git, which stores the experiments") from None
    if done.returncode and check:
        raise DataError(
            f"git {arguments[0]}: {done.stderr.strip()}; run this in the folder of a clone of the "
            "project"
        )
    return "" if done.returncode else done.stdout.rstrip()
