"""Measure a model on labelled titles.

Rows that cannot be read are skipped and counted. Rows whose category the model does not know are
measured separately: they count as errors in a second accuracy, and in the tables coverage and
automation. These two tables leave out titles that are marked as unreliable, as rubro thresholds does.

\b
rubro evaluate labelled.csv \\
  --title-column nombre --category-column rubro
rubro evaluate data/subset/test.parquet \\
  --model models/mlp --json - --tables details

Requires the training packages: pip install 'rubro[train]'.
"""

from __future__ import annotations

from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rubro.base.console import say
from rubro.base.metric_names import captions_for
from rubro.cli import options
from rubro.cli.labelled_titles import project_of_split, read_labelled
from rubro.cli.runtime import load_model

if TYPE_CHECKING:
    import pandas as pd

_MAX_TABLE_ROWS = 10
_SHOWN_COLUMNS = {
    "slices": ("slice", "titles", "accuracy", "balanced_accuracy"),
    "automation": ("goal", "coverage", "precision", "low", "high"),
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
    objective: options.ServedObjective = None,
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
            "reliability_before, coverage, automation and unmeasured, as csv. A model with a category "
            "tree also has nodes.",
        ),
    ] = None,
) -> None:
    import numpy as np

    from rubro.base.files import write_json
    from rubro.base.outputs import output_path
    from rubro.base.params import EvaluateParams
    from rubro.base.text import first_names
    from rubro.data.splits import write_csv
    from rubro.evaluation.metrics import accuracy
    from rubro.evaluation.tables import (
        HeldOut,
        detail_tables,
        model_metrics,
        unmeasured_categories,
    )
    from rubro.prediction.calibration import softmax
    from rubro.training.threshold_choice import predictions_for

    params = EvaluateParams()
    if json is not None and json != Path("-"):
        json = output_path(json, makes_folder=True)
    if tables is not None:
        output_path(tables / "slices.csv", makes_folder=True)
    classifier = load_model(model, objective)
    seen = ["train", "validation"] if classifier.description.final_fit else ["train"]
    if any(project_of_split(file, split) for split in seen):
        say(f"{file}: the model was trained on these titles, so its metrics for them are too good")
    labelled = read_labelled(
        file, classifier, title_column, category_column, input_format, encoding, separator
    )
    all_logits, all_targets = np.concatenate(labelled.logits), np.array(labelled.targets)
    all_probabilities = classifier.calibration.probabilities(all_logits)
    known = np.flatnonzero(all_targets >= 0)
    targets, probabilities = all_targets[known], all_probabilities[known]
    uncalibrated = softmax(all_logits[known])
    tree = classifier.description.tree
    metrics = model_metrics(probabilities, uncalibrated, targets, params, tree)
    titles = [labelled.titles[index] for index in known]
    held_out = HeldOut(
        titles, targets, classifier.classes_, classifier.vocabulary, None, None, tree
    )
    nodes, reliable = list(np.array(labelled.nodes).T), np.array(labelled.reliable)
    predictions, levels = predictions_for(
        classifier, labelled.products, nodes, reliable, all_probabilities
    )
    details = detail_tables(probabilities, uncalibrated, held_out, predictions, levels, params)
    details["unmeasured"] = unmeasured_categories(held_out)
    if len(missing := details["unmeasured"]["category"].to_list()):
        say(
            f"{len(missing):,} of {len(classifier.classes_):,} categories have no titles in {file}, "
            f"so the metrics do not describe them: {first_names(missing)}"
        )
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
    with_unknown = round(accuracy(all_targets, all_probabilities.argmax(axis=1)), 6)
    categories = {"known": len(classifier.classes_), "measured": len(np.unique(targets))}
    summary = {
        "model": classifier.name,
        "objective": classifier.description.objective,
        "rows": rows,
        "categories": categories,
        "metrics": metrics,
        "accuracy_with_unknown_categories": with_unknown,
    }
    if json == Path("-"):
        print(dumps(summary, ensure_ascii=False, indent=1, allow_nan=False))
        return
    if json is not None:
        write_json(json, summary)
    _print_tables(summary, details, params.confidence)


def _print_tables(
    summary: dict[str, Any], details: dict[str, pd.DataFrame], confidence: float
) -> None:
    """Print the metrics and the first rows of the tables.

    Args:
        summary: Content of the JSON file.
        details: Tables by name.
        confidence: Coverage of the intervals in the metrics.
    """
    from rubro.base.metric_names import LEVEL_CAPTIONS, PATH_CAPTIONS
    from rubro.cli.terminal import show_table
    from rubro.evaluation.metrics import MEASURES

    metrics, categories = summary["metrics"], summary["categories"]
    interval = f"{confidence:.0%} interval {{:.4f}} to {{:.4f}}"
    notes: dict[str, str] = {
        name: interval.format(metrics[f"{name}_low"], metrics[f"{name}_high"]) for name in MEASURES
    }
    shown = [
        (text, metrics[key], notes.get(key, ""))
        for key, text in captions_for(summary["objective"]).items()
    ]
    if unknown := summary["rows"]["of_unknown_category"]:
        note = f"{unknown:,} more titles count as errors"
        with_unknown = summary["accuracy_with_unknown_categories"]
        shown.append(("accuracy with unknown categories", with_unknown, note))
    measured = "{measured:,} of {known:,} categories".format(**categories)
    show_table(f"{summary['model']} on {summary['rows']['measured']:,} titles of {measured}", shown)
    if "levels" in metrics:  # only with a category tree
        rows_of_levels = [
            (number, *(values[key] for key in LEVEL_CAPTIONS))
            for number, values in metrics["levels"].items()
        ]
        show_table("levels", rows_of_levels, ("level", *LEVEL_CAPTIONS.values()))
        show_table("paths", [(text, metrics[key]) for key, text in PATH_CAPTIONS.items()])
    for name, columns in _SHOWN_COLUMNS.items():
        first = details[name].loc[:, list(columns)].head(_MAX_TABLE_ROWS)
        if not first.empty:
            show_table(name.replace("_", " "), first.itertuples(index=False), columns)
