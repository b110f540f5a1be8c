"""Where pixels are: `Window` in pixels and `Grid` in a coordinate reference system. Both are immutable values."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS


@dataclass(frozen=True, order=True)
class Window:
    """A rectangle of pixels. `row` and `col` may be negative or run past the raster: that part is outside."""

    row: int
    col: int
    height: int
    width: int

    @property
    def shape(self) -> tuple[int, int]:
        return self.height, self.width

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index of this window in an array of the whole raster; only for windows inside it."""
        return slice(self.row, self.row + self.height), slice(self.col, self.col + self.width)

    def intersect(self, other: Window) -> Window:
        """The shared rectangle; height or width is 0 when there is none."""
        row, col = max(self.row, other.row), max(self.col, other.col)
        height = max(0, min(self.row + self.height, other.row + other.height) - row)
        width = max(0, min(self.col + self.width, other.col + other.width) - col)
        return Window(row, col, height, width)

    def relative_to(self, outer: Window) -> Window:
        """The same rectangle counted from the corner of `outer`."""
        return Window(self.row - outer.row, self.col - outer.col, self.height, self.width)

    def within(self, outer: Window) -> Window:
        """The inverse of `relative_to`."""
        return Window(self.row + outer.row, self.col + outer.col, self.height, self.width)

    @property
    def is_empty(self) -> bool:
        return self.height <= 0 or self.width <= 0


@dataclass(frozen=True)
class Grid:
    """A raster's place: `crs` (None where the source has none), affine `transform`, `shape` = (height, width)."""

    crs: CRS | None
    transform: Affine
    shape: tuple[int, int]

    @property
    def window(self) -> Window:
        return Window(0, 0, *self.shape)

    @cached_property
    def bounds(self) -> tuple[float, float, float, float]:
        """(x_min, y_min, x_max, y_max) in CRS units, also for rotated or south-up grids."""
        x, y = self.corners.T
        return float(x.min()), float(y.min()), float(x.max()), float(y.max())

    @cached_property
    def corners(self) -> np.ndarray:
        """float64 (4, 2): x, y of the corners, clockwise from the first pixel's outer corner."""
        height, width = self.shape
        return np.array([self.transform @ rc for rc in ((0, 0), (width, 0), (width, height), (0, height))])

    @property
    def resolution(self) -> tuple[float, float]:
        """Pixel (height, width) in CRS units."""
        t = self.transform
        return float(np.hypot(t.b, t.e)), float(np.hypot(t.a, t.d))

    @property
    def pixel_area(self) -> float:
        """Of one pixel, in squared CRS units, of turned and sheared grids, too."""
        return abs(float(self.transform.determinant))

    def at(self, window: Window) -> Grid:
        """The grid of a window; the window may lie partly or wholly outside."""
        return Grid(self.crs, self.transform @ Affine.translation(window.col, window.row), window.shape)

    def turned_towards(self, other: Grid) -> Grid:
        """The same ground with longitudes as near to those of `other` as whole turns of the earth bring them.

        180.5 degrees east is 179.5 west: grids in longitude and latitude may count either way. Others stay as they are.
        """
        if self.crs is None or self.crs != other.crs or not self.crs.is_geographic:
            return self
        ours, theirs = (sum(grid.bounds[::2]) / 2 for grid in (self, other))
        turns = round((theirs - ours) / 360)
        moved = Affine.translation(360 * turns, 0) @ self.transform
        return Grid(self.crs, moved, self.shape) if turns else self

    def difference(self, other: Grid) -> str | None:
        """What differs, as text for an error, or None. Origins may differ by a thousandth of a pixel."""
        if self.shape != other.shape:
            return f"size {_size(self)} against {_size(other)}"
        if self.crs != other.crs:
            return f"CRS {_name(self.crs)} against {_name(other.crs)}"
        tolerance = 1e-3 * min(self.resolution)
        if np.abs(self.corners - other.corners).max() > tolerance:
            return f"transform {tuple(self.transform)[:6]} against {tuple(other.transform)[:6]}"
        return None

    def middles_in(self, other: Grid) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
        """int64 (height,) rows and (width,) columns of `other` that hold the middles of this grid's pixels.

        Middles beyond the edge of `other` by less than one of its pixels belong to its outermost ones: it may have
        been cut to whole pixels. None when they are further away, or the two differ in CRS or are turned.
        """
        turned = any(t.b or t.d for t in (self.transform, other.transform))
        if self.crs != other.crs or turned:
            return None
        found = []
        for start, step, there, size, n, cells in (
            (self.transform.f, self.transform.e, other.transform.f, other.transform.e, self.shape[0], other.shape[0]),
            (self.transform.c, self.transform.a, other.transform.c, other.transform.a, self.shape[1], other.shape[1]),
        ):
            place = (start + (np.arange(n) + 0.5) * step - there) / size
            if place.min() < -1 or place.max() >= cells + 1:
                return None
            found.append(np.clip(np.floor(place + 1e-6), 0, cells - 1).astype(np.int64))
        return found[0], found[1]


def _size(grid: Grid) -> str:
    return f"{grid.shape[1]} x {grid.shape[0]} px"


def _name(crs: CRS | None) -> str:
    return crs.to_string() if crs else "none"
