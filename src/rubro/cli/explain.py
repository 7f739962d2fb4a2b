"""Show which words of a title support its predicted category.

Each word's contribution is how much the category's lead over another category drops when the word is
removed. For a linear member of the model, the exact contributions of words, bigrams and character
n-grams are shown too. A terminal shows a coloured table; other outputs get one JSON line per title.

\b
rubro explain "Lampara De Techo Philips"
rubro explain "Lampara De Techo Philips" --against LIGHT_BULBS | jq .words

Exit codes: 0 if explained, 2 if a title, the model or an option is wrong, 130 if interrupted, 128 + N
if ended by signal N.
"""

import json
import sys
from dataclasses import asdict
from typing import Annotated

import typer

from rubro.base.errors import DataError
from rubro.cli import options
from rubro.cli.runtime import load_model
from rubro.tables.inputs import given_titles

_DIGITS = 6


def main(
    titles: Annotated[list[str], typer.Argument(metavar="TITLE...", help="Titles to explain.")],
    model: options.ModelFolder = options.DEFAULT_MODEL,
    objective: options.ServedObjective = None,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="CATEGORY",
            help="Category to compare with. Default: the second most probable category.",
        ),
    ] = None,
    level: options.AnswerLevel = None,
    nearest: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="N",
            help="Number of nearest training titles to show, if the model folder contains them.",
        ),
    ] = 0,
) -> None:
    for chunk in given_titles(titles, len(titles)).chunks:
        for title, error in zip(titles, chunk.errors, strict=True):
            if error:
                raise DataError(f"title {title!a}: {error}")
    classifier = load_model(model, objective, level)
    for title in titles:
        explanation = classifier.explain(title, against, nearest, level)
        if sys.stdout.isatty():
            from rubro.cli.terminal import show_explanation

            show_explanation(explanation)
        else:
            exact = json.dumps(asdict(explanation))
            rounded = json.loads(exact, parse_float=lambda text: round(float(text), _DIGITS))
            print(json.dumps(rounded, ensure_ascii=False))
