"""The `rubro explain` command: what speaks for the category of a title."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rubro.base.errors import DataError
from rubro.cli.common import load_model
from rubro.tables.inputs import given_titles

_DIGITS = 6


@dataclass(frozen=True)
class Options:
    """What the user asked for.

    Attributes:
        titles: Titles.
        model: Folder of the model.
        against: Category to compare with; None = the second most probable.
        nearest: Number of nearest training titles; 0 = none.
    """

    titles: list[str]
    model: Path
    against: str | None
    nearest: int


def explain(options: Options) -> None:
    """Explain the category of each title: in colour in a terminal, else as a line of JSON.

    Raises:
        DataError: A title is empty or no text, or the model cannot be used or lacks what is asked.
    """
    _check(options.titles)
    classifier = load_model(options.model)
    for title in options.titles:
        explanation = classifier.explain(title, options.against, options.nearest)
        if sys.stdout.isatty():
            from rubro.cli.terminal import show_explanation

            show_explanation(explanation)
        else:
            print(json.dumps(_rounded(asdict(explanation)), ensure_ascii=False))


def _check(titles: Sequence[str]) -> None:
    for chunk in given_titles(titles, len(titles)).chunks:
        for title, error in zip(titles, chunk.errors, strict=True):
            if error:
                raise DataError(f"title {title!a}: {error}")


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, _DIGITS)
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list) else value
