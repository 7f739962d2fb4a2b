"""Find the bins of number columns in the training rows."""

from __future__ import annotations

import pandas as pd

from rubro.base.params import DataParams
from rubro.base.text import first_names
from rubro.base.text_columns import TextColumn, has_decimal_commas, parse_number

_BINS = 16
# Cells that are not numbers are reported if they are at least this share of the cells with text.
_REPORTED_SHARE = 0.01


def text_columns(train: pd.DataFrame, params: DataParams) -> tuple[list[TextColumn], list[str]]:
    """Describe the text columns of a source, with bins for the columns that contain numbers.

    The bounds of the bins are quantiles of the numbers in the training rows.

    Args:
        train: Training rows, with a column text.NAME for each text column.
        params: Names of the text columns and number columns.

    Returns:
        Columns in the order of the parameters, and sentences for the user about cells that do not
        contain a number.
    """
    columns, notices = [], []
    for name in params.text_columns:
        if name not in params.number_columns:
            columns.append(TextColumn(name=name))
            continue
        texts = [text for text in train[f"text.{name}"] if text]
        decimal_comma = has_decimal_commas(texts)
        numbers = [parse_number(text, decimal_comma) for text in texts]
        found = sorted(number for number in numbers if number is not None)
        column = TextColumn(name=name, bounds=_quantiles(found), decimal_comma=decimal_comma)
        columns.append(column)
        others = [text for text, number in zip(texts, numbers, strict=True) if number is None]
        if len(others) > _REPORTED_SHARE * len(texts):
            examples = first_names(sorted(set(others)))
            notices.append(
                f"number column {name!r}: {len(others):,} of {len(texts):,} training cells do not "
                f"contain a number and are read as empty cells: {examples}"
            )
        if not found:
            notices.append(
                f"number column {name!r} contains no number in the training rows, so the models learn "
                "nothing from it; remove it from data.number_columns"
            )
    return columns, notices


def _quantiles(numbers: list[float]) -> list[float]:
    """Return the bounds that divide ascending numbers into bins of about the same size.

    Equal numbers are in the same bin.
    """
    places = [len(numbers) * part // _BINS for part in range(1, _BINS)] if numbers else []
    return sorted({numbers[place] for place in places if numbers[place] > numbers[0]})
