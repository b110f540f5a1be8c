"""The tiles that train and those that judge, as a training takes them from the table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import geopandas as gpd
import ignite.distributed as idist
import numpy as np

from swath.config import absolute
from swath.config.paths import places
from swath.data.leakage.leaks import LeakKind
from swath.data.samples.dataset import Crops, TileDataset
from swath.data.samples.samplers import Draw
from swath.data.samples.tile_tables import read_folders, read_tiles
from swath.data.splits.split import divide
from swath.data.tables import masks_of
from swath.errors import CatalogError
from swath.nn.model import SegmentationModel
from swath.nn.networks.masked import MaskedModel
from swath.training.config import DataConfig

STATISTICS_TILES, STATISTICS_SIDE = 256, 512


@dataclass(frozen=True)
class Sides:
    """The tiles that train, those that select the weights and those that report; where their paths start from."""

    root: Path
    train: gpd.GeoDataFrame
    validation: gpd.GeoDataFrame
    test: gpd.GeoDataFrame
    leaks: tuple[LeakKind, ...] = ()
    """Kinds of leaks that the config lets pass."""


def read_sides(config: DataConfig, seed: int) -> Sides:
    """Divide the table of tiles; LeakError when a side knows what another one is asked."""
    root, tiles = read_folders(places(config.tiles_path))
    found = divide(tiles, config.split, config.allow_leaks)
    sides = (config.subset.of(found.training), found.validation, found.test)
    train, validation, test = (limited(side, config.limit, seed) for side in sides)
    return Sides(root, train, validation, test, found.leaks)


def leak_tags(leaks: Sequence[LeakKind], name: str) -> dict[str, str]:
    """Tags that mark a run of this name in which leaks were let pass; none without."""
    if not leaks:
        return {}
    return {"swath.leaks": ", ".join(leaks), "mlflow.runName": f"{name} (leaks allowed)"}


def read_unlabelled(folder: str) -> tuple[Path, gpd.GeoDataFrame]:
    """(folder, its tiles), none of which has labels. Raises CatalogError for those that have."""
    root = absolute(folder)
    tiles = read_tiles(root)
    labelled = [key for key, mask in zip(tiles["key"], masks_of(tiles), strict=True) if mask]
    if labelled:
        raise CatalogError(
            f"unlabelled.tiles_path={root}: {len(labelled)} tiles have a mask, the first: {labelled[0]}. Train on them as "
            "labelled tiles, or cut them again without masks_path."
        )
    return root, tiles


def limited(tiles: gpd.GeoDataFrame, limit: int | None, seed: int) -> gpd.GeoDataFrame:
    """At most `limit` rows, drawn by `seed`, in the table's order."""
    if limit is None or len(tiles) <= limit:
        return tiles
    kept = np.sort(np.random.default_rng(seed).choice(len(tiles), size=limit, replace=False))
    return tiles.iloc[kept]


def fit_preprocessing(model: SegmentationModel | MaskedModel, folds: Sides, tasks: Sequence[str], seed: int) -> None:
    """Set the constants that the config left open from at most `STATISTICS_TILES` training tiles.

    Of tiles larger than `STATISTICS_SIDE`, such as whole scenes, that many random crops are looked at.
    """
    large = max(folds.train["height"].max(), folds.train["width"].max()) > STATISTICS_SIDE
    tiles = folds.train if large else limited(folds.train, STATISTICS_TILES, seed)
    dataset = TileDataset(tiles, folds.root, tasks, Crops(size=STATISTICS_SIDE) if large else None)
    draws = [Draw(i % len(tiles), (seed, i)) for i in range(STATISTICS_TILES)] if large else list(range(len(tiles)))
    model.preprocess.fit(dataset[i]["image"] for i in draws[idist.get_rank() :: idist.get_world_size()])


def most_foreground(tiles: gpd.GeoDataFrame, count: int) -> list[str]:
    """Keys of the `count` tiles with the largest share of target."""
    if tiles.empty or "target_ratio" not in tiles:
        return []
    return list(tiles.sort_values(["target_ratio", "key"], ascending=[False, True])["key"][:count])
