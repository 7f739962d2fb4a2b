"""Train rubro and LinearSVC on a catalogue, and measure both for each objective.

The settings of LinearSVC (C and class weights) are chosen on validation for each objective. rubro is
trained once for each seed; its models have a decision for each objective. Results are added to a JSON file under the name of the catalogue.

    python benchmarks/catalogue.py sample --set data.path=data/sample \\
      --out benchmarks/results/catalogues.json
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, get_args

import numpy as np
import typer
from ruamel.yaml import YAML
from sklearn.svm import LinearSVC

from peers import words_and_characters
from rubro.base.console import reported_errors, say
from rubro.base.errors import TrainingError
from rubro.base.files import write_json
from rubro.base.metric_names import Objective
from rubro.base.params_file import with_settings
from rubro.base.text import tokenise
from rubro.data.splits import SPLITS, load_labels, load_split
from rubro.evaluation.metrics import MEASURES, objective_metrics
from rubro.prediction.classifier import Classifier

STAGES = ("subset", "featurize", "embed", "train_svm", "train_mlp", "train_cnn", "ensemble")
MODELS = ("ensemble", "mlp", "cnn", "svm")
SETTINGS = [
    {"C": c, "class_weight": weight} for c, weight in product((0.3, 1.0, 3.0), (None, "balanced"))
]
Scores = dict[str, dict[str, float]]
Splits = dict[str, tuple[list[str], np.ndarray]]


def train(folder: Path, settings: list[str]) -> None:
    """Run the training stages in a folder.

    Raises:
        TrainingError: A stage failed.
    """
    for name in ("src", "stages", "data/corrections.csv", "params.yaml"):
        copy = shutil.copytree if Path(name).is_dir() else shutil.copy
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        copy(name, folder / name)
    params = json.loads(with_settings("params.yaml", settings).model_dump_json())
    YAML().dump(params, folder / "params.yaml")
    for stage in STAGES:
        command = [sys.executable, f"stages/{stage}.py"]
        if subprocess.run(command, cwd=folder, check=False).returncode:
            raise TrainingError(f"stage {stage} failed, see above")


def titles_of(folder: Path) -> Splits:
    """Return the titles and class indices of each split."""
    classes = {label: index for index, label in enumerate(load_labels(folder))}
    tables = {name: load_split(folder, name) for name in SPLITS}
    return {
        name: (table["title"].to_list(), table["category"].map(classes).to_numpy(np.int64))
        for name, table in tables.items()
    }


def measured(folder: Path, splits: Splits) -> dict[str, Scores]:
    """Return the test metrics of each model for each objective."""
    titles, targets = splits["test"]
    found: dict[str, Scores] = {}
    for model, objective in product(MODELS, get_args(Objective)):
        classifier = Classifier.load(folder / "models" / model, objective)
        predictions = classifier.logits(titles).argmax(axis=1)
        found.setdefault(model, {})[objective] = objective_metrics(targets, predictions)
    return found


def peers_of(splits: Splits) -> dict[str, Scores]:
    """Return the test metrics of LinearSVC with the best settings for each objective.

    The peer "LinearSVC, final fit" is trained once more, on training and validation titles.
    """
    texts = {
        name: [" ".join(tokenise(each)) for each in split[0]] for name, split in splits.items()
    }
    vectoriser = words_and_characters()
    inputs = {"train": vectoriser.fit_transform(texts["train"])}
    inputs |= {name: vectoriser.transform(texts[name]) for name in ("validation", "test")}
    tried = []
    for setting in SETTINGS:
        model = LinearSVC(**setting, random_state=0).fit(inputs["train"], splits["train"][1])
        validation, test = (
            objective_metrics(splits[name][1], model.predict(inputs[name]))
            for name in ("validation", "test")
        )
        say(f"LinearSVC {setting}: {validation}")
        tried.append((validation, test, setting))
    found: dict[str, Scores] = {"LinearSVC": {}, "LinearSVC, final fit": {}}
    vectoriser = words_and_characters()
    together = vectoriser.fit_transform(texts["train"] + texts["validation"])
    targets = np.concatenate([splits["train"][1], splits["validation"][1]])
    for objective in get_args(Objective):
        _, test, setting = max(tried, key=lambda each: each[0][objective])
        model = LinearSVC(**setting, random_state=0).fit(together, targets)
        predictions = model.predict(vectoriser.transform(texts["test"]))
        found["LinearSVC"][objective] = test
        found["LinearSVC, final fit"][objective] = objective_metrics(splits["test"][1], predictions)
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
                splits = titles_of(folder / "data/subset")
                runs.append(measured(folder, splits))
            runs[-1] |= peers_of(splits)
        result = {
            "rows": {split: len(titles) for split, (titles, _) in splits.items()},
            "categories": len(set(splits["train"][1])),
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
            for metric in MEASURES
        }
        for objective in runs[0]
    }


if __name__ == "__main__":
    app()
