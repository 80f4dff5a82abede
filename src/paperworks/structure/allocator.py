"""Memory that goes back to the system as soon as it is free, where the C library would keep it for later."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1
"""Numbers of the parameters in the C library's malloc.h."""
LIBRARY_BYTES = 40 * 2**20
"""What torch, the BLAS and the C library load or set aside when they are first used, as measured; at most this."""
LARGE = 2**20
"""Bytes from which a block is mapped by itself, in the context."""
LARGEST = 32 * 2**20
"""What glibc lets its threshold grow to by itself, and twice which it then keeps at the top of the heap."""


def trim() -> None:
    """Give the pages of free blocks back to the system: small matrices between live objects otherwise pile up.

    Nothing happens where the C library is not glibc.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "malloc_trim"):
        library.malloc_trim(0)


@contextmanager
def freed_at_once() -> Iterator[None]:
    """Blocks of a mebibyte and more go back to the system when they are freed, while the context lasts.

    glibc raises the size from which it maps blocks by themselves to that of the largest one that was freed, up to 32
    MiB; matrices below it then lie in a heap between small objects that outlive them, and resident memory grows by
    their sizes with every layer. Afterwards the thresholds are those that glibc would have come to. Nothing happens
    with another C library, or where the environment sets the threshold.
    """
    library = ctypes.CDLL(None)
    if not hasattr(library, "malloc_trim") or "MALLOC_MMAP_THRESHOLD_" in os.environ:
        yield
        return
    library.mallopt(MMAP_THRESHOLD, LARGE)
    library.mallopt(TRIM_THRESHOLD, LARGE)
    trim()
    try:
        yield
    finally:
        library.mallopt(MMAP_THRESHOLD, LARGEST)
        library.mallopt(TRIM_THRESHOLD, 2 * LARGEST)
        trim()
