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
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated

import typer

from rubro.base.errors import DataError
from rubro.cli import options
from rubro.cli.runtime import load_model
from rubro.tables.cells import column_name
from rubro.tables.inputs import given_titles
from rubro.tables.streams import is_unicode, listed

if TYPE_CHECKING:
    from rubro.prediction.classifier import Classifier
    from rubro.prediction.explanation import Explanation

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
        explanation = _with_ranges(explanation, _ranges(classifier, texts))
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


def _ranges(classifier: Classifier, texts: Mapping[str, str]) -> dict[str, str]:
    """Return the range of the bin of each number, such as "10 <= price < 20", by its column."""
    ranges = {}
    for column in classifier.description.text.columns:
        tokens = column.tokens(texts.get(column.name, ""))
        if column.bounds is None or not tokens:
            continue
        place = int(tokens[0].removeprefix("#"))
        low = "".join(f"{bound:.12g} <= " for bound in column.bounds[:place][-1:])
        high = "".join(f" < {bound:.12g}" for bound in column.bounds[place:][:1])
        ranges[column.name] = f"{low}{column.name}{high}"
    return ranges


def _with_ranges(explanation: Explanation, ranges: Mapping[str, str]) -> Explanation:
    """Return an explanation in which each number is one linear feature, named by its range.

    The model reads the name of a bin, such as #5, as a word with character n-grams.
    """
    others = [each for each in explanation.linear if each.column not in ranges]
    numbers = []
    for column, text in ranges.items():
        own = [each for each in explanation.linear if each.column == column]
        total = sum(each.contribution for each in own)
        numbers += [replace(each, kind="word", text=text, contribution=total) for each in own[:1]]
    linear = sorted([*others, *numbers], key=lambda each: -abs(each.contribution))
    return replace(explanation, linear=linear)
