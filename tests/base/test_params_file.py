"""What a user sees who edits params.yaml, rightly or wrongly."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from dvc.utils.hydra import apply_overrides
from dvc.utils.serialize import load_yaml, parse_yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rubro.base.errors import ParamsError
from rubro.base.params import Params
from rubro.base.params_file import flat, load_params, override_value, with_settings

KEYS = [key for key, _ in flat(load_params(Path(__file__).parents[2] / "params.yaml").model_dump())]


@pytest.fixture
def text(project_root: Path) -> str:
    return (project_root / "params.yaml").read_text(encoding="utf-8")


def with_value(text: str, key: str, value: str) -> tuple[str, int]:
    """The text with another value at a dotted key, and the line (from 1) that holds it."""
    section, lines = "", text.splitlines()
    for number, line in enumerate(lines):
        match = re.match(r"( *)(\w+):", line)
        if not match:
            continue
        if not match[1]:
            section = match[2]
        if key == (f"{section}.{match[2]}" if match[1] else match[2]):
            while lines[number + 1 : number + 2] and lines[number + 1].lstrip().startswith("- "):
                del lines[number + 1]
            lines[number] = f"{match[1]}{match[2]}: {value}"
            return "\n".join(lines) + "\n", number + 1
    raise AssertionError(f"params.yaml has no {key}")


def load(folder: Path, text: str) -> Params:
    path = folder / "params.yaml"
    path.write_text(text, encoding="utf-8")
    return load_params(path)


def message(folder: Path, text: str) -> str:
    with pytest.raises(ParamsError) as caught:
        load(folder, text)
    return str(caught.value)


def test_the_params_file_of_the_project_is_valid(project_root: Path) -> None:
    assert isinstance(load_params(project_root / "params.yaml"), Params)


@pytest.mark.parametrize("key", KEYS)
def test_a_wrong_value_is_reported_in_one_line_that_names_file_line_and_key(
    tmp_path: Path, text: str, key: str
) -> None:
    changed, line = with_value(text, key, "{an: object}")
    error = message(tmp_path, changed)
    assert error.startswith(f"{tmp_path / 'params.yaml'}:{line}: {key}: input should be ")
    assert "\n" not in error


@pytest.mark.parametrize(
    ("value", "found"), [("-1", "-1"), ("yes", "'yes'"), ("true", "True"), ("null", "None")]
)
def test_the_value_found_is_shown_as_it_was_read(
    tmp_path: Path, text: str, value: str, found: str
) -> None:
    changed, _ = with_value(text, "seed", value)
    assert message(tmp_path, changed).endswith(f" (found {found})")


@pytest.mark.parametrize(("value", "number"), [("1e1", "10.0"), ("many", "'many'"), ("0", "0")])
def test_all_that_a_value_may_be_is_said_in_one_line(
    tmp_path: Path, text: str, value: str, number: str
) -> None:
    changed, line = with_value(text, "train_cnn.max_epochs", value)
    allowed = "greater than or equal to 1" if value == "0" else "a valid integer"
    assert message(tmp_path, changed).endswith(
        f"params.yaml:{line}: train_cnn.max_epochs: input should be {allowed} or 'auto'"
        f" (found {number})"
    )


def test_a_wrong_item_of_a_list_is_named_by_its_position(tmp_path: Path, text: str) -> None:
    changed, line = with_value(text, "train_mlp.hidden_sizes", "[64, 0]")
    assert f":{line}: train_mlp.hidden_sizes.1: " in message(tmp_path, changed)


def test_the_line_of_a_wrong_item_is_its_own_in_a_list_of_several_lines(
    tmp_path: Path, text: str
) -> None:
    changed, line = with_value(text, "train_cnn.filter_sizes", "\n    - 1\n    - 0")
    assert f":{line + 2}: train_cnn.filter_sizes.1: " in message(tmp_path, changed)


def test_a_misspelled_key_gets_a_suggestion_and_its_own_line(tmp_path: Path, text: str) -> None:
    changed, line = with_value(text, "embed.epochs", "5")
    lines = changed.splitlines()
    lines.insert(line, "  epoch: 5")
    error = message(tmp_path, "\n".join(lines))
    assert f":{line + 1}: embed.epoch: unknown key; did you mean 'epochs'?" in error


def test_an_unknown_key_like_no_other_is_answered_with_the_known_ones(
    tmp_path: Path, text: str
) -> None:
    changed, line = with_value(text, "featurize.max_tokens", "50\n  zzz: 1")
    error = message(tmp_path, changed)
    assert f":{line + 1}: featurize.zzz: unknown key; known keys: min_count, " in error


def test_an_unknown_section_gets_a_suggestion(tmp_path: Path, text: str) -> None:
    error = message(tmp_path, text + "\ntrain_cn: {}\n")
    last = len(text.splitlines()) + 2
    assert f":{last}: train_cn: unknown key; did you mean 'train_cnn'?" in error


def test_a_missing_key_is_reported_at_its_section(tmp_path: Path, text: str) -> None:
    _, section = with_value(text, "embed", "")
    changed = re.sub(r"(?m)^  window:.*\n", "", text)
    error = message(tmp_path, changed)
    assert f":{section}: embed.window: missing" in error


def test_all_problems_are_reported_at_once(tmp_path: Path, text: str) -> None:
    changed, first = with_value(text, "embed.epochs", "0")
    changed, second = with_value(changed, "train_cnn.dropout", "2")
    one, other = message(tmp_path, changed).splitlines()
    assert f":{first}: embed.epochs: " in one
    assert f":{second}: train_cnn.dropout: " in other


@pytest.mark.parametrize(
    ("written", "meant"),
    [("1e-3", 0.001), ("1E-3", 0.001), ("2.5e-4", 0.00025), ("1e+1", 10.0), (".5e-1", 0.05)],
)
def test_a_number_in_scientific_notation_needs_no_dot(
    tmp_path: Path, text: str, written: str, meant: float
) -> None:
    changed, _ = with_value(text, "train_mlp.learning_rate", written)
    assert load(tmp_path, changed).train_mlp.learning_rate == meant


def test_dvc_reads_the_same_values(tmp_path: Path, text: str) -> None:
    changed = text
    values = {"networks.class_weights": "off", "subset.language": "no", "seed": "1_0"}
    values |= {"train_mlp.learning_rate": "1e-3", "embed.epochs": "0o17", "data.path": "12:30"}
    for key, value in values.items():
        changed, _ = with_value(changed, key, value)
    assert Params.model_validate(parse_yaml(changed, "params.yaml")) == load(tmp_path, changed)


@pytest.mark.parametrize("written", ["off", '"off"', "'off'"])
def test_off_needs_no_quotes(tmp_path: Path, text: str, written: str) -> None:
    changed, _ = with_value(text, "networks.class_weights", written)
    assert load(tmp_path, changed).networks.class_weights == "off"


def test_norwegian_needs_no_quotes(tmp_path: Path, text: str) -> None:
    changed, _ = with_value(text, "subset.language", "no")
    assert load(tmp_path, changed).subset.language == "no"


@pytest.mark.parametrize("content", ["", "# nothing\n", "- a\n- b\n", "seed\n"])
def test_a_file_without_keys_is_refused(tmp_path: Path, content: str) -> None:
    assert "params.yaml:1: the file: input should be a valid dictionary" in message(
        tmp_path, content
    )


def test_an_empty_section_is_refused_at_its_line(tmp_path: Path, text: str) -> None:
    changed = re.sub(r"(?m)^  (members|training_titles):.*\n(    - .*\n)*", "", text)
    _, line = with_value(changed, "ensemble", "")
    assert f":{line}: ensemble: " in message(tmp_path, changed)


@pytest.mark.parametrize("content", ["data: [1, 2\n", "a: b: c\n", "\tseed: 1\n", 'a: "open\n'])
def test_what_is_not_yaml_is_said_to_be_not_yaml(tmp_path: Path, content: str) -> None:
    error = message(tmp_path, "\n\n" + content)
    assert error.startswith(f"{tmp_path / 'params.yaml'}: not valid YAML: ")
    assert re.search(r"line [345]\b", error)


def test_a_params_file_in_latin_1_is_said_to_be_unreadable(tmp_path: Path, text: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(("# año\n" + text).encode("latin-1"))
    with pytest.raises(ParamsError, match="not valid YAML"):
        load_params(path)


def test_a_missing_params_file_is_answered_with_where_to_run(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"nowhere\.yaml: no such file; run from the project"):
        load_params(tmp_path / "nowhere.yaml")


def test_a_key_given_twice_is_refused_at_its_line(tmp_path: Path, text: str) -> None:
    changed, line = with_value(text, "featurize.max_tokens", "50\n  max_tokens: 20")
    assert f"params.yaml: not valid YAML: line {line + 1}: key max_tokens is twice" in message(
        tmp_path, changed
    )


def test_a_section_given_twice_is_refused_at_its_line(tmp_path: Path, text: str) -> None:
    last = len(text.splitlines()) + 1
    error = message(tmp_path, text.rstrip("\n") + "\nfeaturize: {max_tokens: 50}\n")
    assert f": line {last}: key featurize is twice" in error


def test_a_date_that_does_not_exist_is_reported_as_a_wrong_value(tmp_path: Path, text: str) -> None:
    changed, _ = with_value(text, "data.path", "2019-02-30")
    assert "params.yaml" in message(tmp_path, changed)


def test_a_folder_in_place_of_the_params_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"params\.yaml"):
        (tmp_path / "params.yaml").mkdir()
        load_params(tmp_path / "params.yaml")


@pytest.mark.parametrize("key", ["true", "5", "null", "2019-02-03"])
def test_a_key_that_yaml_does_not_read_as_text_keeps_its_name_and_line(
    tmp_path: Path, text: str, key: str
) -> None:
    last = len(text.splitlines()) + 1
    error = message(tmp_path, text.rstrip("\n") + f"\n{key}: 2\n")
    assert error.startswith(f"{tmp_path / 'params.yaml'}: ")
    assert f": line {last}: key {key}: quote it" in error


def test_settings_replace_values_and_the_last_of_a_key_counts(project_root: Path) -> None:
    settings = ["seed=7", "data.path=/a/b=c", "subset.language=null", "seed=8", "featurize={}"]
    params = with_settings(project_root / "params.yaml", settings)
    assert (params.seed, params.data.path, params.subset.language) == (8, "/a/b=c", None)
    assert params.featurize.max_tokens == 50


@pytest.mark.parametrize(
    ("setting", "answer"),
    [
        ("embed.epoch=5", "embed.epoch: unknown key; did you mean 'epochs'?"),
        (
            "embed.epochs=many",
            "embed.epochs: input should be a valid integer or 'auto' (found 'many')",
        ),
        ("embed.window=many", "embed.window: input should be a valid integer (found 'many')"),
        ("embed=5", "embed: input should be a valid dictionary"),
        ("seed.more=5", "seed: input should be a valid integer"),
        ("embed.epochs=[1", "embed.epochs: not a YAML value (found '[1')"),
        ("embed.epochs", "embed.epochs: not of the form KEY=VALUE"),
        ("=5", "=5: not of the form KEY=VALUE"),
    ],
)
def test_a_wrong_setting_is_named_in_one_line(
    project_root: Path, setting: str, answer: str
) -> None:
    with pytest.raises(ParamsError) as caught:
        with_settings(project_root / "params.yaml", [setting])
    assert str(caught.value).startswith(answer)
    assert "\n" not in str(caught.value)


def test_a_wrong_file_is_not_blamed_on_the_settings(tmp_path: Path, text: str) -> None:
    changed, line = with_value(text, "embed.epochs", "0")
    (tmp_path / "params.yaml").write_text(changed, encoding="utf-8")
    with pytest.raises(ParamsError, match=rf"params\.yaml:{line}: embed\.epochs: "):
        with_settings(tmp_path / "params.yaml", ["seed=7"])


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("!!bool x", "'x' is no bool"),
        ("!!timestamp x", 'failed to construct timestamp from "x"'),
        ("2020-13-45", "'2020-13-45' is no timestamp"),
        ("!!int x", "'x' is no int"),
        ("!!float x", "'x' is no float"),
    ],
)
def test_a_value_that_is_not_of_its_tag_is_an_error_with_its_line(
    tmp_path: Path, text: str, value: str, problem: str
) -> None:
    changed, line = with_value(text, "embed.epochs", value)
    said = message(tmp_path, changed)
    assert said.endswith(f"params.yaml: not valid YAML: line {line}: {problem}")
    with pytest.raises(ParamsError, match=r"^seed: "):
        with_settings(Path(__file__).parents[2] / "params.yaml", [f"seed={value}"])


ODD_VALUES = [
    *("", "null", "yes", "off", "1e3", "1e999", ".nan", ".inf", "0x10", "1_000", "12:30:45"),
    *("2020-13-45", "!!python/object/apply:os.getcwd []", "!!bool x", "!!timestamp x", "!!set {a}"),
    *("!!binary aGk=", "&a [*a]", "&a {b: *a}", "*a", "<<: 1", "<<: *a", "[]", "{}", "[1, a]"),
    *(
        "'",
        '"\\ud800"',
        '"\\x00"',
        "? a",
        "- - -",
        "|",
        "%YAML 1.1",
        "---",
        "\t",
        "@",
        "`",
        "#",
        "!",
    ),
    *("{[1]: 2}", "9" * 5000, "[" * 2000, "=", "!!omap [a]", "!<x>", "\x00", "\ufeff", "\u2028"),
]
EDITS = st.tuples(
    st.sampled_from(["value", "remove", "repeat", "insert", "within"]),
    st.integers(0, 10**6),
    st.sampled_from(ODD_VALUES) | st.text(max_size=20),
)


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(edits=st.lists(EDITS, min_size=1, max_size=3))
def test_an_edited_file_is_valid_or_a_params_error(
    tmp_path: Path, text: str, edits: list[tuple[str, int, str]]
) -> None:
    lines = text.splitlines()
    for edit, place, value in edits:
        line = place % len(lines)
        if edit == "value":
            lines[line] = f"{lines[line].partition(':')[0]}: {value}"
        elif edit == "remove":
            del lines[line]
        elif edit == "repeat":
            lines.insert(line, lines[place % 7 % len(lines)])
        elif edit == "insert":
            lines.insert(line, value)
        else:
            column = place % (len(lines[line]) + 1)
            lines[line] = lines[line][:column] + value + lines[line][column:]
    path = tmp_path / "params.yaml"
    path.write_bytes("\n".join(lines).encode("utf-8", "surrogatepass"))
    try:
        assert isinstance(load_params(path), Params)
    except ParamsError as error:
        assert str(path) in str(error)


# Values in the notation of `dvc exp run --set-param`


def as_dvc_reads_it(folder: Path, value: str) -> Any:
    """Return the value of a key after an override, by DVC's own function."""
    file = folder / "params.yaml"
    file.write_text("data:\n  key: 1\n")
    apply_overrides(file, [f"data.key={value}"])
    return load_yaml(file)["data"]["key"]


@pytest.mark.parametrize(
    "value",
    [
        "categoría",
        "nombre del rubro",
        "it's",
        'say "x"',
        "a,b",
        "{x}",
        "[x]",
        "$HOME",
        "${x}",
        "\\${x}",
        "back\\slash",
        "end\\",
        '\\"',
        "a=b",
        "a: b",
        "",
        " ",
        "#",
        "~",
        "tab\there",
        "line\nbreak",
        "true",
        "NULL",
        "nan",
        "10",
        "1e3",
        "off",
        "mlp",
        "data/sample",
        ["mlp", "svm"],
        ["a, b", "ñ"],
        [],
        [3, 4],
        None,
        True,
        1e-05,
        7,
    ],
    ids=repr,
)
def test_an_override_is_what_dvc_reads(tmp_path: Path, value: Any) -> None:
    found = as_dvc_reads_it(tmp_path, override_value(value))
    assert (type(found), found) == (type(value), value)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=st.text(st.sampled_from("ab\\'\"${}[] ,é:=\n"), max_size=8))
def test_any_text_as_an_override_is_what_dvc_reads(tmp_path: Path, value: str) -> None:
    assert as_dvc_reads_it(tmp_path, override_value(value)) == value
