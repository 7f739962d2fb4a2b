"""Interactive prompt that shows the categories of each title that the user types."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.output import create_output

from rubro.base.signals import Ended
from rubro.cli.terminal import show_title
from rubro.prediction.classifier import Classifier


def ask_for_titles(classifier: Classifier, top: int, level: int | None = None) -> None:
    """Read titles from the terminal and print their categories, until q, Ctrl-D or Ctrl-C.

    Args:
        classifier: Classifier that predicts the categories.
        top: Number of categories for each title.
        level: Level of the category tree whose nodes are shown; None = show the categories.
    """
    # prompt_toolkit shows control characters itself, and moves the cursor with its own.
    output = create_output(sys.__stdout__)
    session: PromptSession[str] = PromptSession(history=_history(), output=output)
    print(
        f"{classifier.name}: {len(classifier.classes_)} categories. Type a title, or q, Ctrl-D or "
        "Ctrl-C to quit."
    )
    while True:
        try:
            title = session.prompt("title: ")
        except Ended:
            raise
        except (EOFError, KeyboardInterrupt):
            return
        if _is_quit(title):
            return
        if title.strip():
            show_title(classifier.top([title], top, level)[0], classifier.tree)


class _TitleHistory(FileHistory):
    """Prompt history that saves the typed titles of all sessions in a file."""

    def store_string(self, string: str) -> None:
        if not _is_quit(string):
            super().store_string(string)


def _is_quit(text: str) -> bool:
    return text.strip().lower() == "q"


def _history() -> History:
    """Return the saved prompt history, or an empty one in memory if it cannot be saved."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    path = Path(state) / "rubro" / "titles"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.open("ab").close()
    except OSError:
        return InMemoryHistory()
    return _TitleHistory(str(path))
