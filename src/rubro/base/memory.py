"""Limit the memory of this process, so that it ends with a message instead of being killed."""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_MACHINE, _OWN_GROUPS, _GROUPS = map(Path, ("/proc/meminfo", "/proc/self/cgroup", "/sys/fs/cgroup"))
_LIMIT_VARIABLE = "RUBRO_MEMORY_LIMIT"
# NVIDIA, also in WSL, and AMD.
_GPUS = [Path("/dev", name) for name in ("nvidiactl", "dxg", "kfd")]
# Memory for reporting errors.
_RESERVED = 2**24
_reserve: list[bytes] = []
# Allowance for stacks of threads and other memory that is allocated but hardly used.
_UNUSED = 2**25
# If the stacks of threads may be larger, a few threads would exceed any limit.
_MAX_STACK = 2**26
# Libraries have errors of their own for memory, such as RuntimeError, ImportError and SystemError.
_NO_MEMORY = re.compile(
    r"(can't|cannot|failed to) allocate memory|(out of|not enough) memory|\(os error 12\)|bad_alloc|"
    "failed to map segment|can't start new thread|failed to launch worker thread|"
    "error return without exception set",
    re.IGNORECASE,
)


def is_memory_error(error: BaseException) -> bool:
    """Return whether missing memory caused an error of Python or of a library."""
    number = error.errno if isinstance(error, OSError) else None
    text = str(error).partition("\n")[0]
    return (
        isinstance(error, MemoryError)
        or number == errno.ENOMEM
        or _NO_MEMORY.search(text) is not None
    )


def memory_limit() -> int:
    """Return the bytes of memory that are available, or that this process's control group allows.

    The number includes free swap space. On other systems than Linux, it is sys.maxsize.
    """
    if sys.platform != "linux":
        return sys.maxsize
    sizes = {}
    with suppress(OSError):  # a sandbox may hide the file
        sizes = dict(re.findall(r"(\w+): +(\d+) kB", _MACHINE.read_text()))
    memory, swap = (int(sizes.get(name, 0)) * 1024 for name in ("MemAvailable", "SwapFree"))
    return min([memory or sys.maxsize, *_limits_of_groups()]) + swap


def _limits_of_groups() -> Iterator[int]:
    """Yield the memory limits of the control groups that contain this process."""
    groups = _OWN_GROUPS.read_text() if _OWN_GROUPS.exists() else ""
    for line in groups.splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root, name = _GROUPS, "memory.max"
        elif "memory" in controllers.split(","):
            root, name = _GROUPS / "memory", "memory.limit_in_bytes"
        else:
            continue
        # In a container, the path may begin outside of the mounted folder.
        group = root / path.lstrip("/")
        for folder in (group, *group.parents):
            with suppress(OSError, ValueError):  # no such folder, or "max"
                yield int((folder / name).read_text())


def limit_memory() -> None:
    """Let allocations fail with MemoryError if they exceed memory_limit, on Linux without a GPU.

    It also reserves memory that free_reserve frees, so that the error can be reported.
    """
    if _reserve:  # the limit is already set
        return
    _reserve.append(bytes(_RESERVED))
    # The driver of a GPU reserves more memory than it uses.
    if sys.platform != "linux" or any(gpu.exists() for gpu in _GPUS):
        return
    import resource

    limit, most = resource.getrlimit(resource.RLIMIT_DATA)
    stack, _ = resource.getrlimit(resource.RLIMIT_STACK)  # -1 = unlimited, but small for threads
    # Otherwise, Arrow reserves a gigabyte that it hardly uses, and that counts as used.
    os.environ.setdefault("MIMALLOC_ARENA_EAGER_COMMIT", "0")
    # Processes inherit limits. If the parent process set this limit, more memory may be free by now.
    is_own = str(limit) in (str(resource.RLIM_INFINITY), os.environ.get(_LIMIT_VARIABLE))
    if is_own and stack <= _MAX_STACK:
        limit = memory_limit() + _UNUSED
        with suppress(OSError, ValueError, OverflowError):  # forbidden, or the limit is unknown
            resource.setrlimit(resource.RLIMIT_DATA, (limit, most))
            os.environ[_LIMIT_VARIABLE] = str(limit)


def end_memory_limit() -> None:
    """End the limit that limit_memory has set, for a process that runs for long.

    The memory that is free at its start says little about later, and it is better killed and
    restarted than kept waiting for memory.
    """
    limit = os.environ.pop(_LIMIT_VARIABLE, None)
    if limit is None:
        return
    import resource

    now, most = resource.getrlimit(resource.RLIMIT_DATA)
    if str(now) == limit:
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def free_reserve() -> None:
    """Free the memory that limit_memory reserved for reporting errors."""
    _reserve.clear()
