"""Schema of params.yaml: type and limits of every parameter of the pipeline."""

from __future__ import annotations

import codecs
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints, field_validator, model_validator

from rubro.base.schema import NotNegative, Positive, Section, Share


def _known_encoding(name: str) -> str:
    if name == "auto":
        return name
    try:
        "".encode(name)  # unlike codecs.lookup, refuses codecs that are not of text
    except (LookupError, ValueError):
        raise ValueError(
            "unknown text encoding; auto, or for instance utf-8, latin-1 or utf-16"
        ) from None
    return codecs.lookup(name).name


# Blanks around names of columns are no part of them, in params.yaml as in files.
_ColumnName = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class DataParams(Section):
    """Source of the raw titles and names of its columns."""

    path: Annotated[str, Field(min_length=1)]
    corrections: Annotated[str, Field(min_length=1)]
    encoding: Annotated[str, AfterValidator(_known_encoding)]
    separator: Literal["auto", "comma", "semicolon", "tab", "pipe"]
    title_column: _ColumnName
    category_column: _ColumnName
    language_column: _ColumnName | None
    label_quality_column: _ColumnName | None
    split_column: _ColumnName | None
    max_title_length: Positive
    max_quarantined_share: Annotated[float, Field(ge=0.0, le=1.0)]

    @property
    def text_encoding(self) -> str | None:
        """Python's name of the encoding; None = the content of a file tells."""
        return None if self.encoding == "auto" else self.encoding


class SubsetParams(Section):
    """Choice of rows, and splits where the source has none."""

    language: str | None
    top_categories: NotNegative
    max_rows: NotNegative
    validation_share: Annotated[float, Field(gt=0.0, lt=0.5)]
    test_share: Annotated[float, Field(gt=0.0, lt=0.5)]
    max_held_out_rows: NotNegative
    similar_categories: Literal["keep", "merge"]
    null_categories: Literal["keep", "drop"]
    conflicting_titles: Literal["keep", "first", "drop"]
    flipped_label_share: Share
    zipf_exponent: Annotated[float, Field(ge=0.0)]


class FeaturizeParams(Section):
    """Vocabulary, and sizes of titles as integers."""

    min_count: Positive
    max_words: NotNegative
    min_n: Positive
    max_n: NotNegative
    ngram_buckets: Positive
    bigram_buckets: NotNegative
    max_tokens: Positive

    @model_validator(mode="after")
    def _ngram_range(self) -> FeaturizeParams:
        if 0 < self.max_n < self.min_n:
            raise ValueError(f"max_n ({self.max_n}) is below min_n ({self.min_n}); 0 = no n-grams")
        return self


class EmbedParams(Section):
    """Parameters of gensim's FastText."""

    model: Literal["skipgram", "cbow"]
    vector_size: Positive
    window: Positive
    epochs: Positive | Literal["auto"]
    negative: Positive
    learning_rate: Annotated[float, Field(gt=0.0)]
    workers: Positive


class TitleWeightParams(Section):
    """Weights of the training titles."""

    class_weights: Literal["off", "balanced"]
    label_quality: Literal["ignore", "weight", "drop"]
    unreliable_weight: Annotated[float, Field(gt=0.0, le=1.0)]


class SvmParams(TitleWeightParams):
    """Parameters of the linear SVM with naive Bayes."""

    C: Annotated[float, Field(gt=0.0)]
    tolerance: Annotated[float, Field(gt=0.0)]
    max_iterations: Positive
    max_titles: NotNegative
    max_inputs: NotNegative
    naive_bayes_weight: Annotated[float, Field(ge=0.0)]
    naive_bayes_smoothing: Annotated[float, Field(gt=0.0)]
    smallest_weight: Annotated[float, Field(ge=0.0)]


class TrainParams(TitleWeightParams):
    """Parameters common to both networks."""

    hidden_sizes: list[Positive]
    max_epochs: Positive | Literal["auto"]
    batch_size: Positive | Literal["auto"]
    optimizer: Literal["adam", "adamw", "sgd"]
    learning_rate: Annotated[float, Field(gt=0.0)]
    embedding_learning_rate: Annotated[float, Field(gt=0.0)]
    initial_embedding: Literal["fasttext", "random"]
    embedding_scale: Annotated[float, Field(gt=0.0)] | None
    weight_decay: Annotated[float, Field(ge=0.0)]
    schedule: Literal["constant", "cosine", "linear"]
    warmup_share: Share
    early_stopping_patience: NotNegative
    fine_tune_embedding: bool
    pooling: Literal["mean", "sqrt"]
    token_weighting: Literal["none", "idf"]
    row_dropout: Share
    dropout: Share
    label_doubt: Annotated[float, Field(ge=0.0, le=1.0)]
    label_smoothing: Share
    prior_adjustment: Annotated[float, Field(ge=0.0)]
    table_precision: Literal["float32", "float16", "int8"]


class MlpParams(TrainParams):
    """Parameters of the MLP: pooled tokens and bigrams, then dense layers."""


class CnnParams(TrainParams):
    """Parameters of the CNN: convolutions over token vectors, pooled over the title."""

    filter_sizes: Annotated[list[Positive], Field(min_length=1)]
    filters: Positive
    linear_path: bool


class EnsembleParams(Section):
    """Parameters of the ensemble: a weighted sum of logits."""

    members: Annotated[list[Literal["mlp", "cnn", "svm"]], Field(min_length=1)]
    training_titles: bool

    @field_validator("members")
    @classmethod
    def _once_each(cls, members: list[str]) -> list[str]:
        for name in members:
            if members.count(name) > 1:
                raise ValueError(f"{name} is there twice")
        return members


class EvaluateParams(Section):
    """Precision and detail of the comparison of models."""

    calibration_bins: Positive
    bootstrap_samples: Positive
    confidence: Annotated[float, Field(gt=0.0, lt=1.0)]
    rare_category_rows: Positive
    confused_pairs: Positive
    mistakes: Positive


class Params(Section):
    """All of params.yaml."""

    seed: Annotated[int, Field(ge=0, lt=2**32)]
    accelerator: Literal["auto", "cpu", "gpu"]
    devices: Positive
    nodes: Positive
    min_reliable_titles: Positive
    data: DataParams
    subset: SubsetParams
    featurize: FeaturizeParams
    embed: EmbedParams
    train_svm: SvmParams
    train_mlp: MlpParams
    train_cnn: CnnParams
    ensemble: EnsembleParams
    evaluate: EvaluateParams
