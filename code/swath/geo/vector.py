"""The one module that opens vector files; and polygons to masks. The way back is in `polygons`."""

from __future__ import annotations

import os
import shutil
import tempfile
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import geopandas as gpd
import pyogrio
import shapely
from pyogrio.errors import DataSourceError
from shapely.geometry.base import BaseGeometry

from swath.errors import VectorError
from swath.files import files_below
from swath.geo.grid import Grid, Window

DRIVERS = {".shp": "ESRI Shapefile", ".gpkg": "GPKG", ".fgb": "FlatGeobuf", ".geojson": "GeoJSON"}
VECTOR_SUFFIXES = tuple(DRIVERS)
"""Where labels are looked for; not in GeoParquet, which tables of scenes and tiles are, too."""
PARQUET = ".parquet"
FORMATS = (*DRIVERS, PARQUET)

SHAPEFILE_NAME = 10
SHAPEFILE_BYTES = 2**31 - 1

UNREADABLE = (DataSourceError, OSError, ValueError)
UNWRITABLE = (
    DataSourceError, pyogrio.errors.DataLayerError, pyogrio.errors.FeatureError, OSError, RuntimeError,
)  # fmt: skip


def read_polygons(path: Path, attribute: str | None = None, need_crs: bool = True) -> gpd.GeoDataFrame:
    """Polygons of a vector file, those without a geometry left out.

    Raises VectorError when the file cannot be read, has no CRS (unless `need_crs` is off), has no polygon, or lacks
    `attribute`.
    """
    try:
        frame = gpd.read_parquet(path) if path.suffix == PARQUET else gpd.read_file(path)
    except UNREADABLE as error:
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


def write_vectors(path: Path, frame: gpd.GeoDataFrame, layer: str | None = None) -> None:
    """Write polygons whole or not at all; an older file of that name is replaced. Format by suffix.

    Raises VectorError when the suffix is unknown, a shapefile cannot hold the polygons, or the disk is full.
    """
    if path.suffix not in FORMATS:
        raise VectorError(f"{path}: unknown vector format {path.suffix!r}. Known: {', '.join(FORMATS)}.")
    if path.suffix == ".shp":
        _require_fit_for_shapefile(path, frame)
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{path.stem}.", dir=path.parent))
    try:
        fresh = folder / path.name
        if _write(fresh, frame, layer or path.stem) != len(frame):
            raise OSError("the written file holds fewer polygons than it should")
        _move_in(folder, path)
    except UNWRITABLE as error:
        raise VectorError(
            f"{path}: cannot be written ({error}). Free disk space and start the same command again."
        ) from error
    finally:
        with suppress(OSError):
            shutil.rmtree(folder)


def _write(path: Path, frame: gpd.GeoDataFrame, layer: str) -> int:
    """Write, and count what is in the file."""
    if path.suffix == PARQUET:
        from pyarrow.parquet import read_metadata

        frame.to_parquet(path, index=False)
        return int(read_metadata(path).num_rows)
    if frame.crs is None:  # no oversight. For good, as catch_warnings lets through what other threads write meanwhile
        warnings.filterwarnings("ignore", "'crs' was not provided", UserWarning)
    pyogrio.write_dataframe(
        frame, path, driver=DRIVERS[path.suffix], layer=layer, geometry_type="Polygon", promote_to_multi=False
    )
    return int(pyogrio.read_info(path, force_feature_count=True)["features"])


def _require_fit_for_shapefile(path: Path, frame: gpd.GeoDataFrame) -> None:
    """The format counts bytes in 31 bits and has 10 characters for a name; GDAL would go on with a damaged result."""
    long = [str(c) for c in frame.columns if c != frame.geometry.name and len(str(c).encode()) > SHAPEFILE_NAME]
    if long:
        raise VectorError(
            f"{path}: a shapefile has {SHAPEFILE_NAME} characters for an attribute's name, too few for "
            f"{', '.join(long)}. Rename it, or write gpkg, parquet or fgb."
        )
    shapes = frame.geometry.to_numpy()
    parts = shapely.get_num_interior_rings(shapes).sum() + len(shapes)
    size = 100 + 52 * len(shapes) + 4 * parts + 16 * shapely.get_num_coordinates(shapes).sum()  # ESRI's paper of 1998
    if size > SHAPEFILE_BYTES:
        raise VectorError(
            f"{path}: {len(frame)} polygons need {size / 1e9:.1f} GB, a shapefile holds {SHAPEFILE_BYTES / 1e9:.1f}. "
            "Write gpkg, parquet or fgb, or drop small polygons (min_area) or corners (simplify)."
        )


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
