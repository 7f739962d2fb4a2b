"""The words of a title that speak for its category."""

from __future__ import annotations

import re
from dataclasses import dataclass

from rubro.prediction.classifier import Classifier


@dataclass(frozen=True)
class Word:
    """A word of a title.

    Attributes:
        text: Word as typed.
        start: Position of its first character.
        end: Position after its last character.
        contribution: Part of the lead of the category over the runner-up that is lost without it.
    """

    text: str
    start: int
    end: int
    contribution: float


@dataclass(frozen=True)
class Explanation:
    """Why a title is of a category.

    Attributes:
        category: Most probable category.
        other: Second most probable category.
        words: Words of the title, in order.
    """

    category: str
    other: str
    words: list[Word]


def explained(classifier: Classifier, title: str) -> Explanation:
    """Return what each word of a title adds to the lead of its category over the runner-up.

    Args:
        classifier: Model with two categories or more.
        title: Any text.
    """
    text = classifier.description.text
    found = list(re.finditer(r"\S+", title[: text.max_title_length]))[: text.max_tokens]
    without = [title[: word.start()] + title[word.end() :] for word in found]
    logits = classifier.logits([title, *without])
    second, best = logits[0].argsort(kind="stable")[-2:]
    leads = (logits[:, best] - logits[:, second]).tolist()
    words = [
        Word(word[0], word.start(), word.end(), leads[0] - lead)
        for word, lead in zip(found, leads[1:], strict=True)
    ]
    return Explanation(classifier.classes_[best], classifier.classes_[second], words)
