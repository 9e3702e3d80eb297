"""Memory that is freed stays with the process: asking the system for it again takes longer than much of the network."""

from __future__ import annotations

import ctypes
import sys

# Of glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -3, -4, -8
MAPPINGS = 65536  # arrays that glibc maps at most, if it is told nothing
LARGEST = 256 << 20  # bytes; a feature map of a tile of 1024 pixels at width 16 has 32 to 128 MB
SMALLEST = 16 << 20  # bytes; what splitting needs for a band of rows has a few MB, and a large image's labels hundreds


def keep_memory(n_bytes: int = 512 << 20) -> bool:
    """Let this process keep so much freed memory at its end, instead of giving it back at once.

    glibc maps every large array anew, and the system clears each page of it at its first use: that is a third of the
    time of a network of width 16. It holds for the whole process; calling it again does no harm.

    Parameters
    ----------
    n_bytes : int
        At most 2**31 - 1.

    Returns
    -------
    bool
        Whether the system's C library is glibc. Others have no such setting, and are left as they are.
    """
    library = _glibc()
    if library is None:
        return False
    if not library.mallopt(_MMAP_THRESHOLD, LARGEST):
        library.mallopt(_MMAP_MAX, 0)  # before version 2.35 the threshold is 32 MB at most: nothing is mapped then
    library.mallopt(_TRIM_THRESHOLD, n_bytes)
    library.mallopt(_ARENA_MAX, 1)  # the memory of threads beside the first is kept in small pieces otherwise
    return True


def release_memory() -> None:
    """Give back what is kept, and keep little until `keep_memory`: before something else needs much memory."""
    library = _glibc()
    if library is not None:
        library.mallopt(_MMAP_MAX, MAPPINGS)
        library.mallopt(_MMAP_THRESHOLD, SMALLEST)
        library.mallopt(_TRIM_THRESHOLD, 2 * SMALLEST)
        library.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    library = ctypes.CDLL(None) if sys.platform.startswith("linux") else None
    return library if hasattr(library, "gnu_get_libc_version") else None
