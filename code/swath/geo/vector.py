"""The one module that opens vector files; and polygons to masks. The way back is in `polygons`."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path

import geopandas as gpd
import numpy as np
import pyogrio
import shapely
from pyogrio.errors import DataSourceError

from swath.errors import VectorError
from swath.files import files_below, part_folder, unwritable
from swath.geo.earth import brought_to, only_polygons, require_places
from swath.geo.grid import Grid
from swath.geo.vector_files import DRIVERS, FORMATS, PARQUET, VECTOR_SUFFIXES, require_readable_vectors
from swath.notices import leave_out

SHAPEFILE_NAME = 10
SHAPEFILE_BYTES = 2**31 - 1

UNWRITABLE = (
    DataSourceError, pyogrio.errors.DataLayerError, pyogrio.errors.FeatureError, OSError, RuntimeError,
)  # fmt: skip


def read_polygons(
    path: Path,
    attribute: str | None = None,
    need_crs: bool = True,
    layer: str | None = None,
    layer_field: str = "layer",
) -> gpd.GeoDataFrame:
    """Polygons of a layer of a vector file, multipolygons too; those in collections as multipolygons. Features that are
    no polygons are left out, and noted.

    Raises VectorError when the file is cut short, is not what its suffix says or cannot be read, when it has several
    layers and `layer` names none of them (`layer_field` is the config's name of it), has no CRS (unless `need_crs` is off), has no polygon, lacks `attribute`, or has a
    corner that is no place on earth.
    """
    require_readable_vectors(path)
    is_table = path.suffix.lower() == PARQUET
    try:
        chosen = None if is_table else _layer(path, layer, layer_field)
        with np.errstate(invalid="ignore"):  # coordinates that are no numbers are named below
            frame = gpd.read_parquet(path) if is_table else gpd.read_file(path, layer=chosen)
        if path.suffix.lower() == ".fgb":  # of one that was cut, GDAL gives what comes before
            _require_all_features(path, len(frame))
    except VectorError:
        raise
    except Exception as error:  # pyogrio, pyproj, shapely and pyarrow have errors of a dozen kinds for damaged files
        raise VectorError(
            f"{path}: cannot be read as vectors ({error}). Copy the file again, with all its parts."
        ) from error
    if not isinstance(frame, gpd.GeoDataFrame) or (need_crs and frame.crs is None):
        raise VectorError(
            f"{path}: no CRS. Add the .prj file, or assign the CRS with `ogr2ogr -a_srs EPSG:... out.shp {path.name}`."
        )
    if attribute is not None and attribute not in frame.columns:
        have = ", ".join(str(c) for c in frame.columns if c != frame.geometry.name)
        raise VectorError(
            f"{path}: no attribute {attribute!r}. It has: {have}. Set `attribute` to the one that holds the class."
        )
    polygons = _polygons_of(frame, path)
    first_row = 1 if path.suffix.lower() == ".gpkg" else 0
    require_places(polygons.geometry.to_numpy(), frame.crs, str(path), polygons.index, chosen, first_row)
    return polygons


def _require_all_features(path: Path, read: int) -> None:
    listed = int(pyogrio.read_info(path)["features"])
    if 0 <= listed != read:
        raise VectorError(
            f"{path}: its header lists {listed} features, {read} can be read: it was cut short. "
            "Copy or download it again, or take it out of the folder."
        )


def _layer(path: Path, wanted: str | None, field: str) -> str | None:
    """The layer to read. Raises VectorError that lists the layers with geometries when it is not clear which."""
    layers = [str(name) for name, kind in pyogrio.list_layers(path) if kind is not None]
    listed = ", ".join(layers) or "none"
    if wanted is not None and wanted not in layers:
        raise VectorError(f"{path}: no layer {wanted!r}. It has: {listed}. Set {field} to one of them.")
    if wanted is None and len(layers) > 1:
        raise VectorError(
            f"{path}: has {len(layers)} layers ({listed}). Set {field} to the one that holds the polygons: -P {field}={layers[-1]}"
        )
    return wanted if wanted is not None else next(iter(layers), None)


def _polygons_of(frame: gpd.GeoDataFrame, path: Path) -> gpd.GeoDataFrame:
    """The features that are polygons, in their order with their numbers; others are noted by their kind."""
    empty = frame.geometry.isna() | frame.geometry.is_empty
    leave_out(int(empty.sum()), "features", path, "they have no geometry")
    there = frame[~empty]
    in_collections = there.geom_type == "GeometryCollection"
    if in_collections.any():
        parts = [shapely.MultiPolygon(only_polygons(shape)) for shape in there.geometry[in_collections]]
        there = there.copy()
        there.loc[in_collections, there.geometry.name] = gpd.GeoSeries(
            parts, index=there.index[in_collections], crs=there.crs
        )
    kept = there.geom_type.isin(["Polygon", "MultiPolygon"]) & ~there.geometry.is_empty
    for kind, count in there.geom_type[~kept].value_counts().items():
        empty_collection = kind in ("Polygon", "MultiPolygon")
        kind = "collections without polygons" if empty_collection else f"{kind} geometries, no polygons"
        leave_out(int(count), "features", path, f"they are {kind}")
    polygons = there[kept]
    if polygons.empty:
        raise VectorError(f"{path}: no polygons in it ({len(frame)} features). Remove the file or fill it.")
    return polygons


def reprojected(frame: gpd.GeoDataFrame, grid: Grid, path: Path) -> gpd.GeoDataFrame:
    """The polygons in the grid's CRS, those that touch the grid only; `brought_to` says how they are moved.

    Raises VectorError when the grid has no CRS or none of the polygons touches it.
    """
    if grid.crs is None:
        raise VectorError(
            f"{path}: the scene has no CRS, so its polygons have no place on it. Declare the scene's CRS."
        )
    moved = frame.set_geometry(
        gpd.GeoSeries(brought_to(frame.geometry.to_numpy(), frame.crs, grid, str(path)), index=frame.index), crs=None
    )
    moved = moved.set_crs(grid.crs.to_wkt(), allow_override=True)
    x_min, y_min, x_max, y_max = grid.bounds
    inside = moved[moved.intersects(shapely.box(x_min, y_min, x_max, y_max))]
    if inside.empty:
        raise VectorError(
            f"{path}: none of its {len(frame)} polygons touches the scene. Polygons span "
            f"{_bounds(frame.total_bounds)} in {frame.crs.to_string()[:40]}, the scene {_bounds(grid.bounds)} in "
            f"{grid.crs.to_string()}: check the CRS of both, or remove the label file."
        )
    return inside


def _bounds(bounds: Sequence[float]) -> str:
    return "({:.6g}, {:.6g}, {:.6g}, {:.6g})".format(*bounds)


def write_vectors(path: Path, frame: gpd.GeoDataFrame, layer: str | None = None) -> None:
    """Write polygons whole or not at all; an older file of that name is replaced. Format by suffix.

    Raises VectorError when the suffix is unknown, a shapefile cannot hold the polygons, or the disk is full.
    """
    if path.suffix not in FORMATS:
        raise VectorError(f"{path}: unknown vector format {path.suffix!r}. Known: {', '.join(FORMATS)}.")
    if path.suffix == ".shp":
        _require_fit_for_shapefile(path, frame)
    try:
        with part_folder(path) as folder:
            fresh = folder / path.name
            if _write(fresh, frame, layer or path.stem) != len(frame):
                raise OSError("the written file holds fewer polygons than it should")
            _move_in(folder, path)
    except (*UNWRITABLE, VectorError) as error:
        raise VectorError(unwritable(path, error)) from error


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
    require_readable_vectors(path)
    found = pyogrio.read_info(path, force_feature_count=True)
    if path.suffix == ".gpkg" and len(frame) and not found["capabilities"]["fast_spatial_filter"]:
        raise OSError("its spatial index is missing")  # made while the file is closed, where GDAL says nothing
    return int(found["features"])


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
    return [p for p in files_below(folder) if p.suffix.lower() in VECTOR_SUFFIXES]
