"""Schema of params.yaml: the type and the limits of every parameter of the pipeline."""

from __future__ import annotations

import unicodedata
from functools import partial
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, field_validator, model_validator

from rubro.base.category_tree import CategoryOrder
from rubro.base.metric_names import Objective
from rubro.base.schema import NotNegative, Positive, Section, Share
from rubro.base.text_encoding import known_encoding

# White space around column names and their Unicode form are ignored, in params.yaml as in files.
_ColumnName = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1),
    AfterValidator(partial(unicodedata.normalize, "NFC")),
]


def _only_name(names: list[str]) -> str | list[str]:
    """Return the name in a list of one column; a list of several columns stays as it is."""
    return names[0] if len(names) == 1 else names


_CategoryColumns = Annotated[list[_ColumnName], Field(min_length=1), AfterValidator(_only_name)]
# Larger integers do not fit into the 32 bits that many arrays and libraries use.
_Positive = Annotated[Positive, Field(lt=2**31)]
_NotNegative = Annotated[NotNegative, Field(lt=2**31)]
# Larger values would take too much time or memory on any machine, and libraries do not check them.
_Few = Annotated[Positive, Field(le=1000)]
_Layer = Annotated[Positive, Field(le=100_000)]


class DataParams(Section):
    """Location and format of the raw title files, and the names of their columns."""

    path: Annotated[str, Field(min_length=1)]
    unlabelled: Literal["use", "ignore"]
    unlabelled_path: Annotated[str, Field(min_length=1)]
    corrections: Annotated[str, Field(min_length=1)]
    correct_held_out: bool
    encoding: Literal["auto"] | Annotated[str, AfterValidator(known_encoding)]
    separator: Literal["auto", "comma", "semicolon", "tab", "pipe"]
    title_column: _ColumnName
    text_columns: list[_ColumnName]
    number_columns: list[_ColumnName]
    category_column: _ColumnName | _CategoryColumns
    category_separator: Annotated[str, Field(min_length=1)] | None
    category_order: Literal["auto"] | CategoryOrder
    category_level: Literal["leaf"] | _Positive
    min_rows_per_category: _Positive
    language_column: _ColumnName | None
    label_quality_column: _ColumnName | None
    split_column: _ColumnName | None
    max_title_length: _Positive
    max_quarantined_share: Annotated[float, Field(ge=0.0, le=1.0)]

    @field_validator("title_column", mode="before")
    @classmethod
    def _one_title_column(cls, value: object) -> object:
        if isinstance(value, list):
            problem = "should be one column; list the others in data.text_columns"
            raise ValueError(problem)  # noqa: TRY004 (pydantic reports only this type)
        return value

    @model_validator(mode="after")
    def _different_columns(self) -> DataParams:
        for key, names in (
            ("category_column", self.category_columns),
            ("text_columns", self.text_columns),
            ("number_columns", self.number_columns),
        ):
            twice = next((name for name in names if names.count(name) > 1), None)
            if twice is not None:
                raise ValueError(f"{key} lists {twice!r} twice; remove one of them")
        for name in self.text_columns:
            if name in (self.title_column, *self.category_columns):
                raise ValueError(
                    f"text_columns lists {name!r}, which is the title column or a category column; "
                    "list only other columns"
                )
        for name in self.number_columns:
            if name not in self.text_columns:
                raise ValueError(
                    f"number_columns lists {name!r}, which text_columns does not list; add it there"
                )
        return self

    @property
    def category_columns(self) -> list[str]:
        """Names of the columns with the levels of a category, which may be a single column."""
        name = self.category_column
        return [name] if isinstance(name, str) else name

    @property
    def text_encoding(self) -> str | None:
        """Python's name of the encoding of the raw files; None means detect it for each file."""
        return None if self.encoding == "auto" else self.encoding


