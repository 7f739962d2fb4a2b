"""Read the files in the metrics folder into validated and typed objects."""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

from pydantic import AliasChoices, BeforeValidator, Field, TypeAdapter, ValidationError

from rubro.base.errors import DataError, FileError, remedied_by
from rubro.base.files import damaged, file_digests, first_problem, read_json
from rubro.base.metric_names import Objective

NETWORKS = ("mlp", "cnn")
CURVE_METRICS = (*get_args(Objective), "loss")
REPORTED_MODEL = "ensemble"
_Number = Annotated[float, Field(allow_inf_nan=False)]
_Share = Annotated[float, Field(ge=0.0, le=1.0)]
# Empty in a table if nothing was measured.
_ShareOrNone = Annotated[
    _Share | None, BeforeValidator(lambda value: None if value == "" else value)
]
T = TypeVar("T")


@dataclass(frozen=True)
class LevelMetrics:
    """Metrics of the nodes at one level of a category tree."""

    accuracy: _Share
    balanced_accuracy: _Share
    macro_f1: _Share
    weighted_f1: _Share


@dataclass(frozen=True)
class ModelMetrics:
    """Metrics of a model on a split; rubro.evaluation defines them.

    The fields from `hierarchical_precision` on exist only if the categories form a tree. The levels
    are keyed by their numbers.
    """

    accuracy: _Share
    balanced_accuracy: _Share
    macro_f1: _Share
    top3_accuracy: _Share
    top5_accuracy: _Share
    loss: _Number
    ece: _Share
    top3_ece: _Share
    ece_before_calibration: _Share
    balanced_accuracy_low: _Share
    balanced_accuracy_high: _Share
    accuracy_low: _Share
    accuracy_high: _Share
    macro_f1_low: _Share
    macro_f1_high: _Share
    hierarchical_precision: _Share | None = None
    hierarchical_recall: _Share | None = None
    hierarchical_f1: _Share | None = None
    mean_weighted_f1: _Share | None = None
    levels: dict[int, LevelMetrics] = field(default_factory=dict)


@dataclass(frozen=True)
class Difference:
    """Differences between the metrics of two models, their intervals and a p-value."""

    balanced_accuracy: _Number
    balanced_accuracy_low: _Number
    balanced_accuracy_high: _Number
    accuracy: _Number
    accuracy_low: _Number
    accuracy_high: _Number
    macro_f1: _Number
    macro_f1_low: _Number
    macro_f1_high: _Number
    p_value: _Share


@dataclass(frozen=True)
class Slice:
    """Accuracy on a group of titles that have a property in common, such as a rare category."""

    slice: str
    titles: int
    accuracy: _Share
    balanced_accuracy: _Share


@dataclass(frozen=True)
class CategoryMetrics:
    """Precision, recall and F1 of one category, and how many titles it has."""

    category: str
    titles: int
    train_titles: int
    precision: _Share
    recall: _Share
    f1: _Share

    @property
    def errors(self) -> int:
        """Number of titles of the category for which another category is predicted."""
        return round(self.titles * (1 - self.recall))


@dataclass(frozen=True)
class NodeMetrics:
    """Metrics of a node of the category tree at its own level; None if it has no titles.

    Attributes:
        node: Name in the notation of the categories.
        name: Last name of the path to the node.
        level: Number of names in the path.
    """

    node: str
    name: str
    level: Annotated[int, Field(ge=1)]
    titles: int
    train_titles: int
    recall: _ShareOrNone
    precision: _ShareOrNone
    f1: _ShareOrNone


@dataclass(frozen=True)
class ColumnMetrics:
    """Metrics on products without some of their text columns, whose names are in `without`."""

    without: str
    accuracy: _Share
    balanced_accuracy: _Share
    macro_f1: _Share


@dataclass(frozen=True)
class UnmeasuredCategory:
    """A category without titles in the split, and its number of training titles."""

    category: str
    train_titles: int


@dataclass(frozen=True)
class ConfusionCell:
    """Number of titles of one category for which one category is predicted."""

    category: str
    predicted: str
    titles: int


@dataclass(frozen=True)
class ConfusedPair(ConfusionCell):
    """Share of the titles of a category for which another category is predicted.

    `level` is the number of names that the paths of both categories share, if they are paths.
    """

    share: _Share
    level: int | None = None


@dataclass(frozen=True)
class Mistake:
    """A title with a wrong prediction, and the probability of its true category."""

    title: str
    category: str
    probability: _Share
    predicted: str
    predicted_probability: _Share


