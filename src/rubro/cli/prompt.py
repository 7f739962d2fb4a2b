"""Interactive prompt that marks unknown words, and shows the categories of each typed title."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Container
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.document import Document
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.lexers import Lexer
from prompt_toolkit.output import create_output

from rubro.base.console import output_console
from rubro.base.signals import Ended
from rubro.base.text import tokenise_with_spans
from rubro.cli.terminal import show_title
from rubro.prediction.classifier import Classifier

_UNKNOWN_STYLE = "ansiyellow underline"


def ask_for_titles(classifier: Classifier, top: int, level: int | None = None) -> None:
    """Read titles from the terminal and print their categories, until q, Ctrl-D or Ctrl-C.

    Args:
        classifier: Classifier that predicts the categories.
        top: Number of categories for each title.
        level: Level of the category tree whose nodes are shown; None = show the categories.
    """
    # prompt_toolkit shows control characters itself, and moves the cursor with its own.
    output = create_output(sys.__stdout__)
    session: PromptSession[str] = PromptSession(
        history=_history(), output=output, lexer=_UnknownWords(classifier.vocabulary)
    )
    output_console().print(
        f"{classifier.name}: {len(classifier.classes_)} categories. Type a title, or q, Ctrl-D or "
        "Ctrl-C to quit. Words that the model does not know are underlined."
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
            unknown = [title[slice(*word)] for word in unknown_words(title, classifier.vocabulary)]
            show_title(classifier.top([title], top, level)[0], classifier.tree, unknown)


def unknown_words(title: str, vocabulary: Container[str]) -> list[tuple[int, int]]:
    """Return the start and end of each out-of-vocabulary word in a title.

    >>> unknown_words("Mesa Xyz", {"mesa"})
    [(5, 8)]

    Args:
        title: Any text.
        vocabulary: Words that the model knows.
    """
    return [
        (spans[0][0], spans[-1][1])
        for token, spans in tokenise_with_spans(title)
        if token not in vocabulary
    ]


class _UnknownWords(Lexer):
    """Lexer that underlines the words of the typed title that the model does not know."""

    def __init__(self, vocabulary: Container[str]) -> None:
        self._vocabulary = vocabulary

    def lex_document(self, document: Document) -> Callable[[int], StyleAndTextTuples]:
        def line(number: int) -> StyleAndTextTuples:
            text, styled, place = document.lines[number], [], 0
            for start, end in unknown_words(text, self._vocabulary):
                styled += [("", text[place:start]), (_UNKNOWN_STYLE, text[start:end])]
                place = end
            return [*styled, ("", text[place:])]

        return line


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