class SubsetParams(Section):
    """Settings that select raw rows and categories, and create splits that are missing."""

    language: str | None
    top_categories: _NotNegative
    max_rows: _NotNegative
    validation_share: Annotated[float, Field(gt=0.0, lt=0.5)]
    test_share: Annotated[float, Field(gt=0.0, lt=0.5)]
    max_held_out_rows: _NotNegative
    similar_categories: Literal["keep", "merge"]
    null_categories: Literal["keep", "drop"]
    conflicting_titles: Literal["keep", "first", "drop"]
    flipped_label_share: Share
    zipf_exponent: Annotated[float, Field(ge=0.0)]


class FeaturizeParams(Section):
    """Size of the vocabulary, and lengths of the titles that are encoded as token indices."""

    min_count: _Positive
    max_words: _NotNegative
    min_n: _Positive
    max_n: _NotNegative
    ngram_buckets: _Positive
    bigram_buckets: _NotNegative
    max_tokens: _Positive
    max_column_tokens: _Positive | dict[_ColumnName, _Positive]

    @model_validator(mode="after")
    def _ngram_range(self) -> FeaturizeParams:
        if 0 < self.max_n < self.min_n:
            raise ValueError(
                f"max_n ({self.max_n}) is below min_n ({self.min_n}); use 0 for no n-grams"
            )
        return self

    def column_limit(self, column: str) -> int:
        """Return the number of tokens after which a text of a column is cut off.

        A column that max_column_tokens does not name has the limit 100.
        """
        if isinstance(self.max_column_tokens, int):
            return self.max_column_tokens
        return self.max_column_tokens.get(column, 100)


class EmbedParams(Section):
    """Hyperparameters of the word vectors that gensim's FastText trains."""

    model: Literal["skipgram", "cbow"]
    vector_size: Annotated[Positive, Field(le=10_000)]
    window: _Few
    epochs: _NotNegative | Literal["auto"]
    pretrained: Annotated[str, Field(min_length=1)]
    negative: _Few
    learning_rate: Annotated[float, Field(gt=0.0, le=1.0)]
    workers: _Few


class SelfTrainingParams(Section):
    """Settings of the teacher, which labels titles without a category."""

    min_confidence: Share
    rounds: _Few
    weight: Annotated[float, Field(gt=0.0, le=1.0)]


class TitleWeightParams(Section):
    """Weights of training titles, which depend on their category and their label quality."""

    class_weights: Literal["off", "balanced"]
    label_quality: Literal["ignore", "weight", "drop"]
    unreliable_weight: Annotated[float, Field(gt=0.0, le=1.0)]


class SvmParams(TitleWeightParams):
    """Hyperparameters of the linear SVM with naive Bayes."""

    C: Annotated[float, Field(gt=0.0)]
    tolerance: Annotated[float, Field(gt=0.0)]
    max_iterations: _Positive
    max_titles: _NotNegative
    max_inputs: _NotNegative
    naive_bayes_weight: Annotated[float, Field(ge=0.0)] | Literal["auto"]
    naive_bayes_smoothing: Annotated[float, Field(gt=0.0)]
    smallest_weight: Annotated[float, Field(ge=0.0)]


class NetworksParams(TitleWeightParams):
    """Hyperparameters that the MLP and the CNN share."""

    optimizer: Literal["adam", "adamw", "sgd"]
    embedding_learning_rate: Annotated[float, Field(gt=0.0)]
    initial_embedding: Literal["fasttext", "random"]
    embedding_scale: Annotated[float, Field(gt=0.0)] | None
    weight_decay: Annotated[float, Field(ge=0.0)]
    schedule: Literal["constant", "cosine", "linear"]
    warmup_share: Share
    early_stopping_patience: _NotNegative
    fine_tune_embedding: bool
    pooling: Literal["mean", "sqrt"]
    token_weighting: Literal["none", "idf"]
    row_dropout: Share
    column_dropout: Share
    label_doubt: Annotated[float, Field(ge=0.0, le=1.0)]
    label_smoothing: Share
    prior_adjustment: Annotated[float, Field(ge=0.0)]
    table_precision: Literal["float32", "float16", "int8"]


