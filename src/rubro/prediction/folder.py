"""Folder that stores a trained model as JSON and safetensors files.

model.json describes the model, vocabulary.json contains its words, and MEMBER.safetensors contains
the weights of each member. A single model has one member, an ensemble has several. If requested in
params.yaml, training.titles.safetensors contains the training titles. model.json also contains the
SHA-256 of each of the other files, so that a folder that mixes the files of two models is rejected.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from rubro.base.category_tree import CategoryTree
from rubro.base.errors import DataError
from rubro.base.files import damaged, read_json, read_tensors, write_json, write_tensors
from rubro.base.metric_names import Objective
from rubro.base.schema import NotNegative, Positive, Section
from rubro.base.text_columns import TextColumn
from rubro.features.ragged import check_ranges
from rubro.features.subwords import SubwordParams, Subwords
from rubro.features.titles import class_shares
from rubro.prediction.calibration import Calibration
from rubro.prediction.nearest import load_title_tensors
from rubro.prediction.networks import CnnScorer, MlpScorer, Scorer, SvmScorer

_DTYPES = {"float32": "F32", "float16": "F16", "int8": "I8"}
_LARGEST_INT8 = np.float32(128)
MAX_SHIFT = 1000.0  # of logits, for an objective
# The dot distinguishes this file from a member's file, because MemberName does not allow dots.
_TITLES = "training.titles.safetensors"
_VOCABULARY = "vocabulary.json"
# Data type (in the notation of safetensors) and shape of each tensor of a file, by name.
Layout = dict[str, tuple[str, tuple[int | None, ...]]]
MemberName = Annotated[str, Field(pattern="^[A-Za-z0-9_-]{1,64}$")]
_Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class ModelColumn(TextColumn):
    """A text column that a model reads in addition to the title.

    Attributes:
        max_tokens: Number of tokens after which a text is cut off.
    """

    max_tokens: Positive


class TextParams(Section):
    """Settings for splitting titles into tokens and bigrams.

    Attributes:
        title_column: Name of the column that contained the training titles.
        category_column: Name of the column that contained their categories, or names of the columns
            with the levels of a category.
        max_title_length: Number of characters after which a title is cut off.
        max_tokens: Number of tokens after which a title is cut off.
        bigram_buckets: Number of hash buckets of word bigrams; 0 = no bigrams.
        columns: Columns that are read in addition to the title.
    """

    title_column: str
    category_column: str | list[str]
    max_title_length: Positive
    max_tokens: Positive
    bigram_buckets: Annotated[int, Field(ge=0, lt=2**31)]
    columns: list[ModelColumn] = Field(default_factory=list)


class Member(Section):
    """Description of a member, which is one of the classifiers that a model combines.

    Attributes:
        weight: Weight of the member's logits in the logits of the model.
        training: Parameters, library versions and device of the training, for information only.
    """

    weight: Annotated[float, Field(ge=0.0, le=1000.0)] = 1.0
    training: dict[str, Any] = Field(default_factory=dict)


class NetworkMember(Member):
    """Description of a neural network.

    Attributes:
        vector_size: Length of a token vector.
        pooling: Divisor of a sum of n vectors: n ("mean") or the square root of n ("sqrt").
        token_weighting: Factor of token vectors: inverse document frequency ("idf") or 1 ("none").
        table_precision: Data type of the embedding tables in the file.
        hidden_sizes: Sizes of the hidden layers.
    """

    vector_size: Positive
    pooling: Literal["mean", "sqrt"]
    token_weighting: Literal["none", "idf"]
    table_precision: Literal["float32", "float16", "int8"]
    hidden_sizes: list[Positive]

    def _tables(self, rows: int, bigram_buckets: int) -> Layout:
        layout: Layout = {}
        for name, size in (("token_vectors.table", rows), ("bigrams", bigram_buckets)):
            if size:
                layout[f"{name}.weight"] = _DTYPES[self.table_precision], (size, self.vector_size)
                if self.table_precision == "int8":
                    layout[f"{name}.scale"] = "F32", (size, 1)
        return layout


class MlpMember(NetworkMember):
    """Description of an MLP (multi-layer perceptron)."""

    kind: Literal["mlp"] = "mlp"

    def layout(self, rows: int, bigram_buckets: int, classes: int, columns: int = 1) -> Layout:
        """Return the data type and shape of each tensor in the safetensors file of this member."""
        sizes = [columns * self.vector_size, *self.hidden_sizes, classes]
        return self._tables(rows, bigram_buckets) | _dense("dense", sizes)

    def scorer(
        self, arrays: Mapping[str, np.ndarray], subwords: Subwords, columns: int = 1
    ) -> Scorer:
        """Build the classifier in numpy, given the tensors of this member's safetensors file."""
        return MlpScorer(arrays, self.pooling, self.token_weighting == "idf")


