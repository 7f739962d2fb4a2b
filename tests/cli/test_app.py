"""`rubro` itself, and its commands check, overrides and sample."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rubro import __version__
from rubro.base.params_file import override_value
from rubro.cli import COMMANDS, app

pytest_plugins = ["support.keyword_model"]

ROOT = Path(__file__).resolve().parents[2]
PARAMS = str(ROOT / "params.yaml")


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(arguments))
    return result.exit_code, result.output


def test_version_is_the_version_of_the_package() -> None:
    assert run("--version") == (0, f"rubro {__version__}\n")


def test_help_shows_summaries_and_examples() -> None:
    _, output = run("--help")
    commands = output.partition("--help ")[2].partition("\n")[2]
    listed = dict(re.findall(r"^  (\w+) +(\w.*)$", commands, re.MULTILINE))
    assert tuple(listed) == COMMANDS
    for name, summary in listed.items():
        assert f"\n  {summary}\n" in run(name, "--help")[1]
    assert "\n  rubro predict catalogue.csv -o answers.csv\n" in run("predict", "--help")[1]


def test_the_commands_are_listed_in_groups_with_whole_summaries() -> None:
    _, output = run("--help")
    groups = re.findall(r"^(\w.*):\n((?:  \w+ .*\n)+)", output, re.MULTILINE)
    assert len(groups) > 2
    assert sum(rows.count("\n") for _, rows in groups) == len(COMMANDS)
    assert max(map(len, output.splitlines())) <= 80
    assert "..." not in output.partition("COMMAND [ARGS]...")[2]


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("columns", [60, 80])
def test_the_help_fits_the_terminal(
    name: str, columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    with pytest.raises(SystemExit):  # CliRunner would always use 80 columns
        app([name, "--help"])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= columns


def _train_packages() -> list[str]:
    """Return the names by which the packages of the extra train are imported."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = [re.split("[>=]", line)[0] for line in project["optional-dependencies"]["train"]]
    return [{"pyyaml": "yaml", "scikit-learn": "sklearn"}.get(name, name) for name in names]


ARGUMENTS = {
    **{name: ["titles.csv"] for name in ("predict", "evaluate", "thresholds", "next")},
    "explain": ["Mesa"],
    "sweep": ["seed=1"],
    "search": ["space.yaml"],
    "sample": ["new"],
    "overrides": ["preset.yaml"],
}


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "serve"])
def test_a_command_that_needs_the_training_packages_says_so(
    tmp_path: Path, model: Path, name: str
) -> None:
    (tmp_path / "titles.csv").write_text("title,category\nmesa,TABLES\n" * 20)
    options = ["--model", str(model)] * (name in ("predict", "explain"))
    # Python cannot import a module that is None in sys.modules.
    script = (
        f"import sys; sys.modules |= dict.fromkeys({_train_packages()!r}); "
        "from rubro.cli import app; app()"
    )
    command = [sys.executable, "-c", script, name, *ARGUMENTS.get(name, []), *options]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    is_needed = "pip install 'rubro[train" in run(name, "--help")[1].replace("\n ", "")
    assert is_needed == (name not in ("predict", "explain"))
    if is_needed:
        assert done.returncode == 2
        extra = "train,search" if name == "search" else "train"
        assert f"error: rubro {name} needs the packages of the extra {extra!r}" in done.stderr
        assert len(done.stderr.splitlines()) == 1
    else:
        assert done.returncode == 0, done.stderr


def test_a_mistyped_command_is_corrected() -> None:
    code, output = run("predcit")
    assert code == 2
    assert "'predict'" in output


def test_check_accepts_the_params_of_the_project() -> None:
    code, output = run("check", PARAMS)
    assert code == 0
    assert output.startswith(f"{PARAMS}: ")
    assert output.count("\n") == 1


def test_check_reports_the_line_of_a_mistyped_section(tmp_path: Path) -> None:
    params = tmp_path / "params.yaml"
    shutil.copy(PARAMS, params)
    lines = len(params.read_text().splitlines())
    with params.open("a") as file:
        file.write("tain_mlp:\n  max_epochs: 3\n")
    code, output = run("check", str(params))
    assert code == 2
    assert f"params.yaml:{lines + 1}: tain_mlp" in output
    assert "'train_mlp'" in output


def test_line_100_is_not_printed_as_an_emoji(tmp_path: Path) -> None:
    params = tmp_path / "params.yaml"
    params.write_text("#\n" * 99 + "other: 1\n")
    assert "params.yaml:100: other" in run("check", str(params))[1]


def test_overrides_prints_options_of_dvc() -> None:
    code, output = run("overrides", str(ROOT / "presets/original.yaml"), "--params", PARAMS)
    assert code == 0
    options = output.split()
    assert options[::2] == ["-S"] * (len(options) // 2)
    assert "train_cnn.filter_sizes=[3,4,5]" in options
    assert "networks.embedding_scale=null" in options


def test_overrides_are_quoted_for_the_shell_if_necessary(tmp_path: Path) -> None:
    columns = {"title_column": "it's a título", "category_column": 'a "b", {$HOME} `c` *'}
    preset = tmp_path / "preset.yaml"
    preset.write_text(json.dumps({"data": columns}))
    _, output = run("overrides", str(preset), "--params", PARAMS)
    show = "import json, sys; print(json.dumps(sys.argv[1:]))"
    command = ["sh", "-c", "eval \"$0 -c '$1' $2\"", sys.executable, show, output]
    words = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    assert words[::2] == ["-S", "-S"]
    assert words[1::2] == [f"data.{key}={override_value(name)}" for key, name in columns.items()]


@pytest.mark.parametrize(
    "preset", ["train_cnn:\n  filters: many\n", "embed:\n  size: 3\n", "- 1\n"]
)
def test_overrides_rejects_a_wrong_preset(tmp_path: Path, preset: str) -> None:
    (tmp_path / "preset.yaml").write_text(preset)
    code, output = run("overrides", str(tmp_path / "preset.yaml"), "--params", PARAMS)
    assert code == 2
    assert "-S" not in output


@pytest.mark.parametrize(("rows", "code", "files"), [("1000", 0, 6), ("10", 2, 0)])
def test_sample_writes_files_unless_it_has_too_few_rows(
    tmp_path: Path, rows: str, code: int, files: int
) -> None:
    folder = tmp_path / "new"
    found, output = run("sample", str(folder), "--rows", rows, "--seed", "3")
    assert found == code
    assert len(list(folder.glob("*"))) == files
    assert code == 0 or "1000" in output
