"""Blocks of ground for splits inside one large scene: tiles in the units of their grid, and folds of blocks."""

from __future__ import annotations

from typing import Literal

import geopandas as gpd
import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.errors import CRSError

from swath.data.leakage.footprints import Geometries, scenes_of
from swath.errors import CatalogError, ConfigError

Unit = Literal["pixels", "metres"]


def frames_of(tiles: gpd.GeoDataFrame) -> NDArray[np.object_]:
    """What each tile's coordinates refer to: its CRS, or its scene where there is none."""
    return np.where(tiles["crs"].notna(), tiles["crs"], scenes_of(tiles)).astype(object)


def boxes_of(tiles: gpd.GeoDataFrame, unit: Unit) -> Geometries:
    """Outlines of tiles of one frame in its grid's axes: in metres, or in pixels of the frame's median size.

    Raises CatalogError when the table lacks the grid of the scenes, ConfigError for metres without a projected CRS.
    """
    if "scene_transform" not in tiles:
        raise CatalogError("data: no column 'scene_transform' in the table. Run `generate_tiles` again.")
    a, b, c, d, e, f = np.stack(tiles["scene_transform"].to_list()).astype(float).T
    row, col = (tiles[name].to_numpy(float) for name in ("row", "col"))
    corners = []
    for down, right in ((0, 0), (0, 1), (1, 1), (1, 0)):
        y, x = row + down * tiles["height"].to_numpy(), col + right * tiles["width"].to_numpy()
        corners.append(np.stack([a * x + b * y + c, d * x + e * y + f], axis=-1))
    if unit == "pixels":
        scale = np.array([np.median(np.hypot(a, d)), np.median(np.hypot(b, e))])
    else:
        scale = np.full(2, 1 / _metres(tiles["crs"].iloc[0]))
    return shapely.polygons(np.stack(corners, axis=1) / scale)


def _metres(crs: str | None) -> float:
    """Metres per unit of a projected CRS."""
    try:
        return float(CRS.from_user_input(crs).linear_units_factor[1])
    except CRSError:
        raise ConfigError(
            f"unit='metres': {crs or 'a scene without a CRS'} does not count in metres. Use 'pixels'."
        ) from None


def folds_of_blocks(boxes: Geometries, block: float, folds: int, seed: int) -> NDArray[np.int64]:
    """int64 fold of each outline: that of the square block of side `block` that holds its centre.

    Blocks with tiles in them are walked in rows, there and back; each run of `folds` neighbours on this walk gets all
    folds once, in an order drawn by `seed`. So folds are spread over the scene, and their blocks differ by one at most.
    """
    centre = shapely.get_coordinates(shapely.centroid(boxes))
    cell = np.floor((centre - shapely.bounds(boxes)[:, :2].min(axis=0)) / block).astype(np.int64)
    walk = np.stack([cell[:, 1], np.where(cell[:, 1] % 2, -cell[:, 0], cell[:, 0])], axis=1)
    unique, place = np.unique(walk, axis=0, return_inverse=True)
    drawn = np.random.default_rng(seed).random(len(unique))
    order = np.lexsort((drawn, np.arange(len(unique)) // folds))
    fold = np.empty(len(unique), np.int64)
    fold[order] = np.arange(len(unique)) % folds
    return fold[place.reshape(-1)]
