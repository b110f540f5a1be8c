"""Missing zones in a table of tiles: what was looked for, how much was found, and where it lies in tiles without files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from swath.data.tables import Row
from swath.errors import CatalogError
from swath.geo.grid import Window
from swath.geo.zones import MissingZones, Zones, zones_from

ZONE_PIXELS = "zone_pixels"
"""Column of a table of tiles: pixels of the tile that lie in missing zones of its scene."""
ZONE_RULE = ("zone_value", "zone_min_pixels")
"""Columns of a table of tiles: what was taken for a missing zone."""
ZONES = "zones"
"""Column of a table of windows of scenes: row, first column and column after the last of the pixels side by side in zones,
one after the other, counted from the scene's corner."""


def zone_columns(rule: MissingZones | None, zones: Zones | None, window: Window) -> dict[str, Any]:
    """What the row of a tile says of missing zones; nothing where they were not looked for."""
    if rule is None or zones is None:
        return {}
    inside = Zones(0, zones.inside(window))
    return {ZONE_PIXELS: inside.pixels, **dict(zip(ZONE_RULE, (rule.value, rule.min_pixels), strict=True))}


def zones_of(row: Row) -> Zones | None:
    """The missing zones of a tile that is a window of its scene, on the scene's pixels; None: there are none."""
    flat = row.get(ZONES)
    return zones_from(flat) if isinstance(flat, Sequence | np.ndarray) and len(flat) else None


def rule_of(tables: Iterable[pd.DataFrame]) -> MissingZones | None:
    """What was taken for a missing zone in all of these tiles; None: zones were not looked for.

    Raises CatalogError when tiles differ in it: a model can be given one kind of scenes only.
    """
    found: dict[MissingZones | None, str] = {}
    for table in tables:
        if table.empty:
            continue
        known = set(ZONE_RULE) <= set(table)
        values = table[list(ZONE_RULE)].to_numpy(float) if known else np.full((len(table), 2), np.nan)
        for key, (value, least) in zip(table["key"], values, strict=True):
            found.setdefault(None if np.isnan(value) else MissingZones(value=value, min_pixels=int(least)), str(key))
    if len(found) > 1:
        listed = "; ".join(f"{key} with missing_zones={rule}" for rule, key in found.items())
        raise CatalogError(
            f"tiles were cut with different missing_zones: {listed}. Cut all with one: generate_tiles "
            "-P missing_zones.min_pixels=64, or -P missing_zones=None."
        )
    return next(iter(found), None)


def zone_summary(rows: Sequence[Mapping[str, Any]]) -> tuple[dict[str, float], list[str]]:
    """(metrics, lines for people) on the missing zones of tiles, from their rows; nothing where none were looked for."""
    looked_at = [row for row in rows if ZONE_PIXELS in row]
    if not looked_at:
        return {}, []
    hit = [row for row in looked_at if row[ZONE_PIXELS]]
    scenes, with_zones = {row["scene"] for row in looked_at}, {row["scene"] for row in hit}
    value, least = (looked_at[0][name] for name in ZONE_RULE)
    pixels = sum(row["height"] * row["width"] for row in looked_at)
    share = sum(row[ZONE_PIXELS] for row in hit) / pixels
    line = (
        f"zones of {value:g} in all bands, {least} px or more: in {len(hit)} of {len(looked_at)} tiles and {len(with_zones)} of "
        f"{len(scenes)} scenes, {share:.2%} of the tiles' pixels; taken as missing, in images and in masks"
    )
    return {"tiles_with_zones": len(hit), "scenes_with_zones": len(with_zones)}, [line]
