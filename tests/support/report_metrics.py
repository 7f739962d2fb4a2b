"""Folders of metrics with hostile category names.

Test modules load the fixtures with `pytest_plugins = ["support.report_metrics"]`.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rubro.base.category_tree import CategoryTree
from rubro.base.files import write_json
from rubro.base.params import EvaluateParams
from rubro.evaluation.significance import compare_classifiers
from rubro.evaluation.tables import (
    HeldOut,
    detail_tables,
    model_metrics,
    unmeasured_categories,
)
from rubro.evaluation.thresholds import labelled_predictions
from rubro.report.content import CURVE_METRICS

MODELS = ("ensemble", "mlp", "cnn", "svm")
HOSTILE = "<script>alert(1)</script>"
HOSTILE_NAMES = [HOSTILE, "A & B", "$x_1$", 'a"onmouseover="b', "ÑANDÚ", "NA", "漢字", "\u202eABC"]
# Some names occur at several levels, and a category lies above others.
HOSTILE_PATHS = [
    *(f"Drinks > {HOSTILE} > {name}" for name in HOSTILE_NAMES[1:]),
    *("Drinks", "Drinks > Water", "Water > A & B", "漢字 > 漢字 > a > b > c"),
]
PARAMS = EvaluateParams(
    calibration_bins=5,
    confidence=0.9,
    rare_category_rows=50,
    confused_pairs=10,
    mistakes=20,
)


def write_metrics(
    folder: Path,
    labels: list[str],
    titles: int = 200,
    objective: str = "accuracy",
    separator: str | None = None,
) -> None:
    """Write the folder metrics of a pipeline whose models make some mistakes."""
    random = np.random.default_rng(1)
    tree = separator and CategoryTree(
        separator=separator,
        order="root_first",
        paths={label: label.split(separator) for label in labels},
    )
    targets = np.arange(titles) % len(labels)
    texts = [f"{HOSTILE} {label} {n}" for n, label in enumerate(np.array(labels)[targets])]
    unreliable = random.random(titles) < 0.5
    held_out = HeldOut(
        texts, targets, labels, {"script"}, ~unreliable, np.full(len(labels), 40), tree or None
    )
    metrics: dict[str, Any] = {}
    for split in ("test", "validation"):
        measured, predictions = {}, {}
        for name in MODELS:
            logits = 3 * np.eye(len(labels))[targets] + random.normal(size=(titles, len(labels)))
            raw = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
            p = raw**2 / (raw**2).sum(axis=1, keepdims=True)
            predictions[name] = p.argmax(axis=1)
            measured[name] = model_metrics(p, raw, targets, PARAMS, tree or None)
            own = folder / "evaluation" / split / name
            own.mkdir(parents=True)
            labelled = labelled_predictions(p, targets, targets < 0, targets >= 0)
            tables = detail_tables(p, raw, held_out, labelled, [labelled], PARAMS)
            for title, table in tables.items():
                table.to_csv(own / f"{title}.csv", index=False)
        unmeasured_categories(held_out).to_csv(
            folder / "evaluation" / split / "unmeasured.csv", index=False
        )
        difference = compare_classifiers(
            targets, predictions["mlp"], predictions["cnn"], PARAMS.confidence
        )
        metrics[split] = {**measured, "differences": {"mlp_minus_cnn": difference}}
    write_json(folder / "evaluate.json", metrics)
    _write_summaries(folder, len(labels), titles, objective, separator)
    _write_curves(folder / "curves")


def _write_summaries(
    folder: Path, classes: int, titles: int, objective: str, separator: str | None
) -> None:
    splits = ("train", "validation", "test")
    subset = {
        "rows": dict.fromkeys((*splits, "total"), titles),
        "classes": classes,
        "dropped": {"not_json": 3, "title_empty": 0},
        "doubtful_labels": {"null_categories": 1},
        "reliable_share": dict.fromkeys(splits, 0.5),
        "balance": {"largest_class": 9, "median_class": 5.5, "smallest_class": 2, "entropy": 0.9},
    }
    write_json(folder / "subset.json", subset)
    for stage in ("featurize", "train_svm", "train_mlp", "train_cnn", "ensemble"):
        values: dict[str, Any] = {"some": {"number": 1.5}, "names": ["a", HOSTILE]}
        if stage in ("train_mlp", "train_cnn"):
            values["best"] = {"epoch": 1}
        write_json(folder / f"{stage}.json", values)
    description = {
        "versions": {"rubro": "0", "torch": "1"},
        "params": {"seed": 1, "data": {"path": HOSTILE}, "evaluate": PARAMS.model_dump()},
        "objective": objective,
        "weights": {"mlp": 0.5},
        "left_out": ["svm"],
        "final_fit": True,
    }
    if separator:
        description["separator"] = separator
    write_json(folder / "evaluation" / "description.json", description)


def _write_curves(folder: Path) -> None:
    for model in ("mlp", "cnn"):
        for split in ("train", "validation"):
            own = folder / model / "plots" / "metrics" / split
            own.mkdir(parents=True)
            for metric in CURVE_METRICS:
                (own / f"{metric}.tsv").write_text(f"step\t{metric}\n0\t0.5\n1\t0.75\n2\t0.8\n")


@pytest.fixture(scope="session")
def original_metrics(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of metrics shared by all tests, which must not change it."""
    folder = tmp_path_factory.mktemp("run") / "metrics"
    write_metrics(folder, HOSTILE_NAMES)
    return folder


@pytest.fixture(scope="session")
def original_tree_metrics(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of metrics of category paths and text columns, which no test may change."""
    folder = tmp_path_factory.mktemp("run-of-tree") / "metrics"
    write_metrics(folder, HOSTILE_PATHS, separator=" > ")
    rows = [",0.75,0.625,0.5625", f"{HOSTILE},0.5,0.5,0.5"]
    table = "\n".join(["without,accuracy,balanced_accuracy,macro_f1", *rows])
    (folder / "evaluation" / "test" / "columns.csv").write_text(table)
    return folder


@pytest.fixture
def metrics(original_metrics: Path, tmp_path: Path) -> Path:
    """Copy of the folder of metrics for one test."""
    shutil.copytree(original_metrics, tmp_path / "metrics")
    return tmp_path / "metrics"
