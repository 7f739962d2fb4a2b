"""The `rubro evaluate` command: how good a model is on labelled titles."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rubro.base.files import write_json
from rubro.base.params import EvaluateParams
from rubro.cli.common import load_model, needed_packages
from rubro.cli.labelled_titles import Labelled, LabelledFile, read_labelled

if TYPE_CHECKING:
    import pandas as pd

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
        source: Labelled titles.
        model: Folder of the model.
        json: File for the metrics; "-" = standard output; None = none.
        tables: Folder for the tables behind them; None = none.
    """

    source: LabelledFile
    model: Path
    json: Path | None
    tables: Path | None


def evaluate(options: Options) -> None:
    """Measure what the options ask.

    Raises:
        DataError: The model or the input cannot be used.
        RubroError: A package is missing.
    """
    with needed_packages("rubro evaluate"):
        from rubro.data.splits import write_csv
        from rubro.evaluation.tables import HeldOut, detail_tables, model_metrics
        from rubro.prediction.calibration import softmax

    classifier = load_model(options.model)
    labelled = read_labelled(options.source, classifier)
    logits, targets = np.concatenate(labelled.logits), np.array(labelled.targets)
    probabilities = classifier.description.calibration.probabilities(logits)
    uncalibrated = softmax(logits)
    metrics = model_metrics(probabilities, uncalibrated, targets, _PARAMS, _SEED)
    held_out = HeldOut(labelled.titles, targets, classifier.classes_, classifier.vocabulary)
    tables = detail_tables(probabilities, uncalibrated, held_out, _PARAMS)
    if options.tables is not None:
        for name, table in tables.items():
            write_csv(options.tables / f"{name}.csv", table)
    summary = {"model": classifier.name, "rows": _counts(labelled), "metrics": metrics}
    if options.json == Path("-"):
        _print_json(summary)
        return
    if options.json is not None:
        write_json(options.json, summary)
    _show(classifier.name, labelled, metrics, tables)


def _counts(labelled: Labelled) -> dict[str, int]:
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
    name: str, labelled: Labelled, metrics: dict[str, float], tables: dict[str, pd.DataFrame]
) -> None:
    from rubro.cli.terminal import show_table

    low, high = metrics["balanced_accuracy_low"], metrics["balanced_accuracy_high"]
    notes = {"balanced_accuracy": f"{_PARAMS.confidence:.0%} interval {low:.4f} to {high:.4f}"}
    title = f"{name} on {len(labelled.targets):,} titles"
    show_table(title, [(words, metrics[key], notes.get(key, "")) for key, words in _NAMES.items()])
    for table, columns in _SHOWN.items():
        rows = tables[table].loc[:, list(columns)].head(_SHOWN_ROWS)
        if not rows.empty:
            show_table(table.replace("_", " "), rows.itertuples(index=False), columns)
