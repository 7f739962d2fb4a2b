"""The wheel predicts without the packages of the pipeline, in an otherwise empty environment."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from support.tiny_project import ROOT, run_in, write_constraints

pytest_plugins = ["support.tiny_project"]
pytestmark = pytest.mark.slow

PIPELINE_ONLY = ("torch", "gensim", "lightning", "sklearn", "scipy", "pandas", "dvc")


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the programs of a virtual environment into which the wheel was installed."""
    folder = tmp_path_factory.mktemp("wheel")
    pip: list[str | Path] = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", folder, ROOT], check=True)
    [wheel] = folder.glob("rubro-*.whl")
    subprocess.run([sys.executable, "-m", "venv", folder / "env"], check=True)
    programs = folder / "env" / ("Scripts" if sys.platform == "win32" else "bin")
    locked: list[str | Path] = ["--constraint", write_constraints(folder)]
    subprocess.run([*pip, "--python", programs / "python", "install", wheel, *locked], check=True)
    return programs


def test_wheel_predicts_without_pipeline_packages(
    programs: Path, first_project: Path, tmp_path: Path
) -> None:
    python = str(programs / "python")
    for module in PIPELINE_ONLY:
        done = run_in(tmp_path, python, "-c", f"import {module}", ok=False)
        assert "ModuleNotFoundError" in done.stderr
    model, title = str(first_project / "models" / "ensemble"), "Procesador Intel Core I5"
    code = f"import rubro; print(rubro.Classifier.load({model!r}).predict([{title!r}])[0])"
    from_python = run_in(tmp_path, python, "-c", code).stdout.strip()
    command = [str(programs / "rubro"), "predict", "--model", model, "--format", "jsonl"]
    assert from_python
    assert f'"{from_python}"' in run_in(tmp_path, *command, title).stdout


def test_wheel_contains_templates_of_report_and_cards(programs: Path) -> None:
    done = run_in(programs, str(programs / "python"), "-c", "import rubro; print(rubro.__file__)")
    installed, source = Path(done.stdout.strip()).parent, ROOT / "src" / "rubro"
    for folder in ("report/templates", "cards/templates"):
        names = {path.name for path in (source / folder).iterdir()}
        assert {path.name for path in (installed / folder).iterdir()} == names


@pytest.mark.parametrize(
    "command",
    ["evaluate labelled.csv", "check", "overrides tiny.yaml", "fresh", "gate", "sample folder"],
)
def test_command_that_needs_an_extra_names_it(command: str, programs: Path, tmp_path: Path) -> None:
    (tmp_path / "labelled.csv").write_text("title,category\na,b\n")
    done = run_in(tmp_path, str(programs / "rubro"), *command.split(), ok=False)
    assert done.returncode == 2
    assert "rubro[train]" in done.stderr
