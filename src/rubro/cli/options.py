"""Types of command-line options shared by several commands."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from rubro.base.metric_names import Objective
from rubro.base.text_encoding import known_encoding

DEFAULT_MODEL = Path("models/ensemble")


def _checked_encoding(name: str) -> str:
    try:
        return known_encoding(name)
    except ValueError as error:
        raise typer.BadParameter(f"{name}: {error}") from None


ModelFolder = Annotated[Path, typer.Option(metavar="FOLDER", help="Folder of the model to use.")]
ServedObjective = Annotated[
    Objective | None,
    typer.Option(
        "--objective",
        help="Metric for which the model chooses categories. Default: the parameter objective of its "
        "training.",
    ),
]
InputFormat = Annotated[
    Literal["csv", "tsv", "json", "jsonl", "parquet", "txt"] | None,
    typer.Option(
        help="Format of the input. Default: detected from the file name or the content.",
    ),
]
Encoding = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        parser=_checked_encoding,
        help="Encoding of the input, such as latin-1. Default: detected from the content.",
    ),
]
OutputEncoding = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        parser=_checked_encoding,
        help="Encoding of a csv or tsv output; utf-8-sig has a byte order mark. Default: the encoding "
        "of the input.",
    ),
]
Separator = Annotated[
    Literal["comma", "semicolon", "tab", "pipe"] | None,
    typer.Option(
        help="Character between the fields of the input. Default: detected from the content.",
    ),
]
TitleColumn = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Name of the title column. Default: its name in the model's training data, else title, "
        "titulo, nombre or name, else the only column.",
    ),
]
CategoryColumn = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Name of the category column. Default: its name in the model's training data, else "
        "category, categoria or rubro.",
    ),
]
NoThresholds = Annotated[
    bool,
    typer.Option(
        "--no-thresholds",
        help="Ignore thresholds.json in the model folder, so that every answer is accepted.",
    ),
]
AnswerLevel = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="K",
        help="Level of the category tree to answer at, from 1 (the roots), if the model's categories "
        "are paths.",
    ),
]
Metrics = Annotated[
    list[str] | None,
    typer.Option(
        "--metric",
        "-m",
        metavar="NAME",
        help="Metric to show, such as test.cnn.accuracy or validation.*.balanced_accuracy; may be "
        "repeated. Default: the objective, measured for the ensemble on validation and test.",
    ),
]
FixedSettings = Annotated[
    list[str] | None,
    typer.Option(
        "--set-param",
        "-S",
        metavar="KEY=VALUE",
        help="Setting of every experiment, as in dvc exp run; may be repeated.",
    ),
]
