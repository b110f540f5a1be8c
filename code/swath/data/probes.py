"""Scenes that trained under another name: windows of a scene, compared with the training tiles at the same places."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd

from swath.data.duplicates import NEAR_DUPLICATE
from swath.data.fingerprints import COLUMNS, CONTENT, fingerprint
from swath.data.leaks import Leak, find_copies
from swath.geo.grid import Window
from swath.geo.raster import RasterReader

PER_SCENE = 4
"""Tiles of each training scene whose places are looked at."""

PLACE = ["row", "col", "height", "width"]


def copied_scenes(
    scenes: gpd.GeoDataFrame, used: gpd.GeoDataFrame, similarity: float = NEAR_DUPLICATE, per_scene: int = PER_SCENE
) -> list[Leak]:
    """Scenes (key, image: absolute path, height, width) that hold the pixels of tiles in `used`, or nearly so.

    Only scenes of equal size in pixels are compared, by the windows of at most `per_scene` tiles of each of them; a
    copy that was cut or moved by more than a few pixels is found by its ground only (`find_leaks`). Tables without
    fingerprints or sizes give no leaks.
    """
    if not {*COLUMNS, *PLACE, "scene_height", "scene_width"} <= set(used) or not {"height", "width"} <= set(scenes):
        return []
    chosen = _spread(used[used[CONTENT].notna()], per_scene)
    found = []
    for scene in scenes.itertuples():
        alike = chosen[(chosen["scene_height"] == scene.height) & (chosen["scene_width"] == scene.width)]
        if len(alike):
            found += find_copies(alike, probe(Path(scene.image), scene.key, alike[PLACE].drop_duplicates()), similarity)
    return found


def probe(path: Path, key: str, places: pd.DataFrame) -> pd.DataFrame:
    """Fingerprints of windows of a raster, one row per place, keyed ``<key> at row <row>, column <col>``."""
    rows: list[dict[str, Any]] = []
    with RasterReader(path) as reader:
        for row, col, height, width in places[PLACE].to_numpy(int).tolist():
            image = reader.image(Window(row, col, height, width))
            rows.append({"key": f"{key} at row {row}, column {col}"} | fingerprint(image))
    return pd.DataFrame(rows)


def _spread(tiles: gpd.GeoDataFrame, count: int) -> gpd.GeoDataFrame:
    """At most `count` rows of each scene, evenly spaced by their places."""
    ordered = tiles.sort_values(["scene", "row", "col"])
    at = ordered.groupby("scene").cumcount()
    size = ordered.groupby("scene")["key"].transform("size")
    step = np.ceil(size / count)
    return ordered[at % step == step // 2]
