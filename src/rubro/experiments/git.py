"""What commands ask Git."""

from __future__ import annotations

import subprocess

from rubro.base.errors import DataError


def try_git(*arguments: str) -> str | None:
    """Return the output of git; None where it fails.

    Args:
        arguments: Command of git and its options.

    Raises:
        DataError: Git is not installed.
    """
    done = _run(arguments)
    return done.stdout if done.returncode == 0 else None


def git(*arguments: str, given: str | None = None) -> str:
    """Return the output of git without the blanks around it.

    Args:
        arguments: Command of git.
        given: Text for its standard input.

    Raises:
        DataError: Git is not installed, or fails, as it does outside a repository.
    """
    done = _run(arguments, given)
    if done.returncode:
        raise DataError(
            f"git {arguments[0]}: {done.stderr.strip()}; run in the folder of a clone of the project"
        )
    return done.stdout.strip()


def _run(arguments: tuple[str, ...], given: str | None = None) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            ["git", *arguments],
            input=given,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
    except FileNotFoundError:
        raise DataError(
            "git: not found; experiments are kept in Git, which must be installed"
        ) from None
