"""dvc.yaml declares the code, the params and the outputs of each stage correctly."""

from __future__ import annotations

import runpy
import shutil
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from dvc.schema import COMPILED_MULTI_STAGE_SCHEMA
from voluptuous import Invalid

from rubro.base.params_file import load_params
from support.imports import FILES, reached_from
from support.tiny_project import GRAPH, ROOT, ReadParams, in_this_process, outputs_of

pytest_plugins = ["support.tiny_project"]
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec.* is deprecated")

STAGES = GRAPH["stages"]


def code_of(stage: str) -> set[Path]:
    """Return the script of a stage and every file that it imports, directly or not."""
    return {FILES[name].relative_to(ROOT) for name in reached_from(stage) if name in FILES}


def files_in(project: Path) -> set[tuple[str, int, int]]:
    """Return name, modification time and size of each file outside caches and repositories."""
    hidden = {".git", ".dvc", "__pycache__", ".checkpoints"}
    return {
        (str(path.relative_to(project)), path.stat().st_mtime_ns, path.stat().st_size)
        for path in project.rglob("*")
        if path.is_file() and hidden.isdisjoint(path.relative_to(project).parts)
    }


@pytest.mark.parametrize("stage", STAGES)
def test_stage_declares_exactly_the_code_it_imports(stage: str) -> None:
    imported = code_of(stage)
    declared = [dep for dep in STAGES[stage]["deps"] if dep.startswith(("src", "stages"))]
    for file in imported:
        assert any(file.is_relative_to(dep) for dep in declared), file
    for dep in declared:
        assert any(file.is_relative_to(dep) for file in imported), dep


@pytest.mark.parametrize("stage", STAGES)
def test_stage_declares_params_it_reads_and_outputs_it_writes(
    stage: str, first_project: Path, tmp_path: Path
) -> None:
    """Run a stage in a project that contains its inputs and no other outputs."""
    project = tmp_path / "project"
    without = shutil.ignore_patterns(".git", "cache")
    shutil.copytree(first_project, project, symlinks=True, ignore=without)
    inputs = [project / dep for dep in STAGES[stage]["deps"]]
    for output in outputs_of(*STAGES):
        for path in [project / output, *(project / output).rglob("*")]:
            if path.is_file() and not any(map(path.is_relative_to, inputs)):
                path.unlink()
    params = ReadParams(load_params(project / "params.yaml"))
    before = files_in(project)
    torch.set_num_threads(1)  # as in the process of a stage
    with in_this_process(project) as script:
        runpy.run_path(script(stage))["main"](params)
    if stage != "pseudo_label":  # it reads no params, because there are no unlabelled titles here
        assert {name.split(".")[0] for name in STAGES[stage]["params"]} == params.names
    written = set()
    for file, *_ in before ^ files_in(project):
        outputs = [output for output in outputs_of(stage) if Path(file).is_relative_to(output)]
        assert outputs, f"{file} is not a declared output"
        written |= set(outputs)
    assert written == set(outputs_of(stage))


def test_dvc_yaml_has_only_known_keys() -> None:
    COMPILED_MULTI_STAGE_SCHEMA(GRAPH)
    mistyped = deepcopy(GRAPH)
    mistyped["stages"]["embed"]["paramz"] = mistyped["stages"]["embed"].pop("params")
    with pytest.raises(Invalid, match="paramz"):
        COMPILED_MULTI_STAGE_SCHEMA(mistyped)


def test_every_param_is_read_by_a_stage() -> None:
    declared = {name.split(".")[0] for stage in STAGES.values() for name in stage["params"]}
    assert declared == set(load_params(ROOT / "params.yaml").model_dump())


def test_every_param_has_a_comment() -> None:
    for line in (ROOT / "params.yaml").read_text().splitlines():
        if line.strip() and not line.strip().startswith("#") and not line.rstrip().endswith(":"):
            assert " #" in line or line.strip().startswith("- "), line


def test_plots_and_artifacts_are_outputs() -> None:
    outputs = outputs_of(*STAGES)
    files = {file for plot in GRAPH["plots"] for spec in plot.values() for file in spec["y"]}
    paths = files | {artifact["path"] for artifact in GRAPH["artifacts"].values()}
    for path in paths:
        assert any(path == out or path.startswith(f"{out}/") for out in outputs), path
