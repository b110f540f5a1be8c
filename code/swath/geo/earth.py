"""Shapes on the round earth: outlines in longitude and latitude, and polygons brought to the grid of a raster.

A straight side in one CRS is a curve in another, longitudes begin anew at 180 degrees, and a projection maps a part of
the earth only. So polygons are cut to the raster's ground before they are moved, get vertices where a side would bend,
and are checked for places that have no image.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import PurePath

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray
from rasterio.crs import CRS
from shapely.geometry.base import BaseGeometry

from swath.errors import RasterError, VectorError
from swath.geo.grid import Grid, Window

Points = NDArray[np.float64]
"""(n, 2): x and y, or longitude and latitude in degrees."""
Shapes = NDArray[np.object_]

LONLAT = "EPSG:4326"

BEND = 0.01
"""Pixels that a moved side may lie beside the true one."""
MOST_VERTICES = 64
"""Of a side of an outline."""
FAR = 1e6
"""Pixels beyond a raster from where on a polygon is cut, so that places in pixels stay small numbers."""
LARGEST = 1e10
"""Coordinates beyond are no place on earth in any unit: 250 times around it, in metres."""


# ------------------------------------------------------------------------------------------------------------ outlines


def footprint(grid: Grid) -> tuple[BaseGeometry, str | None]:
    """A grid's outline in longitude and latitude (EPSG:4326), or in its own units when it has no CRS."""
    outlines, crs = footprints(grid, [grid.window])
    return outlines[0], crs


def footprints(grid: Grid, windows: Sequence[Window]) -> tuple[list[BaseGeometry], str | None]:
    """Outlines of windows of a grid, as `footprint` gives that of the whole.

    Longitudes are from -180 to 180: an outline that crosses 180 degrees has two parts, and one around a pole reaches up
    to it. Raises RasterError for a window without a place on earth.
    """
    if grid.crs is None:
        return [shapely.Polygon(grid.at(window).corners) for window in windows], None
    if not windows:
        return [], LONLAT
    moved = pyproj.Transformer.from_crs(grid.crs.to_wkt(), LONLAT, always_xy=True)
    sides = _vertices_of_side(grid, windows, moved)
    rings = np.stack([_outline(grid.at(window), sides) for window in windows])
    lon, lat = moved.transform(rings[..., 0], rings[..., 1])
    placed = np.stack([lon, lat], axis=-1)
    simple = np.isfinite(placed).all() and (np.ptp(lon, axis=1) < 180).all() and np.abs(lon).max() <= 180
    if simple:
        with np.errstate(invalid="ignore"):  # flags that the projection has left, which shapely would report as its own
            return list(shapely.polygons(placed)), LONLAT
    return [outline_on_earth(ring, f"a raster in {grid.crs.to_string()}") for ring in placed], LONLAT


def _outline(grid: Grid, sides: int) -> Points:
    """The corners of a grid with equally many vertices on each side, closed."""
    corners = np.vstack([grid.corners, grid.corners[:1]])
    along = np.linspace(0, 1, sides, endpoint=False)[:, None]
    points = [a + (b - a) * along for a, b in pairwise(corners)]
    return np.vstack([*points, corners[:1]])


def _vertices_of_side(grid: Grid, windows: Sequence[Window], moved: pyproj.Transformer) -> int:
    """So many vertices a side that no outline lies half a pixel beside the true one."""
    largest = grid.at(max(windows, key=lambda window: max(window.shape)))
    corners = _outline(largest, 1)
    placed = np.stack(moved.transform(*corners.T), axis=1)
    chord = (placed[:-1] + placed[1:]) / 2
    back = np.stack(moved.transform(chord[:, 0], chord[:, 1], direction="INVERSE"), axis=1)
    true = (corners[:-1] + corners[1:]) / 2
    bend = np.hypot(*(back - true).T).max() / min(largest.resolution)
    if not bend < max(largest.shape) / 4:  # not a number, over 180 degrees, or around a pole
        return MOST_VERTICES
    return int(np.clip(np.ceil(np.sqrt(bend / 0.5)), 1, MOST_VERTICES))


