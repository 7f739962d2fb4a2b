"""The schema of params.yaml: every knob of the pipeline, its type and its limits."""

from __future__ import annotations

import codecs
import difflib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from rubro.base.errors import ParamsError

Share = Annotated[float, Field(ge=0.0, lt=1.0)]
Positive = Annotated[int, Field(ge=1)]
NotNegative = Annotated[int, Field(ge=0)]
# YAML 1.1 reads a bare `off` as the boolean false.
ClassWeights = Annotated[
    Literal["off", "balanced"], BeforeValidator(lambda value: "off" if value is False else value)
]


def _known_encoding(name: str) -> str:
    try:
        "".encode(name)  # unlike codecs.lookup, refuses codecs that are not of text
    except (LookupError, ValueError):
        raise ValueError("unknown text encoding; for instance utf-8, latin-1 or utf-16") from None
    return codecs.lookup(name).name


class Section(BaseModel):
    """A section of params.yaml; an unknown key or a wrong type is an error."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class DataParams(Section):
    """Where the raw titles are and what their columns are called."""

    path: Annotated[str, Field(min_length=1)]
    encoding: Annotated[str, AfterValidator(_known_encoding)]
    title_column: Annotated[str, Field(min_length=1)]
    category_column: Annotated[str, Field(min_length=1)]
    max_title_length: Positive
    max_quarantined_share: Annotated[float, Field(ge=0.0, le=1.0)]


class SubsetParams(Section):
    """Which rows are kept, and how they are split where the source has no splits."""

    language: str | None
    top_categories: NotNegative
    max_rows: NotNegative
    validation_share: Annotated[float, Field(gt=0.0, lt=0.5)]
    test_share: Annotated[float, Field(gt=0.0, lt=0.5)]
    flipped_label_share: Share
    zipf_exponent: Annotated[float, Field(ge=0.0)]


class TokensParams(Section):
    """What a token is."""

    source: Literal["title", "tokenized_title"]


class EmbedParams(Section):
    """gensim FastText."""

    model: Literal["skipgram", "cbow"]
    vector_size: Positive
    window: Positive
    min_count: Positive
    epochs: Positive
    negative: Positive
    learning_rate: Annotated[float, Field(gt=0.0)]
    min_n: Positive
    max_n: NotNegative
    buckets: Positive
    workers: Positive

    @model_validator(mode="after")
    def _ngram_range(self) -> EmbedParams:
        if 0 < self.max_n < self.min_n:
            raise ValueError(f"max_n ({self.max_n}) is below min_n ({self.min_n}); 0 = no n-grams")
        return self


class FeaturizeParams(Section):
    """Titles to integers."""

    max_tokens: Positive
    bigram_buckets: NotNegative


class TitleWeightParams(Section):
    """How much each training title counts."""

    class_weights: ClassWeights
    label_quality: Literal["ignore", "weight", "drop"]
    unreliable_weight: Annotated[float, Field(gt=0.0, le=1.0)]


class SvmParams(TitleWeightParams):
    """The linear SVM beside both classifiers."""

    C: Annotated[float, Field(gt=0.0)]
    tolerance: Annotated[float, Field(gt=0.0)]
    max_iterations: Positive
    max_titles: NotNegative
    naive_bayes_weight: Annotated[float, Field(ge=0.0)]
    naive_bayes_smoothing: Annotated[float, Field(gt=0.0)]
    smallest_weight: Annotated[float, Field(ge=0.0)]


class TrainParams(TitleWeightParams):
    """What both classifiers share."""

    hidden_sizes: list[Positive]
    max_epochs: Positive
    min_steps: NotNegative
    batch_size: Positive
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
    dropout: Share
    label_doubt: Annotated[float, Field(ge=0.0, le=1.0)]
    label_smoothing: Share
    prior_adjustment: Annotated[float, Field(ge=0.0)]
    svm_weight: Annotated[float, Field(ge=0.0)]
    table_precision: Literal["float32", "float16", "int8"]


class MlpParams(TrainParams):
    """The pooled vectors of tokens and bigrams, and dense layers."""


class CnnParams(TrainParams):
    """Convolutions over the token vectors, pooled over the title."""

    filter_sizes: Annotated[list[Positive], Field(min_length=1)]
    filters: Positive
    skip_connection: bool


class EvaluateParams(Section):
    """How sure and how detailed the comparison is."""

    calibration_bins: Positive
    bootstrap_samples: Positive
    confidence: Annotated[float, Field(gt=0.0, lt=1.0)]
    rare_category_rows: Positive
    confused_pairs: Positive
    mistakes: Positive


class Params(Section):
    """params.yaml as a whole."""

    seed: Annotated[int, Field(ge=0, lt=2**32)]
    threads: Positive
    accelerator: Literal["auto", "cpu", "gpu"]
    devices: Positive
    data: DataParams
    subset: SubsetParams
    tokens: TokensParams
    embed: EmbedParams
    featurize: FeaturizeParams
    train_svm: SvmParams
    train_mlp: MlpParams
    train_cnn: CnnParams
    evaluate: EvaluateParams


class _Loader(yaml.SafeLoader):
    """Numbers as DVC reads them, and no key twice.

    PyYAML takes `1e-3` for a string, as YAML 1.1 says; DVC takes it for a number.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                continue
            if key.tag != "tag:yaml.org,2002:str":
                raise yaml.YAMLError(f"line {key.start_mark.line + 1}: key {key.value}: quote it")
            if key.value in seen:
                raise yaml.YAMLError(f"line {key.start_mark.line + 1}: key {key.value} is twice")
            seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError, TypeError):  # `!!bool x`, `2020-13-45`
            line, kind = node.start_mark.line + 1, node.tag.rpartition(":")[2]
            raise yaml.YAMLError(f"line {line}: {str(node.value)[:100]!a} is no {kind}") from None


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9_]+)[eE][-+]?[0-9]+$"),
    list("-+.0123456789"),
)


