"""Measure a model on labelled titles.

Rows that cannot be read and rows whose category the model does not know are skipped and counted.

\b
rubro evaluate labelled.csv --title-column nombre --category-column rubro
rubro evaluate data/subset/test.parquet --model models/mlp --json - --tables details

Requires the training packages: pip install 'rubro[train]'.
"""

from json import dumps
from pathlib import Path
from typing import Annotated

import typer

from rubro.base.metric_names import CAPTIONS
from rubro.cli import options
from rubro.cli.labelled_titles import read_labelled
from rubro.cli.runtime import load_model

_SEED = 20190
_MAX_TABLE_ROWS = 10
_SHOWN_COLUMNS = {
    "slices": ("slice", "titles", "accuracy", "balanced_accuracy"),
    "confused_pairs": ("category", "predicted", "titles", "share"),
}


def main(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE | -",
            help="Labelled titles: .csv, .tsv, .json, .jsonl (each also .gz) or .parquet; or - for "
            "standard input.",
        ),
    ],
    model: options.ModelFolder = options.DEFAULT_MODEL,
    title_column: options.TitleColumn = None,
    category_column: options.CategoryColumn = None,
    input_format: options.InputFormat = None,
    encoding: options.Encoding = None,
    separator: options.Separator = None,
    json: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE | -",
            help="JSON file for the metrics; - prints them instead of the tables.",
        ),
    ] = None,
    tables: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder for slices, classes, confused_pairs, confusions, mistakes, reliability, "
            "reliability_before, coverage and automation, as csv.",
        ),
    ] = None,
) -> None:
    import numpy as np

    from rubro.base.files import write_json
    from rubro.base.outputs import output_path
    from rubro.base.params import EvaluateParams
    from rubro.cli.terminal import show_table
    from rubro.data.splits import write_csv
    from rubro.evaluation.tables import HeldOut, detail_tables, model_metrics
    from rubro.prediction.calibration import softmax

    params = EvaluateParams()
    if json is not None and json != Path("-"):
        json = output_path(json, makes_folder=True)
    if tables is not None:
        output_path(tables / "slices.csv", makes_folder=True)
    classifier = load_model(model)
    labelled = read_labelled(
        file, classifier, title_column, category_column, input_format, encoding, separator
    )
    logits, targets = np.concatenate(labelled.logits), np.array(labelled.targets)
    probabilities = classifier.description.calibration.probabilities(logits)
    uncalibrated = softmax(logits)
    metrics = model_metrics(probabilities, uncalibrated, targets, params, _SEED)
    held_out = HeldOut(labelled.titles, targets, classifier.classes_, classifier.vocabulary)
    details = detail_tables(probabilities, uncalibrated, held_out, params)
    if tables is not None:
        for name, table in details.items():
            write_csv(tables / f"{name}.csv", table)
    rows = {
        "read": labelled.rows,
        "measured": len(targets),
        "unreadable": labelled.unreadable,
        "without_category": labelled.uncategorised,
        "of_unknown_category": labelled.unknown.total(),
    }
    summary = {"model": classifier.name, "rows": rows, "metrics": metrics}
    if json == Path("-"):
        print(dumps(summary, ensure_ascii=False, indent=1, allow_nan=False))
        return
    if json is not None:
        write_json(json, summary)
    low, high = metrics["balanced_accuracy_low"], metrics["balanced_accuracy_high"]
    notes = {"balanced_accuracy": f"{params.confidence:.0%} interval {low:.4f} to {high:.4f}"}
    shown = [(text, metrics[key], notes.get(key, "")) for key, text in CAPTIONS.items()]
    show_table(f"{classifier.name} on {len(targets):,} titles", shown)
    for name, columns in _SHOWN_COLUMNS.items():
        first = details[name].loc[:, list(columns)].head(_MAX_TABLE_ROWS)
        if not first.empty:
            show_table(name.replace("_", " "), first.itertuples(index=False), columns)
