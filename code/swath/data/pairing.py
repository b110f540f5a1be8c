"""Which rasters are of one scene or tile: by the tables that list them, else by their names."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from pathlib import Path

import geopandas as gpd
import pandas as pd
from pyarrow import parquet

from swath.data.columns import require_values_of_columns
from swath.data.naming import listing, without_parts
from swath.data.tables import LABELS, SCENES, TILES
from swath.errors import CatalogError, reason
from swath.geo.raster import find_rasters
from swath.notices import leave_out

MERGED, AGGREGATED = "merged", "aggregated"
"""Folders in which steps leave scenes made of tiles, and areas made of dates, beside the rasters they are made of."""

_LISTED = {SCENES: ("image", "labels"), LABELS: ("labels",), TILES: ("image", "mask")}
"""Table to its columns of paths."""


def by_key(folder: Path, parts: Collection[str] = ()) -> dict[str, Path]:
    """Rasters below `folder` by the key of their scene or tile; CatalogError when two have the same.

    A table in `folder`, or in the one above, gives the keys of the files that it lists. Of others the name is the key:
    ``<scene>``, or ``<scene>/tile_<col>_<row>`` for tiles in a folder named by their scene; `parts` are parts of names
    between underscores that do not matter, such as the band in ``<scene>_vh``.
    """
    listed = dict(_keys_in_tables(folder))  # by absolute path: resolving links costs a look at each file
    found: dict[str, Path] = {}
    for path in own_rasters(folder):
        key = listed.get(os.path.abspath(path)) or _key_by_name(path, parts)  # noqa: PTH100
        if key in found:
            raise CatalogError(
                f"{path} and {found[key]} are the same scene by name ({key}). Keep one of them in {folder}."
            )
        found[key] = path
    return found


def labels_by_key(folder: Path, parts: Collection[str] = ()) -> dict[str, Path]:
    """Label rasters by the key of their scene: those that a scenes.parquet in `folder` names, else as `by_key`.

    Raises what `by_key` raises.
    """
    return labels_in_table(folder) or by_key(folder, parts)


def labels_in_table(folder: Path) -> dict[str, Path]:
    """Label rasters that the column `labels` of a scenes.parquet in `folder` names, by key; empty without such a table."""
    path = folder / SCENES
    table = _columns_of(path, ("key", "labels")) if path.is_file() else pd.DataFrame()
    if "labels" not in table:
        return {}
    return {
        key: Path(os.path.abspath(folder / labels))  # noqa: PTH100 - links stay
        for key, labels in zip(table["key"], table["labels"], strict=True)
        if isinstance(labels, str) and labels
    }


def own_rasters(folder: Path) -> list[Path]:
    """Rasters below `folder` without those that steps made of them, in its folders `merged` and `aggregated`."""
    made = (folder / MERGED, folder / AGGREGATED)
    return [path for path in find_rasters(folder) if not any(path.is_relative_to(other) for other in made)]


def _keys_in_tables(folder: Path) -> Iterator[tuple[str, str]]:
    """(absolute path of a raster, key) from the tables of a folder and of the one above."""
    for home in (folder.parent, folder):
        for name, columns in _LISTED.items():
            path = home / name
            if not path.is_file():
                continue
            table = _columns_of(path, ("key", "at_row", *columns))
            if "at_row" in table:  # windows of scenes: a file is no tile's own
                continue
            for column in columns:
                for key, file in zip(table["key"], table.get(column, ()), strict=column in table):
                    if isinstance(file, str) and file:
                        yield os.path.abspath(home / file), key  # noqa: PTH100


def _columns_of(path: Path, wanted: Collection[str]) -> pd.DataFrame:
    """Those of the wanted columns that a table of the steps has; CatalogError when it is damaged, or has no keys."""
    remedy = "Delete it and run the step that makes it again."
    try:
        names = parquet.read_schema(path).names
        table = pd.read_parquet(path, columns=[name for name in wanted if name in names])
    except Exception as error:  # readers of Parquet have many ways to fail on damaged bytes
        raise CatalogError(f"{path}: cannot be read as a table ({reason(error)}). {remedy}") from error
    if "key" not in table:
        raise CatalogError(f"{path}: lacks the column key. {remedy}")
    require_values_of_columns(table, path, remedy)
    return table


def _key_by_name(path: Path, parts: Collection[str]) -> str:
    if not path.stem.startswith("tile_"):
        return without_parts(path.stem, parts)
    return f"{without_parts(path.parent.name.removesuffix('_tiles'), parts)}/{path.stem}"


def pair_masks(scenes: gpd.GeoDataFrame, masks_path: Path | None) -> dict[str, Path]:
    """Scene key to label raster: of a folder, else those that the table of scenes names (column `labels`).

    Raises CatalogError that lists scenes without one; a table that names no labels at all gives none.
    """
    if masks_path is None:
        masks = listed = named_labels(scenes)
        if not masks:
            return {}
        where = "scenes.parquet"
    else:
        listed, where = labels_in_table(masks_path), str(masks_path)
        masks = listed or by_key(masks_path)
    missing = sorted(set(scenes["key"]) - set(masks))
    if missing:
        raise CatalogError(f"{where}: no mask for {listing(missing)}. Make masks for these scenes, or leave them out.")
    unused = sorted(set(masks) - set(scenes["key"]))
    if not listed:  # a table may list more scenes than are taken of it
        leave_out(len(unused), "masks", where, f"no scene has their names ({listing(unused)})")
    return {key: masks[key] for key in scenes["key"]}


def named_labels(scenes: gpd.GeoDataFrame) -> dict[str, Path]:
    """Scene key to the label raster that the table of scenes names, of those that have one."""
    named = dict(zip(scenes["key"], scenes["labels"], strict=True)) if "labels" in scenes else {}
    return {key: Path(labels) for key, labels in named.items() if isinstance(labels, str)}


def labels_of(scenes: gpd.GeoDataFrame, masks_path: Path | None) -> dict[str, Path]:
    """`pair_masks` of a folder; without one the `named_labels` of the table, where scenes may lack them, as tests do."""
    return named_labels(scenes) if masks_path is None else pair_masks(scenes, masks_path)