class CnnMember(NetworkMember):
    """Description of a CNN (convolutional neural network).

    Attributes:
        filter_sizes: Numbers of neighbouring tokens that the filters cover.
        filters: Number of filters of each size.
        linear_path: Whether a linear layer from the pooled title vector adds to the logits.
    """

    kind: Literal["cnn"] = "cnn"
    filter_sizes: Annotated[list[Positive], Field(min_length=1)]
    filters: Positive
    linear_path: bool

    def layout(self, rows: int, bigram_buckets: int, classes: int, columns: int = 1) -> Layout:
        """Return the data type and shape of each tensor in the safetensors file of this member."""
        layout = self._tables(rows, bigram_buckets if self.linear_path else 0)
        for number, size in enumerate(self.filter_sizes):
            layout[f"filters.{number}.weight"] = "F32", (self.filters, size * self.vector_size)
            layout[f"filters.{number}.bias"] = "F32", (self.filters,)
        maxima = self.filters * len(self.filter_sizes)
        layout |= _dense("dense", [maxima, *self.hidden_sizes, classes])
        if self.linear_path:
            layout |= _dense("linear", [columns * self.vector_size, classes])
        return layout

    def scorer(
        self, arrays: Mapping[str, np.ndarray], subwords: Subwords, columns: int = 1
    ) -> Scorer:
        """Build the classifier in numpy, given the tensors of this member's safetensors file."""
        return CnnScorer(arrays, self.pooling, self.token_weighting == "idf", self.filter_sizes)


class SvmMember(Member):
    """Description of a linear SVM (support vector machine).

    Attributes:
        weights: Number of nonzero weights.
    """

    kind: Literal["svm"] = "svm"
    weights: NotNegative

    def layout(self, rows: int, bigram_buckets: int, classes: int, columns: int = 1) -> Layout:
        """Return the data type and shape of each tensor in the safetensors file of this member."""
        inputs = columns * (rows + bigram_buckets)
        return {
            "idf": ("F32", (inputs,)),
            "starts": ("I32", (inputs + 1,)),
            "categories": ("I16" if classes <= 2**15 else "I32", (self.weights,)),
            "weights": ("F16", (self.weights,)),
            "bias": ("F32", (classes,)),
        }

    def scorer(
        self, arrays: Mapping[str, np.ndarray], subwords: Subwords, columns: int = 1
    ) -> Scorer:
        """Build the classifier in numpy, given the tensors of this member's safetensors file."""
        return SvmScorer(arrays, len(subwords.vocabulary), subwords.row_count, columns)


AnyMember = Annotated[MlpMember | CnnMember | SvmMember, Field(discriminator="kind")]


