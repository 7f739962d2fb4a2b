"""dvc.yaml tells the truth: each stage declares the code it imports and the params it reads."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
import yaml

from rubro.params import load_params

ROOT = Path(__file__).resolve().parent.parent
GRAPH: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text())
STAGES = GRAPH["stages"]


def file_of(module: str) -> Path:
    path = ROOT / "src" / Path(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def imports_of(path: Path) -> set[str]:
    """The modules of rubro that a file imports, at its top or inside a function."""
    modules = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            modules.add(node.module)
            modules |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
    return {name for name in modules if name.split(".")[0] == "rubro" and file_of(name).is_file()}


def import_closure(script: Path) -> set[str]:
    files, todo = set(), imports_of(script) | imports_of(script.with_name("workspace.py"))
    while todo:
        module = todo.pop()
        path = file_of(module)
        if path not in files:
            files.add(path)
            todo |= imports_of(path)
            if "." in module:  # importing a module runs its packages
                todo.add(module.rpartition(".")[0])
    return {str(path.relative_to(ROOT)) for path in files}


def params_read(path: Path, function: str) -> set[str]:
    """The first names after `params.` in a function: `params.embed.epochs` reads embed."""
    names = set()
    for definition in ast.walk(ast.parse(path.read_text())):
        if isinstance(definition, ast.FunctionDef) and definition.name == function:
            for node in ast.walk(definition):
                if (
                    isinstance(node, ast.Attribute)
                    and isinstance(node.value, ast.Name)
                    and node.value.id == "params"
                ):
                    names.add(node.attr)
    return names


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_declares_exactly_the_code_it_imports(stage: str) -> None:
    script = f"stages/{stage}.py"
    declared = {dep for dep in STAGES[stage]["deps"] if dep.endswith(".py")}
    assert declared == {script, "stages/workspace.py"} | import_closure(ROOT / script)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_declares_exactly_the_params_it_reads(stage: str) -> None:
    read = params_read(ROOT / "stages" / f"{stage}.py", "main")
    if stage.startswith("train_"):
        read |= params_read(ROOT / "src" / "rubro" / "training.py", "train_and_save")
    assert set(STAGES[stage]["params"]) == read


def test_every_param_is_read_by_a_stage() -> None:
    declared = {name for stage in STAGES.values() for name in stage["params"]}
    assert declared == set(load_params(ROOT / "params.yaml").model_dump())


def test_params_yaml_explains_every_knob() -> None:
    for line in (ROOT / "params.yaml").read_text().splitlines():
        if line.strip() and not line.rstrip().endswith(":"):
            assert " #" in line or line.strip().startswith("- "), line


def test_every_plot_and_artifact_is_an_output() -> None:
    outputs = {out for stage in STAGES.values() for out in stage["outs"]}
    files = {file for plot in GRAPH["plots"] for spec in plot.values() for file in spec["y"]}
    paths = files | {artifact["path"] for artifact in GRAPH["artifacts"].values()}
    for path in paths:
        assert any(path == out or path.startswith(f"{out}/") for out in outputs), path
