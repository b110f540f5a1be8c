"""Which tile is drawn when: pure functions of seed and epoch, so that any number of workers and any restart agree."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import geopandas as gpd
import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from swath.errors import CatalogError


class Draw(NamedTuple):
    """One training sample to be made: the tile's position in the table and the seed of its random crop."""

    tile: int
    seed: tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Uniform:
    """Every tile once per epoch, in random order; longer epochs start over with a new order."""

    def indices(self, tiles: gpd.GeoDataFrame, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
        rounds = -(-count // len(tiles))
        return np.concatenate([rng.permutation(len(tiles)) for _ in range(rounds)])[:count]


@dataclass(frozen=True, kw_only=True)
class TargetPresence:
    """Tiles drawn with replacement, weighted by whether they hold the target: `without` and `with_target`."""

    without: float = 0.5
    with_target: float = 0.5

    def indices(self, tiles: gpd.GeoDataFrame, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
        weights = np.where(tiles["target_ratio"].to_numpy() > 0, self.with_target, self.without)
        if not (weights >= 0).all() or weights.sum() == 0:
            raise CatalogError(
                f"data.sampler: no tile can be drawn with the weights {self.without}, {self.with_target}"
            )
        return rng.choice(len(tiles), size=count, p=weights / weights.sum())


class TrainingDraws(Sampler[Draw]):
    """The draws of a whole training from global position `start` on: epoch after epoch, this rank's share of each step.

    Position p of an epoch belongs to step p // per_step; within a step, ranks take turns. The draws of an epoch
    depend on seed and epoch only.
    """

    def __init__(
        self, tiles: gpd.GeoDataFrame, policy: Uniform | TargetPresence, seed: int, per_step: int, steps: int, epochs: int,
        first_step: int = 0, rank: int = 0, world: int = 1,
    ) -> None:  # fmt: skip
        self.tiles, self.policy, self.seed = tiles, policy, seed
        self.per_step, self.steps, self.epochs = per_step, steps, epochs
        self.first_step, self.rank, self.world = first_step, rank, world

    def epoch(self, number: int) -> list[Draw]:
        """All draws of epoch `number` (from 0), of all ranks, in order."""
        rng = np.random.default_rng([self.seed, number])
        count = self.steps * self.per_step
        indices = self.policy.indices(self.tiles, count, rng)
        return [Draw(int(index), (self.seed, number * count + p)) for p, index in enumerate(indices)]

    def __iter__(self) -> Iterator[Draw]:
        for number in range(self.first_step // self.steps, self.epochs):
            skip = self.first_step % self.steps if number == self.first_step // self.steps else 0
            yield from self.epoch(number)[skip * self.per_step + self.rank :: self.world]

    def __len__(self) -> int:
        return (self.epochs * self.steps - self.first_step) * self.per_step // self.world
