"""Tables of scenes and tiles: GeoParquet, one row each, keyed by name; paths inside are relative to the table."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from pyarrow import parquet

from swath.data.columns import require_values_of_columns
from swath.data.naming import area_of, date_of, listing
from swath.errors import CatalogError, reason
from swath.files import atomic_write, leads_outside
from swath.geo.earth import footprint
from swath.geo.grid import Window
from swath.geo.layout import RasterInfo
from swath.geo.raster import describe, find_rasters

SCENES = "scenes.parquet"
LABELS = "labels.parquet"
TILES = "tiles.parquet"
TILE_STATS = "tile_stats.parquet"

Row = Mapping[Any, Any]
"""A row of a table of tiles."""

SCENE_COLUMNS = ("key", "area", "date", "image")
NAME_COLUMNS = ("key", "scene", "area")
"""Columns whose values become names of files and folders."""
FILE_COLUMNS = ("image", "mask", "labels")
"""Columns whose values are files to read."""
TILE_COLUMNS = ("key", "scene", "area", "image", "mask", "row", "col", "height", "width")


def scene_row(
    path: Path, root: Path, area: str | None = None, key: str | None = None, labels: Path | None = None
) -> dict[str, Any]:
    """A scene's row, `image` and `labels` relative to `root`, from the raster's header and its place in the folders."""
    info = describe(path)
    return {
        "key": key or path.stem, "area": area or area_of(path, root), "date": date_of(path),
        "image": from_table(path, root), "bands": list(info.bands),
        "height": info.grid.shape[0], "width": info.grid.shape[1], **place(info),
    } | ({"labels": from_table(labels, root)} if labels else {})  # fmt: skip


def from_table(path: Path, folder: Path) -> str:
    """A file as a table in `folder` names it: relative to the folder, and with ``..`` where it lies elsewhere."""
    return Path(os.path.relpath(path, folder)).as_posix()


def label_row(path: Path, root: Path, key: str, area: str) -> dict[str, Any]:
    """A row of labels.parquet: a label raster, relative to `root`, and the scene that it is of."""
    return {"key": key, "area": area, "labels": path.relative_to(root).as_posix(), **place(describe(path))}


def place(info: RasterInfo) -> dict[str, Any]:
    """The columns that say where a raster lies."""
    geometry, crs = footprint(info.grid)
    return {
        "crs": info.grid.crs.to_string() if info.grid.crs else None,
        "geometry": geometry,
        "geometry_crs": crs,
    }


def write_table(path: Path, rows: Sequence[Mapping[str, Any]] | gpd.GeoDataFrame) -> None:
    """Write rows, sorted by key, as GeoParquet; whole or not at all.

    Raises CatalogError on a key used twice; a table with a row per task may use it once for each.
    """
    frame = rows if isinstance(rows, gpd.GeoDataFrame) else _frame(rows)
    twice = frame["key"][frame.duplicated([c for c in ("key", "task") if c in frame])].unique()
    if len(twice):
        raise CatalogError(f"{path}: the same key names several rows: {listing(twice)}. Rename the files.")
    with atomic_write(path) as part:
        frame.sort_values("key").to_parquet(part, index=False)


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """Write a table for people, six digits after the point; whole or not at all."""
    with atomic_write(path) as part:
        table.to_csv(part, index=False, float_format="%.6f")


def _frame(rows: Sequence[Mapping[str, Any]]) -> gpd.GeoDataFrame:
    table = pd.DataFrame(list(rows))
    systems = set(table.pop("geometry_crs")) if "geometry_crs" in table else {None}
    if isinstance(table["geometry"].iloc[0], str):
        table["geometry"] = shapely.from_wkt(table["geometry"].to_numpy(object))
    return gpd.GeoDataFrame(table, geometry="geometry", crs=systems.pop() if len(systems) == 1 else None)


def read_table(
    path: Path, columns: Iterable[str], made_by: str, optional: Iterable[str] | None = None
) -> gpd.GeoDataFrame:
    """Read a table that the step `made_by` writes; CatalogError when it is missing, unreadable, empty, lacks columns or
    holds values that its columns cannot hold (`swath.data.columns`).

    With `optional`, only `columns`, the geometry, and the optional columns that it has are read: large tables hold
    much that not everybody needs.
    """
    step = f"`{made_by}`" + (" (or the challenge's own step that makes scenes)" if made_by == "import_scenes" else "")
    if not path.is_file():
        raise CatalogError(f"{path}: no such table. Run {step} with output_path={path.parent} first.")
    try:
        wanted = {*columns, *(optional or ()), "geometry"}
        taken = None if optional is None else [c for c in parquet.read_schema(path).names if c in wanted]
        frame = gpd.read_parquet(path, columns=taken)
    except Exception as error:  # readers of Parquet, WKB and CRS each have their own ways to fail on damaged bytes
        raise CatalogError(
            f"{path}: cannot be read as a table ({reason(error)}). Delete it and run {step} again."
        ) from error
    missing = [c for c in columns if c not in frame.columns]
    if missing or frame.empty:
        what = f"lacks the columns {', '.join(missing)}" if missing else "has no rows"
        raise CatalogError(f"{path}: {what}. Run {step} again.")
    require_values_of_columns(frame, path, f"Correct it, or delete the table and run {step} again.")
    if path.name in (TILES, TILE_STATS):
        _require_once(frame, path, "tiles", f"Run {step} again.")
    _require_names(frame, path)
    return frame


def _require_names(frame: pd.DataFrame, source: Path) -> None:
    """Raise CatalogError for names that lead out of a folder that results go to, and for rasters that are no files.

    Files to read may lie anywhere, as scenes do whose tiles are windows; they are not fetched from elsewhere.
    """
    for column in set(NAME_COLUMNS) & set(frame.columns):
        for name in frame[column].unique():
            if leads_outside(name):
                raise CatalogError(
                    f"{source}: column {column}: {name!r} is no name of a scene, a tile or an area: it is empty or leads "
                    "out of the folder. Correct the table, or make it again."
                )
    for column in set(FILE_COLUMNS) & set(frame.columns):
        for name in frame[column].unique():
            if isinstance(name, str) and (name.startswith("/vsi") or "\0" in name):
                raise CatalogError(
                    f"{source}: column {column}: {name!r} is no file on this machine. Download it and name the copy."
                )


def require_files(table: pd.DataFrame, source: Path, remedy: str, columns: Sequence[str] = FILE_COLUMNS) -> None:
    """Raise CatalogError when files that a table names in `columns` are not there; it lists the first five of them.

    `source`: the table's file, or the folder that its paths are relative to; absolute paths may lie anywhere.
    """
    folder = source if source.is_dir() else source.parent
    there = [column for column in columns if column in table]
    named = dict.fromkeys(name for column in there for name in table[column] if isinstance(name, str) and name)
    missing = [str(folder / name) for name in named if not (folder / name).is_file()]
    if missing:
        listed = ", ".join(missing[:5])
        raise CatalogError(f"{source}: {len(missing)} files of the table are missing: {listed}. {remedy}")


def require_areas(wanted: Iterable[str], known: Iterable[str]) -> None:
    """Raise CatalogError for an area that is not among the known ones."""
    names = sorted(set(known))
    unknown = [area for area in wanted if area not in names]
    if unknown:
        raise CatalogError(f"areas: no scene of {', '.join(unknown)}. There are {', '.join(names)}.")


def only_areas(scenes: gpd.GeoDataFrame, areas: Sequence[str] | None) -> gpd.GeoDataFrame:
    """The rows of these areas (None: all). Raises CatalogError for an area that has no row."""
    require_areas(areas or (), scenes["area"])
    return scenes if areas is None else scenes[scenes["area"].isin(list(areas))].reset_index(drop=True)


def texts_of(table: pd.DataFrame, column: str, field: str) -> pd.Series[Any]:
    """The values of a column as texts, None where a row has none; whole numbers have no decimals, whatever their type.

    Raises CatalogError, in the name of the config's `field`, for a column that the table does not have.
    """
    if column not in table:
        raise CatalogError(f"{field}: no column {column!r} in the table. It has: {', '.join(table.columns)}.")
    gone = table[column].isna()
    texts = [None if no else _text(value) or None for value, no in zip(table[column], gone, strict=True)]
    return pd.Series(texts, index=table.index, name=column, dtype=object)


def _text(value: Any) -> str:
    whole = isinstance(value, float | np.floating) and float(value).is_integer()  # integers where some rows have none
    return str(int(value)) if whole else str(value)


def require_values(column: str, wanted: Iterable[str], known: Iterable[str], field: str) -> None:
    """Raise CatalogError, in the name of the config's `field`, for a value that no scene has in this column."""
    names = sorted(set(known))
    unknown = [value for value in wanted if value not in names]
    if unknown:
        raise CatalogError(
            f"{field}: no scene has {column} {', '.join(unknown)}. There are {', '.join(names) or 'no values'}."
        )


