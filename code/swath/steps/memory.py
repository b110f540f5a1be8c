"""What the C library does with memory that arrays give back."""

from __future__ import annotations

import ctypes


def keep_freed_memory() -> bool:
    """Have the C library keep large blocks that are freed for the next ones; False where it is not glibc.

    glibc hands large blocks back to the system at once (those above 32 MB always, tiles of 1 MB at first), and a
    network's activations or a tile's pixels are such blocks: a quarter to half of the processor's time went into clearing
    the same pages again. Peak memory stays, the process just keeps it.
    """
    tune = getattr(ctypes.CDLL(None), "mallopt", None)
    no_mappings, keep_at_top = -4, -1  # M_MMAP_MAX, M_TRIM_THRESHOLD of malloc.h
    return tune is not None and bool(tune(no_mappings, 0)) and bool(tune(keep_at_top, 1 << 30))
