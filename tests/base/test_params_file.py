"""Reading an edited params.yaml, and settings given on the command line."""

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
    """Return the text with another value at a dotted key, and the number of the changed line."""
    section, _, name = key.rpartition(".")
    start = re.search(rf"^{section}", text, re.MULTILINE)
    assert start
    # The items of a block list belong to the value.
    written = re.compile(rf"^( *){name}:.*(\n *- .*)*", re.MULTILINE).search(text, start.start())
    assert written
    line = text.count("\n", 0, written.start()) + 1
    return f"{text[: written.start()]}{written[1]}{name}: {value}{text[written.end() :]}", line


def load(folder: Path, text: str) -> Params:
    path = folder / "params.yaml"
    path.write_text(text, encoding="utf-8")
    return load_params(path)


def message(folder: Path, text: str) -> str:
    with pytest.raises(ParamsError) as caught:
        load(folder, text)
    return str(caught.value)


@pytest.mark.parametrize("key", KEYS)
def test_wrong_value_is_reported_with_file_line_and_key(
    tmp_path: Path, text: str, key: str
) -> None:
    changed, line = with_value(text, key, "{an: object}")
    error = message(tmp_path, changed)
    assert error.startswith(f"{tmp_path / 'params.yaml'}:{line}: {key}: ")
    assert "\n" not in error


@pytest.mark.parametrize(
    ("value", "lines_below"), [("[64, 0]", 0), ("\n    - 1\n    - 0", 2)], ids=["inline", "block"]
)
def test_wrong_list_item_is_reported_with_position_and_line(
    tmp_path: Path, text: str, value: str, lines_below: int
) -> None:
    changed, line = with_value(text, "train_cnn.filter_sizes", value)
    expected = f":{line + lines_below}: train_cnn.filter_sizes.1: "
    assert expected in message(tmp_path, changed)


def test_unknown_key_gets_a_suggestion_or_the_known_keys(tmp_path: Path, text: str) -> None:
    last = len(text.splitlines())
    changed, line = with_value(text, "featurize.max_tokens", "50\n  max_tokenz: 20\n  zzz: 1")
    similar, other, section = message(tmp_path, f"{changed}train_cn: {{}}\n").splitlines()
    assert f":{line + 1}: featurize.max_tokenz: unknown key" in similar
    assert "'max_tokens'" in similar
    assert f":{line + 2}: featurize.zzz: unknown key" in other
    assert "min_count, " in other
    assert f":{last + 3}: train_cn: unknown key" in section
    assert "'train_cnn'" in section


def test_missing_key_is_reported_at_its_section(tmp_path: Path, text: str) -> None:
    _, section = with_value(text, "embed", "")
    changed = re.sub(r"(?m)^  window:.*\n", "", text)
    assert f":{section}: embed.window: missing" in message(tmp_path, changed)


@pytest.mark.parametrize(
    ("key", "written", "value"),
    [
        ("train_mlp.learning_rate", "1e-3", 0.001),
        *(("networks.class_weights", written, "off") for written in ("off", '"off"', "'off'")),
        ("subset.language", "no", "no"),
    ],
)
def test_yaml_1_2_values_are_read(
    tmp_path: Path, text: str, key: str, written: str, value: object
) -> None:
    params = load(tmp_path, with_value(text, key, written)[0])
    section, name = key.split(".")
    assert getattr(getattr(params, section), name) == value


def test_dvc_reads_the_same_values(tmp_path: Path, text: str) -> None:
    changed = text
    values = {"networks.class_weights": "off", "subset.language": "no", "seed": "1_0"}
    values |= {"train_mlp.learning_rate": "1e-3", "embed.epochs": "0o17", "data.path": "12:30"}
    for key, value in values.items():
        changed, _ = with_value(changed, key, value)
    assert Params.model_validate(parse_yaml(changed, "params.yaml")) == load(tmp_path, changed)


