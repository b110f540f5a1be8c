"""Which tile is drawn when: pure functions of seed and epoch, so that any number of workers and any restart agree."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Annotated, NamedTuple

import geopandas as gpd
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch.utils.data import Sampler

from swath.config import InputPath, absolute
from swath.config.ranges import Range
from swath.data.splits.shift import categories, shift_weights
from swath.data.tables import SCENES, read_table
from swath.errors import CatalogError, ConfigError


class Draw(NamedTuple):
    """One training sample to be made: the tile's position in the table and the seed of its random crop."""

    tile: int
    seed: tuple[int, int]


class CounterRng:
    """Uniform numbers that follow from a seed: the 64-bit words of BLAKE2b digests of seed and counter.

    A NumPy generator of its own would take a sample ten times as long to start, a quarter of what copying its pixels takes.
    """

    def __init__(self, *seed: int) -> None:
        self._seed, self._made = struct.pack(f"<{len(seed)}q", *seed), 0
        self._words: Iterator[int] = iter(())

    def _word(self) -> int:
        for word in self._words:
            return word
        self._words = iter(struct.unpack("<8Q", blake2b(self._seed + self._made.to_bytes(8, "little")).digest()))
        self._made += 1
        return next(self._words)

    def below(self, end: int) -> int:
        """One of 0 to `end` - 1; the bias, `end` in 2**64, shows nowhere."""
        return self._word() * end >> 64

    def share(self) -> float:
        """From 0 up to, not including, 1."""
        return (self._word() >> 11) * 2.0**-53


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


@dataclass(frozen=True, kw_only=True)
class ShiftCorrection:
    """Tiles drawn with replacement so that scenes come as often as scenes of their kind are in the test set.

    The columns are those of the scenes, which `generate_tiles` hands on to their tiles.
    """

    test_path: InputPath
    """Folder with the scenes.parquet of the test set."""
    fields: tuple[str, ...] = ("region",)
    """Columns whose shares are made alike: p_test / p_train, multiplied over the fields."""

    def indices(self, tiles: gpd.GeoDataFrame, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
        test = read_table(absolute(self.test_path) / SCENES, ["key", *self.fields], "import_scenes")
        weights = tile_weights(tiles, test, self.fields)
        return rng.choice(len(tiles), size=count, p=weights)


def tile_weights(tiles: pd.DataFrame, test: pd.DataFrame, fields: Sequence[str]) -> NDArray[np.float64]:
    """float64 (len(tiles),) with sum 1: the weight of each tile's scene (see `shift_weights`), shared by its tiles."""
    scenes = tiles.drop_duplicates("scene")
    weights = pd.Series(shift_weights(scenes, test, fields), index=scenes["scene"].to_numpy())
    share = weights[tiles["scene"]].to_numpy() / tiles.groupby("scene")["scene"].transform("size").to_numpy()
    return np.asarray(share / share.sum())


@dataclass(frozen=True, kw_only=True)
class InverseSize:
    """Tiles drawn with replacement so that each data set, whatever its size, is drawn from equally often."""

    by: str = "factor"
    """Column that tells the data sets apart, such as the factor that scenes were reduced by, or the area."""

    def indices(self, tiles: gpd.GeoDataFrame, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
        return rng.choice(len(tiles), size=count, p=inverse_size(categories(tiles, self.by)))


def inverse_size(names: pd.Series) -> NDArray[np.float64]:
    """float64 with sum 1: one over the number of rows of the same name, so that each name has the same sum."""
    weights = 1 / names.groupby(names).transform("size").to_numpy(np.float64)
    return np.asarray(weights / weights.sum())


@dataclass(frozen=True, kw_only=True)
class TileQuality:
    """Tiles drawn with replacement by a weighted sum of what their table says of each.

    The columns are those of the scenes, such as their flags (`swath.data.tiles.flags`), which
    `generate_tiles` hands on to their tiles, and those of `generate_tiles_stats`.
    """

    factors: Mapping[str, float]
    """Column to its factor in the sum. A flag, true or false, counts 1 where it is true. A share
    counts 1 - share: columns whose names end in _pct are from 0 to 100, all others from 0 to 1."""
    floor: Annotated[float, Range(1e-6, 1)] = 0.01
    """Smallest weight, where the largest is 1: every tile can be drawn."""

    def require_consistent(self, where: str) -> None:
        """Raise ConfigError where there is nothing to weigh by."""
        if not self.factors:
            raise ConfigError(
                f"{where}.factors={{}}: give a column of the tiles and its factor, such as "
                f"-P {where}.factors='{{\"has_target\": 3.0}}'."
            )

    def indices(self, tiles: gpd.GeoDataFrame, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
        weights = quality_weights(tiles, self.factors, self.floor)
        return rng.choice(len(tiles), size=count, p=weights / weights.sum())


def quality_weights(tiles: pd.DataFrame, factors: Mapping[str, float], floor: float) -> NDArray[np.float64]:
    """float64 (len(tiles),) from `floor` to 1: sums of factor times column (see `TileQuality`),
    min-max over these tiles; all are 1 where the sums are equal.

    Raises CatalogError for a column that is not there, has gaps, or holds neither flags nor shares.
    """
    total = np.zeros(len(tiles))
    for column, factor in factors.items():
        total += factor * _counted(tiles, column)
    smallest, largest = total.min(), total.max()
    if largest - smallest < 1e-12:
        return np.ones(len(tiles))
    scaled = (total - smallest) / (largest - smallest)
    return np.asarray(np.maximum(scaled, floor))


def _counted(tiles: pd.DataFrame, column: str) -> NDArray[np.float64]:
    """What a column counts for each tile, from 0 to 1: flags as they are, shares as 1 - share."""
    if column not in tiles:
        names = [str(name) for name in tiles]
        known = [name for name in names if name.endswith(("_pct", "_ratio")) or _holds_flags(tiles[name])]
        raise CatalogError(
            f"data.sampler.factors.{column}: the tiles have no such column. "
            f"Flags and shares among their columns: {', '.join(known)}."
        )
    values = tiles[column]
    gaps = values.isna()
    if gaps.any():
        key = tiles["key"][gaps].iloc[0]
        raise CatalogError(
            f"data.sampler.factors.{column}: {int(gaps.sum())} training tiles have no value of it, "
            f"the first: {key}. Leave the column out of the factors, or the tiles out of the training."
        )
    if _holds_flags(values):
        return values.to_numpy(np.float64)
    whole = 100 if column.endswith("_pct") else 1
    shares = pd.to_numeric(values, errors="coerce") / whole
    wrong = ~shares.between(0, 1)
    if wrong.any():
        raise CatalogError(
            f"data.sampler.factors.{column}: holds {values[wrong].tolist()[0]!r}; a flag is true or false, "
            f"a share from 0 to {whole}. Leave the column out of the factors."
        )
    return np.asarray(1 - shares.to_numpy(np.float64))


def _holds_flags(values: pd.Series) -> bool:
    return bool(values.map(lambda value: isinstance(value, bool | np.bool_)).all())


Sampling = Uniform | TargetPresence | ShiftCorrection | InverseSize | TileQuality
"""What can decide which tiles are drawn."""


class TrainingDraws(Sampler[Draw]):
    """The draws of a whole training from global position `start` on: epoch after epoch, this rank's share of each step.

    Position p of an epoch belongs to step p // per_step; within a step, ranks take turns. The draws of an epoch
    depend on seed and epoch only.
    """

    def __init__(
        self, tiles: gpd.GeoDataFrame, policy: Sampling, seed: int, per_step: int, steps: int, epochs: int,
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
