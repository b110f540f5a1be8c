"""GDAL's block cache, which is one for the whole process: bounded while somebody streams, roomy while somebody burns."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rasterio.env import get_gdal_config, set_gdal_config

CACHE_BYTES = 32 * 2**20
"""GDAL's block cache while a process writes or streams: streams do not come back to a block, and a share of the machine's memory,
its default, would be filled for nothing. Holds two rows of 256 px high blocks of float32, 16,000 px wide."""


class _Cache:
    """The cache's size: who comes first changes it, who leaves last gives it back."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._before: Any = None
        self._streams = 0
        self._needs: list[int] = []

    def _users(self) -> int:
        return self._streams + len(self._needs)

    def change(self, streams: int = 0, need: int | None = None, no_more: int | None = None) -> None:
        """Count `streams` more, and add or take back a number of bytes that somebody needs."""
        with self._lock:
            if self._users() == 0:
                self._before = get_gdal_config("GDAL_CACHEMAX")
            self._streams += streams
            if need is not None:
                self._needs.append(need)
            if no_more is not None:
                self._needs.remove(no_more)
            size = max([CACHE_BYTES, *self._needs]) if self._users() else self._before
            set_gdal_config("GDAL_CACHEMAX", size)


_CACHE = _Cache()


@contextmanager
def bounded_cache() -> Iterator[None]:
    """Let GDAL keep at most `CACHE_BYTES` of what it reads and writes, not a share of the machine's memory as it would."""
    _CACHE.change(streams=1)
    try:
        yield
    finally:
        _CACHE.change(streams=-1)


@contextmanager
def roomy_cache(size: int) -> Iterator[None]:
    """Let GDAL keep `size` bytes or more: it burns polygons into so large a part of a raster at once, and its answer
    depends on the row that a part begins with."""
    _CACHE.change(need=size)
    try:
        yield
    finally:
        _CACHE.change(no_more=size)
