"""What commands ask Git."""

from __future__ import annotations

import subprocess

from rubro.base.errors import DataError


def git(*arguments: str) -> str | None:
    """Return the output of git; None where it fails.

    Args:
        arguments: Command of git and its options.

    Raises:
        DataError: Git is not installed.
    """
    try:
        done = subprocess.run(
            ["git", *arguments],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
    except FileNotFoundError:
        raise DataError("git: no such command; install Git") from None
    return done.stdout if done.returncode == 0 else None


def needed_git(*arguments: str, given: str | None = None) -> str:
    """Return the output of git without the blanks around it.

    Args:
        arguments: Command of git.
        given: Text for its standard input.

    Raises:
        DataError: git fails, as it does outside a repository.
    """
    try:
        done = subprocess.run(
            ["git", *arguments], input=given, capture_output=True, encoding="utf-8", check=True
        )
    except FileNotFoundError:
        raise DataError(
            "git: not found; experiments are kept in Git, which must be installed"
        ) from None
    except subprocess.CalledProcessError as error:
        raise DataError(
            f"git {arguments[0]}: {error.stderr.strip()}; run in the folder of a clone of the project"
        ) from None
    return done.stdout.strip()
