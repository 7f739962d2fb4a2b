"""evaluate: both classifiers and their ensemble, compared on validation and test."""

from pathlib import Path

import workspace  # noqa: F401

import numpy as np
import torch

from rubro.console import run_stage, say
from rubro.evaluation import detail_tables, metrics_of, predict_probabilities
from rubro.features import load_features
from rubro.files import write_json
from rubro.models.cnn import Cnn
from rubro.models.files import load_model
from rubro.models.mlp import Mlp
from rubro.params import CnnParams, MlpParams, Params
from rubro.splits import load_labels, load_split


def main(params: Params) -> None:
    torch.set_num_threads(params.threads)
    (train, *held_out), token_rows = load_features(
        Path("data/features"), "train", "validation", "test"
    )
    labels = load_labels(Path("data/subset"))
    train_counts = np.bincount(train.targets, minlength=len(labels))
    models = {
        "mlp": load_model(Path("models/mlp"), Mlp, MlpParams),
        "cnn": load_model(Path("models/cnn"), Cnn, CnnParams),
    }
    metrics: dict[str, dict[str, dict[str, float]]] = {}
    for split, features in zip(("validation", "test"), held_out, strict=True):
        titles = load_split(Path("data/subset"), split)["title"]
        probabilities = {
            name: predict_probabilities(model, features, token_rows)
            for name, model in models.items()
        }
        probabilities["ensemble"] = (probabilities["mlp"] + probabilities["cnn"]) / 2
        metrics[split] = {}
        for name, p in probabilities.items():
            metrics[split][name] = metrics_of(p, features.targets, params.evaluate.calibration_bins)
            say(
                f"{split} {name}: balanced accuracy {metrics[split][name]['balanced_accuracy']:.4f}"
            )
            folder = Path("metrics/evaluation") / split / name
            folder.mkdir(parents=True, exist_ok=True)
            tables = detail_tables(p, features, titles, labels, train_counts, params.evaluate)
            for table, frame in tables.items():
                frame.to_csv(folder / f"{table}.csv", index=False)
    write_json(Path("metrics/evaluate.json"), {s: metrics[s] for s in ("test", "validation")})


if __name__ == "__main__":
    run_stage(main)
