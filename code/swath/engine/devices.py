"""Where the arithmetic is done."""

from __future__ import annotations

import ctypes

import ignite.distributed as idist
import torch


def device_of(name: str | None) -> torch.device:
    """The device of a config: as named, such as cpu or cuda:1; None takes the GPU when there is one.

    Of several processes each takes the GPU of its own number on the machine, unless one is named.
    """
    device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
    if device.type == "cuda" and device.index is None and idist.get_world_size() > 1:
        return torch.device("cuda", idist.get_local_rank())
    return device


def keep_freed_memory() -> bool:
    """Have the C library keep large blocks that are freed for the next ones; False where it is not glibc.

    glibc hands blocks above 32 MB back to the system at once, and a network's activations are such blocks: a quarter of
    the processor's time went into clearing the same pages again. Peak memory stays, the process just keeps it.
    """
    tune = getattr(ctypes.CDLL(None), "mallopt", None)
    no_mappings, keep_at_top = -4, -1  # M_MMAP_MAX, M_TRIM_THRESHOLD of malloc.h
    return tune is not None and bool(tune(no_mappings, 0)) and bool(tune(keep_at_top, 1 << 30))
