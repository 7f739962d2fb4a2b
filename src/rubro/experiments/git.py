"""Running of Git commands."""

from __future__ import annotations

import subprocess

from rubro.base.errors import DataError


def git(*arguments: str, stdin: str | None = None) -> str:
    """Run a Git command and return its output without trailing white space.

    Args:
        arguments: Git command and its arguments.
        stdin: Text for the standard input of the command.

    Raises:
        DataError: Git is not installed, or the command fails, for example outside a repository.
    """
    done = _run(arguments, stdin)
    if done.returncode:
        raise DataError(
            f"git {arguments[0]}: {done.stderr.strip()}; run this in the folder of a clone of the "
            "project"
        )
    return done.stdout.rstrip()


def try_git(*arguments: str) -> str:
    """Run a Git command and return its output without trailing white space, or "" if it fails.

    Args:
        arguments: Git command and its arguments.

    Raises:
        DataError: Git is not installed.
    """
    done = _run(arguments)
    return "" if done.returncode else done.stdout.rstrip()


def _run(arguments: tuple[str, ...], stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            ["git", *arguments],
            input=stdin,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
    except FileNotFoundError:
        raise DataError("git: not found; install Git, which stores the experiments") from None
