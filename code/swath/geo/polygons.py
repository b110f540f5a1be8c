"""Class rasters to polygons, by strips in parallel, each polygon as one pass over the whole raster would give it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import geopandas as gpd
import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray

from swath.errors import VectorError
from swath.geo.grid import Grid, Window
from swath.geo.raster import RasterReader, describe
from swath.geo.tracing import Ints, Rings, Vertices, rings, vertices
from swath.geo.windows import BLOCK

STRIP_ROWS = BLOCK
"""Rows that are read at once."""


@dataclass(frozen=True, kw_only=True)
class PolygonRules:
    """What becomes a polygon. Small ones are dropped first, what is left is simplified."""

    classes: Sequence[int] = (1,)
    """Classes that become polygons."""
    min_area: float = 0.0
    """Smallest polygon to keep, in squared units of the CRS, measured in pixels before any simplification."""
    simplify: float | None = None
    """Corners that span a triangle of less than about this length squared are cut, in units of the CRS; None cuts none."""


def polygonize(mask_HW: NDArray[np.uint8], grid: Grid, rules: PolygonRules | None = None) -> gpd.GeoDataFrame:
    """Polygons of an array, as `polygonize_raster` gives those of a file."""
    return polygonize_strips(lambda window: mask_HW[window.slices], grid, rules or PolygonRules())


def polygonize_raster(
    path: Path, rules: PolygonRules, workers: int = 1, task: str | None = None
) -> gpd.GeoDataFrame:  # fmt: skip
    """Polygons of the band of a uint8 raster that `task` names, or of its first one.

    Raises RasterError for a name that no band has. Memory: `workers` strips of 512 rows, and the corners of the outlines.
    """

    def read(window: Window) -> NDArray[np.uint8]:
        with RasterReader(path) as reader:  # one per strip: a reader is not for two threads
            return reader.labels(window)[band]

    info = describe(path)
    band = 0 if task is None else info.numbers_of([task], "Set `task` to one of them.")[0] - 1
    return polygonize_strips(read, info.grid, rules, workers)


def polygonize_strips(
    read: Callable[[Window], NDArray[np.uint8]], grid: Grid, rules: PolygonRules, workers: int = 1
) -> gpd.GeoDataFrame:
    """Polygons of 4-connected pixels of equal value, with the value as `id`, in the grid's CRS.

    `read` gives the uint8 (height, width) of a window and is called from `workers` threads. Every pixel of a class of
    `rules` lies in exactly one polygon; geometries are valid and do not depend on strips. They come by class, then by
    their upper left corner. With `simplify`, borders that polygons share stay shared (Visvalingam and Whyatt's
    algorithm on the coverage). Raises VectorError for `min_area` or `simplify` in a CRS of degrees.
    """
    _require_lengths(grid, rules)
    found = _vertices(read, grid.shape, rules.classes, workers)
    traced = [rings(of_class, grid.shape) for of_class in found]
    if rules.min_area > 0:
        pixel = abs(grid.transform.determinant)
        traced = [r.only(r.areas() * pixel >= rules.min_area) for r in traced]
    if rules.simplify is not None:
        traced = _with_shared_vertices(traced)
    geometries = np.concatenate([_geometries(r, grid.transform) for r in traced])
    if rules.simplify is not None and len(geometries):
        geometries = shapely.coverage_simplify(geometries, rules.simplify)
    counts = [len(r.polygon_offsets) - 1 for r in traced]
    return gpd.GeoDataFrame(
        {"id": np.repeat(np.array(rules.classes, np.int32), counts)},
        geometry=geometries,
        crs=grid.crs.to_wkt() if grid.crs else None,
    )


def _require_lengths(grid: Grid, rules: PolygonRules) -> None:
    asked = {"min_area": rules.min_area, "simplify": rules.simplify}
    for name, value in asked.items():
        if value and grid.crs is not None and grid.crs.is_geographic:
            raise VectorError(
                f"{name}={value}: the raster's CRS {grid.crs.to_string()} is in degrees, which are no measure of "
                f"length. Bring the raster to a projected CRS first (gdalwarp -t_srs EPSG:...), or leave {name} out."
            )


def _vertices(
    read: Callable[[Window], NDArray[np.uint8]], shape: tuple[int, int], classes: Sequence[int], workers: int
) -> list[Vertices]:
    """Vertices of each class: within strips and, from the rows that meet there, between them."""

    def look(row: int) -> tuple[list[Vertices], NDArray[np.uint8], NDArray[np.uint8]]:
        strip = read(Window(row, 0, min(STRIP_ROWS, shape[0] - row), shape[1]))
        return [vertices(strip == c, row) for c in classes], strip[0].copy(), strip[-1].copy()

    starts = range(0, shape[0], STRIP_ROWS)
    with ThreadPoolExecutor(workers) as pool:
        strips = list(pool.map(look, starts))
    parts: list[list[Vertices]] = [[] for _ in classes]
    meeting = itertools.pairwise([None, *strips, None])
    for row, (upper, lower) in zip([*starts, shape[0]], meeting, strict=True):
        for i, c in enumerate(classes):
            rows = np.zeros((2, shape[1]), np.bool_)
            if upper:
                rows[0] = upper[2] == c
            if lower:
                rows[1] = lower[1] == c
            parts[i] += [vertices(rows, row - 1), *([lower[0][i]] if lower else [])]
    return [Vertices.joined(of_class) for of_class in parts]


def _geometries(traced: Rings, transform: Affine) -> NDArray[np.object_]:
    """Polygons in CRS units; one formula for every vertex, so that what is shared is equal bit by bit."""
    col, row, t = traced.col.astype(np.float64), traced.row.astype(np.float64), transform
    x, y = col * t.a + row * t.b + t.c, col * t.d + row * t.e + t.f
    offsets = (traced.ring_offsets, traced.polygon_offsets)
    return shapely.from_ragged_array(shapely.GeometryType.POLYGON, np.stack([x, y], axis=1), offsets)


# ------------------------------------------------------------------------------------------------- vertices of neighbours


def _with_shared_vertices(traced: Sequence[Rings]) -> list[Rings]:
    """The rings with a vertex wherever a straight side passes a corner of another polygon, as a coverage has to have."""
    row, col = (np.concatenate([getattr(r, name) for r in traced]) for name in ("row", "col"))
    if not len(row):
        return list(traced)
    stride = int(max(row.max(), col.max())) + 1
    by_row, by_col = np.unique(row * stride + col), np.unique(col * stride + row)
    return [_split_sides(r, stride, by_row, by_col) if len(r.row) else r for r in traced]


def _split_sides(traced: Rings, stride: int, by_row: Ints, by_col: Ints) -> Rings:
    along_row = np.append(traced.row[1:] == traced.row[:-1], False)
    row, col, first, step, count = traced.row, traced.col, *_passed(traced, along_row, stride, by_row, by_col)
    index = np.repeat(np.arange(len(row)), count + 1)
    new = np.arange(len(index)) - np.repeat(np.cumsum(count + 1) - count - 1, count + 1)  # 0 is the side's own start
    at = first[index] + step[index] * (new - 1)
    key = np.where(along_row[index], by_row[at % len(by_row)], by_col[at % len(by_col)])
    major, minor = np.divmod(key, stride)
    return replace(
        traced,
        row=np.where(new == 0, row[index], np.where(along_row[index], major, minor)),
        col=np.where(new == 0, col[index], np.where(along_row[index], minor, major)),
        ring_offsets=np.concatenate([[0], np.cumsum(count + 1)])[traced.ring_offsets],
    )


def _passed(
    traced: Rings, along_row: NDArray[np.bool_], stride: int, by_row: Ints, by_col: Ints
) -> tuple[Ints, Ints, Ints]:
    """Of each side: where its first inner vertex lies in the sorted ones of its direction, the step, how many there are."""
    first, step, count = (np.zeros(len(traced.row), np.int64) for _ in range(3))
    last = np.zeros(len(traced.row), np.bool_)
    last[traced.ring_offsets[1:] - 1] = True  # no side starts at the point that closes a ring
    for along, known, key in (
        (along_row, by_row, traced.row * stride + traced.col),
        (~along_row, by_col, traced.col * stride + traced.row),
    ):
        sides = np.flatnonzero(along & ~last)
        here, there = np.searchsorted(known, key[sides]), np.searchsorted(known, key[sides + 1])
        step[sides] = np.sign(there - here)
        first[sides], count[sides] = here + step[sides], np.abs(there - here) - 1
    return first, step, count
