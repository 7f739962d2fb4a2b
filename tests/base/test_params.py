"""What params.yaml may say: the types and the limits of its values."""

from __future__ import annotations

from pathlib import Path

import pytest

from rubro.base.errors import ParamsError
from rubro.base.params import CnnParams, EvaluateParams
from rubro.base.params_file import load_params, with_settings

DEFAULT = Path(__file__).parents[2] / "params.yaml"


def value_of(key: str, *settings: str) -> object:
    """The value at a dotted key of the default parameters with these settings."""
    value: object = with_settings(DEFAULT, list(settings))
    for name in key.split("."):
        value = getattr(value, name)
    return value


def refusal(*settings: str) -> str:
    with pytest.raises(ParamsError) as caught:
        with_settings(DEFAULT, list(settings))
    return str(caught.value)


def test_loaded_params_cannot_be_changed_by_a_stage() -> None:
    params = load_params(DEFAULT)
    with pytest.raises(ValueError, match="frozen"):
        params.seed = 1


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("seed", "-1", "greater than or equal to 0"),
        ("seed", str(2**32), f"less than {2**32}"),  # gensim's limit
        ("seed", "1.5", "integer"),
        ("seed", "many", "integer"),
        ("seed", "true", "integer"),
        ("accelerator", "tpu", "'auto', 'cpu' or 'gpu'"),
        ("devices", "0", "greater than or equal to 1"),
        ("nodes", "0", "greater than or equal to 1"),
        ("min_reliable_titles", "0", "greater than or equal to 1"),
        ("data.path", "3", "string"),
        ("data.path", "''", "at least 1 character"),
        ("data.encoding", "utf-9", "unknown text encoding; auto, or for instance utf-8"),
        ("data.encoding", "base64", "unknown text encoding; auto, or for instance utf-8"),
        ("data.encoding", r'"\0"', "unknown text encoding; auto, or for instance utf-8"),
        ("data.max_quarantined_share", "1.5", "less than or equal to 1"),
        ("subset.language", "false", "string"),
        ("subset.top_categories", "-5", "greater than or equal to 0"),
        ("subset.test_share", "0", "greater than 0"),
        ("subset.validation_share", "0.5", "less than 0.5"),
        ("subset.flipped_label_share", "1.0", "less than 1"),
        ("subset.flipped_label_share", "-0.1", "greater than or equal to 0"),
        ("subset.zipf_exponent", "-1.0", "greater than or equal to 0"),
        ("embed.epochs", "null", "integer"),
        ("embed.learning_rate", ".nan", "finite number"),
        ("embed.learning_rate", ".inf", "finite number"),
        ("train_mlp.dropout", "1.0", "less than 1"),
        ("networks.embedding_scale", "large", "number"),
        ("networks.weight_decay", ".inf", "finite number"),
        ("networks.label_doubt", "1.01", "less than or equal to 1"),
        ("networks.label_doubt", "-0.1", "greater than or equal to 0"),
        ("networks.prior_adjustment", "-0.5", "greater than or equal to 0"),
        ("networks.prior_adjustment", ".inf", "finite number"),
        ("networks.initial_embedding", "zeros", "'fasttext' or 'random'"),
        ("networks.initial_embedding", "null", "'fasttext' or 'random'"),
        ("networks.class_weights", "yes", "'off' or 'balanced'"),
        ("networks.class_weights", "false", "'off' or 'balanced'"),
        ("networks.table_precision", "int4", "'float32', 'float16' or 'int8'"),
        ("networks.table_precision", "16", "'float32', 'float16' or 'int8'"),
        ("train_mlp.max_epochs", "0", "greater than or equal to 1 or 'auto'"),
        ("train_cnn.max_epochs", "1e1", "integer or 'auto'"),
        ("train_cnn.filter_sizes", "[]", "at least 1 item"),
        ("train_cnn.linear_path", "1", "boolean"),
        ("ensemble.members", "[]", "at least 1 item"),
        ("ensemble.members", "[mlp, cnn, mlp]", "mlp is listed twice"),
        ("evaluate.bootstrap_samples", "0", "greater than or equal to 1"),
        ("evaluate.confidence", "0.0", "greater than 0"),
        ("evaluate.confidence", "1", "less than 1"),
    ],
)
def test_a_wrong_value_is_reported_with_what_is_allowed(key: str, value: str, allowed: str) -> None:
    found = {"null": "None", "true": "True", "false": "False", "1e1": "10.0"}
    found |= {r'"\0"': r"\x00", "[mlp, cnn, mlp]": "['mlp', 'cnn', 'mlp']"}
    error = refusal(f"{key}={value}")
    assert error.startswith(f"{key}: ")
    assert allowed in error
    assert found.get(value, value).strip(".'") in error.split("(found ")[1]
    assert "\n" not in error


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("subset.flipped_label_share", 0),
        ("subset.flipped_label_share", 0.99),
        ("subset.zipf_exponent", 0),
        ("subset.zipf_exponent", 3.5),
        ("train_mlp.max_epochs", 1),
        ("train_mlp.max_epochs", "auto"),
        ("train_mlp.dropout", 0),  # a whole number does for a share or a rate
        ("networks.label_doubt", 0),
        ("networks.label_doubt", 1),
        ("networks.prior_adjustment", 0),
        ("networks.prior_adjustment", 2.5),
        ("networks.initial_embedding", "fasttext"),
        ("networks.initial_embedding", "random"),
        ("networks.table_precision", "float32"),
        ("networks.table_precision", "float16"),
        ("networks.table_precision", "int8"),
        ("evaluate.bootstrap_samples", 1),
        ("evaluate.confidence", 0.001),
        ("evaluate.confidence", 0.999),
    ],
)
def test_values_up_to_a_limit_are_allowed(key: str, value: object) -> None:
    assert value_of(key, f"{key}={value}") == value


