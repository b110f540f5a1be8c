"""The tiles that train and those that judge, as a training takes them from the table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import geopandas as gpd
import numpy as np

from swath.config import absolute
from swath.data.dataset import TileDataset, read_tiles
from swath.data.splits import require_disjoint, split_by_area
from swath.engine.training_config import DataConfig
from swath.nn.heads import SegmentationModel

STATISTICS_TILES = 64


@dataclass(frozen=True)
class Folds:
    """The tiles that train and those that judge, and the folder that their paths start from."""

    root: Path
    train: gpd.GeoDataFrame
    validation: gpd.GeoDataFrame


def read_folds(config: DataConfig, seed: int) -> Folds:
    """Split the table of tiles by area; LeakError when the two sides share ground."""
    root = absolute(config.tiles_path)
    train, validation = split_by_area(read_tiles(root), config.validation_areas, config.training_areas)
    require_disjoint(train, validation)
    return Folds(root, limited(train, config.limit, seed), limited(validation, config.limit, seed))


def limited(tiles: gpd.GeoDataFrame, limit: int | None, seed: int) -> gpd.GeoDataFrame:
    """At most `limit` rows, drawn by `seed`, in the table's order."""
    if limit is None or len(tiles) <= limit:
        return tiles
    kept = np.sort(np.random.default_rng(seed).choice(len(tiles), size=limit, replace=False))
    return tiles.iloc[kept]


def fit_preprocessing(model: SegmentationModel, folds: Folds, tasks: Sequence[str], seed: int) -> None:
    """Set the constants that the config left open from at most `STATISTICS_TILES` training tiles."""
    tiles = limited(folds.train, STATISTICS_TILES, seed)
    dataset = TileDataset(tiles, folds.root, tasks)
    model.preprocess.fit([dataset[i]["image"] for i in range(len(dataset))])
