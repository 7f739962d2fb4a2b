"""The `rubro thresholds` command: confidences from which a model's answers keep a promise."""

from __future__ import annotations

import heapq
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from rubro.base.console import say
from rubro.base.errors import DataError
from rubro.base.files import write_json
from rubro.cli.common import load_model, needed_packages
from rubro.cli.labelled_titles import LabelledFile, read_labelled
from rubro.prediction.explanation import FOREIGN_SHARE
from rubro.prediction.folder import fingerprint
from rubro.prediction.thresholds import (
    AcceptedCounts,
    CategoryThreshold,
    ConfidenceThreshold,
    Thresholds,
)

if TYPE_CHECKING:
    from rubro.prediction.classifier import Classifier

_COVERAGE = 0.95
_SHOWN_CATEGORIES = 10
_NOTHING: dict[str, Any] = {"titles": 0, "kept": 0, "right": 0, "low": 0.0, "high": 1.0}


@dataclass(frozen=True)
class Options:
    """What the user asked for.

    Attributes:
        source: Labelled titles that the model was not trained on.
        model: Folder of the model.
        precision: Share of right answers that is promised, between 0 and 1.
        output: File to write.
        check: File of thresholds to measure in place of choosing any; None = they are chosen.
    """

    source: LabelledFile
    model: Path
    precision: float
    output: Path
    check: Path | None


@dataclass(frozen=True)
class _Predictions:
    """Predicted category, confidence (below 0 for a foreign title) and whether it is right."""

    categories: np.ndarray
    confidences: np.ndarray
    right: np.ndarray


def thresholds(options: Options) -> None:
    """Choose thresholds and write them, or measure those of a file.

    Raises:
        DataError: The model, the labelled titles or the file cannot be used, or no threshold keeps
            the promise.
        RubroError: A package is missing.
    """
    with needed_packages("rubro thresholds"):
        import rubro.evaluation.thresholds  # noqa: F401

    classifier = load_model(options.model)
    if options.check is not None:
        found = Thresholds.load(options.check, options.model)
        _show(_measured(found, _predictions(options.source, classifier)), options.source.file)
        return
    predictions = _predictions(options.source, classifier)
    found = _measured(_chosen(predictions, classifier, options), predictions)
    if not found.all.kept:
        raise DataError(
            f"{options.source.file}: no threshold makes a precision of {options.precision:g} sure: "
            f"{len(predictions.right):,} reliable titles, {predictions.right.mean():.1%} of them "
            "right; lower --precision, or name a file with more titles"
        )
    write_json(options.output, found.model_dump())
    _show(found, options.source.file)
    say(f"{options.output}: for rubro predict --thresholds")


def _predictions(source: LabelledFile, classifier: Classifier) -> _Predictions:
    labelled = read_labelled(source, classifier)
    reliable = np.array(labelled.reliable)
    if not reliable.any():
        raise DataError(f"{source.file}: all rows are unreliable; name a file with reliable ones")
    if not reliable.all():
        say(f"{source.file}: {reliable.sum():,} of {len(reliable):,} titles are reliable")
    calibration = classifier.description.calibration
    probabilities = calibration.probabilities(np.concatenate(labelled.logits))
    classes = probabilities.argmax(axis=1)
    confidences = probabilities.max(axis=1).astype(float)
    confidences[classifier.out_of_vocabulary(labelled.titles) > FOREIGN_SHARE] = -1
    right = classes == np.array(labelled.targets)
    names = np.array(classifier.classes_, dtype=object)[classes]
    return _Predictions(names[reliable], confidences[reliable], right[reliable])


