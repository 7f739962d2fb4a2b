"""Limit the memory of this process, so that it ends with a message instead of being killed."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_MACHINE, _OWN_GROUPS, _GROUPS = map(Path, ("/proc/meminfo", "/proc/self/cgroup", "/sys/fs/cgroup"))
_GPU = Path("/dev/nvidiactl")
_LIMIT_VARIABLE = "RUBRO_MEMORY_LIMIT"
# Memory for reporting errors.
_RESERVED = 2**24
_reserve: list[bytes] = []
# Allowance for stacks of threads and other memory that is allocated but hardly used.
_UNUSED = 2**25


def memory_limit() -> int:
    """Return the bytes of memory that are available, or that this process's control group allows.

    The number includes free swap space. On other systems than Linux, it is sys.maxsize.
    """
    if sys.platform != "linux":
        return sys.maxsize
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
    if sys.platform != "linux" or _GPU.exists():
        return
    import resource

    limit, most = resource.getrlimit(resource.RLIMIT_DATA)
    # Processes inherit limits. If the parent process set this limit, more memory may be free by now.
    if str(limit) in (str(resource.RLIM_INFINITY), os.environ.get(_LIMIT_VARIABLE)):
        limit = memory_limit() + _UNUSED
        resource.setrlimit(resource.RLIMIT_DATA, (limit, most))
        os.environ[_LIMIT_VARIABLE] = str(limit)


def free_reserve() -> None:
    """Free the memory that limit_memory reserved for reporting errors."""
    _reserve.clear()
