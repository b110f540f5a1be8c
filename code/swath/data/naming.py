"""What file and folder names say of scenes and tiles: key, area, date; and which files belong together."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import geopandas as gpd

from swath.errors import CatalogError
from swath.geo.raster import find_rasters

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
            f"{masks_path}: no mask for {listing(missing)}. Run `rasterize` for these scenes, or leave them out."
        )
    return {key: masks[key] for key in scenes["key"]}


def listing(names: Iterable[str]) -> str:
    """The first five names, and how many more there are."""
    listed = list(names)
    return ", ".join(listed[:5]) + (f" and {len(listed) - 5} more" if len(listed) > 5 else "")
