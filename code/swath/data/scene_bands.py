"""Scene bands in a table of tiles: the rules that made them, and in tiles without files the medians of their scenes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from swath.config import resolve
from swath.config.trust import build_from_record
from swath.data.tables import Row, bands_of, is_file, missing_of
from swath.errors import CatalogError, ConfigError
from swath.geo.raster import RasterReader, describe
from swath.geo.scene_bands import SceneBands, SceneReader

SCENE_BANDS = "scene_bands"
"""Column of a table of tiles: rules of the bands that were made of whole scenes, as JSON; none, or nothing, without any."""
MEDIANS = "scene_medians"
"""Column of a table of windows of scenes: the medians of the scene, in the order of the rules; NaN where a rule has none."""

REMEDY = "Cut the tiles again: generate_tiles -P replace=True"


def scene_band_columns(rules: SceneBands, medians: Mapping[str, float] | None = None) -> dict[str, Any]:
    """What the row of a tile says of scene bands; with `medians`, of a window of a scene. Nothing where there are none."""
    if not rules:
        return {}
    columns: dict[str, Any] = {SCENE_BANDS: json.dumps(resolve(dict(rules)), sort_keys=False)}
    if medians is not None:
        columns[MEDIANS] = [medians.get(name, float("nan")) for name in rules]
    return columns


def rules_of(row: Row) -> SceneBands:
    """The rules of a row's scene bands; empty without any. Raises CatalogError for a text that holds no rules."""
    text = row.get(SCENE_BANDS)
    if not isinstance(text, str) or not text:
        return {}
    try:
        rules = build_from_record(json.loads(text))
        if isinstance(rules, Mapping) and all(hasattr(rule, "needs") for rule in rules.values()):
            return rules
        why = "it holds something else"
    except (ValueError, TypeError, ConfigError) as error:
        why = str(error)
    raise CatalogError(f"column {SCENE_BANDS} at key {row.get('key')}: holds no rules of scene bands ({why}). {REMEDY}")


def scene_bands_of(tables: Iterable[pd.DataFrame]) -> SceneBands:
    """The rules of the scene bands of all of these tiles. Raises CatalogError when tiles differ in them."""
    found: dict[str, Row] = {}
    for table in tables:
        texts = table[SCENE_BANDS].fillna("") if SCENE_BANDS in table else pd.Series("", index=table.index)
        for text in texts.unique():
            key = table["key"][texts == text].iloc[0]
            found.setdefault(str(text), {"key": key, SCENE_BANDS: text})
    if len(found) > 1:
        listed = "; ".join(f"{row['key']} with {text or 'none'}" for text, row in found.items())
        raise CatalogError(f"tiles were cut with different scene_bands: {listed}. Cut all with the same ones.")
    return next((rules_of(row) for row in found.values()), {})


def scene_bands_decide(rows: Iterable[Row]) -> dict[str, Any]:
    """What of these rows decides the pixels of scene bands, of JSON's types; nothing where there are none."""
    said = [[row[SCENE_BANDS], _medians(row)] for row in rows if rules_of(row)]
    return {SCENE_BANDS: said} if said else {}


def tile_reader(path: Path, row: Row) -> RasterReader:
    """The raster of a tile's image as its row describes it, with scene bands where it is a window of its scene."""
    rules = {} if is_file(row) else rules_of(row)
    if not rules:
        return RasterReader(path, missing_of(row), bands_of(row))
    medians = _medians(row)
    if len(medians) != len(rules):
        raise CatalogError(f"column {MEDIANS} at key {row['key']}: lacks medians for {', '.join(rules)}. {REMEDY}")
    known = dict(zip(rules, medians, strict=True))
    return SceneReader(path, missing_of(row), bands_of(row), rules, known)


def _medians(row: Row) -> list[float]:
    """What a row holds of its scene's medians; empty without any."""
    medians = row.get(MEDIANS)
    return [float(value) for value in medians] if isinstance(medians, list | tuple | np.ndarray) else []


def tile_bands(path: Path, row: Row) -> tuple[str, ...]:
    """Names of the bands that samples of a tile have, `path` being its image."""
    names = bands_of(row) or describe(path).bands
    made = () if is_file(row) else tuple(rules_of(row))
    return (*names, *(name for name in made if name not in names))
