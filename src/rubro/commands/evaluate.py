"""The `rubro evaluate` command: how good a model is on labelled titles."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rubro.base.console import console, say
from rubro.base.errors import DataError
from rubro.base.files import write_json
from rubro.base.params import EvaluateParams
from rubro.commands.common import checked_encoding, load_model, needed_packages, progress_bar
from rubro.commands.inputs import (
    CATEGORY_NAMES,
    Chunk,
    Input,
    Reading,
    listed,
    open_input,
)
from rubro.data.layouts import SEPARATORS, find_column
from rubro.data.values import category_name, text_of

if TYPE_CHECKING:
    import pandas as pd

    from rubro.prediction.classifier import Classifier

# As in params.yaml, which a user of a model alone does not have.
_PARAMS = EvaluateParams(
    calibration_bins=15,
    bootstrap_samples=2000,
    confidence=0.95,
    rare_category_rows=50,
    confused_pairs=25,
    mistakes=100,
)
_SEED = 20190
_BATCH = 1024
_SHOWN_ROWS = 10
_NAMES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "top3_accuracy": "right category among the best 3",
    "top5_accuracy": "right category among the best 5",
    "loss": "loss (cross-entropy)",
    "ece": "calibration error",
    "ece_before_calibration": "calibration error before calibration",
}
_SHOWN = {
    "slices": ("slice", "titles", "accuracy", "balanced_accuracy"),
    "confused_pairs": ("category", "predicted", "titles", "share"),
}


@dataclass(frozen=True)
class Options:
    """What the user asked for.

    Attributes:
        file: Path of the labelled titles, or "-" for standard input.
        model: Folder of the model.
        title_column: Name of the column of titles; None = it is guessed.
        category_column: Name of the column of categories; None = it is guessed.
        input_format: Kind of input; None = it is guessed.
        encoding: Name of the input's encoding; None = it is guessed.
        separator: Name of the character between the input's fields; None = it is guessed.
        json: File for the metrics; "-" = standard output; None = none.
        tables: Folder for the tables behind them; None = none.
    """

    file: str
    model: Path
    title_column: str | None
    category_column: str | None
    input_format: str | None
    encoding: str | None
    separator: str | None
    json: Path | None
    tables: Path | None


@dataclass
class _Labelled:
    """The rows of an input that a model can be measured on, and what became of the others."""

    titles: list[str] = field(default_factory=list)
    targets: list[int] = field(default_factory=list)
    logits: list[np.ndarray] = field(default_factory=list)
    rows: int = 0
    unreadable: int = 0
    uncategorised: int = 0
    unknown: Counter[str] = field(default_factory=Counter)


def evaluate(options: Options) -> None:
    """Measure what the options ask.

    Raises:
        DataError: The model or the input cannot be used.
        RubroError: A package is missing.
    """
    with needed_packages("rubro evaluate"):
        from rubro.evaluation.tables import HeldOut, detail_tables, model_metrics
        from rubro.prediction.calibration import softmax

    if options.file != "-" and not Path(options.file).exists():
        raise DataError(f"{options.file}: no such file")
    classifier = load_model(options.model)
    how = Reading(
        options.input_format,
        checked_encoding(options.encoding),
        SEPARATORS.get(options.separator or ""),
        options.title_column,
        classifier.title_column,
        _BATCH,
        "--title-column",
    )
    with open_input(options.file, how) as source:
        labelled = _labelled(source, classifier, options.category_column)
    logits, targets = np.concatenate(labelled.logits), np.array(labelled.targets)
    probabilities = classifier.description.calibration.probabilities(logits)
    metrics = model_metrics(probabilities, softmax(logits), targets, _PARAMS, _SEED)
    held_out = HeldOut.of(labelled.titles, targets, classifier.classes_, classifier.vocabulary)
    tables = detail_tables(probabilities, held_out, _PARAMS)
    if options.tables is not None:
        options.tables.mkdir(parents=True, exist_ok=True)
        for name, table in tables.items():
            table.to_csv(options.tables / f"{name}.csv", index=False)
    summary = {"model": classifier.name, "rows": _counts(labelled), "metrics": metrics}
    if options.json == Path("-"):
        _print_json(summary)
        return
    if options.json is not None:
        write_json(options.json, summary)
    _show(classifier.name, labelled, metrics, tables)


def _labelled(source: Input, classifier: Classifier, wanted: str | None) -> _Labelled:
    first = list(itertools.islice(source.chunks, 1))
    columns = source.columns
    if columns is None:
        columns = list({key: None for chunk in first for row in chunk.rows for key in row})
    column = _category_column(source, columns, wanted, classifier)
    source.chunks = itertools.chain(first, source.chunks)
    index_of = {label: index for index, label in enumerate(classifier.classes_)}
    labelled = _Labelled()
    with progress_bar(console().is_terminal) as chunks:
        for chunk in chunks(source, "predicting"):
            titles = []
            categories = _values(source, chunk, column)
            for title, error, category in zip(chunk.titles, chunk.errors, categories, strict=True):
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


def _say_what_is_left_out(source: Input, column: str, labelled: _Labelled) -> None:
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


def _counts(labelled: _Labelled) -> dict[str, int]:
    return {
        "read": labelled.rows,
        "measured": len(labelled.targets),
        "unreadable": labelled.unreadable,
        "without_category": labelled.uncategorised,
        "of_unknown_category": labelled.unknown.total(),
    }


def _print_json(summary: dict[str, Any]) -> None:
    import json

    print(json.dumps(summary, ensure_ascii=False, indent=1, allow_nan=False))


def _show(
    name: str, labelled: _Labelled, metrics: dict[str, float], tables: dict[str, pd.DataFrame]
) -> None:
    low, high = metrics["balanced_accuracy_low"], metrics["balanced_accuracy_high"]
    notes = {"balanced_accuracy": f"{_PARAMS.confidence:.0%} interval {low:.4f} to {high:.4f}"}
    title = f"{name} on {len(labelled.targets):,} titles"
    _show_table(title, [(words, metrics[key], notes.get(key, "")) for key, words in _NAMES.items()])
    for table, columns in _SHOWN.items():
        rows = tables[table].loc[:, list(columns)].head(_SHOWN_ROWS)
        if not rows.empty:
            _show_table(table.replace("_", " "), rows.itertuples(index=False), columns)


def _show_table(
    title: str, rows: Iterable[Sequence[Any]], columns: Sequence[str] = ("", "", "")
) -> None:
    from rich.table import Table

    from rubro.commands.show import output_console, printable

    table = Table(title=title, title_justify="left", box=None, show_header=any(columns))
    for column in columns:
        table.add_column(column.replace("_", " "))
    for row in rows:
        cells = (f"{cell:.4f}" if isinstance(cell, float) else f"{cell}" for cell in row)
        table.add_row(*map(printable, cells))
    output_console().print(table, "")
