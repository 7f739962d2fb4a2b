"""Choose confidence thresholds that keep a promised precision.

The promise holds with 95 % confidence for all accepted answers together, and for the accepted answers of
each category that has a threshold of its own. The other categories, for example categories with too few
titles, share a threshold that keeps the promise for these categories together. All thresholds together
accept at least as many answers as one threshold for all categories. Titles whose category the model does
not know count as errors. If the categories are paths, there is one threshold for each level of their
tree, and the promise holds for the answers of each level. Foreign titles, in which the model does not
know most of the words, are never accepted.

\b
rubro thresholds --precision 0.95
rubro thresholds data/subset/test.parquet \\
  --check thresholds.json
rubro predict catalogue.csv \\
  --thresholds thresholds.json -o answers.csv

Exit codes: 0 if written, 2 if the input or an option is wrong or no threshold keeps the promise,
130 if interrupted, 128 + N if ended by signal N.

Requires the training packages: pip install 'rubro[train]'.
"""

from __future__ import annotations

import heapq
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rubro.base.console import say
from rubro.base.errors import DataError
from rubro.cli import options
from rubro.cli.labelled_titles import logits_before_final_fit, project_of_split, read_labelled
from rubro.cli.runtime import load_model

if TYPE_CHECKING:
    from rubro.prediction.thresholds import AcceptedCounts, ConfidenceThreshold, Thresholds

_MAX_TABLE_ROWS = 10


def main(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE | -",
            help="Labelled titles that the model was not trained on, read as by rubro evaluate. "
            "Rows with unreliable in a column label_quality are skipped. For the default, the stages "
            "have stored predictions of the model before its final fit on these titles.",
        ),
    ] = "data/subset/validation.parquet",
    precision: Annotated[
        float,
        typer.Option(
            min=0.5,
            max=0.9999,
            metavar="P",
            help="Promised share of right answers among the accepted answers.",
        ),
    ] = 0.95,
    model: options.ModelFolder = options.DEFAULT_MODEL,
    objective: options.ServedObjective = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="JSON file to write.")
    ] = Path("thresholds.json"),
    check: Annotated[
        Path | None,
        typer.Option(
            metavar="THRESHOLDS",
            help="File of thresholds to measure on the titles, instead of choosing and writing new "
            "ones.",
        ),
    ] = None,
    title_column: options.TitleColumn = None,
    category_column: options.CategoryColumn = None,
    input_format: options.InputFormat = None,
    encoding: options.Encoding = None,
    separator: options.Separator = None,
) -> None:
    import numpy as np

    from rubro.base.files import write_json
    from rubro.base.outputs import output_path
    from rubro.prediction.thresholds import Thresholds
    from rubro.training.threshold_choice import chosen_thresholds, measured, predictions_for

    if check is None:
        target = output_path(output, makes_folder=True)
    classifier = load_model(model, objective)
    thresholds = None if check is None else Thresholds.load(check, model, classifier.description)
    if project_of_split(file, "train"):
        raise DataError(
            f"{file}: models are trained on these titles, so their confidences are too high for them; "
            "use labelled titles that the model was not trained on"
        )
    labelled = read_labelled(
        file, classifier, title_column, category_column, input_format, encoding, separator
    )
    count = sum(labelled.reliable)
    if not count:
        raise DataError(f"{file}: all rows are unreliable; use a file with reliable rows")
    if count < len(labelled.reliable):
        say(f"{file}: {count:,} of {len(labelled.reliable):,} titles are reliable")
    logits = np.concatenate(labelled.logits)
    project = project_of_split(file, "validation")
    if classifier.description.final_fit and project:
        logits = logits_before_final_fit(classifier, project, len(labelled.titles))
    probabilities = classifier.calibration.probabilities(logits)
    nodes, reliable = list(np.array(labelled.nodes).T), np.array(labelled.reliable)
    predictions, levels = predictions_for(
        classifier, labelled.products, nodes, reliable, probabilities
    )
    if thresholds is not None:
        _show(measured(thresholds, levels, classifier), file)
        return
    thresholds = chosen_thresholds(levels, classifier, precision)
    if not thresholds.all.kept:
        raise DataError(
            f"{file}: no threshold guarantees a precision of {precision:g}: "
            f"{len(predictions.right):,} reliable titles, {predictions.right.mean():.1%} of them "
            f"predicted right and {thresholds.unknown.titles:,} of a category that the model does not "
            "know; lower --precision, or use a file with more titles"
        )
    write_json(target, thresholds.model_dump(exclude=thresholds.unused))
    _show(thresholds, file)
    say(f"{output}: use it with rubro predict --thresholds")


def _show(thresholds: Thresholds, file: str) -> None:
    from rubro.cli.terminal import show_table

    columns = ("threshold", "titles", "kept", "right", f"{thresholds.coverage:.0%} interval")
    title = f"{thresholds.model}: promised precision {thresholds.precision:g}; {file}"
    lines = [("all categories", "", *_cells(thresholds.all))]
    if thresholds.unknown.titles:
        lines.append(("titles of unknown categories", "", *_cells(thresholds.unknown)))
    common = sum(each.basis == "together" for each in thresholds.categories.values())
    if thresholds.together is not None and 0 < common < len(thresholds.categories):
        name = f"{common:,} categories with a common threshold"
        lines.append((name, _bound(thresholds.together), *_cells(thresholds.together)))
    if thresholds.single is not None:
        single = thresholds.single
        lines.append(("one threshold for all", _bound(single), *_cells(single)))
    lines += [
        (f"level {each.level}", _bound(each), *_cells(each))
        for each in thresholds.levels
        if each.confidence is not None
    ]
    show_table(title, lines, ("", *columns))
    wrong = [(each.kept - each.right, name) for name, each in thresholds.categories.items()]
    rows = []
    for count, name in heapq.nlargest(_MAX_TABLE_ROWS, wrong):
        if count:
            each = thresholds.categories[name]
            shared = " together" if each.basis == "together" else ""
            rows.append((name, f"{_bound(each)}{shared}", *_cells(each)))
    if rows:
        show_table("categories with the most wrong accepted answers", rows, ("category", *columns))


def _bound(threshold: ConfidenceThreshold) -> str:
    return "none" if threshold.confidence is None else f"{threshold.confidence:g}"


def _cells(kept: AcceptedCounts) -> tuple[str, str, str, str]:
    precision = f"{kept.right / kept.kept:.1%}" if kept.kept else ""
    share = f"{kept.kept / kept.titles:.1%}" if kept.titles else ""
    return f"{kept.titles:,}", share, precision, f"{kept.low:.1%}-{kept.high:.1%}"