def only_where(scenes: gpd.GeoDataFrame, only: Mapping[str, Sequence[str]] | None) -> gpd.GeoDataFrame:
    """The rows that have one of these values, as texts, in each column that is named (None: all).

    Raises CatalogError for a column that the table does not have, a value that no row has, and when no row has all.
    """
    if only is None:
        return scenes
    kept = np.ones(len(scenes), bool)
    for column, values in only.items():
        texts = texts_of(scenes, column, "only")
        require_values(column, values, texts.dropna(), "only")
        kept &= texts.isin(list(values)).to_numpy()
    if not kept.any():
        wanted = "; ".join(f"{column} {', '.join(values)}" for column, values in only.items())
        raise CatalogError(f"only: no scene has all of {wanted}. Name fewer columns, or more values.")
    return scenes[kept].reset_index(drop=True)


def read_scenes(source: Path) -> gpd.GeoDataFrame:
    """The scenes of a folder: its scenes.parquet, the tiles of its tiles.parquet, or every GeoTIFF below it; or one file.

    `image` holds absolute paths, and `labels` where the table names some. `bands` and `nodata` of a table stand above
    what the files say of themselves. Raises CatalogError when there is no scene.
    """
    if source.is_file():
        frame = _frame([scene_row(source, source.parent)])
        return frame.assign(image=[str(source)])
    if (source / SCENES).is_file():
        frame = read_table(source / SCENES, SCENE_COLUMNS, "import_scenes")
    elif (source / TILES).is_file():
        frame = read_table(source / TILES, TILE_COLUMNS, "generate_test_tiles")
        if "at_row" in frame:
            raise CatalogError(
                f"{source}: its tiles are windows of scenes. Set input_path to the folder of the scenes."
            )
    else:
        paths = find_rasters(source)
        if not paths:
            raise CatalogError(
                f"{source}: no scene found (no {SCENES}, no GeoTIFF). Set input_path to a folder of scenes."
            )
        frame = _frame([scene_row(path, source) for path in paths])
    _require_own_names(frame, source)
    for column in ("image", "labels"):
        if column in frame:
            frame[column] = [str(source / path) if isinstance(path, str) else None for path in frame[column]]
    return frame