def outline_on_earth(ring: Points, name: str) -> BaseGeometry:
    """The polygon of a closed ring of longitudes and latitudes, with longitudes from -180 to 180: in two parts where it
    crosses 180 degrees, up to the pole where it goes around one. Points that are not finite are left out.

    Raises RasterError, which calls it `name`, when fewer than four are left.
    """
    ring = ring[np.isfinite(ring).all(axis=1)]
    if len(ring) < 4:
        raise RasterError(f"{name} lies where that has no place on earth. Check its transform and its CRS.")
    lon, lat = np.unwrap(ring[:, 0], period=360), ring[:, 1]
    if abs(lon[-1] - lon[0]) > 180:  # once around: a pole lies within
        pole = 90.0 if lat.mean() > 0 else -90.0
        lon, lat = np.append(lon, [lon[-1], lon[0]]), np.append(lat, [pole, pole])
    shape = shapely.make_valid(shapely.Polygon(np.stack([lon, lat], axis=1)))
    west, _, east, _ = shape.bounds
    parts = []
    for turn in range(int(np.floor((west + 180) / 360)), int(np.floor((east + 180) / 360)) + 1):
        strip = shapely.box(360 * turn - 180, -90, 360 * turn + 180, 90)
        inside = shapely.transform(shapely.intersection(shape, strip), lambda points, by=360 * turn: points - [by, 0])
        parts += only_polygons(inside)
    return shapely.union_all(parts)


def area_km2(shapes: Shapes, crs: CRS | None) -> float | None:
    """Square kilometres of polygons: on the ellipsoid where the CRS counts degrees, else in the plane of the CRS, whose
    units may be feet. None without a CRS."""
    if crs is None:
        return None
    if crs.is_geographic:
        geod = pyproj.CRS.from_wkt(crs.to_wkt()).get_geod()
        assert geod is not None
        return sum(abs(geod.geometry_area_perimeter(shape)[0]) for shape in shapes) / 1e6
    metres = float(crs.linear_units_factor[1])
    return float(shapely.area(shapes).sum()) * metres**2 / 1e6


def only_polygons(shape: BaseGeometry) -> list[BaseGeometry]:
    """The polygons of a shape, of collections within collections, too."""
    parts = shapely.get_parts(shape)
    while any(part.geom_type not in ("Point", "LineString", "LinearRing", "Polygon") for part in parts):
        parts = shapely.get_parts(parts)
    return [part for part in parts if part.geom_type == "Polygon" and not part.is_empty]


# --------------------------------------------------------------------------------------------------- polygons to a grid


def require_places(
    shapes: Shapes,
    crs: pyproj.CRS | None,
    name: str,
    numbers: Sequence[int],
    layer: str | None = None,
    first_row: int = 1,
) -> None:
    """Raise VectorError, which names the file and a feature, for coordinates that are no place on earth.

    `numbers`: those of the features in the file, counted from 0; GDAL's SQL counts rows of `layer` from `first_row`.
    """
    points, index = shapely.get_coordinates(shapes, return_index=True)
    limit = np.full(2, LARGEST)
    if crs is not None and crs.is_geographic and {axis.unit_name for axis in crs.axis_info[:2]} <= {"degree"}:
        limit = np.array([540.0, 90 + 1e-6])
    bad = ~(np.abs(points) <= limit).all(axis=1)  # not-a-number is not, either
    if not bad.any():
        return
    feature, (x, y) = int(numbers[index[bad.argmax()]]), points[bad.argmax()]
    row = feature + first_row
    swapped = " Longitude comes first." if crs is not None and crs.is_geographic and 90 < abs(y) <= 180 else ""
    where = f" in {crs.name}" if crs is not None else ""
    file = PurePath(name)
    raise VectorError(
        f"{name}: feature {feature} has a corner at ({x:g}, {y:g}), which is no place on earth{where}.{swapped} Mend it, or take "
        f"the feature out: ogr2ogr -dialect SQLite -sql \"SELECT * FROM '{layer or file.stem}' WHERE rowid <> {row}\" "
        f"mended_{file.stem}.gpkg {file.name}"
    )


def brought_to(shapes: Shapes, crs: pyproj.CRS, grid: Grid, name: str) -> Shapes:
    """Polygons in the grid's CRS, in their order; what lies far from the grid is cut off, and may leave nothing.

    Sides follow the straight lines of their own CRS to within `BEND` pixels. Raises VectorError where a place near the
    grid has none in its CRS.
    """
    assert grid.crs is not None
    wkt = grid.crs.to_wkt()
    if crs.equals(pyproj.CRS.from_wkt(wkt)) or crs.to_wkt() == wkt:
        return _cut(shapes, [_around(grid, FAR)])
    moved = pyproj.Transformer.from_crs(crs, wkt, always_xy=True)
    near = _cut(shapes, _ground(grid, crs))
    there = shapely.transform(
        _with_vertices(near, moved, grid), lambda points: np.stack(moved.transform(*points.T), axis=1)
    )
    points, index = shapely.get_coordinates(there, return_index=True)
    lost = ~np.isfinite(points).all(axis=1)
    if lost.any():
        raise VectorError(
            f"{name}: feature {int(index[lost.argmax()])} has corners near the scene that have no place in {grid.crs.to_string()}. "
            f"Bring the file to that CRS first: ogr2ogr -t_srs {grid.crs.to_string()} moved.gpkg {name.rpartition('/')[2]}"
        )
    return there


