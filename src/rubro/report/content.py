"""What stands in metrics/, checked and typed."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from rubro.base.errors import DataError
from rubro.base.files import damaged, read_json

NETWORKS = ("mlp", "cnn")
CURVES = ("balanced_accuracy", "accuracy", "loss")
BEST = "ensemble"

_Number = Annotated[float, Field(allow_inf_nan=False)]
_Share = Annotated[float, Field(ge=0.0, le=1.0)]
T = TypeVar("T")


@dataclass(frozen=True)
class Metrics:
    """Metrics of a model on a split, as rubro.evaluation measures them."""

    accuracy: _Share
    balanced_accuracy: _Share
    macro_f1: _Share
    top3_accuracy: _Share
    top5_accuracy: _Share
    loss: _Number
    ece: _Share
    ece_before_calibration: _Share
    balanced_accuracy_low: _Share
    balanced_accuracy_high: _Share


@dataclass(frozen=True)
class Difference:
    """Difference between the balanced accuracies of two models."""

    balanced_accuracy: _Number
    low: _Number
    high: _Number
    p_value: _Share


@dataclass(frozen=True)
class Slice:
    """A part of the titles and its accuracy."""

    slice: str
    titles: int
    accuracy: _Share
    balanced_accuracy: _Share


@dataclass(frozen=True)
class Category:
    """A category and how well it is found."""

    category: str
    titles: int
    train_titles: int
    precision: _Share
    recall: _Share
    f1: _Share


@dataclass(frozen=True)
class Pair:
    """A category and a wrong prediction."""

    category: str
    predicted: str
    titles: int
    share: _Share


@dataclass(frozen=True)
class Cell:
    """A cell of a confusion matrix."""

    category: str
    predicted: str
    titles: int


@dataclass(frozen=True)
class Mistake:
    """A title whose right category got little probability."""

    title: str
    category: str
    probability: _Share
    predicted: str
    predicted_probability: _Share


@dataclass(frozen=True)
class Bin:
    """Predictions of similar confidence."""

    confidence: _Share
    accuracy: _Share
    titles: int


@dataclass(frozen=True)
class Threshold:
    """A least confidence, the share of titles with it and how many of them are right."""

    confidence: _Share
    coverage: _Share
    precision: _Share


@dataclass(frozen=True)
class Automation(Threshold):
    """The threshold with the greatest coverage at a least precision."""

    goal: _Share


@dataclass(frozen=True)
class Point:
    """A point of a learning curve."""

    step: int
    value: _Number


@dataclass(frozen=True)
class Subset:
    """Content of metrics/subset.json."""

    rows: dict[str, int]
    classes: int
    dropped: dict[str, int]
    reliable_share: dict[str, float]
    balance: dict[str, float]
    doubtful_labels: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Description:
    """Content of metrics/evaluation/description.json."""

    versions: dict[str, str]
    params: dict[str, Any]
    weights: dict[str, float]


@dataclass
class Content:
    """Content of metrics/.

    A value is None or empty where its file is missing.

    Attributes:
        split: Split that is reported.
        models: Metrics of each model, by its name.
        differences: Differences of each two models; the key is both of their names.
        subset: Selection of the titles.
        description: Parameters and versions.
        stages: Content of the other JSON files, by the name of their stage.
        curves: Points of each learning curve, by model, metric and split.
        reliability: Bins of each model.
        reliability_before: Bins of each model, before calibration.
        coverage: Thresholds of each model, highest confidence first.
        automation: Thresholds of the ensemble for round precisions.
        slices: Parts of the titles, of the ensemble.
        categories: Categories, of the ensemble.
        pairs: Most confused pairs, of the ensemble.
        confusions: Cells between the most confused categories, of the ensemble; row by row.
        mistakes: Worst mistakes of the ensemble.
        missing: Paths of the files that are missing.
    """

    split: str
    models: dict[str, Metrics] = field(default_factory=dict)
    differences: dict[tuple[str, str], Difference] = field(default_factory=dict)
    subset: Subset | None = None
    description: Description | None = None
    stages: dict[str, dict[str, Any]] = field(default_factory=dict)
    curves: dict[str, dict[str, dict[str, list[Point]]]] = field(default_factory=dict)
    reliability: dict[str, list[Bin]] = field(default_factory=dict)
    reliability_before: dict[str, list[Bin]] = field(default_factory=dict)
    coverage: dict[str, list[Threshold]] = field(default_factory=dict)
    automation: list[Automation] = field(default_factory=list)
    slices: list[Slice] = field(default_factory=list)
    categories: list[Category] = field(default_factory=list)
    pairs: list[Pair] = field(default_factory=list)
    confusions: list[Cell] = field(default_factory=list)
    mistakes: list[Mistake] = field(default_factory=list)
    missing: list[Path] = field(default_factory=list)


def read_content(folder: Path, split: str) -> Content:
    """Read a folder of metrics.

    Args:
        folder: Folder that the pipeline calls metrics.
        split: Split to report: "test" or "validation".

    Returns:
        Content of the folder; what is missing is listed in it.

    Raises:
        DataError: There is no file of metrics in the folder, or one is damaged.
    """
    content = Content(split)
    _read_summaries(content, folder)
    _read_curves(content, folder / "curves")
    _read_tables(content, folder / "evaluation" / split)
    if not (content.models or content.stages or content.subset):
        raise DataError(
            f"{folder}: no metrics there; run it in a folder with a trained pipeline: `dvc repro` "
            "makes metrics, and a clone of a repository holds them"
        )
    return content


def _read_summaries(content: Content, folder: Path) -> None:
    evaluated = _json(content, folder / "evaluate.json", dict[str, dict[str, dict[str, Any]]])
    if evaluated is not None:
        path = folder / "evaluate.json"
        of_split = evaluated.get(content.split, {})
        differences = of_split.pop("differences", {})
        content.models = _checked(path, dict[str, Metrics], of_split)
        for names, value in _checked(path, dict[str, Difference], differences).items():
            one, _, other = names.partition("_minus_")
            content.differences[one, other] = value
    content.subset = _json(content, folder / "subset.json", Subset)
    content.description = _json(content, folder / "evaluation" / "description.json", Description)
    for stage in ("featurize", "train_svm", "train_mlp", "train_cnn", "ensemble"):
        summary = _json(content, folder / f"{stage}.json", dict[str, Any])
        if summary is not None:
            content.stages[stage] = summary


def _read_curves(content: Content, folder: Path) -> None:
    for model in NETWORKS:
        for metric in CURVES:
            for split in ("train", "validation"):
                path = folder / model / "plots" / "metrics" / split / f"{metric}.tsv"
                points = _rows(content, path, Point, "\t", {metric: "value"})
                if points:
                    of_metric = content.curves.setdefault(model, {}).setdefault(metric, {})
                    of_metric[split] = points


def _read_tables(content: Content, folder: Path) -> None:
    for model in content.models or [BEST]:
        own = folder / model
        content.reliability[model] = _rows(content, own / "reliability.csv", Bin)
        content.reliability_before[model] = _rows(content, own / "reliability_before.csv", Bin)
        content.coverage[model] = _rows(content, own / "coverage.csv", Threshold)
    best = folder / BEST
    content.automation = _rows(content, best / "automation.csv", Automation)
    content.slices = _rows(content, best / "slices.csv", Slice)
    content.categories = _rows(content, best / "classes.csv", Category)
    content.pairs = _rows(content, best / "confused_pairs.csv", Pair)
    content.confusions = _rows(content, best / "confusions.csv", Cell)
    content.mistakes = _rows(content, best / "mistakes.csv", Mistake)


def _json(content: Content, path: Path, kind: type[T]) -> T | None:
    if not path.is_file():
        content.missing.append(path)
        return None
    return read_json(path, kind)


def _rows(
    content: Content,
    path: Path,
    kind: type[T],
    separator: str = ",",
    renamed: Mapping[str, str] | None = None,
) -> list[T]:
    if not path.is_file():
        content.missing.append(path)
        return []
    names = renamed or {}
    # Not by pandas, which would take a category NA for a missing value.
    with open(path, encoding="utf-8", newline="") as file:
        try:
            rows = [
                {names.get(str(name), name): value for name, value in row.items()}
                for row in csv.DictReader(file, delimiter=separator)
            ]
        except (UnicodeDecodeError, csv.Error) as error:
            raise damaged(path, str(error)) from None
    return _checked(path, list[kind], rows)  # type: ignore[valid-type]


def _checked(path: Path, kind: type[T], value: Any) -> T:
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ": ".join(str(key)[:100] for key in first["loc"])
        raise damaged(path, f"{ascii(where)[1:-1]}: {first['msg']}") from None
