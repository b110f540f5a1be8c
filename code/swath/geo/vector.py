"""The one module that opens vector files: polygons to masks, masks to polygons."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pyogrio
import shapely
from numpy.typing import NDArray
from pyogrio.errors import DataSourceError
from rasterio import features
from shapely.geometry.base import BaseGeometry

from swath.errors import VectorError
from swath.geo.grid import Grid, Window
from swath.geo.raster import files_below

DRIVERS = {".shp": "ESRI Shapefile", ".gpkg": "GPKG", ".fgb": "FlatGeobuf", ".geojson": "GeoJSON"}
VECTOR_SUFFIXES = (".shp", ".gpkg", ".fgb", ".geojson")


def read_polygons(path: Path, attribute: str | None = None, need_crs: bool = True) -> gpd.GeoDataFrame:
    """Polygons of a vector file, those without a geometry left out.

    Raises VectorError when the file cannot be read, has no CRS (unless `need_crs` is off), has no polygon, or lacks
    `attribute`.
    """
    try:
        frame = gpd.read_file(path)
    except (DataSourceError, OSError, ValueError) as error:
        raise VectorError(
            f"{path}: cannot be read as vectors ({error}). Copy the file again, with all its parts."
        ) from error
    if not isinstance(frame, gpd.GeoDataFrame) or (need_crs and frame.crs is None):
        raise VectorError(
            f"{path}: no CRS. Add the .prj file, or assign the CRS with `ogr2ogr -a_srs EPSG:... out.shp {path.name}`."
        )
    if attribute is not None and attribute not in frame.columns:
        have = ", ".join(c for c in frame.columns if c != "geometry")
        raise VectorError(
            f"{path}: no attribute {attribute!r}. It has: {have}. Set `attribute` to the one that holds the class."
        )
    frame = frame[~(frame.geometry.is_empty | frame.geometry.isna())]
    polygons = frame[frame.geom_type.isin(["Polygon", "MultiPolygon"])]
    if polygons.empty:
        raise VectorError(f"{path}: no polygons in it ({len(frame)} features). Remove the file or fill it.")
    return polygons


def reprojected(frame: gpd.GeoDataFrame, grid: Grid, path: Path) -> gpd.GeoDataFrame:
    """The polygons in the grid's CRS, those that touch the grid only.

    Raises VectorError when the grid has no CRS or none of the polygons touches it.
    """
    if grid.crs is None:
        raise VectorError(
            f"{path}: the scene has no CRS, so its polygons have no place on it. Declare the scene's CRS."
        )
    same = frame.crs.equals(grid.crs) or frame.crs.to_wkt() == grid.crs.to_wkt()
    moved = frame if same else frame.to_crs(grid.crs.to_wkt())
    x_min, y_min, x_max, y_max = grid.bounds
    inside = moved[moved.intersects(shapely.box(x_min, y_min, x_max, y_max))]
    if inside.empty:
        raise VectorError(
            f"{path}: none of its {len(frame)} polygons touches the scene. Polygons span "
            f"{_bounds(moved.total_bounds)}, the scene {_bounds(grid.bounds)} in {grid.crs.to_string()}: "
            "check the CRS of both, or remove the label file."
        )
    return inside


def _bounds(bounds: Sequence[float]) -> str:
    return "({:.0f}, {:.0f}, {:.0f}, {:.0f})".format(*bounds)


def burn(
    geometries: Sequence[BaseGeometry],
    values: Sequence[int],
    grid: Grid,
    window: Window,
    all_touched: bool = True,
) -> NDArray[np.uint8]:
    """uint8 (height, width) of the window: each polygon's value, 0 elsewhere; later polygons win.

    With `all_touched` every pixel that a polygon touches is burnt, else those whose centre lies inside, as
    gdal_rasterize does with and without -at.
    """
    place = grid.at(window)
    x_min, y_min, x_max, y_max = place.bounds
    near = shapely.STRtree(list(geometries)).query(shapely.box(x_min, y_min, x_max, y_max))
    shapes = [(geometries[i], int(values[i])) for i in np.sort(near)]
    if not shapes:
        return np.zeros(window.shape, np.uint8)
    return features.rasterize(
        shapes, out_shape=window.shape, transform=place.transform, all_touched=all_touched, dtype="uint8"
    )


def polygonize(
    mask_HW: NDArray[np.uint8], grid: Grid, classes: Sequence[int] = (1,), min_area: float = 0.0
) -> gpd.GeoDataFrame:
    """Polygons of 4-connected pixels of equal value, with the value as `id`, in the grid's CRS.

    Only `classes` are kept, and polygons of at least `min_area` (CRS units squared). Every pixel of a kept class
    lies in exactly one polygon; geometries are valid.
    """
    wanted = np.isin(mask_HW, classes)
    pairs = list(features.shapes(mask_HW, mask=wanted, connectivity=4, transform=grid.transform))
    frame = gpd.GeoDataFrame(
        {"id": np.array([int(value) for _, value in pairs], np.int32)},
        geometry=shapely.from_geojson([_geojson(shape) for shape, _ in pairs]) if pairs else [],
        crs=grid.crs.to_wkt() if grid.crs else None,
    )
    return frame[frame.area >= min_area].reset_index(drop=True) if min_area > 0 else frame


def _geojson(shape: dict[str, Any]) -> str:
    rings = ",".join("[" + ",".join(f"[{x!r},{y!r}]" for x, y in ring) + "]" for ring in shape["coordinates"])
    return f'{{"type":"Polygon","coordinates":[{rings}]}}'


def write_vectors(path: Path, frame: gpd.GeoDataFrame, layer: str | None = None) -> None:
    """Write a vector file whole or not at all; an older file of that name is replaced. Format by suffix.

    Raises VectorError when the suffix is unknown or the disk is full.
    """
    driver = DRIVERS.get(path.suffix)
    if driver is None:
        raise VectorError(f"{path}: unknown vector format {path.suffix!r}. Known: {', '.join(DRIVERS)}.")
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{path.stem}.", dir=path.parent))
    try:
        fresh = folder / path.name
        pyogrio.write_dataframe(
            frame,
            fresh,
            driver=driver,
            layer=layer or path.stem,
            geometry_type="Polygon",
            promote_to_multi=False,
        )
        if len(gpd.read_file(fresh)) != len(frame):
            raise OSError("the written file holds fewer polygons than it should")
        _move_in(folder, path)
    except (
        DataSourceError,
        pyogrio.errors.DataLayerError,
        pyogrio.errors.FeatureError,
        OSError,
        RuntimeError,
    ) as error:
        raise VectorError(
            f"{path}: cannot be written ({error}). Free disk space and start the same command again."
        ) from error
    finally:
        with suppress(OSError):
            shutil.rmtree(folder)


def _move_in(folder: Path, path: Path) -> None:
    """A shapefile is several files: the old .shp goes first and the new one comes last, so half a set is never read."""
    path.unlink(missing_ok=True)
    parts = sorted(folder.iterdir(), key=lambda p: p.suffix == path.suffix)
    for part in parts:
        os.replace(part, path.with_name(part.name))


def find_vectors(folder: Path) -> list[Path]:
    """Vector files below `folder`, sorted. Links are followed; hidden files are left out."""
    if not folder.is_dir():
        raise VectorError(f"{folder}: no such folder. Set input_path to the folder that holds the label polygons.")
    return [p for p in files_below(folder) if p.suffix in VECTOR_SUFFIXES]


def footprint(grid: Grid) -> tuple[BaseGeometry, str | None]:
    """A grid's outline as a polygon in longitude and latitude (EPSG:4326), or in its own units when it has no CRS."""
    outlines, crs = footprints(grid, [grid.window])
    return outlines[0], crs


def footprints(grid: Grid, windows: Sequence[Window]) -> tuple[list[BaseGeometry], str | None]:
    """Outlines of windows of a grid, as `footprint` gives that of the whole."""
    outlines = [shapely.Polygon(grid.at(window).corners) for window in windows]
    if grid.crs is None:
        return outlines, None
    return list(gpd.GeoSeries(outlines, crs=grid.crs.to_wkt()).to_crs("EPSG:4326")), "EPSG:4326"
