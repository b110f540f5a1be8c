"""Parts of the training data that lie within each other, to see what more labels are worth."""

from __future__ import annotations

import hashlib

import geopandas as gpd

from swath.config import configclass
from swath.config.ranges import Count, Share
from swath.errors import CatalogError, ConfigError


@configclass
class Subset:
    """A share of the training tiles by name. For one seed, smaller shares lie within larger ones."""

    fraction: Share = 1.0
    """Share of the names; 1 takes all, and at least one is always taken."""
    by: str = "scene"
    """Column that holds the names: all tiles of one scene (area, group) are taken or none; key: single tiles."""
    seed: Count = 0
    """Seed of the order in which names are taken."""

    def __post_init__(self) -> None:
        if not 0 < self.fraction <= 1:
            raise ConfigError(f"data.subset.fraction={self.fraction}: give a share above 0 and up to 1")

    def of(self, tiles: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
        """The rows of `tiles` that are taken, in their order; by the hash of seed and name, so that names which are
        added later move no other in the order. Raises CatalogError for a column that the table does not have.
        """
        if self.fraction == 1:
            return tiles
        if self.by not in tiles:
            raise CatalogError(f"data.subset.by={self.by}: no such column. The table has: {', '.join(tiles.columns)}.")
        names = sorted(set(tiles[self.by]), key=lambda name: hash_of(self.seed, name))
        taken = names[: max(1, round(self.fraction * len(names)))]
        return tiles[tiles[self.by].isin(taken)]


def hash_of(seed: int, name: object) -> bytes:
    """Bytes that depend on nothing else, in which no order of names shows."""
    return hashlib.sha256(f"{seed}/{name}".encode()).digest()
