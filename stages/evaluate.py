"""evaluate: both classifiers and their ensemble, compared on validation and test."""

from pathlib import Path

import workspace  # noqa: F401

import numpy as np
import torch

from rubro.calibration import fit_temperature
from rubro.console import run_stage, say
from rubro.evaluation import comparison, detail_tables, ensemble_logits, model_metrics
from rubro.features import load_features
from rubro.files import write_json
from rubro.inference import predict_logits
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
    temperatures = {name: float(model.head.temperature) for name, model in models.items()}
    metrics: dict[str, dict[str, dict[str, float]]] = {}
    for split, features in zip(("validation", "test"), held_out, strict=True):
        titles = load_split(Path("data/subset"), split)["title"]
        logits = {
            name: predict_logits(model, features, token_rows) for name, model in models.items()
        }
        mixed = ensemble_logits(list(logits.values()))
        if split == "validation":
            temperatures["ensemble"] = fit_temperature(mixed, features.targets)
        logits["ensemble"] = mixed / temperatures["ensemble"]
        metrics[split] = {}
        for name, scaled in logits.items():
            measured = model_metrics(
                scaled, features.targets, temperatures[name], params.evaluate, params.seed
            )
            say(f"{split} {name}: balanced accuracy {measured['balanced_accuracy']:.4f}")
            metrics[split][name] = measured
            folder = Path("metrics/evaluation") / split / name
            folder.mkdir(parents=True, exist_ok=True)
            tables = detail_tables(scaled, features, titles, labels, train_counts, params.evaluate)
            for table, frame in tables.items():
                frame.to_csv(folder / f"{table}.csv", index=False)
        metrics[split]["cnn_minus_mlp"] = comparison(
            logits["cnn"], logits["mlp"], features.targets, params.evaluate, params.seed
        )
    write_json(Path("metrics/evaluate.json"), {s: metrics[s] for s in ("test", "validation")})


if __name__ == "__main__":
    run_stage(main)
