"""Test the Dockerfile and the systemd unit: lint them and run the steps that need no daemon."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from support.serving import Server

pytest_plugins = ["support.keyword_model"]

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "deploy" / "Dockerfile"
UNIT = ROOT / "deploy" / "rubro.service"


def instructions() -> list[tuple[str, str]]:
    """Return the instructions of the Dockerfile and their arguments."""
    lines = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE)
    joined = lines.replace("\\\n", " ").splitlines()
    return [tuple(line.split(maxsplit=1)) for line in joined if line]  # type: ignore[misc]


def arguments_of(name: str) -> list[str]:
    return [argument for instruction, argument in instructions() if instruction == name]


def copied_files() -> set[str]:
    """Return the files that are copied into the image, except the model."""
    copies = [words for words in arguments_of("COPY") if not words.startswith("--from")]
    return {name for words in copies for name in words.split()[:-1]} - {"models/ensemble"}


def test_hadolint_accepts_the_dockerfile() -> None:
    if (hadolint := shutil.which("hadolint")) is None:
        pytest.skip("hadolint is not installed")
    subprocess.run([hadolint, DOCKERFILE], check=True)


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    if (analyze := shutil.which("systemd-analyze")) is None:
        pytest.skip("systemd-analyze is not installed")
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/rubro/bin/rubro", shutil.which("true") or ""))
    done = subprocess.run([analyze, "verify", unit], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    command: list[str | Path] = [analyze, "security", "--offline=true", "--threshold=20", unit]
    subprocess.run(command, capture_output=True, check=True)


def test_copied_files_exist_and_are_not_ignored() -> None:
    ignored = (DOCKERFILE.parent / "Dockerfile.dockerignore").read_text().splitlines()
    kept = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    assert copied_files() == kept - {"models/ensemble"}
    assert all((ROOT / name).exists() for name in copied_files())


@pytest.mark.slow
def test_the_steps_of_the_image_give_a_service_that_answers(model: Path, tmp_path: Path) -> None:
    build, opt = tmp_path / "build", tmp_path / "opt"
    build.mkdir()
    for name in copied_files():
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, build / name)
    for script in arguments_of("RUN"):
        if "venv" in script:
            words = ["sh", "-euc", script.replace("/opt/", f"{opt}/")]
            subprocess.run(words, cwd=build, check=True, capture_output=True)
    words = [*json.loads(arguments_of("ENTRYPOINT")[0]), *json.loads(arguments_of("CMD")[0])]
    words = [
        word.replace("/opt/", f"{opt}/").replace("/models/ensemble", str(model)) for word in words
    ]
    assert "0.0.0.0" in words
    with subprocess.Popen(
        [*words, "--port", "0"], cwd=tmp_path, env={}, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        port = int(process.stderr.readline().rstrip().rpartition(":")[2])
        answer = Server(process, port).ask("/predict", {"titles": "Mesa"})
        assert answer.json["answers"][0]["category"] == "TABLES"
        check = arguments_of("HEALTHCHECK")[0].partition("CMD ")[2]
        words = json.loads(check.replace("/opt/", f"{opt}/").replace(":8000", f":{port}"))
        subprocess.run(words, check=True)
        process.terminate()
    assert process.returncode == 0
