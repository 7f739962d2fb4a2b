"""Fit the decisions of a model, measure and save it, for all stages that write one."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import process_setup  # noqa: F401

import numpy as np

from rubro.base.console import say
from rubro.base.errors import TrainingError
from rubro.base.parallel import thread_count
from rubro.base.params import Params
from rubro.data.splits import load_labels, load_products, load_source, load_split, load_tree
from rubro.evaluation.metrics import objective_metrics
from rubro.features.titles import LabelledTitles, class_shares, labels_of, load_unlabelled
from rubro.features.vocabulary import load_subwords
from rubro.prediction.classifier import Classifier
from rubro.prediction.folder import AnyMember, Model, ModelColumn, ModelDescription, TextParams
from rubro.prediction.parallel import member_logits_of
from rubro.prediction.validation_logits import save_validation_logits
from rubro.training.decisions import fit_decisions
from rubro.training.self_training import PseudoLabels
from rubro.training.title_weights import selection_titles
from rubro.training.tracking import Tracker

SUBSET, FEATURES, VOCABULARY = map(Path, ("data/subset", "data/features", "data/vocabulary"))
PSEUDO_LABELS = Path("data/pseudo_labels")
FINAL_FIT_TITLES = 20_000  # number of training titles below which final_fit: auto is true


def wants_final_fit(params: Params, training_titles: int) -> bool:
    """Return whether models are trained once more, on training and validation titles together."""
    if params.final_fit == "auto":
        return training_titles < FINAL_FIT_TITLES
    return params.final_fit


def with_pseudo_labels(titles: LabelledTitles, fit: str) -> LabelledTitles:
    """Add the unlabelled titles that the teacher of the stage pseudo_label labelled, if there are any.

    Args:
        titles: Labelled titles of the fit.
        fit: Name of the fit: "selection", whose teacher has not seen the validation titles, or
            "final", whose teacher was trained on them too.

    Raises:
        DataError: A file is missing or damaged.
    """
    unlabelled = load_unlabelled(FEATURES, titles.features.columns)
    if unlabelled is None:
        return titles
    path = PSEUDO_LABELS / f"{fit}.safetensors"
    labels = PseudoLabels.load(path, len(unlabelled), len(load_labels(SUBSET)))
    say(f"{fit} fit: learning also from {len(labels)} of {len(unlabelled)} unlabelled titles")
    return labels.added_to(titles, unlabelled) if len(labels) else titles


def pseudo_label_count(titles: LabelledTitles) -> dict[str, int]:
    """Return the number of titles with pseudo-labels, for model.json; empty if there are none."""
    weights = titles.labels.weights
    return {} if weights is None else {"pseudo_labelled_titles": int((weights < 1).sum())}


def single_model(
    name: str, member: AnyMember, tensors: dict[str, np.ndarray], params: Params
) -> Model:
    """Return a model with a single member.

    Args:
        name: Name of the model and of its member.
        member: Description of the member in model.json.
        tensors: Tensors of the member by name.
        params: All parameters of params.yaml.

    Raises:
        TrainingError: A tensor contains NaN or infinity.
    """
    _require_finite(name, tensors)
    subwords = load_subwords(VOCABULARY)
    source = load_source(SUBSET)
    text = source.model_dump(exclude={"text_columns"})
    text |= params.featurize.model_dump(include={"max_tokens", "bigram_buckets"})
    limit = params.featurize.column_limit
    text["columns"] = [
        ModelColumn(**column.model_dump(), max_tokens=limit(column.name))
        for column in source.text_columns
    ]
    labels = load_labels(SUBSET)
    counts = load_split(SUBSET, "train", ("category",))["category"].value_counts()
    description = ModelDescription(
        name=name,
        labels=labels,
        text=TextParams(**text),
        subwords=subwords.params,
        members={name: member},
        objective=params.objective,
        category_titles=[int(counts.get(label, 0)) for label in labels],
        tree=load_tree(SUBSET),
    )
    return Model(description, subwords.vocabulary, {name: tensors})


def refitted(model: Model, member: AnyMember, tensors: dict[str, np.ndarray]) -> Model:
    """Return a single model with the tensors of its final fit, which keeps its decisions.

    Raises:
        TrainingError: A tensor contains NaN or infinity.
    """
    name = model.description.name
    _require_finite(name, tensors)
    changes = {"members": {name: member}, "final_fit": True}
    description = model.description.model_copy(update=changes)
    return replace(model, description=description, tensors={name: tensors})


def _require_finite(name: str, tensors: dict[str, np.ndarray]) -> None:
    for key, tensor in tensors.items():
        if not np.isfinite(tensor).all():
            raise TrainingError(
                f"{name}: {key} contains NaN or infinity after the training; lower the learning rates of "
                "a network, or naive_bayes_weight and C of the SVM"
            )


def validate(model: Model, params: Params) -> tuple[Model, dict[str, Any]]:
    """Fit the decisions of a single model, whose validation logits are written to a file.

    Args:
        model: Model that was not trained on validation titles.
        params: All parameters of params.yaml.

    Returns:
        Model with decisions, and its metrics; see decide.
    """
    products = load_products(SUBSET, "validation")
    logits = member_logits_of([Classifier(model)], products, thread_count())
    save_validation_logits(model.description.name, logits[model.description.name])
    return decide(model, logits, params)


def selection(params: Params) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions of the validation titles that models are chosen by, and their classes."""
    table = load_split(SUBSET, "validation", ("category", "label_quality"))
    labels = labels_of(table["category"], table["label_quality"], load_labels(SUBSET))
    chosen = selection_titles(labels, params.min_reliable_titles)
    return chosen, labels.targets[chosen]


def decide(
    model: Model, members: dict[str, np.ndarray], params: Params
) -> tuple[Model, dict[str, Any]]:
    """Fit the decisions of a model to its members' logits for the validation titles.

    Returns:
        Model with decisions; its validation metrics and shifts, for JSON.
    """
    chosen, targets = selection(params)
    logits = model.description.weighted_sum(members)[chosen]
    shares = np.log(class_shares(np.array(model.description.category_titles)))
    decisions = fit_decisions(logits, targets, shares)
    description = model.description.model_copy(update={"decisions": decisions})
    model = replace(model, description=description)
    predictions = (logits + description.category_shifts).argmax(axis=1)
    measured = objective_metrics(targets, predictions)
    score = measured[params.objective]
    say(f"{description.name}: validation score {score:.4f} on {len(targets):,} titles")
    return model, {
        "validation": {"titles": len(targets), **measured},
        "shift": {name: each.shift for name, each in decisions.items()},
    }


def save(model: Model) -> dict[str, float]:
    """Write models/NAME and return its size in megabytes, for JSON."""
    folder = Path("models") / model.description.name
    model.save(folder)
    return {"model_megabytes": round(sum(f.stat().st_size for f in folder.iterdir()) / 1e6, 1)}


def log_outcome(
    tracker: Tracker, name: str, summary: dict[str, Any], extra: dict[str, float] | None = None
) -> None:
    """Send models/NAME, its metrics from save and extra metrics to MLflow, if there is a server."""
    metrics = {f"model/validation/{key}": value for key, value in summary["validation"].items()}
    tracker.log_outcome({**metrics, **(extra or {})}, Path("models") / name)
