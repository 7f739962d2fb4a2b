"""Memory of this process, as the C library hands it out."""

from __future__ import annotations

import ctypes
import sys

# Parameters of mallopt, from malloc.h, and the greatest values that glibc takes.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_MOST_INT, _MOST_MMAP_THRESHOLD = 2**31 - 1, 2**25


def keep_freed_memory() -> None:
    """Let the C library keep freed arrays of up to 32 MiB for the next ones, on Linux.

    By default it gives them back to the system, which has to fill those of the next step of a
    training with zeros, page by page.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc's
    if mallopt is not None:
        mallopt(_TRIM_THRESHOLD, _MOST_INT)
        mallopt(_MMAP_THRESHOLD, _MOST_MMAP_THRESHOLD)
