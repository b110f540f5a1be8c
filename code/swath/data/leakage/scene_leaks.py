"""Scenes that trained under another name: windows of a scene, compared with the training tiles at the same places."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd

from swath.data.leakage.fingerprints import COLUMNS, CONTENT, fingerprint
from swath.data.leakage.groups import NEAR_DUPLICATE
from swath.data.leakage.leaks import Leak, find_copies, find_leaks, kinds_of
from swath.data.scene_image import SceneImage
from swath.data.tables import Row
from swath.data.zones import rule_of
from swath.geo.grid import Window
from swath.geo.zones import MissingZones, without_zones

PER_SCENE = 4
"""Tiles of each training scene whose places are looked at."""

PLACE = ["row", "col", "height", "width"]


def scene_leaks(scenes: gpd.GeoDataFrame, used: gpd.GeoDataFrame, similarity: float = NEAR_DUPLICATE) -> list[Leak]:
    """All leaks from the tiles `used` by a training into scenes that are to be scored: by name, ground, area, pixels."""
    return [*find_leaks(used, scenes, similarity=similarity), *copied_scenes(scenes, used, similarity)]


def copied_scenes(
    scenes: gpd.GeoDataFrame, used: gpd.GeoDataFrame, similarity: float = NEAR_DUPLICATE, per_scene: int = PER_SCENE
) -> list[Leak]:
    """Scenes (key, image: absolute path, height, width) that hold the pixels of tiles in `used`, or nearly so.

    One leak per scene and kind. Only scenes of equal size in pixels are compared, by the windows of at most `per_scene` tiles of each of them; a
    copy that was cut or moved by more than a few pixels is found by its ground only (`find_leaks`). Tables without
    fingerprints or sizes give no leaks.
    """
    if not {*COLUMNS, *PLACE, "scene_height", "scene_width"} <= set(used) or not {"image", "height", "width"} <= set(
        scenes
    ):
        return []
    chosen, rule = _spread(used[used[CONTENT].notna()], per_scene), rule_of([used])
    found: list[Leak] = []
    for scene in scenes.to_dict("records"):
        same_size = (chosen["scene_height"] == scene["height"]) & (chosen["scene_width"] == scene["width"])
        alike = chosen[same_size]
        if len(alike):
            windows = probe(scene, alike[PLACE].drop_duplicates(), rule)
            found += _of_scene(scene["key"], find_copies(alike, windows, similarity), len(windows))
    return found


def _of_scene(key: str, leaks: Sequence[Leak], windows: int) -> Iterator[Leak]:
    for kind in kinds_of(leaks):
        some = [leak for leak in leaks if leak.kind == kind]
        yield Leak(kind, some[0].a, key, f"{len(some)} of {windows} windows, the first at {some[0].b}")


def probe(scene: Row, places: pd.DataFrame, rule: MissingZones | None = None) -> pd.DataFrame:
    """Fingerprints of windows of a scene (a row of scenes.parquet), one row per place (row, col, height, width), with the place as key.

    `rule`: which zones are missing, as they are in the tiles that the windows are compared with.
    """
    rows: list[dict[str, Any]] = []
    with SceneImage.of(scene).reader() as reader:
        read = without_zones(reader.image, reader.info.grid.shape, rule)
        for row, col, height, width in places[PLACE].to_numpy(int).tolist():
            image = read(Window(row, col, height, width))
            rows.append({"key": f"row {row}, column {col}"} | fingerprint(image))
    return pd.DataFrame(rows)


def _spread(tiles: gpd.GeoDataFrame, count: int) -> gpd.GeoDataFrame:
    """At most `count` rows of each scene, evenly spaced by their places."""
    ordered = tiles.sort_values(["scene", "row", "col"])
    at = ordered.groupby("scene").cumcount()
    size = ordered.groupby("scene")["key"].transform("size")
    step = np.ceil(size / count)
    return ordered[at % step == step // 2]
