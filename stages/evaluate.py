"""evaluate: measure and compare the models and the ensemble on validation and test."""

import sys
from itertools import combinations
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # PYTHONSAFEPATH=1 leaves it out
import workspace  # noqa: F401

import numpy as np

from rubro.base.console import say
from rubro.base.files import write_csv, write_json
from rubro.base.params import Params
from rubro.base.stage import run_stage
from rubro.data.splits import load_labels, load_split
from rubro.evaluation.tables import HeldOut, comparison, detail_tables, model_metrics
from rubro.features.titles import labels_of
from rubro.prediction.calibration import softmax
from rubro.prediction.classifier import Classifier

MODELS = ("ensemble", "mlp", "cnn", "svm")


def main(params: Params) -> None:
    subset = Path("data/subset")
    classes = load_labels(subset)
    train_categories = load_split(subset, "train")["category"].value_counts()
    train_counts = np.array([train_categories.get(name, 0) for name in classes])
    classifiers = {name: Classifier.load(Path("models") / name) for name in MODELS}
    metrics = {}
    for split in ("test", "validation"):
        table = load_split(subset, split)
        labels = labels_of(table["category"], table["label_quality"], classes)
        held_out = HeldOut.of(
            table["title"].to_list(),
            labels.targets,
            classes,
            classifiers["ensemble"].vocabulary,
            labels.reliable,
            train_counts,
        )
        measured, probabilities = {}, {}
        for name, classifier in classifiers.items():
            logits = classifier.logits(held_out.titles)
            p = probabilities[name] = classifier.description.calibration.probabilities(logits)
            measured[name] = model_metrics(
                p, softmax(logits), held_out.targets, params.evaluate, params.seed
            )
            say(f"{split} {name}: balanced accuracy {measured[name]['balanced_accuracy']:.4f}")
            folder = Path("metrics/evaluation") / split / name
            for title, frame in detail_tables(p, held_out, params.evaluate).items():
                write_csv(folder / f"{title}.csv", frame)
        differences = {
            f"{one}_minus_{other}": comparison(
                probabilities[one],
                probabilities[other],
                held_out.targets,
                params.evaluate,
                params.seed,
            )
            for one, other in combinations(MODELS, 2)
        }
        metrics[split] = {**measured, "differences": differences}
    write_json(Path("metrics/evaluate.json"), metrics)


if __name__ == "__main__":
    run_stage(main)
