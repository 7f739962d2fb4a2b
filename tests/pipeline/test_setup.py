"""Installation and stages work with other settings of pip, and for users without a name or home."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from support.tiny_project import ROOT


def make(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run make with the project's Makefile in a folder."""
    command = ["make", "--file", str(ROOT / "Makefile"), *arguments]
    environment = os.environ | variables
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_settings_of_pip_for_other_installations_do_not_reach_the_environment() -> None:
    settings = {"PIP_USER": "1", "PIP_TARGET": "/elsewhere", "PIP_PREFIX": "/elsewhere"}
    settings["PIP_CERT"] = "kept"
    shown = make(ROOT, "--eval", "shown: ; @env", "shown", **settings).stdout.splitlines()
    assert {"PIP_USER=no", "PIP_CERT=kept"} <= set(shown)
    assert not any("/elsewhere" in line for line in shown)


def test_make_passes_a_name_for_a_user_without_one() -> None:
    for name, passed in (("", str(os.getuid())), ("maria", "maria")):
        shown = make(ROOT, "--eval", "shown: ; @env", "shown", USER=name).stdout.splitlines()
        assert f"USER={passed}" in shown


def test_repro_in_a_download_without_git_names_the_remedy(tmp_path: Path) -> None:
    done = make(tmp_path, "repro", GIT_CEILING_DIRECTORIES=str(tmp_path.parent))
    assert done.returncode == 2
    assert "git init" in done.stderr
    assert not (tmp_path / ".venv").exists()


def test_compiled_functions_need_no_writable_folder(tmp_path: Path) -> None:
    for name in ("src", "stages"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignored)
    for folder in ("kernels", "training"):
        (tmp_path / "src" / "rubro" / folder / "__pycache__").touch()  # not a folder
    (tmp_path / "file").touch()
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    code = (
        "import process_setup, rubro.kernels.pairwise_sum, os; print(os.environ['NUMBA_CACHE_DIR'])"
    )
    for chosen in ("", str(tmp_path / "file" / "numba")):
        variables = {"XDG_CACHE_HOME": str(tmp_path / "file"), "NUMBA_CACHE_DIR": chosen}
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path / "stages",
            env=os.environ | variables | {"TMPDIR": str(temporary)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert Path(done.stdout.strip()).parent == temporary
        assert not list(temporary.iterdir())


def test_stages_have_a_user_name_even_if_the_system_knows_none() -> None:
    code = """
import getpass, pwd
def unknown(number):
    raise KeyError(number)
pwd.getpwuid = unknown
import process_setup
print(getpass.getuser())
"""
    names = ("LOGNAME", "USER", "LNAME", "USERNAME")
    for variables, expected in (({}, str(os.getuid())), ({"USER": "maria"}, "maria")):
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT / "stages",
            env={k: v for k, v in os.environ.items() if k not in names} | variables,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout == f"{expected}\n"
