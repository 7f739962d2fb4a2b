"""Types and limits of the values in params.yaml."""

from __future__ import annotations

from pathlib import Path

import pytest

from rubro.base.errors import ParamsError
from rubro.base.params import CnnParams, EvaluateParams
from rubro.base.params_file import flat, load_params, with_settings

DEFAULT = Path(__file__).parents[2] / "params.yaml"


def value_of(key: str, *settings: str) -> object:
    """Return the value at a dotted key of the default parameters with these settings."""
    value: object = with_settings(DEFAULT, list(settings))
    for name in key.split("."):
        value = getattr(value, name)
    return value


def refusal(*settings: str) -> str:
    with pytest.raises(ParamsError) as caught:
        with_settings(DEFAULT, list(settings))
    return str(caught.value)


def test_loaded_params_are_frozen() -> None:
    params = load_params(DEFAULT)
    with pytest.raises(ValueError, match="frozen"):
        params.seed = 1


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("seed", "-1", "greater than or equal to 0"),
        ("seed", str(2**32), f"less than {2**32}"),  # gensim's limit
        *(("seed", value, "integer") for value in ("1.5", "many", "true")),
        ("accelerator", "tpu", "'auto', 'cpu' or 'gpu'"),
        *((key, "0", "or equal to 1") for key in ("devices", "nodes", "min_reliable_titles")),
        ("data.path", "3", "string"),
        ("data.path", "''", "at least 1 character"),
        *(
            ("data.encoding", value, "should be 'auto' or a text encoding such as utf-8")
            for value in ("utf-9", "base64", r'"\0"')
        ),
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
        ("train_mlp.dropout", "1.0", "less than 1"),
        ("networks.embedding_scale", "large", "number"),
        ("networks.label_doubt", "1.01", "less than or equal to 1"),
        ("networks.label_doubt", "-0.1", "greater than or equal to 0"),
        ("networks.prior_adjustment", "-0.5", "greater than or equal to 0"),
        ("networks.prior_adjustment", ".inf", "finite number"),
        ("networks.initial_embedding", "zeros", "'fasttext' or 'random'"),
        ("networks.class_weights", "false", "'off' or 'balanced'"),
        ("networks.table_precision", "int4", "'float32', 'float16' or 'int8'"),
        ("train_mlp.max_epochs", "-1", "greater than or equal to 0 or 'auto'"),
        ("train_cnn.max_epochs", "1e1", "integer or 'auto'"),
        ("train_cnn.filter_sizes", "[]", "at least 1 item"),
        ("train_cnn.linear_path", "1", "boolean"),
        ("ensemble.members", "[]", "at least 1 item"),
        ("ensemble.members", "[mlp, cnn, mlp]", "mlp"),
        ("evaluate.confidence", "0.0", "greater than 0"),
        ("evaluate.confidence", "1", "less than 1"),
        ("nodes", "1001", "less than or equal to 1000"),
        ("embed.vector_size", "10001", "less than or equal to 10000"),
        ("embed.learning_rate", "1e308", "less than or equal to 1"),
    ],
)
def test_wrong_value_is_reported_with_allowed_values(key: str, value: str, allowed: str) -> None:
    shown = {"null": "None", "true": "True", "false": "False", "1e1": "10.0", "1e308": "1e+308"}
    shown |= {r'"\0"': r"\x00", "[mlp, cnn, mlp]": "['mlp', 'cnn', 'mlp']"}
    error = refusal(f"{key}={value}")
    assert error.startswith(f"{key}: ")
    assert allowed in error
    assert shown.get(value, value).strip(".'") in error.split("(found ")[1]
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
        ("train_mlp.dropout", 0),  # an integer is accepted as a share or a rate
        ("networks.label_doubt", 0),
        ("networks.label_doubt", 1),
        ("networks.prior_adjustment", 0),
        ("networks.prior_adjustment", 2.5),
        *(("networks.initial_embedding", value) for value in ("fasttext", "random")),
        *(("networks.table_precision", value) for value in ("float32", "float16", "int8")),
        ("evaluate.confidence", 0.001),
        ("evaluate.confidence", 0.999),
    ],
)
def test_value_at_limit_is_accepted(key: str, value: object) -> None:
    assert value_of(key, f"{key}={value}") == value


