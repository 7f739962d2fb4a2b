"""Train the teacher and write its pseudo-labels, for the stage pseudo_label."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import process_setup  # noqa: F401

import numpy as np
from model_output import (
    FEATURES,
    SUBSET,
    decide,
    refitted,
    selection,
    single_model,
    wants_final_fit,
)
from svm_fit import svm_of

from rubro.base.console import say
from rubro.base.files import damaged
from rubro.base.parallel import thread_count
from rubro.base.params import Params
from rubro.base.text_columns import Product
from rubro.data.splits import UNLABELLED, load_products, load_source
from rubro.features.titles import LabelledTitles, load_features, load_unlabelled
from rubro.prediction.classifier import Classifier
from rubro.prediction.folder import Model, SvmMember
from rubro.prediction.parallel import answered, member_logits_of
from rubro.training.self_training import PseudoLabels, known_shares

_CHUNK = 4096
Titles = dict[str, LabelledTitles]  # training titles of each fit, "selection" or "final"


def write_pseudo_labels(folder: Path, params: Params) -> dict[str, Any]:
    """Label the unlabelled titles; write selection.safetensors and, if needed, final.safetensors.

    In each round after the first one, a teacher is trained on the labelled titles and one half of
    the unlabelled titles with their pseudo-labels, and labels the other half. A teacher that labelled
    its own training titles would confirm its own mistakes.

    Returns:
        Numbers of titles and metrics of the last teacher, for JSON.
    """
    teacher = Teacher(params)
    everything = np.arange(len(teacher.unlabelled))
    rounds = params.self_training.rounds
    say(f"round 1 of {rounds}: the teacher learns from labelled titles")
    labels = teacher.label(teacher.labelled, everything)
    for number in range(2, rounds + 1):
        halves = []
        for half in (0, 1):
            say(
                f"round {number} of {rounds}: the teacher also learns from one half of the other titles"
            )
            others = {fit: own.among(everything[1 - half :: 2]) for fit, own in labels.items()}
            titles = {
                fit: other.added_to(teacher.labelled[fit], teacher.unlabelled)
                for fit, other in others.items()
            }
            halves.append(teacher.label(titles, everything[half::2]))
        labels = {fit: PseudoLabels.merged([half[fit] for half in halves]) for fit in labels}
    for fit, own in labels.items():
        own.save(folder / f"{fit}.safetensors")
        say(f"{fit} fit: {len(own)} of {len(everything)} unlabelled titles get a category")
    return {
        "unlabelled_titles": len(everything),
        **{fit: own.summary for fit, own in labels.items()},
        **teacher.summary,
    }


class Teacher:
    """SVMs with the parameters of train_svm that label the unlabelled titles.

    The teacher of the selection fits has not seen the validation titles, so that the metrics of the
    models on validation stay unbiased. The teacher of the final fits is also trained on validation
    titles. No titles are left to fit its category shifts and calibration, so it has those of the other
    teacher.

    Args:
        params: All parameters of params.yaml.

    Attributes:
        labelled: Labelled titles of each fit.
        unlabelled: Features of the unlabelled titles.
        summary: Validation metrics of the teacher that was trained last, for JSON.
    """

    def __init__(self, params: Params) -> None:
        columns = len(load_source(SUBSET).token_columns)
        (train, validation), self._tokens = load_features(
            FEATURES, "train", "validation", columns=columns
        )
        unlabelled = load_unlabelled(FEATURES, columns)
        self._products = load_products(SUBSET, UNLABELLED)
        if unlabelled is None or len(unlabelled) != len(self._products):
            raise damaged(FEATURES, f"it contains other titles than {SUBSET}")
        self._params, self._validation = params, validation
        self.unlabelled = unlabelled
        self.labelled: Titles = {"selection": train}
        if wants_final_fit(params, len(train)):
            self.labelled["final"] = LabelledTitles.concatenated([train, validation])
        tokens = unlabelled.joined_tokens
        self._known = {
            fit: known_shares(titles.features.joined_tokens, tokens)
            for fit, titles in self.labelled.items()
        }
        self._validation_products = load_products(SUBSET, "validation")
        self.summary: dict[str, Any] = {}

    def label(self, titles: Titles, positions: np.ndarray) -> dict[str, PseudoLabels]:
        """Train a teacher for each fit, and choose the unlabelled titles that it is confident of.

        Args:
            titles: Training titles of each fit.
            positions: Positions of the unlabelled titles to label, integers (n,).
        """
        products = [self._products[title] for title in positions]
        labels = {}
        for fit, model in self._models(titles).items():
            known = self._known[fit][positions]
            predictions = _predicted(model, products)
            labels[fit] = PseudoLabels.chosen(
                positions, *predictions, known, self._params.self_training
            )
        return labels

    def _models(self, titles: Titles) -> dict[str, Model]:
        """Return the trained teacher of each fit."""
        params = self._params
        tensors, weight = svm_of(titles["selection"], self._validation, self._tokens, params)
        member = SvmMember(weights=len(tensors["weights"]))
        model = single_model("teacher", member, tensors, params)
        logits = member_logits_of([Classifier(model)], self._validation_products, thread_count())
        model, summary = decide(model, logits, params)
        models = {"selection": model}
        self.summary = {"validation": summary["validation"] | self._accepted(model, logits)}
        if "final" in titles:
            tensors, _ = svm_of(titles["final"], self._validation, self._tokens, params, weight)
            member = SvmMember(weights=len(tensors["weights"]))
            models["final"] = refitted(model, member, tensors)
        return models

    def _accepted(self, model: Model, logits: dict[str, np.ndarray]) -> dict[str, float]:
        """Return the share of validation titles that the teacher is confident of, and its precision."""
        chosen, targets = selection(self._params)
        description = model.description
        totals = description.weighted_sum(logits)[chosen] + description.category_shifts
        probabilities = description.decision.calibration.probabilities(totals)
        confident = probabilities.max(axis=1) >= self._params.self_training.min_confidence
        right = (probabilities.argmax(axis=1) == targets)[confident]
        precision = {"confident_precision": round(float(right.mean()), 6)} if len(right) else {}
        return {"confident_share": round(float(confident.mean()), 6), **precision}


def _predicted(model: Model, products: Sequence[Product]) -> tuple[np.ndarray, np.ndarray]:
    """Return the class of each product, int64 (products,), and its confidence, float32 (products,)."""
    classifier = Classifier(model)

    def best(chunk: Sequence[Product]) -> tuple[np.ndarray, np.ndarray]:
        probabilities = classifier.predict_proba(chunk)
        return probabilities.argmax(axis=1), probabilities.max(axis=1)

    starts = range(0, max(len(products), 1), _CHUNK)
    chunks = [products[start : start + _CHUNK] for start in starts]
    parts = [part for _, part in answered(classifier, chunks, best, thread_count())]
    targets, confidences = zip(*parts, strict=True)
    return np.concatenate(targets), np.concatenate(confidences)
