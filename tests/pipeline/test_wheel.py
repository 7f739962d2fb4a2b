"""The wheel alone predicts: in an empty environment, without the packages of the pipeline."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from support.tiny_project import ROOT, run_in, write_constraints

pytest_plugins = ["support.tiny_project"]

PIPELINE_ONLY = ("torch", "gensim", "lightning", "sklearn", "scipy", "pandas", "dvc")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the programs of an environment into which the wheel was installed."""
    folder = tmp_path_factory.mktemp("wheel")
    pip: list[str | Path] = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", folder, ROOT], check=True)
    [wheel] = folder.glob("rubro-*.whl")
    subprocess.run([sys.executable, "-m", "venv", folder / "env"], check=True)
    programs = folder / "env" / ("Scripts" if sys.platform == "win32" else "bin")
    locked: list[str | Path] = ["--constraint", write_constraints(folder)]
    subprocess.run([*pip, "--python", programs / "python", "install", wheel, *locked], check=True)
    return programs


@pytest.mark.slow
def test_the_wheel_predicts_without_the_pipeline(
    installed: Path, first_project: Path, tmp_path: Path
) -> None:
    for module in PIPELINE_ONLY:
        done = run_in(tmp_path, str(installed / "python"), "-c", f"import {module}", ok=False)
        assert "ModuleNotFoundError" in done.stderr
    model = first_project / "models" / "ensemble"
    title = "Procesador Intel Core I5"
    code = f"import rubro; print(rubro.Classifier.load({str(model)!r}).predict([{title!r}])[0])"
    from_python = run_in(tmp_path, str(installed / "python"), "-c", code).stdout.strip()
    command = [str(installed / "rubro"), "predict", "--model", str(model), "--format", "jsonl"]
    done = run_in(tmp_path, *command, title)
    assert from_python
    assert f'"{from_python}"' in done.stdout


@pytest.mark.slow
def test_the_wheel_holds_the_templates_of_report_and_cards(installed: Path) -> None:
    done = run_in(installed, str(installed / "python"), "-c", "import rubro; print(rubro.__file__)")
    package = Path(done.stdout.strip()).parent
    for folder in ("report", "cards"):
        names = {path.name for path in (package / folder / "templates").iterdir()}
        assert names == {
            path.name for path in (ROOT / "src" / "rubro" / folder / "templates").iterdir()
        }


@pytest.mark.slow
def test_what_the_wheel_cannot_do_names_the_extra(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "labelled.csv").write_text("title,category\na,b\n")
    done = run_in(tmp_path, str(installed / "rubro"), "evaluate", "labelled.csv", ok=False)
    assert done.returncode == 2
    assert "rubro[train]" in done.stderr
    done = run_in(tmp_path, str(installed / "rubro"), "report", ok=False)
    assert done.returncode == 2
    assert "rubro[train]" in done.stderr