def test_a_null_language_is_allowed() -> None:
    assert value_of("subset.language", "subset.language=null") is None


def test_an_impossible_pair_of_ngram_lengths_is_refused() -> None:
    error = refusal("featurize.min_n=4", "featurize.max_n=2")
    assert error == "featurize: max_n (2) is below min_n (4); use 0 for no n-grams"


def test_ngrams_can_be_turned_off_whatever_min_n_is() -> None:
    assert value_of("featurize.max_n", "featurize.min_n=4", "featurize.max_n=0") == 0


def test_limits_of_pairs_hold_for_settings_together() -> None:
    assert value_of("featurize.min_n", "featurize.min_n=7", "featurize.max_n=9") == 7


@pytest.mark.parametrize(
    ("written", "stored"),
    [
        ("utf-8", "utf-8"),
        ("UTF8", "utf-8"),
        ("utf_8", "utf-8"),
        ("utf-8-sig", "utf-8-sig"),
        ("latin-1", "iso8859-1"),
        ("cp1252", "cp1252"),
    ],
)
def test_an_encoding_is_stored_under_its_own_name_whatever_its_spelling(
    written: str, stored: str
) -> None:
    assert value_of("data.encoding", f"data.encoding={written}") == stored


def test_the_defaults_for_an_evaluation_without_params_yaml_are_those_of_params_yaml() -> None:
    assert EvaluateParams() == load_params(DEFAULT).evaluate


@pytest.mark.parametrize("section", ["train_mlp", "train_cnn"])
def test_an_old_key_of_one_network_names_the_shared_key(section: str) -> None:
    message = refusal(f"{section}.row_dropout=0.1")
    assert f"{section}.row_dropout" in message
    assert "networks.row_dropout" in message


def test_a_network_has_the_shared_hyperparameters_and_its_own() -> None:
    params = load_params(DEFAULT)
    merged = CnnParams.merged(params.networks, params.train_cnn).model_dump()
    assert merged == params.networks.model_dump() | params.train_cnn.model_dump()
