"""Which rasters a step after inference takes from its `input_path`, so that steps follow one another in one folder.

Tiles become scenes in ``merged/``, dates of an area become one map in ``aggregated/``, both beside what they are made of.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from swath.data.areas import AreaRule
from swath.data.naming import listing
from swath.data.pairing import AGGREGATED, MERGED, own_rasters
from swath.errors import CatalogError
from swath.geo.raster import find_rasters
from swath.scoring.lineage import PRODUCTS

_TILE = re.compile(r"tile_(\d+)_(\d+)")


def home_of(folder: Path) -> Path:
    """Where results go that have no folder of their own: `folder`, or above it if it is one of a step's two products."""
    if folder.name in PRODUCTS and any(folder.parent.glob("*.settings.json")):
        return folder.parent
    return folder


def is_tile(raster: Path) -> bool:
    """Whether a raster is named as a tile: tile_<col>_<row>."""
    return _TILE.fullmatch(raster.stem) is not None


def place_in_name(tile: Path) -> tuple[int, int]:
    """(row, col) in the name of a tile: the order in which tiles of a scene are merged."""
    found = _TILE.fullmatch(tile.stem)
    return (int(found[2]), int(found[1])) if found else (0, 0)


def scene_of_tile(tile: Path) -> tuple[str, Path]:
    """(key, path) of a tile's scene as if it were a raster: the folder that the tile lies in, without its ``_tiles``."""
    key = tile.parent.name.removesuffix("_tiles")
    return key, tile.parent.parent / f"{key}.tif"


def soft_folder(folder: Path) -> Path:
    """The folder of probabilities in a folder that has one, else that of its classes, else itself."""
    return next((folder / kind for kind in ("probabilities", "classes") if (folder / kind).is_dir()), folder)


def soft_predictions(folder: Path) -> tuple[Path, list[Path]]:
    """(`soft_folder`, its rasters). Raises CatalogError when there is none."""
    source = soft_folder(folder)
    rasters = own_rasters(source)
    if not rasters:
        raise CatalogError(
            f"{folder}: no predictions found. Set input_path to a folder of <area>/<scene>.tif, e.g. .../probabilities."
        )
    return source, rasters


def tiles_in(rasters: Sequence[Path], folder: Path) -> bool:
    """Whether rasters are tiles. Raises CatalogError when some are and some are not."""
    tiles = [raster for raster in rasters if is_tile(raster)]
    if tiles and len(tiles) < len(rasters):
        whole = [str(raster) for raster in rasters if not is_tile(raster)]
        raise CatalogError(
            f"{folder}: holds tiles ({tiles[0].relative_to(folder)}) and whole scenes ({listing(whole)}). Set input_path "
            "to one kind, or move the other elsewhere."
        )
    return bool(tiles)


def dates_by_area(folder: Path, rule: AreaRule) -> dict[str, list[Path]]:
    """Area to the maps of its dates below `folder`; of tiles, those that `merge_tiles` made of them.

    Raises CatalogError when there is no map, for tiles that are not merged yet, and for scenes whose area nothing tells.
    """
    source, rasters = soft_predictions(folder)
    if tiles_in(rasters, source):
        source = home_of(folder) / MERGED
        rasters = _merged(source, rasters, folder)
    return group_by_area(rasters, source, rule)


def group_by_area(rasters: Sequence[Path], source: Path, rule: AreaRule) -> dict[str, list[Path]]:
    """Area to rasters below `source`. Raises CatalogError where neither a folder nor `rule` tells an area."""
    named = [(raster.stem, raster) for raster in rasters]
    made = source.parent.name == AGGREGATED or (source.parent / "all_agg_by_city.settings.json").is_file()
    if made and all(raster.parent == source for raster in rasters):
        return {key: [raster] for key, raster in named}  # maps of areas already, named by them
    require_areas_known(named, source, rule)
    found: dict[str, list[Path]] = {}
    for (_, raster), area in zip(named, rule.areas(named, source), strict=True):
        found.setdefault(area, []).append(raster)
    return dict(sorted(found.items()))


def require_areas_known(scenes: Sequence[tuple[str, Path]], source: Path, rule: AreaRule) -> None:
    """Raise CatalogError for scenes made of tiles that lie in no folder of an area, unless `rule` tells theirs."""
    bare = [key for key, path in scenes if path.parent == source]
    if bare and source.name == MERGED and not rule.tells(scenes, source):
        raise_unknown_areas(bare, source.parent)


def raise_unknown_areas(keys: Sequence[str], folder: Path) -> None:
    """Say how the area of scenes can be told that no folder is named by."""
    raise CatalogError(
        f"{folder}: nothing says which area {listing(keys)} belongs to: the tiles lie in no folder of an area. Add "
        "-P area_pattern=<regular expression that finds it in the names, such as '38[A-Z]{3}'>, or "
        "-P scenes_path=<folder of scenes with a scenes.parquet>."
    )


def class_maps(folder: Path) -> list[Path]:
    """Class rasters to polygonise: of areas where dates were aggregated, else the folder's classes, else all in it.

    Raises CatalogError for tiles that are not merged yet.
    """
    aggregated = folder / AGGREGATED / "classes"
    if aggregated.is_dir():
        return find_rasters(aggregated)
    source = folder / "classes" if (folder / "classes").is_dir() else folder
    rasters = own_rasters(source)
    return _merged(home_of(folder) / MERGED, rasters, folder) if tiles_in(rasters, source) else rasters


def _merged(merged: Path, tiles: Sequence[Path], folder: Path) -> list[Path]:
    """The scenes that `merge_tiles` made of tiles. Raises CatalogError when there are none, or tiles are newer."""
    scenes = find_rasters(merged) if merged.is_dir() else []
    newest = max(tile.stat().st_mtime_ns for tile in tiles)
    if not scenes or newest > min(scene.stat().st_mtime_ns for scene in scenes):
        fault = "is older than its tiles" if scenes else "does not exist"
        command = f"mlflow run . -e merge_tiles --env-manager local -P input_path={shlex.quote(str(folder))}"
        raise CatalogError(
            f"{folder}: holds {len(tiles)} tiles of scenes, and {merged} {fault}. Merge them first: {command}"
        )
    return scenes
