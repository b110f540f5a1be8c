"""What decides the result of a training, as one digest: settings, tiles and their contents, and weights to start from."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import geopandas as gpd
from pandas.api.types import is_numeric_dtype

from swath.config import decisive, digest, inputs_of, references_of
from swath.contents import contents_below, contents_of
from swath.data.tables import masks_of
from swath.training.config import LearningConfig
from swath.training.sides import Sides, read_sides, read_unlabelled

NOT_IN_DIGEST = ("image", "mask", "geometry")
"""Columns of a table of tiles that say where pixels are; what they are is known by the contents of the files."""


def training_identity(config: LearningConfig) -> str:
    """Changes with every setting and every input that decides the result; reads the files that are not known yet.

    Raises what reading and dividing the table of tiles raises.
    """
    return identity_of(config, inputs_digest(config, read_sides(config.data, config.seed)))


def identity_of(config: LearningConfig, inputs: str) -> str:
    """The same from the digest of all inputs."""
    return digest([type(config).__name__, decisive(config), references_of(config), inputs])


def inputs_digest(config: LearningConfig, sides: Sides) -> str:
    """Changes when a tile is added, removed, moved to another side or has other pixels, or another input changes."""
    tables = [(sides.root, side) for side in (sides.train, sides.validation, sides.test)]
    unlabelled = getattr(config, "unlabelled", None)
    if unlabelled is not None:
        tables.append(read_unlabelled(unlabelled.tiles_path))
    tiles = [_tiles_digest(root, table) for root, table in tables]
    others = {name: contents_below(places) for name, places in inputs_of(config).items() if "tiles_path" not in name}
    return digest([tiles, others])


def _tiles_digest(root: Path, tiles: gpd.GeoDataFrame) -> str:
    """Digest of a table of tiles: its columns, and the contents of images and masks."""
    whole = hashlib.sha1(usedforsecurity=False)
    for name in sorted(set(tiles) - set(NOT_IN_DIGEST)):
        column = tiles[name]
        whole.update(name.encode())
        if is_numeric_dtype(column):
            whole.update(column.to_numpy().tobytes())
        else:
            whole.update(json.dumps(list(column), default=_plain).encode())
    files = [root / path if path else None for path in (*tiles["image"], *masks_of(tiles))]
    contents = contents_of(path for path in files if path is not None)
    whole.update(json.dumps([path and contents[path] for path in files], default=str).encode())
    return whole.hexdigest()


def _plain(value: Any) -> Any:
    """Arrays and numpy's numbers, as pandas gives them, for JSON."""
    return value.tolist() if hasattr(value, "tolist") else str(value)