class Decision(Section):
    """How a model turns logits into an answer for one objective.

    Attributes:
        shift: Factor of the logarithm of a category's share of the training titles, which is added
            to the category's logit. A positive one favours common categories, a negative one rare
            ones. Sources: Saerens, Latinne and Decaestecker 2002, Adjusting the Outputs of a
            Classifier to New a Priori Probabilities; Menon et al. 2021, Long-tail Learning via
            Logit Adjustment.
        calibration: Calibration of the shifted logits.
    """

    shift: Annotated[float, Field(ge=-MAX_SHIFT, le=MAX_SHIFT)] = 0.0
    calibration: Calibration = Calibration()


class ModelDescription(Section):
    """Content of model.json.

    Attributes:
        format: Version of the model folder's format.
        name: Name of the model.
        labels: Categories, in the order of the class indices.
        tree: Tree of the categories; None if they are not paths.
        text: Settings for splitting titles into tokens and bigrams.
        subwords: Sizes that define the embedding rows of a token.
        members: Members by name.
        objective: Metric that the model is used for.
        decisions: Decision for each objective that the model can be used for.
        final_fit: Whether the members were trained on the validation titles too, after the decisions
            had been fitted.
        category_titles: Number of training titles of each category; needed for decisions with a shift.
        files: SHA-256 of each other file of the folder, in hexadecimal digits, by the name of the
            file; empty before the model is saved.
    """

    format: Literal["rubro-2"] = "rubro-2"
    name: str
    labels: Annotated[list[str], Field(min_length=1)]
    text: TextParams
    subwords: SubwordParams
    members: Annotated[dict[MemberName, AnyMember], Field(min_length=1)]
    objective: Objective = "balanced_accuracy"
    decisions: dict[Objective, Decision] = Field(default_factory=dict)
    final_fit: bool = False
    category_titles: list[Annotated[NotNegative, Field(lt=2**31)]] = Field(default_factory=list)
    tree: CategoryTree | None = None
    files: dict[str, _Sha256] = Field(default_factory=dict)

    @property
    def decision(self) -> Decision:
        """Decision for the objective of the model."""
        return self.decisions.get(self.objective, Decision())

    @property
    def category_shifts(self) -> np.ndarray:
        """Values that the decision adds to the logits of the categories, float32 (classes,)."""
        if not self.decision.shift:
            return np.zeros(len(self.labels), dtype=np.float32)
        shares = np.log(class_shares(np.array(self.category_titles)))
        return np.asarray(self.decision.shift * shares, dtype=np.float32)

    def weighted_sum(self, logits: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the weighted sum of the logits of the members, float32 (titles, classes)."""
        total = np.zeros_like(next(iter(logits.values())))
        for name, member in self.members.items():
            total += np.float32(member.weight) * logits[name]
        return total

    @property
    def unused(self) -> dict[str, Any]:
        """Fields that are not written if there are no further columns and no tree."""
        columns = {} if self.text.columns else {"text": {"columns"}}
        return columns if self.tree else {**columns, "tree": True}

    @property
    def fingerprint(self) -> str:
        """SHA-256 of everything that determines the predictions of a saved model.

        The training titles are not included.
        """
        content = self.model_dump_json(exclude={"files": {_TITLES}, **self.unused})
        return hashlib.sha256(content.encode()).hexdigest()


@dataclass(frozen=True)
class Model:
    """Content of a model folder.

    Attributes:
        description: Content of model.json.
        vocabulary: Known words, each with the number of training titles that contain it.
        tensors: Tensors of each member, by name of the member and name of the tensor.
        titles: Index of the training titles (see nearest.title_tensors), or None.
    """

    description: ModelDescription
    vocabulary: dict[str, int]
    tensors: dict[str, dict[str, np.ndarray]]
    titles: dict[str, np.ndarray] | None = None

    def serving(self, objective: Objective | None) -> Model:
        """Return the same model, used for another objective; None = do not change it.

        Raises:
            DataError: The model has no decision for the objective.
        """
        if objective is None:
            return self
        if objective not in self.description.decisions:
            raise DataError(
                f"{self.description.name}: the model has no decision for the objective {objective}; "
                "train it again with `dvc repro`"
            )
        return replace(
            self, description=self.description.model_copy(update={"objective": objective})
        )

    def save(self, folder: Path) -> None:
        """Write the model folder.

        Args:
            folder: Path of the folder, created if missing.
        """
        tensors = {f"{name}.safetensors": tensors for name, tensors in self.tensors.items()}
        if self.titles is not None:
            tensors[_TITLES] = self.titles
        for name, content in tensors.items():
            write_tensors(folder / name, content)
        write_json(folder / _VOCABULARY, self.vocabulary)
        files = {}
        for name in (*tensors, _VOCABULARY):
            with open(folder / name, "rb") as file:
                files[name] = hashlib.file_digest(file, "sha256").hexdigest()
        description = self.description.model_copy(update={"files": files})
        write_json(folder / "model.json", description.model_dump(exclude=description.unused))

    @classmethod
    def load(cls, folder: Path) -> Model:
        """Read a model folder.

        Raises:
            DataError: A file is missing, damaged, of an unknown format or belongs to another model.
        """

        def sha256(name: str) -> str:
            if name not in description.files:
                raise damaged(path, f"files: no SHA-256 of {name}")
            return description.files[name]

        path = folder / "model.json"
        description = read_json(path, ModelDescription)
        vocabulary = read_json(folder / _VOCABULARY, dict[str, Positive], sha256(_VOCABULARY))
        if problem := description.subwords.problem(vocabulary):
            raise damaged(path, f"subwords: {problem}")
        if len(set(description.labels)) < len(description.labels):
            raise damaged(path, "a label is listed twice")
        columns = [column.name for column in description.text.columns]
        if len({description.text.title_column, *columns}) <= len(columns):
            raise damaged(path, "text: a column is listed twice")
        for column in description.text.columns:
            if column.bounds is not None and column.bounds != sorted(column.bounds):
                raise damaged(path, f"text: the bounds of column {column.name!r} do not ascend")
        if description.tree:
            paths = list(map(tuple, description.tree.paths.values()))
            if list(description.tree.paths) != description.labels:
                raise damaged(path, "tree: its categories are not the labels")
            if len(set(paths)) < len(paths):
                raise damaged(path, "tree: two categories have the same path")
        if any(decision.shift for decision in description.decisions.values()):
            counts = description.category_titles
            if len(counts) != len(description.labels) or not any(counts):
                raise damaged(path, "category_titles: not a number for each label, or only zeros")
        rows = len(vocabulary) + description.subwords.buckets
        tensors = {}
        for name, member in description.members.items():
            file = folder / f"{name}.safetensors"
            text, classes = description.text, len(description.labels)
            layout = member.layout(rows, text.bigram_buckets, classes, 1 + len(text.columns))
            tensors[name] = read_tensors(file, layout, sha256(file.name))
            if isinstance(member, SvmMember):
                limits = {"categories": len(description.labels)}
                check_ranges(file, tensors[name], {"starts": "categories"}, limits)
            else:
                _check_scales(file, tensors[name])
        titles = None
        if _TITLES in description.files:
            sizes = len(vocabulary), len(description.labels)
            titles = load_title_tensors(folder / _TITLES, *sizes, sha256(_TITLES))
        return cls(description, vocabulary, tensors, titles)


def _dense(name: str, sizes: list[int]) -> Layout:
    layout: Layout = {}
    for number, (inputs, outputs) in enumerate(pairwise(sizes)):
        layout[f"{name}.{number}.weight"] = "F32", (outputs, inputs)
        layout[f"{name}.{number}.bias"] = "F32", (outputs,)
    return layout


def _check_scales(path: Path, tensors: dict[str, np.ndarray]) -> None:
    for name, tensor in tensors.items():
        with np.errstate(over="ignore"):
            if name.endswith(".scale") and not np.isfinite(tensor * _LARGEST_INT8).all():
                raise damaged(path, f"tensor {name} overflows when multiplied by its rows")
