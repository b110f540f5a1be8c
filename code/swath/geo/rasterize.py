"""Polygons to pixels, as gdal_rasterize burns them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio import features
from shapely.geometry.base import BaseGeometry

from swath.geo.grid import Grid, Window
from swath.geo.windows import strips

BURN_PIXELS = 1 << 28
"""Rasters up to this size are burnt as a whole, one byte a pixel; GDAL takes as much again."""
STRIP_PIXELS = 1 << 25
"""Pixels burnt at once of larger ones."""


def burn_strips(
    geometries: Sequence[BaseGeometry], values: Sequence[int], grid: Grid, all_touched: bool = True
) -> Iterator[tuple[Window, NDArray[np.uint8]]]:
    """Full-width windows of the grid with uint8 (height, width): each polygon's value, 0 elsewhere; later polygons win.

    With `all_touched` every pixel that a polygon touches is burnt, else those whose centre lies inside, as
    gdal_rasterize does with and without -at. Memory is bounded, and up to 2^28 pixels are one strip. They have to be:
    where a border only touches a pixel's corner, GDAL's answer depends on the row that it counts from, so narrower
    strips would give other pixels than one pass; and so do the parts in which gdal_rasterize burns larger rasters,
    which follow its cache. Those are burnt in strips of 2^25 pixels here.
    """
    shapes = _shapes(geometries, values)
    for strip in strips(grid.shape, BURN_PIXELS if math.prod(grid.shape) <= BURN_PIXELS else STRIP_PIXELS):
        mask = np.zeros(strip.shape, np.uint8)
        if shapes:
            features.rasterize(shapes, out=mask, transform=grid.at(strip).transform, all_touched=all_touched)
        yield strip, mask


def burn(
    geometries: Sequence[BaseGeometry],
    values: Sequence[int],
    grid: Grid,
    window: Window,
    all_touched: bool = True,
) -> NDArray[np.uint8]:
    """uint8 (height, width): the window's part of what `burn_strips` burns; 0 outside the grid. For many windows, use that."""
    out = np.zeros(window.shape, np.uint8)
    for strip, mask in burn_strips(geometries, values, grid, all_touched):
        part = window.intersect(strip)
        if not part.is_empty:
            out[part.relative_to(window).slices] = mask[part.relative_to(strip).slices]
    return out


def _shapes(geometries: Sequence[BaseGeometry], values: Sequence[int]) -> list[tuple[dict[str, Any], int]]:
    """Each polygon, parts of multipolygons too, as GeoJSON has it with its value: all coordinates taken out at once."""
    if not len(geometries):
        return []
    polygons, index = shapely.get_parts(np.asarray(geometries, dtype=object), return_index=True)
    _, xy, (ring_ends, polygon_ends) = shapely.to_ragged_array(polygons, include_z=False)
    points = xy.tolist()
    rings = [points[a:b] for a, b in pairwise(ring_ends.tolist())]
    parts = ({"type": "Polygon", "coordinates": rings[a:b]} for a, b in pairwise(polygon_ends.tolist()))
    return list(zip(parts, np.asarray(values, int)[index].tolist(), strict=True))
