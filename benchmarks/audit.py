"""Measure how well `rubro audit` finds wrong labels, next to cleanlab's scores.

A fifth of the labels is replaced by another category: uniform draws it at random, similar draws it from
the confusions of a naive Bayes model. Both are measured for several seeds. Retrain flips only training
labels, accepts the suggestions with at least the best of three confidences on validation, and trains
again, with the seed of params.yaml. Results of other measurements in the file are kept. The scores of
cleanlab are measured if it is installed: `pip install cleanlab`.

    python benchmarks/audit.py uniform similar retrain --set data.path=titles/ \\
      --set subset.top_categories=0 --out benchmarks/results/audit.json
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer
from ruamel.yaml import YAML
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.model_selection import cross_val_predict
from sklearn.naive_bayes import MultinomialNB

from rubro.base.console import reported_errors, say
from rubro.base.files import read_json, write_json
from rubro.base.params import Params
from rubro.base.params_file import with_settings
from rubro.data.columns import text_columns
from rubro.data.raw_titles import read_titles
from rubro.data.splits import SourceInfo, load_products, load_split, save_splits
from rubro.data.subset import make_subset
from rubro.evaluation.metrics import objective_metrics
from rubro.features.titles import LabelledTitles, Labels
from rubro.labelling.audit import AuditedTitles, load_audited_titles, wrong_labels
from rubro.labelling.label_errors import LabelErrors, find_label_errors, label_inputs
from rubro.labelling.near_duplicates import near_duplicate_groups
from rubro.prediction.classifier import Classifier

ROOT = Path(__file__).resolve().parents[1]
SHARE = 0.2
RECALLS = (0.6, 0.85)
PRECISIONS = (0.95, 0.85)
CONFIDENCES = (0.5, 0.3, 0.7)
FOLDS = 4
STAGES = ("subset", "featurize", "pseudo_label", "train_svm")
NETWORK_STAGES = ("embed", "train_mlp", "train_cnn", "ensemble")


def flipped(audited: AuditedTitles, kind: str, where: np.ndarray, seed: int) -> np.ndarray:
    """Replace a share of the labels by another category.

    Args:
        audited: Titles with right labels.
        kind: "uniform" draws the other category at random, "similar" by the number of times that a
            naive Bayes model of words, trained on other titles, confuses both categories.
        where: Whether each label may be replaced, bool (titles,).
        seed: Seed of the choice.

    Returns:
        Class indices, (titles,).
    """
    targets, classes = audited.titles.labels.targets, len(audited.classes)
    random = np.random.default_rng(seed)
    wrong = targets.copy()
    rows = random.permutation(np.flatnonzero(where))[: round(SHARE * where.sum())]
    if kind == "uniform":
        wrong[rows] = (targets[rows] + random.integers(1, classes, len(rows))) % classes
        return wrong
    words = CountVectorizer().fit_transform(audited.table["title"])
    predicted = cross_val_predict(MultinomialNB(alpha=0.1), words, targets, cv=5)
    confusions = np.zeros((classes, classes))
    np.add.at(confusions, (targets, predicted), 1)
    np.fill_diagonal(confusions, 0)
    for row in rows:
        counts = confusions[targets[row]]
        if counts.any():
            wrong[row] = random.choice(classes, p=counts / counts.sum())
    return wrong


def audit(audited: AuditedTitles, targets: np.ndarray, params: Params) -> tuple[LabelErrors, float]:
    """Audit labels as `rubro audit` does; return the result and the seconds of CPU time."""
    started = process_time()
    classes, features = len(audited.classes), audited.titles.features
    groups = near_duplicate_groups(audited.joined_texts(), 0.8)
    buckets = params.featurize.bigram_buckets
    inputs = label_inputs(features, audited.tokens, audited.subwords, buckets, classes)
    titles = LabelledTitles(features, Labels(targets, audited.titles.labels.reliable))
    errors = find_label_errors(
        titles, inputs, classes, groups, FOLDS, params.train_svm, params.seed
    )
    return errors, process_time() - started


def ranking(
    scores: np.ndarray, suggestions: np.ndarray, labels: np.ndarray, right: np.ndarray
) -> dict[str, float]:
    """Measure a ranking of suspicious labels.

    Args:
        scores: Score of each label, most suspicious first if sorted in descending order, (titles,).
        suggestions: Suggested class of each title, (titles,).
        labels: Labels, some of them wrong, (titles,).
        right: Right labels, (titles,).

    Returns:
        Precision at each recall, share of the wrong labels found there whose suggestion is right,
        and recall at each precision.
    """
    order = np.argsort(-scores, kind="stable")
    is_wrong = (labels != right)[order]
    found = np.cumsum(is_wrong)
    precision = found / np.arange(1, len(found) + 1)
    measured = {}
    for recall in RECALLS:
        end = int(np.searchsorted(found, recall * found[-1])) + 1
        rows = order[:end][is_wrong[:end]]
        measured[f"precision_at_recall_{recall}"] = float(precision[end - 1])
        measured[f"suggestion_right_at_recall_{recall}"] = float(
            (suggestions[rows] == right[rows]).mean()
        )
    for goal in PRECISIONS:
        last = np.flatnonzero(precision >= goal)
        measured[f"recall_at_precision_{goal}"] = float(
            found[last[-1]] / found[-1] if len(last) else 0.0
        )
    return {name: round(value, 4) for name, value in measured.items()}


def cleanlab_rankings(
    errors: LabelErrors, labels: np.ndarray, right: np.ndarray, classes: int
) -> dict[str, dict[str, float]]:
    """Measure the rankings of cleanlab by the same out-of-fold probabilities."""
    if find_spec("cleanlab") is None:
        say("cleanlab is not installed, so its rankings are left out; `pip install cleanlab`")
        return {}
    from cleanlab.rank import get_label_quality_scores

    rows = np.arange(len(labels))
    probabilities = np.zeros((len(labels), classes), np.float32)
    probabilities[rows, errors.suggestions] = errors.confidences
    probabilities[rows, labels] = errors.label_confidences
    return {
        method: ranking(
            -get_label_quality_scores(
                labels, probabilities, method=method, adjust_pred_probs=False
            ),
            errors.suggestions,
            labels,
            right,
        )
        for method in ("self_confidence", "normalized_margin")
    }


def measure(audited: AuditedTitles, kind: str, params: Params) -> dict[str, Any]:
    """Flip labels of all rows, audit them and measure the ranking."""
    right = audited.titles.labels.targets
    labels = flipped(audited, kind, np.ones(len(right), bool), params.seed)
    started = perf_counter()
    errors, seconds = audit(audited, labels, params)
    rows = len(labels)
    share = [
        round(n / rows, 4)
        for n in wrong_labels(int(errors.errors.sum()), int(errors.counted.sum()), rows)
    ]
    return {
        "rows": rows,
        "categories": len(audited.classes),
        "flipped_share": round(float((labels != right).mean()), 4),
        "estimated_share": share,
        "cpu_seconds": round(seconds, 1),
        "wall_seconds": round(perf_counter() - started, 1),
        "rubro": ranking(errors.doubts, errors.suggestions, labels, right),
        "cleanlab": cleanlab_rankings(errors, labels, right, len(audited.classes)),
    }


def retrain(audited: AuditedTitles, params: Params, networks: bool) -> Iterator[dict[str, Any]]:
    """Flip training labels, accept suggestions, and yield the results after each training.

    The confidence is chosen by the SVM. If networks is true, MLP, CNN and ensemble are then trained on
    the flipped labels and on the labels that are corrected with this confidence.
    """
    table, right = audited.table, audited.titles.labels.targets
    is_train = (table["split"] == "train").to_numpy()
    labels = flipped(audited, "uniform", is_train, params.seed)
    errors, _ = audit(audited, labels, params)
    names = np.array(audited.classes, dtype=object)
    source = _text_columns_of(audited)
    raw = table.rename(columns={old: new for new, old in source.items()})
    raw = raw[["split", *source]].assign(category=names[labels])
    accepted = {
        f"{confidence}": is_train & (errors.leads > 0) & (errors.confidences >= confidence)
        for confidence in CONFIDENCES
    }
    accepted["flipped"] = np.zeros(len(labels), dtype=bool)
    measured: dict[str, Any] = {}
    result: dict[str, Any] = {"flipped_share": SHARE, "runs": measured}
    with TemporaryDirectory() as folder:
        projects = {name: Path(folder) / name for name in accepted}
        for name, is_accepted in accepted.items():
            corrections = raw[is_accepted].drop(columns="split")
            corrections["category"] = names[errors.suggestions[is_accepted]]
            _write_project(projects[name], raw, corrections, params)
            measured[name] = {
                **_trained(projects[name], STAGES, ("svm",)),
                "accepted": int(is_accepted.sum()),
                "right": int((errors.suggestions == right)[is_accepted].sum()),
            }
            say(f"retrain, {name}: {measured[name]}")
            result["chosen_on_validation"] = max(
                (name for name in measured if name != "flipped"),
                key=lambda name: measured[name]["svm"]["validation"][params.objective],
            )
            yield result
        for name in (result["chosen_on_validation"], "flipped") if networks else ():
            measured[name] |= _trained(projects[name], NETWORK_STAGES, ("mlp", "cnn", "ensemble"))
            say(f"retrain, {name}: {measured[name]}")
            yield result


def _text_columns_of(audited: AuditedTitles) -> dict[str, str]:
    texts = {column.name: f"text.{column.name}" for column in audited.source.text_columns}
    return {"title": "title"} | texts


def _write_project(
    folder: Path, raw: pd.DataFrame, corrections: pd.DataFrame, params: Params
) -> None:
    """Write the inputs of the stages: params.yaml, titles and corrections."""
    for each in ("corrections", "unlabelled", "pretrained"):
        (folder / "data" / each).mkdir(parents=True)
    raw.to_csv(folder / "titles.csv", index=False)
    if len(corrections):
        corrections.to_csv(folder / "data/corrections/accepted.csv", index=False)
    values = params.model_dump()
    values["data"] |= {
        "path": "titles.csv",
        "title_column": "title",
        "category_column": "category",
        "language_column": None,
        "label_quality_column": None,
        "split_column": "split",
    }
    values["subset"] |= {"language": None}
    YAML().dump(values, folder / "params.yaml")


def _trained(folder: Path, stages: Sequence[str], models: Sequence[str]) -> dict[str, Any]:
    """Run stages in the folder of a project, and return the metrics of models."""
    for stage in stages:
        subprocess.run(
            [sys.executable, str(ROOT / "stages" / f"{stage}.py")], cwd=folder, check=True
        )
    return {model: _metrics(folder, model) for model in models}


def _metrics(folder: Path, model: str) -> dict[str, dict[str, float]]:
    classifier = Classifier.load(folder / "models" / model)
    class_of = {name: index for index, name in enumerate(classifier.classes_)}
    metrics = {}
    for split in ("validation", "test"):
        products = load_products(folder / "data/subset", split)
        targets = load_split(folder / "data/subset", split)["category"].map(class_of)
        predicted = np.array([class_of[name] for name in classifier.predict(products)])
        metrics[split] = objective_metrics(targets.to_numpy(), predicted)
    return metrics


def _audited(params: Params, folder: Path) -> AuditedTitles:
    raw = read_titles(params.data, params.subset.language)
    subset = make_subset(raw, params.subset, params.seed, params.data)
    columns, _ = text_columns(subset.splits["train"], params.data)
    info = params.data.model_dump(include=set(SourceInfo.model_fields)) | {"text_columns": columns}
    save_splits(folder, subset.splits, subset.labels, SourceInfo(**info), subset.tree)
    return load_audited_titles(folder, params.featurize)


app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)


@app.command(help=__doc__)
def main(
    kinds: Annotated[list[str], typer.Argument(help="uniform, similar, retrain")],
    out: Annotated[Path, typer.Option(help="JSON file to write.")],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Setting that overrides params.yaml."),
    ] = None,
    networks: Annotated[
        bool, typer.Option(help="In retrain, also train MLP, CNN and ensemble (10 minutes).")
    ] = False,
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds of uniform and similar.")] = 3,
) -> None:
    with reported_errors(), TemporaryDirectory() as folder:
        params = with_settings("params.yaml", settings or [])
        audited = _audited(params, Path(folder))
        results = read_json(out, dict[str, Any]) if out.exists() else {}
        results["settings"] = {"data": Path(params.data.path).name}
        for kind in kinds:
            if kind == "retrain":
                for results[kind] in retrain(audited, params, networks):
                    write_json(out, results)
                continue
            results[kind] = {}
            for seed in range(seeds):
                run = measure(audited, kind, params.model_copy(update={"seed": seed}))
                say(f"{kind}, seed {seed}: {run}")
                results[kind][f"seed {seed}"] = run
                write_json(out, results)


if __name__ == "__main__":
    app()
