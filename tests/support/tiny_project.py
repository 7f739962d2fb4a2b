"""Fixtures with the project on a tiny catalogue, in its own Git and DVC repository.

A test file loads them with `pytest_plugins = ["support.tiny_project"]`.
"""

from __future__ import annotations

import hashlib
import os
import re
import runpy
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from ruamel.yaml import YAML

from rubro.base.params import Params
from rubro.sample import write_catalogue

ROOT = Path(__file__).resolve().parents[2]
GRAPH: dict[str, Any] = YAML(typ="safe").load(ROOT / "dvc.yaml")
STAGES = tuple(GRAPH["stages"])
Run = Callable[..., subprocess.CompletedProcess[str]]


class ReadParams:
    """Params that record which of their sections were read."""

    def __init__(self, params: Params) -> None:
        self._params = params
        self.names: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        self.names.add(name)
        return getattr(self._params, name)


def environment() -> dict[str, str]:
    """Return the environment of a command, with this Python first in PATH."""
    identity = ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL")
    variables = os.environ | dict.fromkeys(identity, "tests@example.org")
    variables["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    variables["DVC_NO_ANALYTICS"] = "true"
    variables.pop("MLFLOW_TRACKING_URI", None)
    return variables


def run_in(folder: Path, *command: str, ok: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder; unless ok is False, assert that it succeeds."""
    done = subprocess.run(
        command, cwd=folder, env=environment(), capture_output=True, text=True, check=False
    )
    if ok:
        assert done.returncode == 0, done.stdout + done.stderr
    return done


def start_stage(project: Path, stage: str, *prefix: str) -> subprocess.Popen[str]:
    """Start a stage in its own process group, with a checkpoint after each epoch.

    Args:
        project: Folder of the project.
        stage: Name of the stage.
        prefix: Command that runs the stage, such as nohup.
    """
    return subprocess.Popen(
        [*prefix, sys.executable, f"stages/{stage}.py"],
        cwd=project,
        env={**environment(), "RUBRO_CHECKPOINT_SECONDS": "0"},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def read_until(process: subprocess.Popen[str], beginning: str) -> None:
    """Read the messages of a process until a line begins with a text."""
    assert process.stderr is not None
    assert any(line.startswith(beginning) for line in process.stderr)


@contextmanager
def in_this_process(project: Path) -> Iterator[Callable[[str], str]]:
    """Run stages in this process, which is faster because their imports are loaded already.

    Yields:
        Function from the name of a stage to the path of its script.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        patch.syspath_prepend(str(ROOT / "stages"))
        yield lambda stage: str(ROOT / "stages" / f"{stage}.py")


def run_here(project: Path, stage: str) -> tuple[int, str]:
    """Run a stage in this process; return its exit code and its standard error."""
    with (
        in_this_process(project) as script,
        redirect_stderr(StringIO()) as stderr,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(sys, "argv", [script(stage)])
        try:
            runpy.run_path(script(stage), run_name="__main__")
        except SystemExit as stop:
            return stop.code if isinstance(stop.code, int) else 1, stderr.getvalue()
    return 0, stderr.getvalue()


def copy_project(folder: Path) -> None:
    """Copy the files of the project that Git tracks or would add, without tests and outputs."""
    listed = run_in(ROOT, "git", "ls-files", "--cached", "--others", "--exclude-standard").stdout
    for name in listed.splitlines():
        source = ROOT / name
        if source.is_file() and not name.startswith(
            ("tests/", "data/sample/", "metrics/", "dvc.lock")
        ):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, folder / name)


def shrink(params_file: Path) -> None:
    """Set the values of presets/tiny.yaml in params.yaml."""
    yaml = YAML()
    params = yaml.load(params_file)
    for section, values in yaml.load(ROOT / "presets" / "tiny.yaml").items():
        params[section].update(values)
    yaml.dump(params, params_file)


def change_params(project: Path, **values: object) -> None:
    """Change keys of params.yaml in every section that has them."""
    file = project / "params.yaml"
    text = file.read_text()
    for key, value in values.items():
        text, count = re.subn(rf"(?m)^( *){key}: \S+", rf"\g<1>{key}: {value}", text)
        assert count
    file.write_text(text)


def write_constraints(folder: Path) -> Path:
    """Write the versions of requirements.lock as constraints for pip, without hashes."""
    locked = (ROOT / "requirements.lock").read_text()
    constraints = folder / "constraints.txt"
    constraints.write_text("\n".join(re.findall(r"^\w[^\\\n]*", locked, re.MULTILINE)))
    return constraints


def stages_run(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Return the names of the stages that a `dvc repro` or an experiment ran."""
    return re.findall(r"Running stage '(\w+)'", done.stdout + done.stderr)


def outputs_of(*stages: str) -> list[str]:
    """Return the outputs of stages in dvc.yaml."""
    return [
        output
        for stage in stages
        for entry in (
            *GRAPH["stages"][stage]["outs"],
            *GRAPH["stages"][stage].get("plots", []),
            *GRAPH["stages"][stage].get("metrics", []),
        )
        # An output with options is a dictionary, whose key is the path.
        for output in ([entry] if isinstance(entry, str) else entry)
    ]


def digests(project: Path, *names: str) -> dict[str, str]:
    """Return the SHA-256 of each file, including all files in folders."""
    files = [file for name in names for file in (project / name).rglob("*")]
    files += [project / name for name in names]
    return {
        str(file.relative_to(project)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in files
        if file.is_file()
    }


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> bool:
    """Poll a condition until it is true; return False if it is still false after some seconds."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def commit(project: Path, message: str) -> None:
    run_in(project, "git", "add", "--all")
    run_in(project, "git", "commit", "--quiet", "--message", message)


def make_repository(folder: Path, graph: str, stages: Mapping[str, str]) -> None:
    """Write a pipeline with the parameters of this project, run it and commit it.

    Args:
        folder: Folder of the repository, which is empty or missing.
        graph: Content of dvc.yaml.
        stages: Script of each stage, by its name.
    """
    (folder / "stages").mkdir(parents=True)
    for name in ("params.yaml", ".gitignore"):
        shutil.copy(ROOT / name, folder / name)
    for name, script in stages.items():
        (folder / "stages" / f"{name}.py").write_text(script)
    (folder / "dvc.yaml").write_text(graph)
    run_in(folder, "git", "init", "--quiet", "--initial-branch", "main")
    run_in(folder, "dvc", "init", "--quiet")
    run_in(folder, "dvc", "repro", "--quiet")
    commit(folder, "first run")


@pytest.fixture(scope="session")
def first_project(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A repository with a tiny catalogue after its first `dvc repro`; tests only read it.

    The workers of pytest-xdist share it, and the first worker creates it.
    """
    own = tmp_path_factory.getbasetemp()
    shared = own if worker_id == "master" else own.parent
    with FileLock(shared / "first.lock"):
        if not (shared / "first").exists():
            make_first_project(own / "first-unfinished").rename(shared / "first")
    return shared / "first"


def make_first_project(folder: Path) -> Path:
    folder.mkdir()
    copy_project(folder)
    shrink(folder / "params.yaml")
    write_catalogue(folder / "data" / "sample", rows=6_000)
    run_in(folder, "git", "init", "--quiet", "--initial-branch", "main")
    commit(folder, "tiny")
    assert stages_run(run_in(folder, "dvc", "repro")) == list(STAGES)
    commit(folder, "first run")
    return folder


@pytest.fixture
def project(first_project: Path, tmp_path: Path) -> Path:
    """A copy of the first project that a test may change."""
    folder = tmp_path / "project"
    shutil.copytree(first_project, folder, symlinks=True)
    return folder
