"""Find labels that are probably wrong.

Every labelled row of data/subset is checked by a linear model that was not trained on it. The folder
audit gets four files: suspects.csv lists the rows whose label is less probable than another category,
least probable label first; categories.csv estimates the number of wrong labels of each category; near_duplicates.csv
lists titles that are nearly the same but have different labels; and summary.json contains totals, which
rubro report shows.

To correct labels, write yes (use the suggested category), no (the label is right) or another category
into column accept of suspects.csv, and copy the file to data/corrections. Decisions stay in suspects.csv
when the audit runs again. Labels that data/corrections confirms or corrects are not listed, and they
count as right in the estimates.

\b
dvc repro subset
rubro audit
cp audit/suspects.csv data/corrections/
dvc repro

Requires the training packages: pip install 'rubro[train]'.

Exit codes: 0 if the files are written, 2 if the data or an option is wrong, 130 if interrupted.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rubro.base.console import say

if TYPE_CHECKING:
    import pandas as pd

_SUBSET = Path("data/subset")
_CORRECTIONS = Path("metrics/corrections.csv")
_NEAR_DUPLICATE = 0.8
_FOLDS = 4  # models in each of the two rounds; more are slower and only slightly more precise
_SHOWN_SUSPECTS, _SHOWN_CATEGORIES = 10, 5


def main(
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="FOLDER", help="Folder for the files of the audit."),
    ] = Path("audit"),
    limit: Annotated[
        int,
        typer.Option(min=0, metavar="N", help="List at most this many suspects; 0 = all."),
    ] = 0,
    min_confidence: Annotated[
        float,
        typer.Option(
            min=0.0,
            max=1.0,
            metavar="P",
            help="List only suspects whose suggested category has at least this probability; larger = "
            "fewer suspects, fewer false alarms.",
        ),
    ] = 0.0,
) -> None:
    from rubro.base.files import write_json
    from rubro.base.outputs import output_path
    from rubro.base.params_file import load_params
    from rubro.data.splits import write_csv
    from rubro.labelling.audit import (
        CATEGORIES,
        NEAR_DUPLICATES,
        SUMMARY,
        SUSPECTS,
        audit_summary,
        categories_table,
        load_audited_titles,
        near_duplicates_table,
        reviewed_labels,
        suspects_table,
        with_decisions,
    )
    from rubro.labelling.label_errors import find_label_errors, label_inputs
    from rubro.labelling.near_duplicates import near_duplicate_groups

    params = load_params()
    for name in (SUSPECTS, CATEGORIES, NEAR_DUPLICATES, SUMMARY):
        output_path(out / name, makes_folder=True)
    audited = load_audited_titles(_SUBSET, params.featurize)
    confirmed, decided = reviewed_labels(audited, _CORRECTIONS)
    classes = len(audited.classes)
    say(f"checking the labels of {len(audited.table):,} titles of {classes:,} categories")
    groups = near_duplicate_groups(audited.joined_texts(), _NEAR_DUPLICATE)
    features, buckets = audited.titles.features, params.featurize.bigram_buckets
    inputs = label_inputs(features, audited.tokens, audited.subwords, buckets, classes)
    errors = find_label_errors(
        audited.titles, inputs, classes, groups, _FOLDS, params.train_svm, params.seed
    )
    errors = replace(errors, errors=errors.errors & ~confirmed)
    suspects = suspects_table(audited, errors, decided, limit, min_confidence)
    listed, decisions = with_decisions(suspects, out / SUSPECTS)
    categories = categories_table(audited, errors)
    duplicates = near_duplicates_table(audited, groups)
    summary = audit_summary(audited, errors, duplicates, _SUBSET, params.seed)
    write_csv(out / SUSPECTS, listed)
    write_csv(out / CATEGORIES, categories)
    write_csv(out / NEAR_DUPLICATES, duplicates)
    write_json(out / SUMMARY, summary)
    _show(suspects, categories)
    if left_out := int((decided & (errors.leads > 0)).sum()):
        say(
            f"{left_out:,} labels that look wrong are left out, because {params.data.corrections} "
            "already decides them"
        )
    _say_next(out / SUSPECTS, len(suspects), decisions, summary)


def _show(suspects: pd.DataFrame, categories: pd.DataFrame) -> None:
    from rubro.cli.terminal import show_table

    if len(suspects):
        title = suspects.columns[2]
        columns = [title, "label", "suggested_category", "confidence", "words"]
        rows = suspects[columns].head(_SHOWN_SUSPECTS).itertuples(index=False, name=None)
        show_table("labels that look most wrong", rows, columns)
    worst = categories[categories["wrong"] > 0].head(_SHOWN_CATEGORIES)
    if len(worst):
        lines = [
            (row.category, row.rows, f"{row.wrong:g}", f"{row.wrong_low:g}-{row.wrong_high:g}",
             row.suggestion)
            for row in worst.itertuples()
        ]  # fmt: skip
        columns = ["category", "rows", "wrong", "95 % interval", "most frequent suggestion"]
        show_table("categories with the most wrong labels (estimates)", lines, columns)


def _say_next(path: Path, count: int, decisions: int, summary: dict[str, Any]) -> None:
    from rubro.labelling.label_errors import MIN_LABELS

    share, estimated = summary["wrong_share"], summary["estimated"]
    if estimated:
        say(
            f"about {share['estimate']:.1%} of {estimated:,} labels are wrong (95 % interval "
            f"{share['low']:.1%} to {share['high']:.1%}), or fewer if the models of the audit are weak: "
            f"they predict {summary['agreement']:.1%} of the labels"
        )
    if few := summary["rows"] - estimated:
        say(
            f"{few:,} labels are in categories with fewer than {MIN_LABELS} labels that can be "
            "checked, which are too few to estimate how many labels are wrong"
        )
    if unchecked := summary["rows"] - summary["checked"]:
        say(
            f"{unchecked:,} of {summary['rows']:,} labels cannot be checked, because all titles of their "
            "category are nearly the same or are too few"
        )
    if near := summary["near_duplicates"]["groups"]:
        say(f"{near:,} groups of near-duplicates have different labels: near_duplicates.csv")
    if decisions:
        say(f"{path}: {decisions:,} decisions of the earlier audit are kept")
    if not count:
        say(f"{path}: no suspects")
        return
    say(
        f"{path}: {count:,} suspects, least probable label first. Write yes, no or another category into column "
        "accept, copy the file to data/corrections, and run `dvc repro`"
    )
