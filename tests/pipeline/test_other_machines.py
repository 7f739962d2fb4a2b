"""Emulated CPUs and other Python versions give the same bytes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.tiny_project import (
    STAGES,
    change_params,
    digests,
    outputs_of,
    run_in,
    write_constraints,
)

pytest_plugins = ["support.tiny_project"]

QEMU = shutil.which("qemu-x86_64")
# All stages run in one process because imports take most of the time under emulation.
RUN = """
import runpy, sys
sys.path.insert(0, "stages")
for stage in sys.argv[1:]:
    sys.argv[:] = [f"stages/{stage}.py"]
    runpy.run_path(sys.argv[0], run_name="__main__")
"""
WITHOUT_TORCH = ("subset", "featurize", "embed", "pseudo_label", "train_svm")
PACKAGES = [
    *("gensim", "numba", "pandas", "pyarrow", "pydantic", "pyyaml", "rich", "ruamel-yaml"),
    *("safetensors", "scikit-learn", "typer"),
]


def copy_of(first_project: Path, folder: Path) -> Path:
    """Copy the code and data of the first project, with params for one epoch on a few titles."""
    for part in ("data", "src", "stages", "params.yaml"):
        source, copy = first_project / part, folder / part
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, copy) if source.is_dir() else shutil.copy(source, copy)
    change_params(folder, max_rows=600, epochs=1, max_epochs=1)
    return folder


@pytest.mark.slow
@pytest.mark.skipif(QEMU is None, reason="no qemu-x86_64 (qemu-user)")
def test_other_cpus_give_the_same_bytes(first_project: Path, tmp_path: Path) -> None:
    run = [sys.executable, "-c", RUN, *STAGES]
    cpus = {
        cpu: subprocess.Popen(
            [str(QEMU), "-cpu", cpu, *run],
            cwd=copy_of(first_project, tmp_path / cpu),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for cpu in ("Haswell", "EPYC-Milan")
    }
    native = copy_of(first_project, tmp_path / "native")
    run_in(native, *run)
    expected = digests(native, *outputs_of(*STAGES))
    assert len(expected) > 60
    for cpu, process in cpus.items():
        output, _ = process.communicate()
        assert process.returncode == 0, output
        assert digests(tmp_path / cpu, *outputs_of(*STAGES)) == expected, cpu


@pytest.fixture(params=["3.12", "3.13", "3.14"])
def other_python(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Path of another Python, with the locked packages of the stages that do not need torch."""
    if request.param == f"{sys.version_info.major}.{sys.version_info.minor}":
        pytest.skip("the tests run in this Python")
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
    pyenv_pythons = map(str, versions.glob(f"{request.param}.*/bin/python"))
    for found in (f"python{request.param}", *pyenv_pythons):
        venv: list[str | Path] = [found, "-m", "venv", tmp_path / "env"]
        if shutil.which(found) and not subprocess.run(venv, check=False).returncode:
            break
    else:
        pytest.skip(f"no Python {request.param}")
    constraints = write_constraints(tmp_path)
    python = str(tmp_path / "env" / "bin" / "python")
    pip = [python, "-m", "pip", "install", "--quiet", "--only-binary", ":all:"]
    done = subprocess.run(
        [*pip, *PACKAGES, "--constraint", constraints], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"Python {request.param}: {done.stderr.splitlines()[-1]}")
    return python


@pytest.mark.slow
def test_other_pythons_give_the_same_bytes(
    other_python: str, first_project: Path, tmp_path: Path
) -> None:
    here, there = (copy_of(first_project, tmp_path / name) for name in ("here", "there"))
    run_in(here, sys.executable, "-c", RUN, *WITHOUT_TORCH)
    run_in(there, other_python, "-c", RUN, *WITHOUT_TORCH)
    expected = digests(here, *outputs_of(*WITHOUT_TORCH))
    assert len(expected) > 15
    assert digests(there, *outputs_of(*WITHOUT_TORCH)) == expected
