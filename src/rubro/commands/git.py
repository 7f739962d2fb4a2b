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
