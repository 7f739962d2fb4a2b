"""JSON schemas of the requests that the service accepts and of its answers."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from rubro.base.metric_names import Objective
from rubro.base.schema import Section

MAX_REQUEST_TITLES = 1000
_MAX_FIELDS = 100


def _whole(value: Any) -> Any:
    """Convert a number such as 3.0 to 3, because JSON Schema accepts 3.0 as an integer."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


_Top = Annotated[
    int,
    Field(ge=1, le=100, description="Number of categories for each title, best first."),
    BeforeValidator(_whole),
]
_MinConfidence = Annotated[
    float,
    Field(
        ge=0.0,
        le=1.0,
        description=(
            "Below this confidence the category is null. If the categories are paths, it is the most "
            "probable node of the deepest level that reaches this confidence."
        ),
    ),
]
_Level = Annotated[
    Annotated[int, Field(ge=1)] | None,
    Field(
        description=(
            "Level of the category paths to answer at, from 1 (the roots); null = the deepest level "
            "that is accepted."
        )
    ),
    BeforeValidator(_whole),
]
# The keys of an object depend on the model; see products.document_products.
_REFERENCE = {"$ref": "#/components/schemas/Product"}
_Columns = Annotated[dict[str, Any], WithJsonSchema(_REFERENCE)]
_Item = Annotated[
    Any,
    WithJsonSchema(
        {"anyOf": [_REFERENCE, {"type": ["string", "number", "boolean", "null", "array"]}]}
    ),
]


class Message(Section):
    """Base class of requests, answers and the objects in them."""

    model_config = ConfigDict(defer_build=False)  # FastAPI warns about deferred models

    @model_validator(mode="before")
    @classmethod
    def _check_size(cls, content: Any) -> Any:
        # Each unknown field is an error, and listing many errors takes long.
        if isinstance(content, dict) and len(content) > _MAX_FIELDS:
            raise ValueError(f"there are more than {_MAX_FIELDS} fields")
        return content


class PredictRequest(Message):
    """Titles, or products with further columns, whose categories are requested."""

    titles: Annotated[
        str | _Columns | Annotated[list[_Item], Field(min_length=1, max_length=MAX_REQUEST_TITLES)],
        Field(
            description=(
                "One product or a list of products. A product is a title, or an object with the columns "
                "that the model reads. An item that is neither gets an error."
            )
        ),
    ]
    top: _Top = 1
    min_confidence: _MinConfidence = 0.0
    level: _Level = None


class ExplainRequest(Message):
    """A title, or a product with further columns, whose prediction is to be explained."""

    title: Annotated[
        str | _Columns,
        Field(description="Title, or an object with the columns that the model reads."),
    ]
    top: _Top = 5
    min_confidence: _MinConfidence = 0.0
    level: _Level = None


class ModelIdentity(Message):
    """Name, file format, objective, commit and hash of the model in use."""

    name: str
    format: str
    objective: Annotated[Objective, Field(description="Metric for which it chooses categories.")]
    commit: Annotated[str | None, Field(description="Git commit of the model's repository.")]
    hash: Annotated[
        str, Field(description="SHA-256 of everything that determines the predictions.")
    ]


_Path = Annotated[
    list[str],
    Field(default_factory=list, description="Names from the root, if the categories are paths."),
]


class Choice(Message):
    """A category and its probability."""

    category: str
    confidence: float
    path: _Path


class ProductAnswer(Message):
    """Predicted categories of a product, or the reason why none can be predicted."""

    category: Annotated[
        str | None, Field(description="Most probable category; null if it is not accepted.")
    ]
    confidence: Annotated[
        float | None, Field(description="Probability of the most probable category.")
    ]
    top: list[Choice]
    predicted_level: Annotated[
        int,
        Field(
            description="Number of names in the category, if the categories are paths; 0 = null."
        ),
    ] = 0
    path: _Path
    threshold: Annotated[
        float | None,
        Field(
            description=(
                "Confidence that the first category in `top` must reach; null if no confidence is "
                "enough, missing if there are no thresholds."
            )
        ),
    ] = None
    error: Annotated[str | None, Field(description="Reason why the title has no answer.")]


class PredictAnswer(Message):
    """Predictions for the products of a request, in their order."""

    model: ModelIdentity
    answers: list[ProductAnswer]


class ExplainedWord(Message):
    """A word of the product and its contribution to the prediction."""

    text: str
    start: Annotated[int, Field(description="Position of its first character (code point).")]
    end: Annotated[int, Field(description="Position after its last character.")]
    contribution: Annotated[
        float,
        Field(description="Amount that it adds to the category's lead over the other category."),
    ]
    known: Annotated[bool, Field(description="Whether a training title contains it.")]
    column: Annotated[
        str | None, Field(description="Its column; missing if the model reads only titles.")
    ] = None


class ExplainAnswer(Message):
    """Predicted categories of a product, with the contribution of each word."""

    model: ModelIdentity
    answer: ProductAnswer
    other: Annotated[str | None, Field(description="Second most probable category.")]
    foreign: Annotated[
        bool, Field(description="Whether the training titles lack most of its words.")
    ]
    words: list[ExplainedWord]


class Categories(Message):
    """All categories that the model can predict."""

    model: ModelIdentity
    categories: list[str]
    title_column: Annotated[
        str, Field(description="Name of the column that contained the training titles.")
    ]
    category_columns: Annotated[
        list[str],
        Field(
            description=(
                "Names of the columns that contained the categories; several if each of them contained "
                "one level of the category paths."
            )
        ),
    ]
    paths: Annotated[
        list[list[str]],
        Field(
            default_factory=list,
            description="Names of each category from the root, if the categories are paths.",
        ),
    ]


class Version(Message):
    """Version of the service (`rubro`), and the model in use."""

    model: ModelIdentity
    rubro: str
    promised_precision: Annotated[
        float | None,
        Field(
            description=(
                "Share of right answers that the thresholds promise; missing if there are none."
            )
        ),
    ] = None
    columns: Annotated[
        list[str],
        Field(
            default_factory=list,
            description=(
                "Columns that the model reads, first the title; missing if it reads only titles."
            ),
        ),
    ]


class Health(Message):
    """State of the service."""

    status: str


class ModelInformation(Message):
    """The model in use, and whether the service collects corrections."""

    model: ModelIdentity
    date: Annotated[str, Field(description="UTC date on which model.json was written.")]
    categories: Annotated[int, Field(description="Number of categories.")]
    examples: Annotated[
        list[str],
        Field(
            description=(
                "Up to three training titles that the model sorts correctly; empty if the model folder "
                "contains no training titles."
            )
        ),
    ]
    collects_corrections: Annotated[
        bool, Field(description="Whether POST /corrections stores corrections.")
    ]


# The keys depend on the model; see products.document_products.
CorrectionRequest = Annotated[
    dict[str, Any], WithJsonSchema({"$ref": "#/components/schemas/Correction"})
]


class StoredCorrection(Message):
    """Place of a correction."""

    file: Annotated[
        str | None, Field(description="Name of its file; null if no file contained it.")
    ]
    line: Annotated[int | None, Field(description="Line in the file, from 1.")]


class Problem(Message):
    """Description of an error, as defined by RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
