"""Where maps and labels meet: on one grid, or a map of other pixels on the grid of the labels."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from swath.errors import RasterError
from swath.geo.grid import Window
from swath.geo.raster import RasterReader, describe

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
    rows, cols = at[0][strip.slices[0]], at[1]
    first, last = int(rows.min()), int(rows.max())
    read = reader.labels(Window(first, 0, last - first + 1, reader.info.grid.shape[1]))
    return read[:, (rows - first)[:, None], cols]
