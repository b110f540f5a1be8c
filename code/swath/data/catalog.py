"""Tables of scenes and tiles: GeoParquet, one row each, keyed by name; paths inside are relative to the table."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from pyarrow import parquet

from swath.errors import CatalogError
from swath.geo.grid import Window
from swath.geo.raster import RasterInfo, describe, find_rasters, part_of
from swath.geo.vector import footprint

SCENES = "scenes.parquet"
TILES = "tiles.parquet"
TILE_STATS = "tile_stats.parquet"

Row = Mapping[Any, Any]
"""A row of a table of tiles."""

SCENE_COLUMNS = ("key", "area", "date", "image")
TILE_COLUMNS = ("key", "scene", "area", "image", "mask", "row", "col", "height", "width")

_POLARISATION = re.compile(r"_(vh|vv|3b)(?=_|$)")
_DATE_FOLDER = re.compile(r"\d{4}-?\d{2}-?\d{2}.*")
_DATE_IN_NAME = re.compile(r"(?<!\d)(\d{8})(?:t(\d{6}))?(?!\d)", re.IGNORECASE)


def scene_key(path: Path) -> str:
    """What a VV, a VH, a 3-band image and a mask of one scene share: the stem without its polarisation token."""
    return _POLARISATION.sub("", path.stem)


def area_of(path: Path, root: Path) -> str:
    """The area a file belongs to: its deepest folder below `root` that is not named by a date, else the root's name.

    ``train/aoi1/20170314T115609/x.tif`` belongs to aoi1, whatever the root.
    """
    folders = [part for part in path.relative_to(root).parts[:-1] if not _DATE_FOLDER.fullmatch(part)]
    return folders[-1] if folders else root.name


def date_of(path: Path) -> str:
    """Acquisition time in a file name, as ``YYYYMMDDTHHMMSS`` or ``YYYYMMDD``; empty when there is none."""
    found = _DATE_IN_NAME.search(path.stem)
    return "" if found is None else found[1] + (f"T{found[2]}" if found[2] else "")


def scene_row(path: Path, root: Path, area: str | None = None) -> dict[str, Any]:
    """A scene's row, `image` relative to `root`, from the raster's header and its place in the folders."""
    info = describe(path)
    return {
        "key": scene_key(path), "area": area or area_of(path, root), "date": date_of(path),
        "image": path.relative_to(root).as_posix(), "bands": list(info.bands),
        "height": info.grid.shape[0], "width": info.grid.shape[1], **place(info),
    }  # fmt: skip


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
        raise CatalogError(f"{path}: the same key names several rows: {_some(twice)}. Rename the files.")
    with whole(path) as part:
        frame.sort_values("key").to_parquet(part, index=False)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as JSON; whole or not at all."""
    with whole(path) as part:
        part.write_text(json.dumps(value, indent=2) + "\n")


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Where to write a file that gets its name `path` when the block ends without error; CatalogError on a full disk."""
    part = part_of(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        os.replace(part, path)
    except OSError as error:
        raise CatalogError(
            f"{path}: cannot be written ({error}). Free disk space and start the same command again."
        ) from error
    finally:
        part.unlink(missing_ok=True)


def _frame(rows: Sequence[Mapping[str, Any]]) -> gpd.GeoDataFrame:
    table = pd.DataFrame(list(rows))
    systems = set(table.pop("geometry_crs")) if "geometry_crs" in table else {None}
    if isinstance(table["geometry"].iloc[0], str):
        table["geometry"] = shapely.from_wkt(table["geometry"].to_numpy(object))
    return gpd.GeoDataFrame(table, geometry="geometry", crs=systems.pop() if len(systems) == 1 else None)


def read_table(
    path: Path, columns: Iterable[str], made_by: str, optional: Iterable[str] | None = None
) -> gpd.GeoDataFrame:
    """Read a table that the step `made_by` writes; CatalogError when it is missing, unreadable, empty or lacks columns.

    With `optional`, only `columns`, the geometry, and the optional columns that it has are read: large tables hold
    much that not everybody needs.
    """
    if not path.is_file():
        raise CatalogError(f"{path}: no such table. Run `{made_by}` with output_path={path.parent} first.")
    try:
        wanted = {*columns, *(optional or ()), "geometry"}
        taken = None if optional is None else [c for c in parquet.read_schema(path).names if c in wanted]
        frame = gpd.read_parquet(path, columns=taken)
    except (OSError, ValueError) as error:
        raise CatalogError(f"{path}: cannot be read ({error}). Delete it and run `{made_by}` again.") from error
    missing = [c for c in columns if c not in frame.columns]
    if missing or frame.empty:
        what = f"lacks the columns {', '.join(missing)}" if missing else "has no rows"
        raise CatalogError(f"{path}: {what}. Run `{made_by}` again.")
    return frame


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


def read_scenes(source: Path) -> gpd.GeoDataFrame:
    """The scenes of a folder: its scenes.parquet, the tiles of its tiles.parquet, or every GeoTIFF below it; or one file.

    `image` holds absolute paths. Raises CatalogError when there is no scene.
    """
    if source.is_file():
        frame = _frame([scene_row(source, source.parent)])
        return frame.assign(image=[str(source)])
    if (source / SCENES).is_file():
        frame = read_table(source / SCENES, SCENE_COLUMNS, "generate_3b_images")
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
    frame["image"] = [str(source / image) for image in frame["image"]]
    return frame


def scene_details(scenes: gpd.GeoDataFrame) -> dict[str, dict[str, Any]]:
    """Scene key to what a challenge knows of it besides its raster: columns that every tile of it shares."""
    raster = {*SCENE_COLUMNS, "bands", "height", "width", "crs", "geometry", "geometry_crs"}
    shared = [column for column in scenes.columns if column not in raster]
    return dict(zip(scenes["key"], scenes[shared].to_dict("records"), strict=True))


def _require_own_names(frame: gpd.GeoDataFrame, source: Path) -> None:
    """Keys and areas name outputs: each key stands once, and none leads out of a folder."""
    twice = frame["key"][frame["key"].duplicated()].unique()
    if len(twice):
        raise CatalogError(f"{source}: several scenes are called {_some(twice)}. Rename the files.")
    wrong = [n for n in (*frame["key"], *frame["area"]) if ".." in Path(n).parts or Path(n).is_absolute()]
    if wrong:
        raise CatalogError(f"{source}: {wrong[0]!r} is no name of a scene or an area: it leads out of the folder.")


def pair_key(path: Path) -> str:
    """Key of a raster of a scene or of a tile: ``<scene>`` or ``<scene>/tile_<col>_<row>``."""
    if not path.stem.startswith("tile_"):
        return scene_key(path)
    return f"{_POLARISATION.sub('', path.parent.name).removesuffix('_tiles')}/{path.stem}"


def by_key(folder: Path) -> dict[str, Path]:
    """Rasters below `folder` by `pair_key`; CatalogError when two have the same."""
    found: dict[str, Path] = {}
    for path in find_rasters(folder):
        key = pair_key(path)
        if key in found:
            raise CatalogError(
                f"{path} and {found[key]} are the same scene by name ({key}). Keep one of them in {folder}."
            )
        found[key] = path
    return found


def pair_masks(scenes: gpd.GeoDataFrame, masks_path: Path) -> dict[str, Path]:
    """Scene key to label raster; CatalogError lists scenes without one."""
    masks = by_key(masks_path)
    missing = sorted(set(scenes["key"]) - set(masks))
    if missing:
        raise CatalogError(
            f"{masks_path}: no mask for {_some(missing)}. Run `rasterize` for these scenes, or leave them out."
        )
    return {key: masks[key] for key in scenes["key"]}


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:5]) + (f" and {len(listed) - 5} more" if len(listed) > 5 else "")


def place_of(row: Row) -> Window:
    """The tile within its files: all of them, or the window that the row names."""
    return Window(_at(row.get("at_row")), _at(row.get("at_col")), row["height"], row["width"])


def _at(value: Any) -> int:
    return 0 if value is None or value != value else int(value)  # NaN where tables of both kinds were joined


def missing_of(row: Row) -> tuple[float, ...]:
    """Values of the row's image that mean no measurement, besides its nodata."""
    missing = row.get("missing")
    return tuple(missing) if isinstance(missing, Sequence | np.ndarray) else ()