@dataclass(frozen=True)
class ReliabilityBin:
    """Mean confidence and accuracy of predictions with similar confidence."""

    confidence: _Share
    accuracy: _Share
    titles: int


@dataclass(frozen=True)
class CoveragePoint:
    """Share of titles with at least a given confidence (coverage), and precision on them."""

    confidence: _Share
    coverage: _Share
    precision: _Share


@dataclass(frozen=True)
class Automation:
    """Coverage at a promised precision (goal), and measured precision with its interval."""

    goal: _Share
    coverage: _Share
    precision: _Share
    low: _Share
    high: _Share


@dataclass(frozen=True)
class CurvePoint:
    """A point of a learning curve; in the file, the value column is named after the metric."""

    step: int
    value: Annotated[_Number, Field(validation_alias=AliasChoices(*CURVE_METRICS))]


@dataclass(frozen=True)
class ChosenEpoch:
    """Epoch whose weights were kept, counted from 0."""

    epoch: int


@dataclass(frozen=True)
class TrainingSummary:
    """Part of the metrics of a training: the content of metrics/train_mlp.json."""

    best: ChosenEpoch | None = None


@dataclass(frozen=True)
class SubsetSummary:
    """Rows, classes and dropped rows of the data set: the content of metrics/subset.json."""

    rows: dict[str, int]
    classes: int
    dropped: dict[str, int]
    reliable_share: dict[str, float]
    balance: dict[str, float]
    doubtful_labels: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class RunDescription:
    """Content of description.json: how the models of a run were made.

    Attributes:
        versions: Version of each package.
        params: Parameters, by section.
        objective: Metric that the models were chosen by.
        weights: Weight of each member of the ensemble.
        left_out: Models that the ensemble does not contain because they did not improve it.
        final_fit: Whether the models were trained on validation titles too, after they were chosen.
        separator: Text between the names of a category, if the categories are paths.
    """

    versions: dict[str, str]
    params: dict[str, Any]
    weights: dict[str, float]
    objective: Objective
    left_out: list[str]
    final_fit: bool
    separator: str | None = None


@dataclass(frozen=True)
class WrongShare:
    """Estimated share of the labels that are wrong, and its confidence interval."""

    estimate: _Share
    low: _Share
    high: _Share


@dataclass(frozen=True)
class AuditSummary:
    """Totals of an audit of the labels: the content of audit/summary.json.

    Attributes:
        rows: Number of labels.
        checked: Number of labels that could be checked.
        suspects: Number of labels that are less probable than another category.
        estimated: Number of labels in categories with enough labels for an estimate.
        wrong_share: Estimate of the share of these labels that are wrong.
        agreement: Share of the checked labels that are not suspects.
        data: Digests of the audited files, by name of the file.
    """

    rows: int
    checked: int
    suspects: int
    estimated: int
    agreement: _Share
    wrong_share: WrongShare
    near_duplicates: dict[str, int]
    data: dict[str, str]


@dataclass(frozen=True)
class AuditedCategory:
    """Estimated number of wrong labels of a category, and their most frequent suggestion."""

    category: str
    rows: int
    wrong: float
    wrong_low: float
    wrong_high: float
    suggestion: str


@dataclass(frozen=True)
class ReportedRun:
    """Commit and model that a report describes.

    Attributes:
        commit: Hash of the commit; "" outside a Git repository.
        date: Date of the commit, such as 2026-03-31.
        is_changed: Whether metrics or parameters differ from the commit.
        model: SHA-256 of the model, which `rubro serve` shows too; "" if the model is missing.
    """

    commit: str = ""
    date: str = ""
    is_changed: bool = False
    model: str = ""


