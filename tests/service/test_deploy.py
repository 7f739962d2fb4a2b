"""Test the files in deploy/: lint them and run the steps that need no daemon."""

from __future__ import annotations

import ctypes
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from ctypes.util import find_library
from inspect import signature
from pathlib import Path

import pytest
import yaml

from rubro.cli import serve
from support.keyword_model import environment, write_model
from support.serving import Server, port_of
from support.tiny_project import wait_until

pytest_plugins = ["support.keyword_model", "support.serving"]

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "deploy" / "Dockerfile"
LOCK = ROOT / "deploy" / "requirements.lock"
UNIT = ROOT / "deploy" / "rubro.service"
ENVIRONMENT = ROOT / "deploy" / "rubro.env"
COMPOSE = ROOT / "deploy" / "compose.yaml"
KUBERNETES = ROOT / "deploy" / "kubernetes.yaml"
# From seccomp.h.
KILL_PROCESS, ALLOW = 0x80000000, 0x7FFF0000


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


def locked_packages(lock: Path) -> set[str]:
    """Return the packages of a lock file, each with its version and hashes, without markers."""
    return set(re.split(r"\n(?=\w)", re.sub(r" ;[^\\]*", " ", lock.read_text().rstrip())))


def unit_settings(name: str) -> list[str]:
    return re.findall(rf"^{name}=(.*)$", UNIT.read_text(), re.MULTILINE)


def settings() -> dict[str, str]:
    """Return the variables of the environment file."""
    lines = ENVIRONMENT.read_text().splitlines()
    return dict(line.split("=") for line in lines if not line.startswith("#"))


def linted(name: str, *arguments: str | Path) -> None:
    """Run a linter, or skip the test if it is not installed."""
    if (linter := shutil.which(name)) is None:
        pytest.skip(f"{name} is not installed")
    done = subprocess.run([linter, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def system_calls(name: str) -> set[str]:
    """Return the system calls of a group of systemd, or the one of this name."""
    if not name.startswith("@"):
        return {name}
    command = ["systemd-analyze", "syscall-filter", name]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    members = re.findall(r"^ +(@?\w[\w-]*)$", listed, re.MULTILINE)
    return set().union(*map(system_calls, members))


def allowed_system_calls() -> set[str]:
    """Return the system calls that the unit allows."""
    allowed = system_calls("@default")  # systemd always allows these
    for value in unit_settings("SystemCallFilter"):
        named = set().union(*map(system_calls, value.removeprefix("~").split()))
        allowed = allowed - named if value.startswith("~") else allowed | named
    return allowed


def system_call_filter(names: Iterable[str]) -> Callable[[], None]:
    """Return a function after which any other system call kills the process."""
    library = ctypes.CDLL(find_library("seccomp"))
    library.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(KILL_PROCESS)))
    for name in names:
        number = library.seccomp_syscall_resolve_name(name.encode())
        if number >= 0:  # this CPU has it
            allow = ctypes.c_uint32(ALLOW), number, 0, None
            assert library.seccomp_rule_add_array(context, *allow) == 0

    def load() -> None:
        assert library.seccomp_load(context) == 0

    return load


def test_hadolint_accepts_the_dockerfile() -> None:
    linted("hadolint", DOCKERFILE)


def test_the_compose_file_follows_its_schema() -> None:
    linted("check-jsonschema", "--builtin-schema", "vendor.compose-spec", COMPOSE)


def test_docker_compose_reads_the_compose_file() -> None:
    linted("docker-compose", "--file", COMPOSE, "config", "--quiet")


def test_the_kubernetes_manifest_follows_its_schema() -> None:
    linted("kubernetes-validate", "--strict", KUBERNETES)