def load_params(path: str | Path = "params.yaml") -> Params:
    """Read and check params.yaml.

    Args:
        path: the YAML file.

    Returns:
        The checked parameters; immutable.

    Raises:
        ParamsError: the file is missing or not YAML, or a key is unknown, missing, of the wrong
            type or out of range. The message names file, line, key, value and what is allowed.
    """
    path = Path(path)
    values, root = _read_yaml(path)
    return _check(path, values, root)


def load_overrides(preset: Path, params: Path) -> dict[str, str]:
    """Read a preset: a YAML file with some of the keys of params.yaml.

    Args:
        preset: the YAML file.
        params: the full parameters, which must be valid with the preset's values in their place.

    Returns:
        By dotted key, the value as `dvc exp run --set-param` takes it.

    Raises:
        ParamsError: as load_params, for either file.
    """
    values, root = _read_yaml(preset)
    full, _ = _read_yaml(params)
    _check(preset, _merged(full, values), root)
    return {key: json.dumps(value, separators=(",", ":")) for key, value in flat(values)}


def with_settings(path: str | Path, settings: list[str]) -> Params:
    """Read params.yaml with some of its values replaced.

    >>> with_settings("params.yaml", ["seed=7", "subset.top_categories=0"])

    Args:
        path: the YAML file, which must be valid as it is.
        settings: KEY=VALUE with a dotted key and a YAML value; of a key given twice the last counts.

    Returns:
        The checked parameters; immutable.

    Raises:
        ParamsError: as load_params, or a setting is wrong. Then the message names its key.
    """
    path = Path(path)
    values, root = _read_yaml(path)
    _check(path, values, root)
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not (key and equals):
            raise ParamsError(f"{setting}: not of the form KEY=VALUE")
        try:
            change = yaml.load(text, Loader=_Loader)
        except (yaml.YAMLError, ValueError, RecursionError):
            raise ParamsError(f"{key}: not a YAML value (found {text!r})") from None
        for name in reversed(key.split(".")):
            change = {name: change}
        values = _merged(values, change)
    return _check(None, values, None)


def _read_yaml(path: Path) -> tuple[Any, yaml.Node | None]:
    try:
        text = path.read_text(encoding="utf-8")
        return yaml.load(text, Loader=_Loader), yaml.compose(text, Loader=_Loader)
    except FileNotFoundError:
        raise ParamsError(f"{path}: no such file; run from the project's folder") from None
    except OSError as error:
        raise ParamsError(f"{path}: not readable: {error.strerror}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ParamsError(f"{path}: not valid YAML: {error}") from None


def _check(path: Path | None, values: Any, root: yaml.Node | None) -> Params:
    try:
        return Params.model_validate(values)
    except ValidationError as error:
        problems = [_describe(path, root, dict(problem)) for problem in error.errors()]
        raise ParamsError("\n".join(problems)) from None


def _merged(base: Any, changes: Any) -> Any:
    if not (isinstance(base, dict) and isinstance(changes, dict)):
        return changes
    return {**base, **{key: _merged(base.get(key), value) for key, value in changes.items()}}


def flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested parameters as pairs of a dotted key and a value."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _describe(path: Path | None, root: yaml.Node | None, problem: dict[str, Any]) -> str:
    keys = problem["loc"]
    where = ".".join(map(str, keys)) or "the file"
    if path:
        where = f"{path}:{_line_of(root, keys)}: {where}"
    if problem["type"] == "extra_forbidden":
        known = list(_fields(keys[:-1]))
        close = difflib.get_close_matches(str(keys[-1]), known, n=1)
        hint = f"did you mean '{close[0]}'?" if close else f"known keys: {', '.join(known)}"
        return f"{where}: unknown key; {hint}"
    if problem["type"] == "missing":
        return f"{where}: missing; every key of the default params.yaml is needed"
    message = problem["msg"].removeprefix("Value error, ")
    found = "" if isinstance(problem["input"], dict) else f" (found {problem['input']!r})"
    return f"{where}: {message[:1].lower() + message[1:]}{found}"


def _fields(keys: tuple[Any, ...]) -> dict[str, Any]:
    model: Any = Params
    for key in keys:
        model = model.model_fields[key].annotation
    return dict(model.model_fields)


def _line_of(node: yaml.Node | None, keys: tuple[Any, ...]) -> int:
    line = node.start_mark.line if node else 0
    for key in keys:
        if isinstance(node, yaml.MappingNode):
            found = [pair for pair in node.value if pair[0].value == str(key)]
            if not found:
                break
            line, node = found[0][0].start_mark.line, found[0][1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(key, int):
            node = node.value[key]
            line = node.start_mark.line
    return line + 1
