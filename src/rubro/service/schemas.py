"""Requests and answers of the service."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Field

from rubro.base.schema import Section

MOST_TITLES = 1000


def _whole(value: Any) -> Any:
    """Read 3.0 as 3, as JSON Schema does."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


_Top = Annotated[
    int,
    Field(ge=1, le=100, description="Number of categories for each title, best first."),
    BeforeValidator(_whole),
]
_LeastConfidence = Annotated[
    float,
    Field(ge=0.0, le=1.0, description="Confidence below which the category is left empty."),
]


class Message(Section):
    """A request, an answer or a part of one."""

    model_config = ConfigDict(defer_build=False)  # FastAPI warns of deferred ones


class PredictRequest(Message):
    """Titles to predict."""

    titles: Annotated[
        str | Annotated[list[Any], Field(min_length=1, max_length=MOST_TITLES)],
        Field(description="One title, or a list of them; what is no text gets an error."),
    ]
    top: _Top = 1
    min_confidence: _LeastConfidence = 0.0


class ExplainRequest(Message):
    """A title to explain."""

    title: str
    top: _Top = 5
    min_confidence: _LeastConfidence = 0.0


class ModelIdentity(Message):
    """Which model answers."""

    name: str
    format: str
    commit: Annotated[str | None, Field(description="Git commit of the model's repository.")]
    hash: Annotated[str, Field(description="SHA-256 of the model folder.")]


class Choice(Message):
    """A category and its probability."""

    category: str
    confidence: float


class Answer(Message):
    """Categories of a title, or why there are none."""

    category: Annotated[
        str | None, Field(description="Most probable category; null where it is not accepted.")
    ]
    confidence: Annotated[
        float | None, Field(description="Probability of the most probable category.")
    ]
    top: list[Choice]
    error: Annotated[str | None, Field(description="Why the title has no answer.")]


class PredictAnswer(Message):
    """An answer for each title, in order."""

    model: ModelIdentity
    answers: list[Answer]


class Word(Message):
    """A word of the title."""

    text: str
    start: Annotated[int, Field(description="Position of its first character (code point).")]
    end: Annotated[int, Field(description="Position after its last character.")]
    contribution: Annotated[
        float, Field(description="What it adds to the lead of the category over the other one.")
    ]
    known: Annotated[bool, Field(description="Whether a training title holds it.")]


class ExplainAnswer(Message):
    """The answer for a title, and what each word adds to it."""

    model: ModelIdentity
    answer: Answer
    other: Annotated[str | None, Field(description="Second most probable category.")]
    foreign: Annotated[
        bool, Field(description="Whether most words are in no training title: a guess.")
    ]
    words: list[Word]


class Categories(Message):
    """All categories of the model."""

    model: ModelIdentity
    categories: list[str]


class Version(Message):
    """Versions of the service and of its model."""

    model: ModelIdentity
    rubro: str


class Health(Message):
    """Whether the service answers."""

    status: str


class Problem(Message):
    """An error, as in RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