def _chosen(predictions: _Predictions, classifier: Classifier, options: Options) -> Thresholds:
    """The thresholds, still without what they keep."""
    from rubro.evaluation.thresholds import choose_threshold, minimum_titles

    def chosen(some: np.ndarray) -> ConfidenceThreshold:
        confidences, right = predictions.confidences[some], predictions.right[some]
        found = choose_threshold(confidences, right, options.precision, _COVERAGE)
        return ConfidenceThreshold(confidence=found, **_NOTHING)

    least = minimum_titles(options.precision, _COVERAGE)
    # By their numbers alone: sorting them by their precision would weaken the promise.
    counts = Counter(predictions.categories)
    few = np.array([counts[name] < least for name in predictions.categories])
    together = chosen(few)
    categories = {}
    for name in classifier.classes_:
        is_own = counts[name] >= least
        threshold = chosen(predictions.categories == name) if is_own else together
        basis: Literal["own", "together"] = "own" if is_own else "together"
        categories[name] = CategoryThreshold(**threshold.model_dump(), basis=basis)
    return Thresholds(
        model=classifier.name,
        fingerprint=fingerprint(options.model),
        precision=options.precision,
        coverage=_COVERAGE,
        least_titles=least,
        single=chosen(np.ones_like(few)),
        together=together,
        categories=categories,
        all=AcceptedCounts(**_NOTHING),
    )


def _measured(found: Thresholds, predictions: _Predictions) -> Thresholds:
    """The same thresholds with what they keep of titles."""
    from rubro.evaluation.thresholds import estimate_precision

    def kept(bounds: np.ndarray, some: np.ndarray) -> dict[str, Any]:
        is_kept = predictions.confidences >= bounds
        counted = estimate_precision(is_kept[some], predictions.right[some], found.coverage)
        return {name: round(value, 6) for name, value in counted.items()}

    names = predictions.categories
    own = {name: _bound(threshold) for name, threshold in found.categories.items()}
    bounds = np.array([own[name] for name in names])
    everything = np.ones(len(names), dtype=bool)
    few = np.array([found.categories[name].basis == "together" for name in names])
    single = np.full(len(names), _bound(found.single))
    categories = {
        name: threshold.model_copy(update=kept(bounds, names == name))
        for name, threshold in found.categories.items()
    }
    return found.model_copy(
        update={
            "single": found.single.model_copy(update=kept(single, everything)),
            "together": found.together.model_copy(update=kept(bounds, few)),
            "categories": categories,
            "all": AcceptedCounts(**kept(bounds, everything)),
        }
    )


def _bound(threshold: ConfidenceThreshold) -> float:
    return np.inf if threshold.confidence is None else threshold.confidence


def _show(found: Thresholds, source: str) -> None:
    from rubro.cli.terminal import show_table

    few = sum(each.basis == "together" for each in found.categories.values())
    lines = [("all categories", "", *_cells(found.all))]
    if few:
        name = f"the {few:,} with fewer than {found.least_titles:,} titles, together"
        lines.append((name, _shown_bound(found.together), *_cells(found.together)))
    lines.append(("one threshold for all", _shown_bound(found.single), *_cells(found.single)))
    columns = ("threshold", "titles", "kept", "right", f"{found.coverage:.0%} interval")
    show_table(
        f"{found.model}: precision {found.precision:g} promised; {source}", lines, ("", *columns)
    )
    wrong = [(each.kept - each.right, name) for name, each in found.categories.items()]
    worst = [name for count, name in heapq.nlargest(_SHOWN_CATEGORIES, wrong) if count]
    rows = [
        (name, _shown_bound(found.categories[name]), *_cells(found.categories[name]))
        for name in worst
    ]
    if rows:
        show_table("most wrong answers accepted", rows, ("category", *columns))


def _shown_bound(threshold: ConfidenceThreshold) -> str:
    shown = "none" if threshold.confidence is None else f"{threshold.confidence:g}"
    is_shared = isinstance(threshold, CategoryThreshold) and threshold.basis == "together"
    return f"{shown} together" if is_shared else shown


def _cells(kept: AcceptedCounts) -> tuple[str, str, str, str]:
    precision = f"{kept.right / kept.kept:.1%}" if kept.kept else ""
    share = f"{kept.kept / kept.titles:.1%}" if kept.titles else ""
    return f"{kept.titles:,}", share, precision, f"{kept.low:.1%}-{kept.high:.1%}"
