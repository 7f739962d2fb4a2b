"""Calibrate, save and measure a model, for all stages that write one."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import process_setup  # noqa: F401

import numpy as np

from rubro.base.console import say
from rubro.base.errors import TrainingError
from rubro.base.files import read_json
from rubro.base.params import Params
from rubro.data.splits import SourceInfo, load_labels, load_split
from rubro.evaluation.metrics import accuracy, balanced_accuracy
from rubro.features.titles import labels_of
from rubro.features.vocabulary import load_subwords
from rubro.prediction.classifier import Classifier
from rubro.prediction.folder import AnyMember, Model, ModelDescription, TextParams
from rubro.training.calibration import fit_calibration
from rubro.training.title_weights import selection_titles
from rubro.training.tracking import Tracker

SUBSET, FEATURES, VOCABULARY = map(Path, ("data/subset", "data/features", "data/vocabulary"))


def validation_titles(params: Params) -> tuple[list[str], np.ndarray]:
    """Return validation titles for fitting weights and calibration, and their class indices."""
    table = load_split(SUBSET, "validation")
    labels = labels_of(table["category"], table["label_quality"], load_labels(SUBSET))
    chosen = selection_titles(labels, params.min_reliable_titles)
    return table["title"].iloc[chosen].to_list(), labels.targets[chosen]


def save_member(
    name: str, member: AnyMember, tensors: dict[str, np.ndarray], params: Params
) -> dict[str, Any]:
    """Calibrate a model with a single member, save it as models/NAME and return its metrics.

    Args:
        name: Name of the model and of its member.
        member: Description of the member in model.json.
        tensors: Tensors of the member by name.
        params: All parameters of params.yaml.

    Raises:
        TrainingError: A tensor contains NaN or infinity.
    """
    for key, tensor in tensors.items():
        if not np.isfinite(tensor).all():
            raise TrainingError(
                f"{name}: {key} contains NaN or infinity after the training; lower the learning rates of "
                "a network, or C of the SVM"
            )
    subwords = load_subwords(VOCABULARY)
    text = read_json(SUBSET / "source.json", SourceInfo).model_dump()
    text |= params.featurize.model_dump(include={"max_tokens", "bigram_buckets"})
    description = ModelDescription(
        name=name,
        labels=load_labels(SUBSET),
        text=TextParams(**text),
        subwords=subwords.params,
        members={name: member},
    )
    model = Model(description, subwords.vocabulary, {name: tensors})
    return save(model, *validation_titles(params))


def save(model: Model, titles: list[str], targets: np.ndarray) -> dict[str, Any]:
    """Calibrate a model, save it as models/NAME and return its metrics.

    Args:
        model: Model, whose own calibration is ignored.
        titles: Validation titles.
        targets: Class indices, (titles,).

    Returns:
        Validation metrics, calibration and folder size, for JSON.
    """
    logits = Classifier(model).logits(titles)
    calibration = fit_calibration(logits, targets)
    description = model.description.model_copy(update={"calibration": calibration})
    model = replace(model, description=description)
    folder = Path("models") / model.description.name
    model.save(folder)
    predictions = logits.argmax(axis=1)
    measured = {
        "titles": len(titles),
        "accuracy": round(accuracy(targets, predictions), 6),
        "balanced_accuracy": round(balanced_accuracy(targets, predictions), 6),
    }
    say(f"{model.description.name}: balanced accuracy {measured['balanced_accuracy']:.4f}")
    return {
        "validation": measured,
        "calibration": model.description.calibration.model_dump(),
        "model_megabytes": round(sum(f.stat().st_size for f in folder.iterdir()) / 1e6, 1),
    }


def log_outcome(
    tracker: Tracker, name: str, summary: dict[str, Any], extra: dict[str, float] | None = None
) -> None:
    """Send models/NAME, its metrics from save and extra metrics to MLflow, if there is a server."""
    metrics = {f"model/validation/{key}": value for key, value in summary["validation"].items()}
    tracker.log_outcome({**metrics, **(extra or {})}, Path("models") / name)