@dataclass
class Content:
    """All metrics of a run that the report shows; None or empty if their file is missing.

    Unless described below, dictionaries are keyed by model name. The tables from `automation` to
    `mistakes` describe the ensemble.

    Attributes:
        split: Name of the split that the metrics were measured on, except `splits`.
        splits: Metrics of each model, by split and name of the model.
        differences: Differences between pairs of models, by the names of both models.
        stages: Metrics of each stage, by its name.
        curves: Points of each learning curve, by model, metric and split.
        chosen_epochs: Chosen epoch of each network, counted from 0.
        reliability_before: Reliability bins before calibration.
        coverage: Coverage curve of each model, highest confidence first.
        automation: Coverage at each of several promised precisions, with thresholds that were chosen
            on validation titles.
        promised: The same coverage on the validation titles, by promised precision.
        nodes: Nodes of the category tree, each followed by its descendants.
        columns: Metrics without some of the text columns.
        unmeasured: Categories that have no titles in the split.
        pairs: Most confused pairs of categories.
        confusions: Cells of the confusion matrix of the most confused categories, row by row.
        mistakes: Wrongly predicted titles with the lowest probability of the true category.
        audit: Audit of the labels; None if there is none, or if it describes other data.
        audited: Estimated wrong labels of each category, most wrong labels first.
        run: Commit and model that the report describes.
        missing: Paths of the metrics files that do not exist.
    """

    split: str
    splits: dict[str, dict[str, ModelMetrics]] = field(default_factory=dict)
    differences: dict[tuple[str, str], Difference] = field(default_factory=dict)
    subset: SubsetSummary | None = None
    description: RunDescription | None = None
    stages: dict[str, dict[str, Any]] = field(default_factory=dict)
    curves: dict[str, dict[str, dict[str, list[CurvePoint]]]] = field(default_factory=dict)
    chosen_epochs: dict[str, int] = field(default_factory=dict)
    reliability: dict[str, list[ReliabilityBin]] = field(default_factory=dict)
    reliability_before: dict[str, list[ReliabilityBin]] = field(default_factory=dict)
    coverage: dict[str, list[CoveragePoint]] = field(default_factory=dict)
    automation: list[Automation] = field(default_factory=list)
    promised: dict[float, Automation] = field(default_factory=dict)
    slices: list[Slice] = field(default_factory=list)
    categories: list[CategoryMetrics] = field(default_factory=list)
    nodes: list[NodeMetrics] = field(default_factory=list)
    columns: list[ColumnMetrics] = field(default_factory=list)
    unmeasured: list[UnmeasuredCategory] = field(default_factory=list)
    pairs: list[ConfusedPair] = field(default_factory=list)
    confusions: list[ConfusionCell] = field(default_factory=list)
    mistakes: list[Mistake] = field(default_factory=list)
    audit: AuditSummary | None = None
    audited: list[AuditedCategory] = field(default_factory=list)
    run: ReportedRun = field(default_factory=ReportedRun)
    missing: list[Path] = field(default_factory=list)

    @property
    def models(self) -> dict[str, ModelMetrics]:
        """Metrics of each model on the split of the report."""
        return self.splits.get(self.split, {})

    @property
    def objective(self) -> Objective:
        """Metric that the models were chosen by."""
        return self.description.objective if self.description else "balanced_accuracy"

    @property
    def has_tree(self) -> bool:
        """Whether the categories are paths in a tree."""
        return any(model.levels for model in self.models.values())

    def split_path(self, category: str) -> tuple[list[str], int]:
        """Split a category into the names of its path.

        Returns:
            Names in the notation of the category, and the position of the last name of the path. A
            category that is not a path is one name.
        """
        separator = self.description.separator if self.description else None
        names = category.split(separator) if separator else [category]
        last = self._last_names.get(category)
        is_known = last in names and last != names[-1]
        return names, names.index(last) if last and is_known else len(names) - 1

    @cached_property
    def _last_names(self) -> dict[str, str]:
        return {row.node: row.name for row in self.nodes}


def read_content(folder: Path, split: str) -> Content:
    """Read the metrics folder of a pipeline run.

    Args:
        folder: Path of the metrics folder.
        split: Split to report: "test" or "validation".

    Returns:
        Metrics in the folder, and a list of the missing files.

    Raises:
        DataError: The folder contains no metrics, or a file is damaged.
    """
    content = Content(split)
    with remedied_by("Run `dvc repro`, which writes the metrics"):
        _read_summaries(content, folder)
        _read_tables(content, folder)
    if not (content.models or content.stages or content.subset):
        raise DataError(
            f"{folder}: the folder contains no metrics; run the command in the folder of a trained "
            "pipeline. `dvc repro` makes metrics, and a clone of a repository contains them"
        )
    return content


def read_audit(content: Content, folder: Path, subset: Path) -> str | None:
    """Add the audit of the labels to the content of a report.

    Args:
        content: Content to add the audit to.
        folder: Folder that `rubro audit` has written; it may be missing.
        subset: Folder with the data of the run.

    Returns:
        Message for the user if the audit describes other data and is therefore left out.

    Raises:
        DataError: A file of the audit is missing or damaged.
    """
    path = folder / "summary.json"
    if not path.is_file():
        return None
    with remedied_by("Run `rubro audit` again, or delete the folder"):
        summary = read_json(path, AuditSummary)
        names = [name for name in summary.data if (subset / name).is_file()]
        if len(names) < len(summary.data) or file_digests(subset, names) != summary.data:
            return f"{folder}: not in the report, because {subset} has changed; run `rubro audit`"
        content.audit = summary
        categories = folder / "categories.csv"
        if not categories.is_file():
            raise FileError(f"{categories}: no such file")
        content.audited = _rows(content, categories, AuditedCategory)
    return None


