"""Labelled titles of a file of any layout, with the logits of a model."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rubro.base.console import console, say
from rubro.base.errors import DataError
from rubro.cli.common import checked_encoding, progress_bar
from rubro.tables.cells import category_name, text_of
from rubro.tables.detection import SEPARATORS, find_column
from rubro.tables.inputs import CATEGORY_NAMES, Chunk, Input, Reading, listed, open_input

if TYPE_CHECKING:
    from rubro.prediction.classifier import Classifier

_BATCH = 1024
_QUALITY_COLUMN = "label_quality"


@dataclass(frozen=True)
class LabelledFile:
    """A file of titles and categories, and how it is to be read.

    Attributes:
        file: Path, or "-" for standard input.
        title_column: Name of the column of titles; None = it is guessed.
        category_column: Name of the column of categories; None = it is guessed.
        input_format: Kind of input; None = it is guessed.
        encoding: Name of the input's encoding; None = it is guessed.
        separator: Name of the character between the input's fields; None = it is guessed.
    """

    file: str
    title_column: str | None
    category_column: str | None
    input_format: str | None
    encoding: str | None
    separator: str | None


@dataclass
class Labelled:
    """The rows of an input that a model can be measured on, and what became of the others.

    Attributes:
        titles: Texts.
        targets: Class indices.
        reliable: Whether each row is not marked as unreliable in a column label_quality.
        logits: Logits of the titles, float32 (n, classes), in parts.
        rows: Number of rows read.
        unreadable: Number of rows that cannot be read.
        uncategorised: Number of rows without a category.
        unknown: Number of rows of each category that the model does not know.
    """

    titles: list[str] = field(default_factory=list)
    targets: list[int] = field(default_factory=list)
    reliable: list[bool] = field(default_factory=list)
    logits: list[np.ndarray] = field(default_factory=list)
    rows: int = 0
    unreadable: int = 0
    uncategorised: int = 0
    unknown: Counter[str] = field(default_factory=Counter)


def read_labelled(labelled_file: LabelledFile, classifier: Classifier) -> Labelled:
    """Read labelled titles, and compute their logits.

    Rows whose category the model does not know, or that cannot be read, are counted and left out.

    Args:
        labelled_file: File, and how it is to be read.
        classifier: Model.

    Raises:
        DataError: The file is missing or damaged, or none of its rows can be used.
    """
    path = labelled_file.file
    if path != "-" and not Path(path).exists():
        raise DataError(f"{path}: no such file")
    how = Reading(
        labelled_file.input_format,
        checked_encoding(labelled_file.encoding),
        SEPARATORS.get(labelled_file.separator or ""),
        labelled_file.title_column,
        classifier.title_column,
        _BATCH,
        "--title-column",
    )
    with open_input(path, how) as source:
        return _labelled(source, classifier, labelled_file.category_column)


def _labelled(source: Input, classifier: Classifier, wanted: str | None) -> Labelled:
    first = list(itertools.islice(source.chunks, 1))
    columns = source.columns
    if columns is None:
        columns = list({key: None for chunk in first for row in chunk.rows for key in row})
    column = _category_column(source, columns, wanted, classifier)
    source.chunks = itertools.chain(first, source.chunks)
    index_of = {label: index for index, label in enumerate(classifier.classes_)}
    labelled = Labelled()
    with progress_bar(console().is_terminal) as chunks:
        for chunk in chunks(source, "predicting"):
            titles = []
            categories = _values(source, chunk, column)
            qualities: list[Any] = [None] * len(categories)
            if _QUALITY_COLUMN in columns:
                qualities = _values(source, chunk, _QUALITY_COLUMN)
            for title, error, category, quality in zip(
                chunk.titles, chunk.errors, categories, qualities, strict=True
            ):
                name = _name(category)
                if error:
                    labelled.unreadable += 1
                elif not name:
                    labelled.uncategorised += 1
                elif name not in index_of:
                    labelled.unknown[name] += 1
                else:
                    titles.append(title)
                    labelled.targets.append(index_of[name])
                    labelled.reliable.append(_name(quality) != "unreliable")
            labelled.rows += len(chunk.titles)
            labelled.titles += titles
            labelled.logits.append(classifier.logits(titles))
    _say_what_is_left_out(source, column, labelled)
    return labelled


def _category_column(
    source: Input, columns: list[str], wanted: str | None, classifier: Classifier
) -> str:
    names = [name for name in columns if name != source.title_column]
    usual = (classifier.description.text.category_column, *CATEGORY_NAMES)
    found = find_column(names, usual if wanted is None else [wanted])
    if found is None:
        raise DataError(
            f"{source.name}: no column {wanted or usual[0]!r} of categories "
            f"(found: {listed(columns)}); set --category-column"
        )
    say(f"{source.name}: titles from column {source.title_column!r}, categories from {found!r}")
    return found


def _values(source: Input, chunk: Chunk, column: str) -> list[Any]:
    if chunk.batch is not None:
        values: list[Any] = chunk.batch.column(column).to_pylist()
        return values
    if source.columns is None:
        return [row.get(column) for row in chunk.rows]
    place = source.columns.index(column)
    return [row[place] for row in chunk.rows]


def _name(category: Any) -> str:
    try:
        return category_name(text_of(category) or "")
    except TypeError:  # a list or an object
        return ""


def _say_what_is_left_out(source: Input, column: str, labelled: Labelled) -> None:
    if labelled.unreadable:
        say(f"{labelled.unreadable:,} of {labelled.rows:,} rows cannot be read")
    if labelled.uncategorised:
        say(f"{labelled.uncategorised:,} of {labelled.rows:,} rows have no text in {column!r}")
    if labelled.unknown:
        most = ", ".join(
            f"{name[:50]} {count:,}" for name, count in labelled.unknown.most_common(5)
        )
        say(
            f"{labelled.unknown.total():,} of {labelled.rows:,} rows have a category that the model "
            f"does not know ({len(labelled.unknown):,} names): {most}"
        )
    if not labelled.targets:
        raise DataError(
            f"{source.name}: none of {labelled.rows:,} rows has a title and a category that the "
            "model knows; set --title-column and --category-column, or another --model"
        )