def test_containers_are_restricted_alike() -> None:
    (service,) = yaml.safe_load(COMPOSE.read_text())["services"].values()
    kinds = {each["kind"]: each for each in yaml.safe_load_all(KUBERNETES.read_text())}
    template = kinds["Deployment"]["spec"]["template"]
    pod, (container,) = template["spec"], template["spec"]["containers"]
    assert service["read_only"] is container["securityContext"]["readOnlyRootFilesystem"] is True
    assert service["cap_drop"] == container["securityContext"]["capabilities"]["drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    user = pod["securityContext"]["runAsUser"]
    assert service["user"] == f"{user}:{pod['securityContext']['runAsGroup']}"
    assert arguments_of("USER") == [str(user)]
    assert (service["mem_limit"], service["cpus"]) == ("1g", 1.0)
    assert container["resources"]["limits"] == {"cpu": "1", "memory": "1Gi"}
    paths = [container[f"{name}Probe"]["httpGet"]["path"] for name in ("readiness", "liveness")]
    assert paths == ["/ready", "/health"]
    labels = template["metadata"]["labels"]
    for kind in ("Deployment", "PodDisruptionBudget"):
        assert kinds[kind]["spec"]["selector"]["matchLabels"] == labels
    assert kinds["Service"]["spec"]["selector"] == labels


def test_all_variables_belong_to_options_of_the_service() -> None:
    parameters = signature(serve.main).parameters
    files = (ENVIRONMENT, COMPOSE, KUBERNETES, DOCKERFILE)
    used = [
        name.lower()
        for path in files
        for name in re.findall(r"\bRUBRO_SERVE_([A-Z_]+)", path.read_text())
    ]
    assert {*used} <= {*parameters}
    assert {"host", "port", "model", "thresholds", "corrections"} <= {*used}


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    if (analyze := shutil.which("systemd-analyze")) is None:
        pytest.skip("systemd-analyze is not installed")
    unit = tmp_path / UNIT.name
    unit.write_text(
        UNIT.read_text().replace("/opt/rubro/current/bin/rubro", shutil.which("true") or "")
    )
    done = subprocess.run([analyze, "verify", unit], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    command: list[str | Path] = [analyze, "security", "--offline=true", "--threshold=20", unit]
    subprocess.run(command, capture_output=True, check=True)


def test_the_service_needs_only_the_system_calls_of_the_unit(model: Path, tmp_path: Path) -> None:
    if not (shutil.which("systemd-analyze") and find_library("seccomp")):
        pytest.skip("systemd or libseccomp is not installed")
    link = tmp_path / "model"
    link.symlink_to(model)
    (start,) = unit_settings("ExecStart")
    _, *words = start.split()
    variables = dict(setting.split("=") for setting in unit_settings("Environment"))
    variables |= settings() | {
        "RUBRO_SERVE_MODEL": str(link),
        "RUBRO_SERVE_PORT": "0",
        "RUBRO_SERVE_CORRECTIONS": str(tmp_path / "corrections"),
    }
    with subprocess.Popen(
        [sys.executable, "-m", "rubro.cli", *words],
        env=environment(**variables),
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=system_call_filter(allowed_system_calls()),  # noqa: PLW1509
    ) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert "http://" in line, process.wait()  # -31: ended by SIGSYS
        server = Server(process, port_of(line))
        answer = server.ask("/predict", {"titles": "Mesa"}).json
        assert answer["answers"][0]["category"] == "TABLES"
        correction = {"title": "Mesa", "category": "TABLES"}
        assert server.ask("/corrections", correction).status == 201
        assert server.ask("/corrections", correction, "DELETE").json["line"] == 2
        new = tmp_path / "model.new"
        new.symlink_to(write_model(tmp_path / "model-2", title_column="name"))
        new.rename(link)
        old = answer["model"]["hash"]
        assert wait_until(lambda: server.ask("/version").json["model"]["hash"] != old)
        process.terminate()
    assert process.returncode == 0


def test_base_images_have_a_digest() -> None:
    images = [argument.split()[0] for argument in arguments_of("FROM")]
    assert all(re.fullmatch(r"\S+@sha256:[0-9a-f]{64}", image) for image in images)
    assert len(set(images)) == 1


def test_the_image_contains_packages_of_the_lock_file() -> None:
    assert locked_packages(LOCK) < locked_packages(ROOT / "requirements.lock")


def test_copied_files_exist_and_are_not_ignored() -> None:
    ignored = (DOCKERFILE.parent / "Dockerfile.dockerignore").read_text().splitlines()
    kept = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    assert copied_files() == kept - {"models/ensemble"}
    assert all((ROOT / name).exists() for name in copied_files())


@pytest.mark.slow
def test_the_steps_of_the_image_give_a_service_that_answers(model: Path, tmp_path: Path) -> None:
    build, opt = tmp_path / "build", tmp_path / "opt"
    build.mkdir()
    for source in (ROOT / name for name in copied_files()):
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, build / source.name)
    for script in arguments_of("RUN"):
        if "venv" in script:
            words = ["sh", "-euc", script.replace("/opt/", f"{opt}/")]
            subprocess.run(words, cwd=build, check=True, capture_output=True)
    words = json.loads(arguments_of("ENTRYPOINT")[0].replace("/opt/", f"{opt}/"))
    variables = dict(word.split("=") for line in arguments_of("ENV") for word in line.split())
    assert variables["RUBRO_SERVE_HOST"] == "0.0.0.0"
    variables |= {"RUBRO_SERVE_MODEL": str(model), "RUBRO_SERVE_PORT": "0"}
    with subprocess.Popen(
        words, cwd=tmp_path, env=variables, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        port = port_of(process.stderr.readline())
        answer = Server(process, port).ask("/predict", {"titles": "Mesa"})
        assert answer.json["answers"][0]["category"] == "TABLES"
        process.terminate()
    assert process.returncode == 0


def test_the_health_check_ignores_proxies(server: Server) -> None:
    check = arguments_of("HEALTHCHECK")[0].partition("CMD ")[2]
    proxy = dict.fromkeys(("http_proxy", "HTTP_PROXY", "all_proxy"), "http://127.0.0.1:9")

    def exit_code(port: int) -> int:
        _, *words = json.loads(check.replace("8000", str(port)))
        command = [sys.executable, *words]
        return subprocess.run(
            command, env=environment(**proxy), stderr=subprocess.DEVNULL, check=False
        ).returncode

    assert exit_code(server.port) == 0
    assert exit_code(9) != 0
