"""GDAL's block cache, which is one for the whole process: bounded while somebody streams, and given back after."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rasterio.env import get_gdal_config, set_gdal_config

CACHE_BYTES = 32 * 2**20
"""GDAL's block cache while a process writes or streams: streams do not come back to a block, and a share of the machine's memory,
its default, would be filled for nothing. Holds two rows of 256 px high blocks of float32, 16,000 px wide."""


class _CacheBound:
    """GDAL's block cache is one for the whole process: who comes first bounds it, who leaves last gives it back."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._before: Any = None

    def enter(self) -> None:
        with self._lock:
            if self._users == 0:
                self._before = get_gdal_config("GDAL_CACHEMAX")
                set_gdal_config("GDAL_CACHEMAX", CACHE_BYTES)
            self._users += 1

    def leave(self) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0:
                set_gdal_config("GDAL_CACHEMAX", self._before)


_CACHE_BOUND = _CacheBound()


@contextmanager
def bounded_cache() -> Iterator[None]:
    """Let GDAL keep at most `CACHE_BYTES` of what it reads and writes, not a share of the machine's memory as it would."""
    _CACHE_BOUND.enter()
    try:
        yield
    finally:
        _CACHE_BOUND.leave()
