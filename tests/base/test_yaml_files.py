"""Tests of the fast YAML reader, compared with ruamel.yaml, which DVC uses."""

from __future__ import annotations

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from rubro.base.errors import ParamsError
from rubro.base.yaml_files import load_yaml, parse_yaml

SCALARS = """
1 010 08 0o10 0x1F 0b11 1_000 -5 +3 0 _1 1:30 1e-3 1E3 .5 .5e1 1. -.inf .nan 1.5e+3 off on yes no y
true True TRUE null Null ~ 2020-01-01 abc ''
"""


@pytest.mark.parametrize("scalar", SCALARS.split())
def test_scalars_have_the_types_that_dvc_reads(scalar: str) -> None:
    assert repr(parse_yaml(scalar, "test")) == repr(YAML(typ="safe").load(scalar))


def test_merge_keys_are_resolved() -> None:
    text = "a: &a {b: 1, c: 2}\nd:\n  <<: *a\n  b: 3\n"
    assert parse_yaml(text, "test")["d"] == {"b": 3, "c": 2}


@pytest.mark.parametrize("file", ["params.yaml", "dvc.lock", "presets/original.yaml"])
def test_project_files_have_the_values_that_dvc_reads(file: str, project_root: Path) -> None:
    assert load_yaml(project_root / file) == YAML(typ="safe").load(project_root / file)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"a: [\n", "line 2"),
        (b"a: 0x_\n", "invalid literal"),
        (b"\xff", "not valid UTF-8"),
        (None, "not readable"),
    ],
)
def test_unreadable_files_are_reported(content: bytes | None, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "test.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ParamsError, match=problem) as error:
        load_yaml(path)
    assert str(error.value).startswith(f"{path}: ")


def test_aliases_that_stand_for_many_values_are_refused() -> None:
    lists = [f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 10)}]" for i in range(1, 9)]
    with pytest.raises(ParamsError, match="aliases"):
        parse_yaml("\n".join(["l0: &l0 x", *lists]), "test")
    assert len(parse_yaml("\n".join(["l0: &l0 x", *lists[:3]]), "test")["l3"]) == 10
