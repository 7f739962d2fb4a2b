"""evaluate: both classifiers and their ensemble, compared on validation and test."""

from pathlib import Path

import workspace  # noqa: F401

import numpy as np
from scipy.special import softmax

from rubro.base.console import say
from rubro.base.files import write_json
from rubro.base.params import CnnParams, MlpParams, Params
from rubro.base.stage import run_stage
from rubro.data.splits import load_labels, load_split
from rubro.evaluation.tables import comparison, detail_tables, model_metrics
from rubro.features.titles import load_features
from rubro.models.cnn import Cnn
from rubro.models.folder import load_model
from rubro.models.inference import predict_logits
from rubro.models.mlp import Mlp
from rubro.prediction.calibration import fit_calibration


def main(params: Params) -> None:
    (train, *held_out), distinct_tokens = load_features(
        Path("data/features"), "train", "validation", "test"
    )
    labels = load_labels(Path("data/subset"))
    train_counts = np.bincount(train.targets, minlength=len(labels))
    models = {
        "mlp": load_model(Path("models/mlp"), Mlp, MlpParams, labels),
        "cnn": load_model(Path("models/cnn"), Cnn, CnnParams, labels),
    }
    metrics: dict[str, dict[str, dict[str, float]]] = {}
    for split, features in zip(("validation", "test"), held_out, strict=True):
        titles = load_split(Path("data/subset"), split)["title"]
        probabilities, uncalibrated = {}, {}
        for name, model in models.items():
            logits = predict_logits(model, features, distinct_tokens, params.threads)
            uncalibrated[name] = softmax(logits, axis=1)
            probabilities[name] = model.calibration.probabilities(logits)
        uncalibrated["ensemble"] = (probabilities["mlp"] + probabilities["cnn"]) / 2
        logits = np.log(np.maximum(uncalibrated["ensemble"], np.finfo(float).tiny))
        if split == "validation":
            calibration = fit_calibration(logits, features.targets)
        probabilities["ensemble"] = calibration.probabilities(logits)
        metrics[split] = {}
        for name, p in probabilities.items():
            measured = model_metrics(
                p, uncalibrated[name], features.targets, params.evaluate, params.seed
            )
            say(f"{split} {name}: balanced accuracy {measured['balanced_accuracy']:.4f}")
            metrics[split][name] = measured
            folder = Path("metrics/evaluation") / split / name
            folder.mkdir(parents=True, exist_ok=True)
            tables = detail_tables(p, features, titles, labels, train_counts, params.evaluate)
            for table, frame in tables.items():
                frame.to_csv(folder / f"{table}.csv", index=False)
        metrics[split]["cnn_minus_mlp"] = comparison(
            probabilities["cnn"],
            probabilities["mlp"],
            features.targets,
            params.evaluate,
            params.seed,
        )
    write_json(Path("metrics/evaluate.json"), {s: metrics[s] for s in ("test", "validation")})


if __name__ == "__main__":
    run_stage(main)
