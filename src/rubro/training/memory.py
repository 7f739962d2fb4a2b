"""Change how the C library's memory allocator works during training."""

from __future__ import annotations

import ctypes
import sys

# Parameters of mallopt, from malloc.h, and the maximum values that glibc accepts.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_MAX_TRIM_THRESHOLD, _MAX_MMAP_THRESHOLD = 2**31 - 1, 2**25


def keep_freed_memory() -> None:
    """Let the C library reuse the memory of freed arrays of up to 32 MiB, on Linux with glibc.

    By default it returns the memory to the system, which fills the pages with zeros again in the
    next training step. Reusing it lowers the time of a CNN step from 65 to 55 microseconds per title
    (benchmarks/TRIED.md).
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # only glibc has it
    if mallopt is not None:
        mallopt(_TRIM_THRESHOLD, _MAX_TRIM_THRESHOLD)
        mallopt(_MMAP_THRESHOLD, _MAX_MMAP_THRESHOLD)
