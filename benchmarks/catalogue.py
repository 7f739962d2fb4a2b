"""Train rubro and LinearSVC on a catalogue, and measure both for each objective.

The settings of LinearSVC (C and class weights) are chosen on validation for each objective. rubro is
trained once for each seed; its models have a decision for each objective. Results are added to a JSON file
under the name of the catalogue.

    python benchmarks/catalogue.py sample --set data.path=data/sample \\
      --out benchmarks/results/catalogues.json
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, get_args

import numpy as np
import typer
from ruamel.yaml import YAML
from scipy import sparse
from sklearn.metrics import f1_score
from sklearn.svm import LinearSVC

from peers import words_and_characters
from rubro.base.category_tree import CategoryTree, Level
from rubro.base.console import reported_errors, say
from rubro.base.errors import TrainingError
from rubro.base.files import write_json
from rubro.base.metric_names import Objective
from rubro.base.params_file import with_settings
from rubro.base.text_columns import Product
from rubro.data.splits import (
    SPLITS,
    load_labels,
    load_products,
    load_source,
    load_split,
    load_tree,
)
from rubro.evaluation.metrics import objective_metrics
from rubro.prediction.classifier import Classifier

STAGES = (
    "subset",
    "featurize",
    "embed",
    "pseudo_label",
    "train_svm",
    "train_mlp",
    "train_cnn",
    "ensemble",
)
MODELS = ("ensemble", "mlp", "cnn", "svm")
SETTINGS = [
    {"C": c, "class_weight": weight} for c, weight in product((0.3, 1.0, 3.0), (None, "balanced"))
]
Scores = dict[str, dict[str, float]]
Levels = list[tuple[np.ndarray, np.ndarray]]


def train(folder: Path, settings: list[str]) -> None:
    """Run the training stages in a folder.

    Raises:
        TrainingError: A stage failed.
    """
    inputs = ("data/corrections", "data/unlabelled", "data/pretrained")
    for name in ("src", "stages", *inputs, "params.yaml"):
        copy = shutil.copytree if Path(name).is_dir() else shutil.copy
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        copy(name, folder / name)
    (folder / "data" / "pretrained").mkdir(exist_ok=True)
    params = json.loads(with_settings("params.yaml", settings).model_dump_json())
    YAML().dump(params, folder / "params.yaml")
    for stage in STAGES:
        command = [sys.executable, f"stages/{stage}.py"]
        if subprocess.run(command, cwd=folder, check=False).returncode:
            raise TrainingError(f"stage {stage} failed, see above")


@dataclass(frozen=True)
class Split:
    """Labelled products of a split.

    Attributes:
        titles: Titles of the products.
        products: Products as rubro reads them: titles, or titles and other texts.
        texts: Tokens of each text column, joined by spaces, by the name of the column.
        targets: Class indices, int64 (products,).
    """

    titles: list[Product]
    products: list[Product]
    texts: dict[str, list[str]]
    targets: np.ndarray


def splits_of(folder: Path) -> dict[str, Split]:
    """Read the splits that the stage subset wrote."""
    classes = {label: index for index, label in enumerate(load_labels(folder))}
    names = load_source(folder).token_columns
    found = {}
    for split in SPLITS:
        table = load_split(folder, split, ("title", *names, "category"))
        texts = {name: table[name].to_list() for name in names}
        targets = table["category"].map(classes).to_numpy(np.int64)
        products = load_products(folder, split)
        found[split] = Split(table["title"].to_list(), products, texts, targets)
    return found


def metrics_of(targets: np.ndarray, classes: np.ndarray, levels: Levels) -> dict[str, float]:
    """Return the metrics of predicted classes and, for each level, of the predicted nodes.

    Args:
        targets: Class indices, (n,).
        classes: Indices of the predicted classes, (n,).
        levels: Node of each class, and the predicted nodes, (n,), of each level; empty if the
            categories are not paths.
    """
    found = objective_metrics(targets, classes)
    weighted = []
    for number, (node_of, nodes) in enumerate(levels, start=1):
        found[f"level_{number}_accuracy"] = float(np.mean(node_of[targets] == nodes))
        weighted.append(f1_score(node_of[targets], nodes, average="weighted"))
    if weighted:
        found["mean_weighted_f1"] = float(np.mean(weighted))
    return found


def measured(folder: Path, test: Split, tree: CategoryTree | None) -> dict[str, Scores]:
    """Return the test metrics of each model for each objective.

    If there are other text columns, they are also measured on titles without these columns.
    """
    inputs = {"": test.products}
    if len(test.texts) > 1:
        inputs[", titles only"] = test.titles
    found: dict[str, Scores] = {}
    for model, objective in product(MODELS, get_args(Objective)):
        classifier = Classifier.load(folder / "models" / model, objective)
        for suffix, products in inputs.items():
            p = classifier.predict_proba(products)
            levels = [(each.node_of, each.summed(p).argmax(axis=1)) for each in levels_of(tree)]
            scores = found.setdefault(f"{model}{suffix}", {})
            scores[objective] = metrics_of(test.targets, p.argmax(axis=1), levels)
    return found


def levels_of(tree: CategoryTree | None) -> list[Level]:
    """Return the levels of a tree, the roots first."""
    return tree.levels if tree else []


class Columns:
    """TF-IDF values of words and characters, for each column on its own."""

    def __init__(self, texts: dict[str, list[str]]) -> None:
        self._vectorisers = {
            name: words_and_characters().fit(column)
            for name, column in texts.items()
            if any(column)
        }

    def __call__(self, texts: dict[str, list[str]]) -> sparse.csr_matrix:
        """Return the values, float (products, features)."""
        parts = [each.transform(texts[name]) for name, each in self._vectorisers.items()]
        return sparse.hstack(parts, format="csr")


def peers_of(splits: dict[str, Split], tree: CategoryTree | None) -> dict[str, Scores]:
    """Return the test metrics of LinearSVC with the best settings for each objective.

    The peer "LinearSVC, final fit" is trained once more, on training and validation titles. The
    ancestors of the predicted category are the predictions for the other levels of a tree.
    """
    train, validation, test = (splits[name] for name in SPLITS)

    def scores(split: Split, classes: np.ndarray) -> dict[str, float]:
        levels = [(each.node_of, each.node_of[classes]) for each in levels_of(tree)]
        return metrics_of(split.targets, classes, levels)

    values = Columns(train.texts)
    inputs = {name: values(split.texts) for name, split in splits.items()}
    tried = []
    for setting in SETTINGS:
        model = LinearSVC(**setting, random_state=0).fit(inputs["train"], train.targets)
        on_validation = objective_metrics(validation.targets, model.predict(inputs["validation"]))
        say(f"LinearSVC {setting}: {on_validation}")
        tried.append((on_validation, scores(test, model.predict(inputs["test"])), setting))
    together = {name: column + validation.texts[name] for name, column in train.texts.items()}
    values = Columns(together)
    fitted, tested = values(together), values(test.texts)
    targets = np.concatenate([train.targets, validation.targets])
    found: dict[str, Scores] = {"LinearSVC": {}, "LinearSVC, final fit": {}}
    for objective in get_args(Objective):
        _, on_test, setting = max(tried, key=lambda each: each[0][objective])
        model = LinearSVC(**setting, random_state=0).fit(fitted, targets)
        found["LinearSVC"][objective] = on_test
        found["LinearSVC, final fit"][objective] = scores(test, model.predict(tested))
    return found


app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)


@app.command(help=__doc__)
def main(
    name: Annotated[str, typer.Argument(help="Name of the catalogue in the results.")],
    out: Annotated[Path, typer.Option(help="JSON file to update.")],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Setting that overrides params.yaml."),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds.")] = 3,
) -> None:
    with reported_errors():
        common = list(settings or [])
        path = Path(with_settings("params.yaml", common).data.path).resolve()
        common.append(f"data.path={path}")
        runs: list[dict[str, Scores]] = []
        for seed in range(seeds):
            with TemporaryDirectory() as temporary:
                folder = Path(temporary)
                train(folder, [*common, f"seed={seed}"])
                subset = folder / "data/subset"
                splits, tree = splits_of(subset), load_tree(subset)
                runs.append(measured(folder, splits["test"], tree))
            runs[-1] |= peers_of(splits, tree)
        result = {
            "rows": {name: len(split.targets) for name, split in splits.items()},
            "categories": len(set(splits["train"].targets)),
            "seeds": seeds,
            **{model: mean([run[model] for run in runs]) for model in runs[0]},
        }
        results = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {}
        write_json(out, {**results, name: result})


def mean(runs: list[Scores]) -> Scores:
    """Return the mean of the metrics over seeds, by objective and metric."""
    return {
        objective: {
            metric: round(statistics.mean(run[objective][metric] for run in runs), 4)
            for metric in runs[0][objective]
        }
        for objective in runs[0]
    }


if __name__ == "__main__":
    app()
