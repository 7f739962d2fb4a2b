"""Measure how much unlabelled titles improve models that learn from few labelled titles.

For each number of labelled training titles and each seed, rubro is trained on a random sample of so many
labelled titles, and on the same sample plus the titles of all other training rows without their
categories. It is also trained on all labelled titles. All validation titles keep their labels. Only
titles are read, not further text columns. Runs that are in the JSON file are skipped.

    python benchmarks/self_training.py meli --set data.path=data/sample \\
      --out benchmarks/results/self_training.json
"""

from __future__ import annotations

import json
import resource
import statistics
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer
from catalogue import measured, splits_of, train

from rubro.base.console import reported_errors, say
from rubro.base.files import write_json
from rubro.base.params_file import with_settings
from rubro.data.raw_titles import read_titles
from rubro.data.splits import load_tree
from rubro.data.subset import make_subset

MODELS = ("ensemble", "svm")
OBJECTIVES = ("accuracy", "balanced_accuracy")

app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)


def catalogue_of(settings: list[str]) -> pd.DataFrame:
    """Return the rows of all splits: title, category, label_quality and split."""
    params = with_settings("params.yaml", settings)
    raw = read_titles(params.data, params.subset.language)
    splits = make_subset(raw, params.subset, params.seed, params.data).splits
    tables = [table.assign(split=name) for name, table in splits.items()]
    columns = ["title", "category", "label_quality", "split"]
    return pd.concat(tables, ignore_index=True)[columns].astype("str")


def few_labels(catalogue: pd.DataFrame, labels: int, seed: int, with_others: bool) -> pd.DataFrame:
    """Return a catalogue in which only a random sample of the training rows has categories.

    Args:
        catalogue: Rows from catalogue_of.
        labels: Number of training rows that keep their category; 0 = all.
        seed: Seed of the sample.
        with_others: Whether the other training rows are kept, without their category.
    """
    training = np.flatnonzero(catalogue["split"] == "train")
    others = np.random.default_rng(seed).permutation(training)[labels or len(training) :]
    if not with_others:
        return catalogue[~catalogue.index.isin(others)]
    changed = catalogue.copy()
    changed.loc[others, "category"] = ""
    return changed


def trained(table: pd.DataFrame, settings: list[str]) -> dict[str, Any]:
    """Train on a catalogue; return the test metrics of the models and the CPU time in seconds."""
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        table.to_csv(folder / "catalogue.csv", index=False)
        columns = {name: name for name in ("title", "category", "label_quality", "split")}
        own = [f"data.{key}_column={name}" for key, name in columns.items()]
        own += [
            "data.path=catalogue.csv",
            "data.text_columns=[]",
            "data.number_columns=[]",
            "data.category_separator=null",
            "subset.language=null",
            "subset.top_categories=0",
        ]
        before = _child_seconds()
        train(folder, [*settings, *own])
        seconds = round(_child_seconds() - before)
        subset = folder / "data/subset"
        scores = measured(folder, splits_of(subset)["test"], load_tree(subset))
        taught = json.loads((folder / "metrics/pseudo_label.json").read_text(encoding="utf-8"))
    found = {
        model: {
            objective: round(scores[model][objective][objective], 4) for objective in OBJECTIVES
        }
        for model in MODELS
    }
    return {**found, "cpu_seconds": seconds, "teacher": taught}


def _child_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def means(runs: dict[str, Any]) -> dict[str, Any]:
    """Return the mean metrics and CPU seconds of runs that differ only in the seed.

    Args:
        runs: Runs by their key, "NAME, seed NUMBER".
    """
    groups: dict[str, list[Any]] = {}
    for key, run in runs.items():
        groups.setdefault(key.rpartition(", seed")[0], []).append(run)
    return {
        name: {
            "seeds": len(group),
            **{
                model: {
                    objective: round(statistics.mean(run[model][objective] for run in group), 4)
                    for objective in OBJECTIVES
                }
                for model in MODELS
            },
            "cpu_seconds": round(statistics.mean(run["cpu_seconds"] for run in group)),
        }
        for name, group in groups.items()
    }


@app.command(help=__doc__)
def main(
    name: Annotated[str, typer.Argument(help="Name of the catalogue in the results.")],
    out: Annotated[Path, typer.Option(help="JSON file to update.")],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Setting that overrides params.yaml."),
    ] = None,
    labels: Annotated[
        list[int] | None, typer.Option(min=1, help="Number of labelled titles; repeatable.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds.")] = 3,
    all_labelled: Annotated[bool, typer.Option(help="Also train on all labelled titles.")] = True,
) -> None:
    with reported_errors():
        common = list(settings or [])
        catalogue = catalogue_of(common)
        plan = [(count, kept) for count in labels or [2_000, 6_000] for kept in (True, False)] + [
            (0, True)
        ] * all_labelled
        for seed in range(seeds):
            for count, kept in plan:
                kind = "with unlabelled" if kept else "labelled only"
                key = f"{count} labelled, {kind}" if count else "all labelled"
                key = f"{key}, seed {seed}"
                results = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {}
                runs = results.get(name, {}).get("runs", {})
                if key in runs:
                    continue
                say(f"{name}: {key}")
                table = few_labels(catalogue, count, seed, kept)
                runs[key] = trained(table, [*common, f"seed={seed}"])
                write_json(out, {**results, name: {"means": means(runs), "runs": runs}})


if __name__ == "__main__":
    app()
