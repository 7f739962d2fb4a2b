"""Titles typed one by one."""

from __future__ import annotations

import os
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.history import FileHistory, History, InMemoryHistory

from rubro.base.signals import Ended
from rubro.cli.terminal import show_title
from rubro.prediction.classifier import Classifier


def ask_for_titles(classifier: Classifier, top: int) -> None:
    """Read titles from the terminal and print their categories, until q, Ctrl-D or Ctrl-C.

    Args:
        classifier: Model that answers.
        top: Number of categories for each title.
    """
    session: PromptSession[str] = PromptSession(history=_history())
    print(
        f"{classifier.name}: {len(classifier.classes_)} categories. Type a title; q, Ctrl-D or "
        "Ctrl-C ends."
    )
    while True:
        try:
            title = session.prompt("title: ")
        except Ended:
            raise
        except (EOFError, KeyboardInterrupt):
            return
        if _is_end(title):
            return
        if title.strip():
            show_title(classifier.top([title], top)[0])


class _Titles(FileHistory):
    """The titles of all sessions."""

    def store_string(self, string: str) -> None:
        if not _is_end(string):
            super().store_string(string)


def _is_end(text: str) -> bool:
    return text.strip().lower() == "q"


def _history() -> History:
    """Titles of earlier sessions too, where a file of them can be written."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    path = Path(state) / "rubro" / "titles"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "ab"):
            pass
    except OSError:
        return InMemoryHistory()
    return _Titles(str(path))