class TrainMlpParams(Section):
    """Hyperparameters of the MLP only."""

    hidden_sizes: Annotated[list[_Layer], Field(max_length=100)]
    dropout: Share
    max_epochs: _NotNegative | Literal["auto"]
    batch_size: _Positive | Literal["auto"]
    learning_rate: Annotated[float, Field(gt=0.0)]

    @property
    def is_trained(self) -> bool:
        """Whether the network is trained at all."""
        return self.max_epochs != 0


class TrainCnnParams(TrainMlpParams):
    """Hyperparameters of the CNN only."""

    filter_sizes: Annotated[list[_Few], Field(min_length=1, max_length=100)]
    filters: _Layer
    linear_path: bool


class TrainParams(TrainMlpParams, NetworksParams):
    """All hyperparameters of one network, including the hyperparameters that networks share."""

    @classmethod
    def merged(cls, shared: NetworksParams, own: TrainMlpParams) -> Self:
        """Merge the block `networks` of params.yaml with the block of one network."""
        return cls(**shared.model_dump(), **own.model_dump())


class MlpParams(TrainParams):
    """All hyperparameters of the MLP: pooled tokens and bigrams, then dense layers."""


class CnnParams(TrainCnnParams, TrainParams):
    """All hyperparameters of the CNN: convolutions over token vectors, max-pooled over the title."""


class EnsembleParams(Section):
    """Parameters of the ensemble, which sums the weighted logits of its members."""

    members: Annotated[list[Literal["mlp", "cnn", "svm"]], Field(min_length=1)]
    training_titles: bool

    @field_validator("members")
    @classmethod
    def _once_each(cls, members: list[str]) -> list[str]:
        for name in members:
            if members.count(name) > 1:
                raise ValueError(f"{name} is listed twice")
        return members


class ThresholdsParams(Section):
    """Parameters of the confidence thresholds in the folder of the ensemble."""

    precision: Annotated[float, Field(ge=0.5, le=0.9999)] | None


class EvaluateParams(Section):
    """Calibration bins, confidence intervals and table sizes of the evaluation.

    The defaults are used outside of a project.
    """

    calibration_bins: _Few = 15
    confidence: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.95
    rare_category_rows: _Positive = 50
    confused_pairs: _Positive = 25
    mistakes: _Positive = 100


class Params(Section):
    """All parameters in params.yaml."""

    seed: Annotated[int, Field(ge=0, lt=2**32)]
    objective: Objective
    final_fit: Literal["auto"] | bool
    accelerator: Literal["auto", "cpu", "gpu"]
    devices: _Positive
    nodes: _Few
    min_reliable_titles: _Positive
    data: DataParams
    subset: SubsetParams
    featurize: FeaturizeParams
    embed: EmbedParams
    self_training: SelfTrainingParams
    train_svm: SvmParams
    networks: NetworksParams
    train_mlp: TrainMlpParams
    train_cnn: TrainCnnParams
    ensemble: EnsembleParams
    thresholds: ThresholdsParams
    evaluate: EvaluateParams

    @model_validator(mode="after")
    def _needed_models_are_trained(self) -> Params:
        for name, own in {"mlp": self.train_mlp, "cnn": self.train_cnn}.items():
            if not own.is_trained and name in self.ensemble.members:
                raise ValueError(
                    f"ensemble.members contains {name}, which train_{name}.max_epochs=0 leaves "
                    "untrained; remove it from ensemble.members, as in presets/fast.yaml"
                )
            if own.is_trained and self.embed.epochs == 0:
                raise ValueError(
                    f"embed.epochs=0 trains no word vectors, but the {name} needs them; set "
                    f"train_{name}.max_epochs=0 too, as in presets/fast.yaml"
                )
        return self

    @model_validator(mode="after")
    def _limits_of_known_columns(self) -> Params:
        limits = self.featurize.max_column_tokens
        for name in limits if isinstance(limits, dict) else ():
            if name not in self.data.text_columns:
                raise ValueError(
                    f"featurize.max_column_tokens names {name!r}, which data.text_columns does not "
                    "list; correct the name or remove it"
                )
        return self
