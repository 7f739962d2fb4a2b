"""The `rubro` command, as its users call it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rubro import __version__
from rubro.base.params_file import override_value
from rubro.cli import app

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(arguments))
    return result.exit_code, result.output


def test_check_accepts_the_projects_params() -> None:
    assert run("check", str(ROOT / "params.yaml")) == (0, "")


def test_check_names_the_line_of_a_mistyped_section(tmp_path: Path) -> None:
    params = tmp_path / "params.yaml"
    shutil.copy(ROOT / "params.yaml", params)
    lines = len(params.read_text().splitlines())
    with params.open("a") as file:
        file.write("tain_mlp:\n  max_epochs: 3\n")
    done = subprocess.run(
        [sys.executable, "-m", "rubro.cli", "check", str(params)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert f"params.yaml:{lines + 1}: tain_mlp: unknown key" in done.stderr
    assert "did you mean 'train_mlp'?" in done.stderr


def test_overrides_prints_options_of_dvc() -> None:
    code, output = run(
        "overrides", str(ROOT / "presets/original.yaml"), "--params", str(ROOT / "params.yaml")
    )
    assert code == 0
    options = output.split()
    assert options[::2] == ["-S"] * (len(options) // 2)
    assert "train_cnn.filter_sizes=[3,4,5]" in options
    assert "networks.embedding_scale=null" in options


def test_overrides_are_quoted_for_the_shell_where_they_need_it(tmp_path: Path) -> None:
    columns = {"title_column": "it's a título", "category_column": 'a "b", {$HOME} `c` *'}
    preset = tmp_path / "preset.yaml"
    preset.write_text(json.dumps({"data": columns}))
    _, output = run("overrides", str(preset), "--params", str(ROOT / "params.yaml"))
    show = "import json, sys; print(json.dumps(sys.argv[1:]))"
    words = subprocess.run(
        ["sh", "-c", "eval \"$0 -c '$1' $2\"", sys.executable, show, output],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert json.loads(words) == [
        "-S",
        f"data.title_column={override_value(columns['title_column'])}",
        "-S",
        f"data.category_column={override_value(columns['category_column'])}",
    ]


@pytest.mark.parametrize(
    "preset", ["train_cnn:\n  filters: many\n", "embed:\n  size: 3\n", "- 1\n"]
)
def test_overrides_refuses_a_wrong_preset(tmp_path: Path, preset: str) -> None:
    (tmp_path / "preset.yaml").write_text(preset)
    code, output = run(
        "overrides", str(tmp_path / "preset.yaml"), "--params", str(ROOT / "params.yaml")
    )
    assert code == 2
    assert "-S" not in output


def test_sample_writes_the_six_files(tmp_path: Path) -> None:
    code, _ = run("sample", str(tmp_path / "new"), "--rows", "1000", "--seed", "3")
    assert code == 0
    assert len(list((tmp_path / "new").iterdir())) == 6


def test_sample_refuses_too_few_rows(tmp_path: Path) -> None:
    code, output = run("sample", str(tmp_path / "new"), "--rows", "10")
    assert code == 2
    assert "1000" in output
    assert not (tmp_path / "new").exists()


def test_version_is_that_of_the_package() -> None:
    assert run("--version") == (0, f"rubro {__version__}\n")


def test_help_shows_every_command_and_examples() -> None:
    _, output = run("--help")
    for command in ("predict", "evaluate", "sample", "check", "overrides", "gate"):
        assert f"  {command} " in output
    _, output = run("predict", "--help")
    assert "\n  rubro predict catalogue.csv -o answers.csv\n" in output
