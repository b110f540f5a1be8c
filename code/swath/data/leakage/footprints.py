"""Where tiles lie: footprints that share ground, and tiles that come too near to each other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray

TOLERANCE = 0.01
"""Share of the smaller footprint from which two of them share ground: neighbours that only touch do not."""

ROWS = 4096
"""Footprints that are looked up at once."""

Geometries = NDArray[Any]
Rows = NDArray[np.int64]
Pairs = tuple[Rows, Rows, NDArray[np.float64]]
"""Rows i and j of two tables, and the shared part of the smaller footprint, in (0, 1]."""


def shared_ground(a: gpd.GeoDataFrame, b: gpd.GeoDataFrame, tolerance: float = TOLERANCE) -> list[tuple[int, int]]:
    """Positions (i, j) of rows of `a` and `b` whose footprints share more than `tolerance` of the smaller one.

    Rows without a CRS have no place on earth and share ground only with rows of their own scene.
    """
    i, j, _ = overlaps(a, b, tolerance)
    return [(int(m), int(n)) for m, n in zip(i, j, strict=True)]


def overlaps(a: gpd.GeoDataFrame, b: gpd.GeoDataFrame, tolerance: float = TOLERANCE) -> Pairs:
    """As `shared_ground`: arrays i, j and the shared part of the smaller footprint, in (0, 1]."""
    ours, theirs = _footprints(a), _footprints(b)
    found: list[Pairs] = [(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))]
    for i, j in _candidates(ours.shapes, theirs.shapes, 0.0):
        comparable = (ours.placed[i] & theirs.placed[j]) | (ours.scenes[i] == theirs.scenes[j])
        found.append(_shares(ours, theirs, i[comparable], j[comparable], tolerance))
    i, j, share = (np.concatenate(column) for column in zip(*found, strict=True))
    return i, j, share


@dataclass(frozen=True, kw_only=True)
class _Footprints:
    """The footprints of a table, row by row, and what is measured of each once."""

    shapes: Geometries
    placed: NDArray[np.bool_]
    """Which have a CRS."""
    scenes: NDArray[Any]
    areas: NDArray[np.float64]
    boxes: NDArray[np.float64]
    """(N, 4): minx, miny, maxx, maxy."""
    upright: NDArray[np.bool_]
    """Which fill the box around them, and so are that box."""


def _footprints(frame: gpd.GeoDataFrame) -> _Footprints:
    shapes = frame.geometry.to_numpy()
    areas, boxes = shapely.area(shapes), shapely.bounds(shapes)
    # of a table without the column, the geometries say whether they have a place on earth
    placed = frame["crs"].notna().to_numpy() if "crs" in frame else np.full(len(frame), frame.crs is not None)
    return _Footprints(
        shapes=shapes,
        placed=placed,
        scenes=scenes_of(frame).to_numpy(),
        areas=areas,
        boxes=boxes,
        upright=areas >= (1 - 1e-12) * _shared_box(boxes, boxes),
    )


def _shares(ours: _Footprints, theirs: _Footprints, i: Rows, j: Rows, tolerance: float) -> Pairs:
    """Those of the pairs (i, j) that share more than `tolerance` of the smaller one, and how much of it."""
    smaller = np.minimum(ours.areas[i], theirs.areas[j])
    at_most = _shared_box(ours.boxes[i], theirs.boxes[j])
    able = at_most > tolerance * smaller  # cutting polygons is what takes the time
    i, j, smaller = i[able], j[able], smaller[able]
    shared = _shared_area(ours, theirs, i, j, at_most[able])
    share = shared / np.maximum(smaller, np.finfo(float).tiny)
    above = share > tolerance
    return i[above], j[above], share[above]


def _shared_area(
    ours: _Footprints, theirs: _Footprints, i: Rows, j: Rows, in_boxes: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Area that the pairs (i, j) share: what their boxes share if both are upright, otherwise cut out."""
    turned = ~(ours.upright[i] & theirs.upright[j])
    shared = in_boxes.copy()
    shared[turned] = shapely.area(shapely.intersection(ours.shapes[i[turned]], theirs.shapes[j[turned]]))
    return shared


def _shared_box(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Area that the boxes around two geometries share, row by row of (N, 4) bounds: they share no more themselves."""
    sides = np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])
    return np.maximum(sides, 0).prod(axis=1)


def too_near(shapes: Geometries, others: Geometries, buffer: float) -> NDArray[np.bool_]:
    """Which of `shapes` overlap one of `others` or come nearer than `buffer` (units of the coordinates) to it."""
    found = np.zeros(len(shapes), bool)
    for i, j in _candidates(shapes, others, buffer):
        apart = shapely.distance(shapes[i], others[j])
        shared = shapely.area(shapely.intersection(shapes[i], others[j]))
        near = (apart < buffer * (1 - 1e-9)) | (shared > 1e-6 * shapely.area(shapes[i]))  # but for rounding
        found[i[near]] = True
    return found


def _candidates(
    ours: Geometries, theirs: Geometries, distance: float
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Batches of positions (i, j) of geometries at most `distance` apart; missing geometries are near nothing."""
    tree = shapely.STRtree(ours)
    for start in range(0, len(theirs), ROWS):
        some = theirs[start : start + ROWS]
        how = {"predicate": "dwithin", "distance": distance} if distance else {"predicate": "intersects"}
        j, i = tree.query(some, **how)
        yield i, j + start


def scenes_of(frame: gpd.GeoDataFrame) -> Any:
    """The scene of each row; rows of a table of scenes are their own."""
    return frame["scene" if "scene" in frame else "key"]


BOUNDS = ["minx", "miny", "maxx", "maxy"]


def extents(frame: gpd.GeoDataFrame) -> pd.DataFrame:
    """A row per scene: `BOUNDS` of its rows (NaN without a CRS), `area` and `key` of the first of them."""
    bounds = frame.bounds.where(frame["crs"].notna())
    how = dict(zip(BOUNDS, ("min", "min", "max", "max"), strict=True)) | {"area": "first", "key": "first"}
    return bounds.assign(area=frame["area"], key=frame["key"]).groupby(scenes_of(frame).to_numpy()).agg(how)


def apart(boxes: NDArray[np.float64], box: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which of (N, 4) `BOUNDS` are known to lie apart from `box`: where either is NaN, none is."""
    beside = (boxes[:, 0] > box[2]) | (boxes[:, 2] < box[0])
    return beside | (boxes[:, 1] > box[3]) | (boxes[:, 3] < box[1])
