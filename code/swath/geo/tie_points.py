"""Several grids over one swath: means over pixels, values of coarse cells at pixels, values between tie points.

All of them share the corner of the first pixel, and nothing here needs a CRS. Numbers of pixels per cell are fractions,
so that positions are exact for any offset: a crop of the result is the result of the crop.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from swath.geo.grid import Window

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]

MEASURED_SHARE = 0.5
"""Share of the weight that has to be measured for a mean to count, as in resizing and warping."""


def shrunk_length(length: int, factor: Fraction) -> int:
    """Whole cells of `factor` pixels in `length` pixels; the rest at the end is left out."""
    return int(length // factor)


def area_means(image_HW: NDArray[np.floating], factor: Fraction, shape: tuple[int, int]) -> Floats:
    """float32 `shape`: means over squares of `factor` x `factor` pixels, pixels cut by an edge counting by their share.

    NaN pixels have no weight; NaN where less than half of the square is measured.
    """
    if factor == 1:
        return image_HW[: shape[0], : shape[1]].astype(np.float32)
    by_row, by_col = (_shares(n, factor, old) for n, old in zip(shape, image_HW.shape, strict=True))

    def mean(values_HW: Doubles) -> Doubles:
        return np.asarray((by_col @ (by_row @ values_HW).T).T)

    measured_HW = np.isfinite(image_HW)
    if measured_HW.all():
        return mean(image_HW.astype(np.float64)).astype(np.float32)
    weight_HW = mean(measured_HW.astype(np.float64))
    total_HW = mean(np.where(measured_HW, image_HW, 0).astype(np.float64))
    return _by_weight(total_HW, weight_HW).astype(np.float32)


def _shares(cells: int, factor: Fraction, pixels: int) -> sparse.csr_array:
    """(cells, pixels): which share of a cell each pixel is. Rows sum to 1 where the cell lies inside."""
    numerator, denominator = factor.numerator, factor.denominator
    start = np.arange(cells, dtype=np.int64)[:, None] * numerator  # everything counts parts of 1 / denominator pixel
    pixel = start // denominator + np.arange(-(-numerator // denominator) + 1)
    inside = np.minimum(start + numerator, (pixel + 1) * denominator) - np.maximum(start, pixel * denominator)
    inside = np.where(pixel < pixels, np.maximum(inside, 0), 0)
    cell = np.broadcast_to(np.arange(cells)[:, None], pixel.shape)
    entries = (inside.ravel() / numerator, (cell.ravel(), np.minimum(pixel, pixels - 1).ravel()))
    return sparse.csr_array(entries, shape=(cells, pixels))


def _by_weight(total: Doubles, weight: Doubles) -> Doubles:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(weight >= MEASURED_SHARE - 1e-9, total / weight, np.nan)


def nearest_cells(start: int, count: int, pixels_per_cell: Fraction, cells: int) -> Ints:
    """(count,) numbers of the cells that hold the middles of pixels `start`, `start` + 1, ...; the last one goes on.

    With less than one pixel per cell it is the cell in the middle of the pixel: the inverse view, shrinking labels.
    """
    middle = 2 * np.arange(start, start + count, dtype=np.int64) + 1  # in half pixels: whole numbers, no rounding
    cell = middle * pixels_per_cell.denominator // (2 * pixels_per_cell.numerator)
    return np.clip(cell, 0, cells - 1)


def cells_at(
    coarse_HW: NDArray[np.floating], pixels_per_cell: Fraction, window: Window, how: Literal["nearest", "bilinear"]
) -> Floats:
    """float32 (window): values of a coarse grid at the middles of a window's pixels.

    Bilinear between the middles of cells, beyond the outer ones their value; cells that are NaN have no weight, NaN
    where the others have less than half of it. The window may lie anywhere; equal pixels get equal values in any window.
    """
    if how == "nearest":
        rows = nearest_cells(window.row, window.height, pixels_per_cell, coarse_HW.shape[0])
        cols = nearest_cells(window.col, window.width, pixels_per_cell, coarse_HW.shape[1])
        return coarse_HW[rows[:, None], cols].astype(np.float32)
    by_row = _between_cells(window.row, window.height, pixels_per_cell, coarse_HW.shape[0])
    by_col = _between_cells(window.col, window.width, pixels_per_cell, coarse_HW.shape[1])
    measured = np.isfinite(coarse_HW)
    total = by_row @ np.where(measured, coarse_HW, 0).astype(np.float64) @ by_col.T
    if measured.all():
        return np.asarray(total, dtype=np.float32)
    return _by_weight(total, by_row @ measured.astype(np.float64) @ by_col.T).astype(np.float32)


def _between_cells(start: int, count: int, pixels_per_cell: Fraction, cells: int) -> sparse.csr_array:
    """(count, cells): weights of the two cells around the middle of each pixel."""
    middle = 2 * np.arange(start, start + count, dtype=np.int64) + 1
    numerator, denominator = pixels_per_cell.numerator, pixels_per_cell.denominator
    doubled = middle * denominator - numerator  # place between middles of cells, in units of 1 / (2 numerator)
    lower = doubled // (2 * numerator)
    share = (doubled - lower * 2 * numerator) / (2 * numerator)
    columns = np.clip(np.stack([lower, lower + 1]), 0, cells - 1)
    entries = (np.concatenate([1 - share, share]), (np.tile(np.arange(count), 2), columns.ravel()))
    return sparse.csr_array(entries, shape=(count, cells))


@dataclass(frozen=True, kw_only=True)
class TiePoints:
    """A variable known at some rows and columns of an image: positions count pixels, 0 being the middle of the first."""

    rows: Doubles
    """(n,) rising."""
    cols: Doubles
    """(m,) rising."""
    values: Doubles
    """(n, m)."""

    def at(self, rows: Doubles, cols: Doubles) -> Doubles:
        """float64 (len(rows), len(cols)): linear in each direction between the tie points, and on beyond the outer ones."""
        upper, right = _cell_of(self.rows, rows), _cell_of(self.cols, cols)
        down = ((rows - self.rows[upper]) / (self.rows[upper + 1] - self.rows[upper]))[:, None]
        along = (cols - self.cols[right]) / (self.cols[right + 1] - self.cols[right])
        top = self.values[upper][:, right] * (1 - along) + self.values[upper][:, right + 1] * along
        bottom = self.values[upper + 1][:, right] * (1 - along) + self.values[upper + 1][:, right + 1] * along
        return top * (1 - down) + bottom * down

    @property
    def ring(self) -> Doubles:
        """Values along the outer tie points, clockwise from the first one."""
        v = self.values
        return np.concatenate([v[0, :-1], v[:-1, -1], v[-1, :0:-1], v[:0:-1, 0]])


def _cell_of(nodes: Doubles, places: Doubles) -> Ints:
    return np.clip(np.searchsorted(nodes, places, side="right") - 1, 0, len(nodes) - 2)


def tie_points(rows: ArrayLike, cols: ArrayLike, values: ArrayLike) -> TiePoints:
    """Tie points from lists of equal length in any order; ValueError when they are no full lattice of 2 x 2 or more."""
    row, row_of = np.unique(np.asarray(rows, np.float64), return_inverse=True)
    col, col_of = np.unique(np.asarray(cols, np.float64), return_inverse=True)
    lattice = np.full((len(row), len(col)), np.nan)
    lattice[row_of, col_of] = np.asarray(values, np.float64)
    if len(row_of) != lattice.size or min(lattice.shape) < 2 or np.isnan(lattice).any():
        raise ValueError(
            f"{len(row_of)} tie points in {len(row)} rows and {len(col)} columns are no full lattice of values"
        )
    return TiePoints(rows=row, cols=col, values=lattice)


def even_tie_points(values: NDArray[np.floating], shape: tuple[int, int]) -> TiePoints:
    """Tie points (n, m) spread evenly from the first to the last pixel of an image of `shape`."""
    rows, cols = (np.linspace(0, size - 1, count) for size, count in zip(shape, values.shape, strict=True))
    return TiePoints(rows=rows, cols=cols, values=values.astype(np.float64))
