"""Memory limits, and the message of a process that needs more memory than it may use."""

from __future__ import annotations

import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from rubro.base import memory
from support.keyword_model import write_model

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")


@pytest.mark.parametrize(
    ("groups", "files", "limit"),
    [
        ("0::/a/b\n", {"a/memory.max": "9000\n", "a/b/memory.max": "5000\n"}, 5000),
        ("0::/a/b\n", {"a/memory.max": "7000\n", "a/b/memory.max": "max\n"}, 7000),
        ("0::/\n", {"memory.max": "6000\n"}, 6000),
        ("4:memory:/docker/x\n0::/\n", {"memory/memory.limit_in_bytes": "8000\n"}, 8000),
        ("3:cpu,memory:/x\n", {"memory/x/memory.limit_in_bytes": "9000\n"}, 9000),
        ("1:cpu:/x\n", {"x/memory.max": "1\n"}, 2**20),
        (None, {}, 2**20),
    ],
)
def test_the_smallest_limit_of_machine_and_control_groups_counts(
    groups: str | None,
    files: dict[str, str],
    limit: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, path in {"machine": "_MACHINE", "own": "_OWN_GROUPS", "groups": "_GROUPS"}.items():
        monkeypatch.setattr(memory, path, tmp_path / name)
    (tmp_path / "machine").write_text("MemTotal: 9 kB\nMemAvailable:  1024 kB\nSwapFree: 3 kB\n")
    if groups is not None:
        (tmp_path / "own").write_text(groups)
    for name, content in files.items():
        (tmp_path / "groups" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "groups" / name).write_text(content)
    assert memory.memory_limit() == limit + 3 * 1024


def test_limits_that_are_unknown_or_forbidden_are_not_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in ("_MACHINE", "_OWN_GROUPS", "_GROUPS"):
        monkeypatch.setattr(memory, path, tmp_path / "missing")
    before = resource.getrlimit(resource.RLIMIT_DATA)
    memory.limit_memory()
    assert resource.getrlimit(resource.RLIMIT_DATA) == before

    def forbidden(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(resource, "setrlimit", forbidden)
    monkeypatch.setattr(memory, "memory_limit", lambda: 2**40)
    memory.limit_memory()


def test_arrow_reserves_little_memory() -> None:
    script = (
        "from rubro.base.memory import limit_memory; limit_memory(); import pyarrow; "
        "pyarrow.array(range(10)); print(open('/proc/self/status').read())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    (kilobytes,) = re.findall(r"VmData:\s+(\d+) kB", done.stdout)
    assert int(kilobytes) < 500_000


def test_memory_is_not_limited_if_threads_have_large_stacks() -> None:
    script = (
        "import resource; from rubro.base.memory import limit_memory; limit_memory(); "
        "print(resource.getrlimit(resource.RLIMIT_DATA)[0])"
    )
    # An earlier test may have limited this process, and its children inherit the limit.
    limits = "ulimit -d unlimited && ulimit -s 1000000"
    command = f"{limits} && exec {sys.executable} -c '{script}'"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "-1"


@pytest.mark.parametrize(
    "work",
    [
        "bytearray(2**30)",
        "parts = [bytearray(2**20) for _ in range(1000)]",
        "import numpy; numpy.ones(2**30)",
        "import pyarrow; pyarrow.nulls(2**30, pyarrow.int64())",
        "list(mapped(lambda _: bytearray(2**30), [1, 2], 2))",
        "import io; raise ImportError('x') from OSError(12, 'Cannot allocate memory')",
        "raise RuntimeError('DefaultCPUAllocator: can\\'t allocate memory: you tried 4 bytes.')",
    ],
)
def test_too_little_memory_is_one_message(work: str) -> None:
    script = f"""
from rubro.base import memory
memory.memory_limit = lambda: 2**28
from rubro.base.console import reported_errors
from rubro.base.parallel import mapped
with reported_errors():
    {work}
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: Not enough memory")


LIMIT = """
import resource, subprocess, sys
from rubro.base import memory
size, *other = sys.argv[1:]
memory._GPUS, memory.memory_limit = [], lambda: int(size)
memory.limit_memory()
print(resource.getrlimit(resource.RLIMIT_DATA)[0] - memory._UNUSED, flush=True)
if other:
    subprocess.run([*sys.orig_argv[:3], *other], check=True)
"""


@pytest.mark.parametrize(("shell", "own"), [("", 2**29), ("ulimit -S -d 1000000; ", None)])
def test_a_process_does_not_keep_the_limit_of_its_parent(shell: str, own: int | None) -> None:
    script = f'{shell}exec "$@"'
    command = ["bash", "-c", script, "bash", sys.executable, "-c", LIMIT, str(2**29), str(2**30)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    limits = [int(line) for line in done.stdout.splitlines()]
    assert limits == ([own, 2**30] if own else [1_024_000_000 - memory._UNUSED] * 2)


PREDICT = "-m rubro.cli predict mesa --model svm"


# With a little more memory, Python 3.11 may raise MemoryError again and again without an end.
@pytest.mark.parametrize(
    ("command", "megabytes"),
    [(PREDICT, 120), (PREDICT, 150), (PREDICT, 180), ("FEATURIZE", 150)],
)
def test_a_limit_of_the_shell_never_ends_in_a_traceback(
    command: str, megabytes: int, tmp_path: Path, project_root: Path
) -> None:
    write_model(tmp_path / "svm")
    command = command.replace("FEATURIZE", str(project_root / "stages" / "featurize.py"))
    limited = f"ulimit -v {megabytes * 1024}; exec {sys.executable} {command}"
    done = subprocess.run(
        ["bash", "-c", limited],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "Traceback" not in done.stderr
    if done.returncode:
        assert done.returncode == 2 or "OpenBLAS error: Memory" in done.stderr
        *_, line = done.stderr.splitlines()  # jemalloc may print a line before
        assert line.startswith(("error: Not enough memory", "error: params.yaml", "OpenBLAS error"))


def test_a_long_process_ends_its_own_limit_only() -> None:
    script = (
        "import resource; from rubro.base import memory; memory._GPUS = []; "
        "memory.memory_limit = lambda: 2**30; memory.limit_memory(); memory.end_memory_limit(); "
        "print(resource.getrlimit(resource.RLIMIT_DATA)[0])"
    )
    for shell, limit in (("", "-1"), ("ulimit -S -d 1000000; ", "1024000000")):
        command = ["bash", "-c", f'{shell}exec "$@"', "bash", sys.executable, "-c", script]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == limit
