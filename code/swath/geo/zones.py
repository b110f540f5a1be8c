"""Zones of one value in all bands of a raster, such as zeros with which a processor fills what the sensor has not seen.

Headers do not call such pixels nodata, and single pixels of that value may well be measured; a zone of many is not. Whether
two pixels belong to one zone can depend on any pixel between them, so zones are found in whole scenes, in one pass that keeps
of each row of pixels only where zones begin and end; tiles and windows are then told what lies in them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from swath.errors import ConfigError
from swath.geo.grid import Window
from swath.geo.raster import Pixel
from swath.geo.windows import strips

STRIP_PIXELS = 4_000_000

Read = Callable[[Window], NDArray[np.float32]]
"""Bands (C, height, width) of a window of a raster."""

Runs = NDArray[np.int64]
"""(N, 3): row, first column and the column after the last of pixels side by side; in the order of rows and columns."""


@dataclass(frozen=True, kw_only=True)
class MissingZones:
    """Which zones mean no measurement: pixels of `value` in all bands, so many of them connected by their sides.

    -P missing_zones.min_pixels=200 takes larger zones only, -P missing_zones=None turns it off.
    """

    value: float = 0.0
    """The value of a zone, in all bands."""
    min_pixels: int = 64
    """Pixels that a zone has at least; fewer of them are taken as measured."""

    def __post_init__(self) -> None:
        if not math.isfinite(self.value) or self.min_pixels < 1:
            raise ConfigError(
                f"missing_zones: value={self.value}, min_pixels={self.min_pixels}: give a finite value and 1 pixel or more, "
                "such as value=0.0 and min_pixels=64"
            )


@dataclass(frozen=True)
class Zones:
    """The zones of a raster: how many, and where."""

    count: int
    runs: Runs

    @property
    def pixels(self) -> int:
        """Pixels of all zones."""
        return int((self.runs[:, 2] - self.runs[:, 1]).sum())

    def inside(self, window: Window) -> Runs:
        """The runs of the part of the raster that a window sees, with the raster's rows and columns."""
        first, last = np.searchsorted(self.runs[:, 0], [window.row, window.row + window.height])
        seen = self.runs[first:last].copy()
        seen[:, 1:] = seen[:, 1:].clip(window.col, window.col + window.width)
        return seen[seen[:, 1] < seen[:, 2]]

    def mask(self, window: Window) -> NDArray[np.bool_]:
        """bool (height, width): which pixels of a window, which may leave the raster, lie in a zone."""
        row, start, stop = (self.inside(window) - [window.row, window.col, window.col]).T
        edges = np.zeros((window.height, window.width + 1), np.int8)
        edges[row, start] = 1
        edges[row, stop] = -1  # no run begins where another ends: they would be one
        return edges[:, :-1].cumsum(axis=1, dtype=np.int8).astype(bool)

    def hide(self, pixels: NDArray[Pixel], window: Window, value: float) -> NDArray[Pixel]:
        """(bands, height, width) of a window with `value` in all zones; `pixels` themselves where there is none."""
        if not len(self.inside(window)):
            return pixels
        return np.where(self.mask(window), pixels.dtype.type(value), pixels)


def find_zones(read: Read, shape: tuple[int, int], rule: MissingZones, strip_pixels: int = STRIP_PIXELS) -> Zones:
    """The zones of a raster of `shape`, read from top to bottom in strips of about `strip_pixels`.

    Only zones that the strips to come may still enlarge, and those that are large enough, are kept on the way: memory
    grows with the outlines of zones, not with the raster.
    """
    count, closed = 0, [np.empty((0, 3), np.int64)]
    growing = closed[0]
    for strip in strips(shape, strip_pixels):
        equal_HW = (read(strip) == np.float32(rule.value)).all(axis=0)
        runs = np.concatenate([growing, _runs(equal_HW, strip.row)])
        zone = _zones_of(runs, shape[1])
        pixels = np.bincount(zone, runs[:, 2] - runs[:, 1])
        last_row = strip.row + strip.height - 1
        may_grow = np.zeros(len(pixels), bool)
        if last_row + 1 < shape[0]:
            may_grow[zone[runs[:, 0] == last_row]] = True
        kept = (pixels >= rule.min_pixels) & ~may_grow
        count += int(kept.sum())
        closed.append(runs[kept[zone]])
        growing = runs[may_grow[zone]]
    together = np.concatenate(closed)
    return Zones(count, together[np.lexsort((together[:, 1], together[:, 0]))])


def without_zones(read: Read, shape: tuple[int, int], rule: MissingZones | None) -> Read:
    """`read` with NaN in the zones of a raster of `shape`; the raster is read once for it. None: `read` itself."""
    return hiding(read, zones_in(read, shape, rule))


def zones_in(read: Read, shape: tuple[int, int], rule: MissingZones | None) -> Zones | None:
    """`find_zones` where there is a rule."""
    return None if rule is None else find_zones(read, shape, rule)


def hiding(read: Read, zones: Zones | None) -> Read:
    """`read` with NaN in `zones`; None: `read` itself."""
    if zones is None:
        return read
    return lambda window: zones.hide(read(window), window, math.nan)


def zones_from(flat: Sequence[int] | NDArray[np.int64]) -> Zones:
    """Zones whose number nobody knows any more, from row, start, stop, row, start, stop, ..., as tables hold them."""
    return Zones(0, np.asarray(flat, np.int64).reshape(-1, 3))


def _runs(equal_HW: NDArray[np.bool_], first_row: int) -> Runs:
    """Where True begins and ends in each row; `first_row` is the number of the uppermost."""
    if not equal_HW.any():
        return np.empty((0, 3), np.int64)
    wide = np.pad(equal_HW.view(np.int8), ((0, 0), (1, 1)))
    change = np.diff(wide, axis=1)
    row, start = np.nonzero(change == 1)
    _, stop = np.nonzero(change == -1)
    return np.stack([row + first_row, start, stop], axis=1)


def _zones_of(runs: Runs, width: int) -> NDArray[np.int32]:
    """Number of the zone of each run: runs of neighbouring rows that share a column are of one zone."""
    if not len(runs):
        return np.empty(0, np.int32)
    row, start, stop = runs.T
    step = width + 1  # rows laid one behind the other, with a gap between them
    starts, stops = row * step + start, row * step + stop
    first = np.searchsorted(
        stops, starts - step, side="right"
    )  # in the row above: the first run that ends behind our start
    end = np.searchsorted(starts, stops - step, side="left")  # and the first that begins at our end or behind it
    touching = np.maximum(end - first, 0)
    below = np.repeat(np.arange(len(runs)), touching)
    above = np.arange(touching.sum()) + np.repeat(first - (touching.cumsum() - touching), touching)
    graph = coo_array((np.ones(len(below), bool), (below, above)), shape=(len(runs), len(runs)))
    return np.asarray(connected_components(graph, directed=False)[1], np.int32)
