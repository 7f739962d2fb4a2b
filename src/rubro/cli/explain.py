"""Show which words of a title support its predicted category.

Each word's contribution is how much the category's lead over another category drops when the word is
removed. For a linear member of the model, the exact contributions of words, bigrams and character
n-grams are shown too. A terminal shows a coloured table; other outputs get one JSON line per title.

\b
rubro explain "Silla Oficina Ergonomica"
rubro explain "Silla Oficina Ergonomica" \\
  --against SOFAS | jq .words
rubro explain "Lampara De Techo" --text marca=Philips

Exit codes: 0 if explained, 2 if a title, the model or an option is wrong, 130 if interrupted, 128 + N
if ended by signal N.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import typer

from rubro.base.errors import DataError
from rubro.cli import options
from rubro.cli.runtime import load_model
from rubro.tables.cells import column_name
from rubro.tables.inputs import given_titles
from rubro.tables.streams import is_unicode, listed

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
    text: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN=TEXT",
            help="Text of a further column that the model reads, such as marca=Philips; may be repeated. "
            "It belongs to each of the titles.",
        ),
    ] = None,
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
    texts = _texts(text or [], classifier.text_columns)
    for title in titles:
        product = {classifier.title_column: title, **texts}
        explanation = classifier.explain(product, against, nearest, level)
        if sys.stdout.isatty():
            from rubro.cli.terminal import show_explanation

            show_explanation(explanation)
        else:
            exact = json.dumps(asdict(explanation))
            rounded = json.loads(exact, parse_float=lambda text: round(float(text), _DIGITS))
            print(json.dumps(rounded, ensure_ascii=False))


def _texts(options: Sequence[str], columns: Sequence[str]) -> dict[str, str]:
    """Return the texts of columns that options of the form COLUMN=TEXT give."""
    texts = {}
    for option in options:
        column, equals, text = option.partition("=")
        column = column_name(column)
        if not equals or not is_unicode(text):
            raise DataError(
                f"--text {option!a}: not of the form COLUMN=TEXT; use for example brand=Philips"
            )
        if column not in columns:
            known = f"reads {listed(columns)}" if columns else "only reads titles"
            raise DataError(f"--text {option!a}: the model does not read this column; it {known}")
        if column in texts:
            raise DataError(f"--text {option!a}: column {column!r} is given twice; give one text")
        texts[column] = text
    return texts