@pytest.mark.parametrize("content", ["", "# nothing\n", "- a\n- b\n", "seed\n"])
def test_file_without_keys_is_refused(tmp_path: Path, content: str) -> None:
    assert "params.yaml:1: " in message(tmp_path, content)


def test_empty_section_is_refused_at_its_line(tmp_path: Path, text: str) -> None:
    changed = re.sub(r"(?m)^  (members|training_titles):.*\n(    - .*\n)*", "", text)
    _, line = with_value(changed, "ensemble", "")
    assert f":{line}: ensemble: " in message(tmp_path, changed)


@pytest.mark.parametrize("content", ["data: [1, 2\n", "a: b: c\n", "\tseed: 1\n", 'a: "open\n'])
def test_invalid_yaml_is_reported_with_line(tmp_path: Path, content: str) -> None:
    error = message(tmp_path, "\n\n" + content)
    assert error.startswith(f"{tmp_path / 'params.yaml'}: not valid YAML: ")
    assert re.search(r"line [345]\b", error)


def test_latin_1_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(("# año\n" + text).encode("latin-1"))
    with pytest.raises(ParamsError, match=r"params\.yaml: not valid YAML"):
        load_params(path)


def test_missing_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"nowhere\.yaml: no such file"):
        load_params(tmp_path / "nowhere.yaml")
    (tmp_path / "params.yaml").mkdir()
    with pytest.raises(ParamsError, match=r"params\.yaml"):
        load_params(tmp_path / "params.yaml")


@pytest.mark.parametrize(
    ("added", "key"),
    [
        ("featurize: {max_tokens: 50}", "featurize"),  # a section of the file, repeated
        ("other: {one: 1, one: 2}", "one"),
        *((f"{key}: 2", key) for key in ("true", "5", "null", "2019-02-03")),
    ],
)
def test_repeated_or_non_text_key_is_reported_with_line(
    tmp_path: Path, text: str, added: str, key: str
) -> None:
    last = len(text.splitlines()) + 1
    error = message(tmp_path, text.rstrip("\n") + f"\n{added}\n")
    assert error.startswith(f"{tmp_path / 'params.yaml'}: not valid YAML: line {last}: key {key}")


def test_last_setting_of_a_key_counts(project_root: Path) -> None:
    settings = ["seed=7", "data.path=/a/b=c", "subset.language=null", "seed=8", "featurize={}"]
    params = with_settings(project_root / "params.yaml", settings)
    assert (params.seed, params.data.path, params.subset.language) == (8, "/a/b=c", None)
    assert params.featurize.max_tokens == 50


@pytest.mark.parametrize(
    ("setting", "key", "facts"),
    [
        ("embed.epoch=5", "embed.epoch", ["unknown key", "'epochs'"]),
        ("embed.epochs=many", "embed.epochs", ["integer or 'auto'", "(found 'many')"]),
        ("embed.window=many", "embed.window", ["integer", "(found 'many')"]),
        ("embed=5", "embed", ["dictionary"]),
        ("seed.more=5", "seed", ["integer"]),
        ("embed.epochs=[1", "embed.epochs", ["YAML", "(found '[1')"]),
        ("embed.epochs", "embed.epochs", ["KEY=VALUE"]),
        ("=5", "=5", ["KEY=VALUE"]),
    ],
)
def test_wrong_setting_is_reported_in_one_line(
    project_root: Path, setting: str, key: str, facts: list[str]
) -> None:
    with pytest.raises(ParamsError) as caught:
        with_settings(project_root / "params.yaml", [setting])
    error = str(caught.value)
    assert error.startswith(f"{key}: ")
    assert all(fact in error for fact in facts), error
    assert "\n" not in error


def test_wrong_file_is_reported_although_settings_are_right(tmp_path: Path, text: str) -> None:
    changed, line = with_value(text, "embed.epochs", "-1")
    (tmp_path / "params.yaml").write_text(changed, encoding="utf-8")
    with pytest.raises(ParamsError, match=rf"params\.yaml:{line}: embed\.epochs: "):
        with_settings(tmp_path / "params.yaml", ["seed=7"])


