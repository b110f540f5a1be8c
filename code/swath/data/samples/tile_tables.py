"""Tables of tiles as data sets take them: from statistics, from several folders, or from plain folders and lists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import geopandas as gpd
import pandas as pd

from swath.data.tables import TILE_COLUMNS, TILE_STATS, read_table
from swath.errors import CatalogError
from swath.geo.raster import describe, find_rasters


def read_tiles(folder: Path) -> gpd.GeoDataFrame:
    """The tiles of a folder with their statistics; skipped ones are left out."""
    table = read_table(folder / TILE_STATS, [*TILE_COLUMNS, "skip", "valid_ratio"], "generate_tiles_stats")
    return table[~table["skip"]].reset_index(drop=True)


def read_folders(folders: Sequence[Path]) -> tuple[Path, gpd.GeoDataFrame]:
    """(folder that paths count from, the tiles of several folders as one table).

    Of several folders, keys end in ``@<folder>``, so that a scene may be in each of them at a resolution of its own.
    Raises CatalogError for a folder that is named twice.
    """
    if len(folders) == 1:
        return folders[0], read_tiles(folders[0])
    names = _telling_names(folders)
    parts = [
        _absolute(read_tiles(folder), folder).assign(key=lambda t, name=name: t["key"] + f"@{name}")
        for folder, name in zip(folders, names, strict=True)
    ]
    systems = {str(part.crs) for part in parts}
    joined = pd.concat([pd.DataFrame(part) for part in parts], ignore_index=True)
    crs = parts[0].crs if len(systems) == 1 else None
    return folders[0], gpd.GeoDataFrame(joined, geometry="geometry", crs=crs)


def _telling_names(folders: Sequence[Path]) -> list[str]:
    """The first part of each path, from its end, that differs among the folders."""
    if len(set(folders)) < len(folders):
        raise CatalogError(f"data.tiles_path: {folders[0]} and others: a folder is named twice. Name each once.")
    for parts in zip(*(reversed(folder.parts) for folder in folders), strict=False):
        if len(set(parts)) == len(folders):
            return list(parts)
    return [str(i) for i in range(len(folders))]


def _absolute(tiles: gpd.GeoDataFrame, root: Path) -> gpd.GeoDataFrame:
    """The table with paths that do not depend on where it lies."""
    moved = {
        c: [str((root / p).resolve()) if isinstance(p, str) else None for p in tiles[c]] for c in ("image", "mask")
    }
    return tiles.assign(**moved)


def tiles_from_folders(images: Path, masks: Path | None) -> gpd.GeoDataFrame:
    """A table of tiles, each its own scene, from two folders whose files pair by relative name.

    Raises CatalogError that lists images without a mask and masks without an image.
    """
    image_paths = {p.relative_to(images).as_posix(): p for p in find_rasters(images)}
    mask_paths = {p.relative_to(masks).as_posix(): p for p in find_rasters(masks)} if masks else {}
    return tiles_from_lists(image_paths, mask_paths if masks else None)


def tiles_from_lists(images: Mapping[str, Path], masks: Mapping[str, Path] | None) -> gpd.GeoDataFrame:
    """A table of tiles from files by key; paths are absolute. CatalogError lists keys that lack a partner."""
    if not images:
        raise CatalogError("no image files given: the folder or list is empty")
    alone = sorted(set(images) ^ set(masks)) if masks is not None else []
    if alone:
        raise CatalogError(f"{len(alone)} files have no partner of the same name: {', '.join(alone[:5])}")
    return gpd.GeoDataFrame(
        [_lone_tile(key, path, masks[key] if masks else None) for key, path in sorted(images.items())]
    )


def _lone_tile(key: str, image: Path, mask: Path | None) -> dict[str, Any]:
    height, width = describe(image).grid.shape
    name = key.rsplit(".", 1)[0]
    return {
        "key": name, "scene": name, "area": "", "image": str(image.resolve()), "mask": str(mask.resolve()) if mask else None,
        "row": 0, "col": 0, "height": height, "width": width,
        "core_row": 0, "core_col": 0, "core_height": height, "core_width": width, "crs": None, "geometry": None,
    }  # fmt: skip
