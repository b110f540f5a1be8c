"""Polygons to pixels, as gdal_rasterize burns them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio import features
from shapely.geometry.base import BaseGeometry

from swath.geo.block_cache import roomy_cache
from swath.geo.grid import Grid, Window
from swath.geo.windows import strips

BURN_PIXELS = 1 << 28
"""Rasters up to this size are burnt as a whole, one byte a pixel; GDAL takes as much again."""
STRIP_PIXELS = 1 << 25
"""Pixels burnt at once of larger ones."""
MARGIN = 64
"""Columns at most that are burnt beyond the right edge, and thrown away (see `_margin`)."""


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
    geometries, margin = _margin(geometries, grid) if all_touched else (geometries, 0)
    shapes = _shapes(geometries, values)
    for strip in strips(grid.shape, BURN_PIXELS if math.prod(grid.shape) <= BURN_PIXELS else STRIP_PIXELS):
        wide = np.zeros((strip.height, strip.width + margin), np.uint8)
        if shapes:
            with roomy_cache(2 * wide.nbytes):
                features.rasterize(shapes, out=wide, transform=grid.at(strip).transform, all_touched=all_touched)
        yield strip, wide[:, : strip.width]


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


def _margin(geometries: Sequence[BaseGeometry], grid: Grid) -> tuple[Sequence[BaseGeometry], int]:
    """(polygons, columns to burn beyond the grid's right edge, so that no polygon reaches the end of these).

    Where a border meets the right edge of a raster in a pixel's corner, GDAL (3.6 to 3.10 at least) burns one pixel
    beyond the edge: the first one of the next row or, from the last row, a byte of memory that is not its own. What
    lies further out than `MARGIN` columns is cut off.
    """
    if not len(geometries):
        return geometries, 0
    in_pixels = shapely.transform(shapely.force_2d(np.asarray(geometries, dtype=object)), _mapping(~grid.transform))
    left, top, right, bottom = shapely.bounds(in_pixels).T
    width = grid.shape[1]
    reach = float(np.nanmax(right, initial=0.0))
    margin = min(MARGIN, max(0, math.floor(reach) - width + 2))
    edge = width + margin - 0.5
    if reach < edge:
        return geometries, margin
    kept = list(geometries)
    for number in np.flatnonzero(right >= edge):
        box = (left[number] - 1, top[number] - 1, edge, bottom[number] + 1)
        inside = shapely.get_parts(shapely.clip_by_rect(in_pixels[number], *box))
        polygons = [part for part in inside if part.geom_type == "Polygon"]
        kept[number] = shapely.transform(shapely.MultiPolygon(polygons), _mapping(grid.transform))
    return kept, margin


def _mapping(transform: Affine) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """An affine transform as a function of points (n, 2)."""
    a, b, c, d, e, f = tuple(transform)[:6]
    turn, origin = np.array([[a, d], [b, e]]), np.array([c, f])
    return lambda points: points @ turn + origin


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