def test_max_ngram_length_below_min_is_refused() -> None:
    error = refusal("featurize.min_n=4", "featurize.max_n=2")
    assert error.startswith("featurize: ")
    assert all(fact in error for fact in ("max_n", "2", "min_n", "4"))


@pytest.mark.parametrize(
    ("settings", "facts"),
    [
        (["train_cnn.max_epochs=0"], ["ensemble.members", "cnn", "train_cnn.max_epochs=0"]),
        (["embed.epochs=0"], ["embed.epochs=0", "train_mlp.max_epochs=0"]),
    ],
)
def test_a_model_that_another_part_needs_must_be_trained(
    settings: list[str], facts: list[str]
) -> None:
    error = refusal(*settings)
    assert error.startswith(facts[0])
    assert all(fact in error for fact in facts)


def test_ngram_lengths_are_compared_after_all_settings() -> None:
    assert value_of("featurize.min_n", "featurize.min_n=7", "featurize.max_n=9") == 7
    assert value_of("featurize.max_n", "featurize.min_n=4", "featurize.max_n=0") == 0


@pytest.mark.parametrize(
    ("written", "stored"),
    [
        ("utf-8", "utf-8"),
        ("utf_8", "utf-8"),
        ("utf-8-sig", "utf-8-sig"),
        ("latin-1", "iso8859-1"),
        ("cp1252", "cp1252"),
    ],
)
def test_encoding_is_stored_under_its_canonical_name(written: str, stored: str) -> None:
    assert value_of("data.encoding", f"data.encoding={written}") == stored


def test_defaults_of_evaluation_equal_params_yaml() -> None:
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


COUNTS = [key for key, value in flat(load_params(DEFAULT).model_dump()) if type(value) is int]
OTHERS = ["embed.epochs", *(f"train_mlp.{key}" for key in ("max_epochs", "batch_size"))]


@pytest.mark.parametrize("key", [*COUNTS, *OTHERS])
def test_every_integer_has_an_upper_bound(key: str) -> None:
    assert refusal(f"{key}={2**32}").startswith(f"{key}: ")


@pytest.mark.parametrize("key", ["train_mlp.hidden_sizes", "train_cnn.filter_sizes"])
@pytest.mark.parametrize("value", [f"[{10**6}]", str([1] * 101)])
def test_lists_of_sizes_have_upper_bounds(key: str, value: str) -> None:
    assert key in refusal(f"{key}={value}")


@pytest.mark.parametrize(
    ("setting", "facts"),
    [
        ("title_column=[a, b]", ["title_column", "data.text_columns"]),
        ("text_columns=[a, b, a]", ["text_columns", "'a' twice"]),
        ("text_columns=[title]", ["text_columns", "'title'"]),
        ("text_columns=['category ']", ["text_columns", "'category'"]),
        ("number_columns=[price]", ["number_columns", "'price'", "text_columns"]),
        ("category_column=[a, b, a]", ["category_column", "'a' twice"]),
        ("category_column=[]", ["category_column", "at least 1 item"]),
    ],
)
def test_columns_that_contradict_each_other_are_refused(setting: str, facts: list[str]) -> None:
    message = refusal(f"data.{setting}")
    assert all(fact in message for fact in facts)


def test_token_limits_are_only_accepted_for_text_columns() -> None:
    composed, decomposed = "descripci\u00f3n", "descripcio\u0301n"
    columns = f"data.text_columns=[{composed}]"
    limits = value_of(
        "featurize.max_column_tokens",
        columns,
        f"featurize.max_column_tokens={{{decomposed}: 9}}",
    )
    assert limits == {composed: 9}
    message = refusal(columns, "featurize.max_column_tokens={brand: 9}")
    assert "'brand'" in message and "max_column_tokens" in message and "text_columns" in message


def test_a_list_with_one_category_column_is_the_same_as_its_name() -> None:
    assert value_of("data.category_column", "data.category_column=[rubro]") == "rubro"
    assert value_of("data.category_columns", "data.category_column=rubro") == ["rubro"]
    assert value_of("data.category_columns", "data.category_column=[a, b]") == ["a", "b"]