@pytest.mark.parametrize(
    ("value", "fact"),
    [
        ("!!bool x", "bool"),
        ("!!timestamp x", "timestamp"),
        ("2020-13-45", "timestamp"),
        ("!!int x", "int"),
        pytest.param(f"0x{'f' * 5000}", "int", id="hexadecimal"),
        ("!!float x", "float"),
    ],
)
def test_value_that_contradicts_its_tag_is_reported_with_line(
    tmp_path: Path, text: str, value: str, fact: str
) -> None:
    changed, line = with_value(text, "embed.epochs", value)
    error = message(tmp_path, changed)
    assert f"params.yaml: not valid YAML: line {line}: " in error
    assert fact in error
    with pytest.raises(ParamsError, match=r"^seed: "):
        with_settings(Path(__file__).parents[2] / "params.yaml", [f"seed={value}"])


def bomb(levels: int) -> str:
    """Return a YAML list whose aliases stand for 10 ** levels values."""
    lists = ["&l0 [x, x, x, x, x, x, x, x, x, x]"]
    lists += [f"&l{i} [{', '.join([f'*l{i - 1}'] * 10)}]" for i in range(1, levels)]
    return f"[{', '.join(lists)}]"


@pytest.mark.parametrize("levels", [3, 9, 60])
def test_aliases_that_stand_for_many_values_are_refused_in_a_short_message(
    tmp_path: Path, text: str, levels: int
) -> None:
    changed, _ = with_value(text, "train_mlp.hidden_sizes", bomb(levels))
    error = message(tmp_path, changed)
    assert all(len(line) < 500 for line in error.splitlines())
    assert ("its aliases" in error) == (levels > 3)


ODD_VALUES = [
    *("", "null", "yes", "off", "1e3", "1e999", ".nan", ".inf", "0x10", "1_000", "12:30:45"),
    *("2020-13-45", "!!python/object/apply:os.getcwd []", "!!bool x", "!!timestamp x", "!!set {a}"),
    *("!!binary aGk=", "&a [*a]", "&a {b: *a}", "*a", "<<: 1", "<<: *a", "[]", "{}", "[1, a]"),
    *("'", '"\\ud800"', '"\\x00"', "? a", "- - -", "|", "%YAML 1.1", "---", "\t", "@", "`", "#"),
    *("!", "{[1]: 2}", "9" * 5000, "[" * 2000, "=", "!!omap [a]", "!<x>", "\x00", "\ufeff"),
    "\u2028",
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
def test_edited_file_is_valid_or_a_params_error(
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


def read_by_dvc(folder: Path, value: str) -> Any:
    """Return the value of a key after an override by DVC's own function."""
    file = folder / "params.yaml"
    file.write_text("data:\n  key: 1\n")
    apply_overrides(file, [f"data.key={value}"])
    return load_yaml(file)["data"]["key"]


TEXTS = [
    *("categoría", "nombre del rubro", "it's", 'say "x"', "a,b", "{x}", "[x]", "$HOME", "${x}"),
    *("\\${x}", "back\\slash", "end\\", '\\"', "a=b", "a: b", "", " ", "#", "~", "tab\there"),
    *("line\nbreak", "true", "NULL", "nan", "10", "1e3", "off", "mlp", "data/sample"),
]
VALUES = [["mlp", "svm"], ["a, b", "ñ"], [], [3, 4], None, True, 1e-05, 7]


@pytest.mark.parametrize("value", [*TEXTS, *VALUES], ids=repr)
def test_dvc_reads_override_unchanged(tmp_path: Path, value: Any) -> None:
    found = read_by_dvc(tmp_path, override_value(value))
    assert (type(found), found) == (type(value), value)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=st.text(st.sampled_from("ab\\'\"${}[] ,é:=\n"), max_size=8))
def test_dvc_reads_any_text_override_unchanged(tmp_path: Path, value: str) -> None:
    assert read_by_dvc(tmp_path, override_value(value)) == value
