"""Where maps and labels meet: on one grid, or a map of other pixels on the grid of the labels."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from swath.errors import RasterError
from swath.geo.grid import Grid, Window
from swath.geo.raster import RasterReader, describe
from swath.geo.zones import Zones

Where = Literal["same", "labels"]
Ints = NDArray[np.int64]


def align(classes: Path, labels: Path, on: Where) -> tuple[Ints, Ints] | None:
    """Row and column of the map for each of the labels; None on one grid. Raises RasterError when they do not fit."""
    ours, theirs = describe(labels).grid, describe(classes).grid
    difference = ours.difference(theirs)
    if difference is None:
        return None
    if on == "same":
        raise RasterError(
            f"{labels} and {classes}: not on one grid: {difference}. Rasterise the labels on this scene, or bring the "
            'map to the grid of the labels with scoring.grid="labels".'
        )
    found = ours.middles_in(theirs)
    if found is None:
        raise RasterError(f"{labels} and {classes}: do not cover the same ground: {difference}. Pair other files.")
    return found


def predicted_at(reader: RasterReader, strip: Window, at: tuple[Ints, Ints] | None) -> NDArray[np.uint8]:
    """uint8 (bands, height, width) of the map on a strip of the labels' grid."""
    if at is None:
        return reader.labels(strip)
    window, place = _of_the_map(reader.info.grid, strip, at)
    return reader.labels(window)[:, *place]


def zones_at(zones: Zones, grid: Grid, strip: Window, at: tuple[Ints, Ints] | None) -> NDArray[np.bool_]:
    """bool (height, width): which labels of a strip lie in zones of the map, which is on `grid`."""
    if at is None:
        return zones.mask(strip)
    window, place = _of_the_map(grid, strip, at)
    return zones.mask(window)[place]


def _of_the_map(grid: Grid, strip: Window, at: tuple[Ints, Ints]) -> tuple[Window, tuple[Ints, Ints]]:
    """The rows of the map that a strip of the labels looks at, and where in these each label has its pixel."""
    rows, cols = at[0][strip.slices[0]], at[1]
    first, last = int(rows.min()), int(rows.max())
    return Window(first, 0, last - first + 1, grid.shape[1]), ((rows - first)[:, None], cols)
