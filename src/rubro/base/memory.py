"""Memory of this process, as the C library hands it out."""

from __future__ import annotations

import ctypes

# Constants of mallopt, from malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_MOST, _LARGE = 2**31 - 1, 2**25  # bytes; glibc accepts no more


def keep_freed_memory() -> None:
    """Let the C library keep what is freed for the next array, where it can be told to.

    By default it gives large arrays back to the system, which has to fill those of the next step of a
    training with zeros, page by page.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc's
    if mallopt is not None:
        mallopt(_TRIM_THRESHOLD, _MOST)
        mallopt(_MMAP_THRESHOLD, _LARGE)