def scene_details(scenes: gpd.GeoDataFrame) -> dict[str, dict[str, Any]]:
    """Scene key to its date and what a challenge knows of it besides its raster: columns that every tile of it shares."""
    raster = {"key", "area", "image", "labels", "nodata", "bands", "height", "width", "crs", "geometry", "geometry_crs"}
    shared = [column for column in scenes.columns if column not in raster]
    return dict(zip(scenes["key"], scenes[shared].to_dict("records"), strict=True))


def _require_own_names(frame: gpd.GeoDataFrame, source: Path) -> None:
    """Keys and areas name outputs: each key stands once, and none leads out of a folder."""
    _require_once(frame, source, "scenes", "Rename the files.")
    _require_names(frame, source)


def _require_once(frame: pd.DataFrame, source: Path, rows: str, remedy: str) -> None:
    """Raise CatalogError for keys that several rows have; `rows` says what these are."""
    twice = frame["key"][frame["key"].duplicated()].unique()
    if len(twice):
        raise CatalogError(f"{source}: several {rows} are called {listing(twice)}. {remedy}")


def place_of(row: Row) -> Window:
    """The tile within its files: all of them, or the window that the row names."""
    return Window(_at(row.get("at_row")), _at(row.get("at_col")), row["height"], row["width"])


def is_file(row: Row) -> bool:
    """Whether a tile has a file of its own, and is no window of its scene."""
    at = row.get("at_row")
    return at is None or at != at  # NaN where tables of both kinds were joined


def _at(value: Any) -> int:
    return 0 if value is None or value != value else int(value)  # NaN where tables of both kinds were joined


def missing_of(row: Row) -> tuple[float, ...]:
    """Values of the row's image that mean no measurement, besides its nodata."""
    missing, nodata = row.get("missing"), row.get("nodata")
    listed = tuple(missing) if isinstance(missing, Sequence | np.ndarray) else ()
    return listed if nodata is None or nodata != nodata or nodata in listed else (*listed, float(nodata))


def mask_of(row: Row) -> str | None:
    """The label raster of a tile's row; None where it has none, which tables hold as None, NaN or an empty text."""
    mask = row.get("mask")
    return mask if isinstance(mask, str) and mask else None


def masks_of(tiles: pd.DataFrame) -> list[str | None]:
    """`mask_of` each row of a table of tiles."""
    return [mask_of({"mask": mask}) for mask in tiles["mask"]]


def bands_of(row: Row) -> tuple[str, ...] | None:
    """Names of the bands of a row's image where the table gives them, else None."""
    bands = row.get("bands")
    return tuple(bands) if isinstance(bands, Sequence | np.ndarray) and len(bands) else None


CLASSES = "classes_"
"""Columns of a table of tiles that begin so hold a task's pixels by class; those in an overlap count in each tile."""