def _read_summaries(content: Content, folder: Path) -> None:
    path = folder / "evaluate.json"
    evaluated = _json(content, path, dict[str, dict[str, dict[str, Any]]])
    if evaluated is not None:
        for split, models in evaluated.items():
            differences = models.pop("differences", {})
            content.splits[split] = _checked(path, dict[str, ModelMetrics], models)
            if split == content.split:
                for names, value in _checked(path, dict[str, Difference], differences).items():
                    one, _, other = names.partition("_minus_")
                    content.differences[one, other] = value
    content.subset = _json(content, folder / "subset.json", SubsetSummary)
    content.description = _json(content, folder / "evaluation" / "description.json", RunDescription)
    for stage in ("featurize", "train_svm", "train_mlp", "train_cnn", "ensemble"):
        path = folder / f"{stage}.json"
        if summary := _json(content, path, dict[str, Any]):
            content.stages[stage] = summary
            if best := _checked(path, TrainingSummary, summary).best:
                content.chosen_epochs[stage.removeprefix("train_")] = best.epoch


def _read_tables(content: Content, folder: Path) -> None:
    # Without metrics, all networks count as trained, so that their missing files are named.
    trained = [name for name in NETWORKS if name in (content.models or NETWORKS)]
    for model in trained:
        plots = folder / "curves" / model / "plots" / "metrics"
        for metric in CURVE_METRICS:
            for split in ("train", "validation"):
                path = plots / split / f"{metric}.tsv"
                if points := _rows(content, path, CurvePoint, "\t"):
                    curves = content.curves.setdefault(model, {}).setdefault(metric, {})
                    curves[split] = points
    evaluation = folder / "evaluation" / content.split
    for model in content.models or [REPORTED_MODEL]:
        own = evaluation / model
        before = own / "reliability_before.csv"
        content.reliability[model] = _rows(content, own / "reliability.csv", ReliabilityBin)
        content.reliability_before[model] = _rows(content, before, ReliabilityBin)
        content.coverage[model] = _rows(content, own / "coverage.csv", CoveragePoint)
    content.unmeasured = _rows(content, evaluation / "unmeasured.csv", UnmeasuredCategory)
    own = evaluation / REPORTED_MODEL
    content.automation = _rows(content, own / "automation.csv", Automation)
    chosen = content.automation
    if content.split != "validation":
        path = folder / "evaluation" / "validation" / REPORTED_MODEL / "automation.csv"
        chosen = _rows(content, path, Automation)
    content.promised = {row.goal: row for row in chosen}
    content.slices = _rows(content, own / "slices.csv", Slice)
    content.categories = _rows(content, own / "classes.csv", CategoryMetrics)
    if content.has_tree:
        content.nodes = _rows(content, own / "nodes.csv", NodeMetrics)
    columns = evaluation / "columns.csv"
    if columns.is_file():  # only of the test split, if there are text columns next to the title
        content.columns = _rows(content, columns, ColumnMetrics)
    content.pairs = _rows(content, own / "confused_pairs.csv", ConfusedPair)
    content.confusions = _rows(content, own / "confusions.csv", ConfusionCell)
    content.mistakes = _rows(content, own / "mistakes.csv", Mistake)


def _json(content: Content, path: Path, kind: type[T]) -> T | None:
    if not path.is_file():
        content.missing.append(path)
        return None
    return read_json(path, kind)


def _rows(content: Content, path: Path, kind: type[T], separator: str = ",") -> list[T]:
    if not path.is_file():
        content.missing.append(path)
        return []
    # pandas would read a category called NA as a missing value.
    with open(path, encoding="utf-8", newline="") as file:
        try:
            rows = list(csv.DictReader(file, delimiter=separator))
        except (UnicodeDecodeError, csv.Error) as error:
            raise damaged(path, str(error)) from None
    return _checked(path, list[kind], rows)  # type: ignore[valid-type]


def _checked(path: Path, kind: type[T], value: Any) -> T:
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        raise damaged(path, first_problem(error)) from None