def _around(grid: Grid, pixels: float) -> tuple[float, float, float, float]:
    """The bounds of a grid with so many pixels around it."""
    left, bottom, right, top = grid.bounds
    y, x = (pixels * size for size in grid.resolution)
    return left - x, bottom - y, right + x, top + y


def _ground(grid: Grid, crs: pyproj.CRS) -> list[tuple[float, float, float, float]]:
    """Boxes in `crs` that hold the ground of a grid with a margin; of longitudes, as any number of turns has them."""
    back = pyproj.Transformer.from_crs(grid.crs.to_wkt() if grid.crs else None, crs, always_xy=True)
    for margin in (10 + 0.05 * max(grid.shape), 0):
        box = back.transform_bounds(*_around(grid, margin), densify_pts=21)
        if np.isfinite(box).all():
            break
    else:
        return [(-np.inf, -np.inf, np.inf, np.inf)]
    left, bottom, right, top = box
    if not crs.is_geographic:
        more_x, more_y = 0.01 * (right - left), 0.01 * (top - bottom)
        return [(left - more_x, bottom - more_y, right + more_x, top + more_y)]
    right += 360 if right < left else 0  # over 180 degrees
    more_x, more_y = 0.01 * (right - left), 0.01 * (top - bottom)
    bottom, top = max(bottom - more_y, -90), min(top + more_y, 90)
    if right - left + 2 * more_x >= 360:
        return [(-540, bottom, 540, top)]
    return [(left - more_x + turn, bottom, right + more_x + turn, top) for turn in (-360, 0, 360)]


def _cut(shapes: Shapes, boxes: Sequence[tuple[float, float, float, float]]) -> Shapes:
    """Each polygon's part in the boxes; a polygon that lies in one of them stays as it is."""
    left, bottom, right, top = shapely.bounds(shapes).T
    whole = np.zeros(len(shapes), bool)
    meets = np.zeros((len(boxes), len(shapes)), bool)
    for number, (x0, y0, x1, y1) in enumerate(boxes):
        whole |= (left >= x0) & (right <= x1) & (bottom >= y0) & (top <= y1)
        meets[number] = (left <= x1) & (right >= x0) & (bottom <= y1) & (top >= y0)
    kept = shapes.copy()
    for at in np.flatnonzero(~whole):
        parts = [shapely.clip_by_rect(shapes[at], *box) for box, hit in zip(boxes, meets[:, at], strict=True) if hit]
        kept[at] = shapely.MultiPolygon([polygon for part in parts for polygon in only_polygons(part)])
    return kept


def _with_vertices(shapes: Shapes, moved: pyproj.Transformer, grid: Grid) -> Shapes:
    """The polygons with vertices where a side would bend by more than `BEND` pixels."""
    pixel = min(grid.resolution)
    for _ in range(8):
        polygons, of_polygon = shapely.get_parts(shapes, return_index=True)
        rings, of_part = shapely.get_rings(polygons, return_index=True)
        of_shape = of_polygon[of_part]
        points, of_ring = shapely.get_coordinates(rings, return_index=True)
        side = of_ring[1:] == of_ring[:-1]
        start, end = points[:-1][side], points[1:][side]
        bend = np.max([_bend(start, end, share, moved) for share in (0.25, 0.5, 0.75)], axis=0, initial=0.0) / pixel
        bent = bend > BEND
        if not bent.any():
            break
        pieces = np.ceil(np.sqrt(bend[bent] / BEND)).clip(2, 1000)
        longest = np.hypot(*(end - start)[bent].T) / pieces
        target = np.full(len(shapes), np.inf)
        np.minimum.at(target, of_shape[of_ring[1:][side]][bent], longest)
        shapes = shapes.copy()
        few = np.isfinite(target)
        shapes[few] = shapely.segmentize(shapes[few], target[few])
    return shapes


def _bend(start: Points, end: Points, share: float, moved: pyproj.Transformer) -> NDArray[np.float64]:
    """How far the point at a `share` of each side lies from there on the moved side, in units of the new CRS."""
    there = [np.stack(moved.transform(*points.T), axis=1) for points in (start, end, start + share * (end - start))]
    chord = there[0] + share * (there[1] - there[0])
    distance = np.hypot(*(there[2] - chord).T)
    return np.where(np.isfinite(distance), distance, 0.0)
