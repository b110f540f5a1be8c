"""Who trains and who judges. A split is a value that gives each tile its side: training, validation, test or unused."""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import geopandas as gpd
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from swath.config import configclass
from swath.config.ranges import Amount, Count, PositiveCount
from swath.data.leakage.footprints import Geometries, too_near
from swath.data.leakage.leaks import KINDS, LeakKind, require_disjoint
from swath.data.splits.blocks import Unit, boxes_of, folds_of_blocks, frames_of
from swath.data.splits.subset import hash_of
from swath.data.tables import texts_of
from swath.errors import CatalogError, ConfigError, LeakError

log = logging.getLogger("swath.data")

Side = Literal["training", "validation", "test", "unused"]
Mask = pd.Series | NDArray[np.bool_] | bool


@configclass
class ByArea:
    """Whole areas judge; without any, all tiles train and the last weights are kept."""

    validation_areas: tuple[str, ...] = ()
    """Areas held out to judge."""
    training_areas: tuple[str, ...] | None = None
    """Areas to train on; None takes all that are not held out."""
    test_areas: tuple[str, ...] = ()
    """Areas that neither train nor select weights."""

    def assign(self, tiles: gpd.GeoDataFrame) -> pd.Series:
        """Side of each row by its column `area`.

        Raises CatalogError for an area that the table does not have and LeakError for one on two sides.
        """
        area, lists = tiles["area"], (self.validation_areas, self.test_areas, self.training_areas or ())
        _require_apart(lists, set(area), "Areas in the table")
        trains = True if self.training_areas is None else area.isin(self.training_areas)
        return _settled(tiles, area.isin(self.validation_areas), area.isin(self.test_areas), trains)


@configclass
class ByFold:
    """The tiles of one fold judge, those of another may test, all others train: folds of `generate_tiles_stats`."""

    validation_fold: int | None = 0
    """Fold that judges; None trains on it, too."""
    test_fold: int | None = None
    """Fold that neither trains nor selects weights."""
    column: str = "fold"
    """Column that holds the folds; below 0 is none."""

    def assign(self, tiles: gpd.GeoDataFrame) -> pd.Series:
        """Side of each row by its fold. Raises CatalogError for a fold or a column that the table does not have."""
        if self.column not in tiles:
            raise CatalogError(f"data: no column {self.column!r} in the table. Run `generate_tiles_stats` again.")
        fold = tiles[self.column]
        _require_folds((self.validation_fold, self.test_fold), sorted(set(fold[fold >= 0])))
        return _settled(tiles, fold == self.validation_fold, fold == self.test_fold, fold >= 0)


@configclass
class ByColumn:
    """Tiles with some values in a column judge, all others train: whole dates, events, sensors.

    Values are compared as texts. Tiles without a value take no part: nobody knows whether theirs is one that judges.
    """

    column: str = "area"
    """Column of the table of tiles; it has those of scenes.parquet."""
    validation: tuple[str, ...] = ()
    """Values held out to judge."""
    test: tuple[str, ...] = ()
    """Values that neither train nor select weights."""

    def assign(self, tiles: gpd.GeoDataFrame) -> pd.Series:
        """Side of each row by its value.

        Raises CatalogError for a column or a value that the table does not have and LeakError for one on two sides.
        """
        if self.column not in tiles:
            raise CatalogError(
                f"data: no column {self.column!r} in the table. It has: {', '.join(tiles.columns)}. Columns of "
                "scenes.parquet are there once `generate_tiles` and `generate_tiles_stats` have run again."
            )
        value = texts_of(tiles, self.column, "data")
        _say_left_out(value.isna(), self.column)
        known = set(value.dropna())
        _require_apart((self.validation, self.test), known, f"Values of {self.column!r} in the table")
        return _settled(tiles, value.isin(self.validation), value.isin(self.test), value.notna())


@configclass
class RandomSplit:
    """Names drawn by a seed; tiles follow their name. Tiles without a name take no part."""

    fractions: tuple[float, float, float] = (0.8, 0.2, 0.0)
    """Shares of the names that train, judge and test."""
    seed: Count = 0
    """Seed of the draw."""
    by: str = "scene"
    """Column that holds the names: tiles of one scene (area, group) stay together."""
    stable: bool = False
    """Draw each name by its hash: names that are added later move no other; the shares are met on average only."""

    def __post_init__(self) -> None:
        if min(self.fractions) < 0 or abs(sum(self.fractions) - 1) > 1e-9 or self.fractions[0] == 0:
            raise ConfigError(
                f"fractions={self.fractions}: must be three shares of (training, validation, test) with sum 1"
            )

    def assign(self, tiles: gpd.GeoDataFrame) -> pd.Series:
        """Side of each row. The first draw is scikit-learn's train_test_split of the sorted names, the second divides
        the held out ones; both take `seed`. Raises CatalogError when a side with a share gets no name.
        """
        if self.by not in tiles:
            raise CatalogError(f"data: no column {self.by!r} in the table. It has: {', '.join(tiles.columns)}.")
        nameless = texts_of(tiles, self.by, "data").isna()
        _say_left_out(nameless, self.by)
        names = _sorted_names(tiles[self.by][~nameless])
        sides = self._hashed(names) if self.stable else self._drawn(names)
        for share, side in zip(self.fractions, sides, strict=True):
            if share and not side:
                raise CatalogError(
                    f"data: {self.fractions} of {len(names)} names leave a side without any. Take others."
                )
        _, judged, tested = (tiles[self.by].isin(side) for side in sides)
        return _settled(tiles, judged, tested, ~nameless)

    def _drawn(self, names: Sequence[str]) -> tuple[Sequence[str], Sequence[str], Sequence[str]]:
        _, judge, test = self.fractions
        if judge + test == 0:
            return names, (), ()
        training, held = _two(names, judge + test, self.seed)
        if judge == 0 or test == 0:
            return (training, held, ()) if judge else (training, (), held)
        return training, *_two(held, test / (judge + test), self.seed)

    def _hashed(self, names: Sequence[str]) -> tuple[Sequence[str], Sequence[str], Sequence[str]]:
        training, judge, _ = self.fractions
        side = np.searchsorted([training, training + judge], [_share(self.seed, name) for name in names], side="right")
        first, second, third = ([n for n, s in zip(names, side, strict=True) if s == k] for k in range(3))
        return first, second, third


@configclass
class BlockFolds:
    """Square blocks of a large scene judge, all others train; training tiles nearer than `buffer` are left out.

    A tile follows its centre. Each tile judges for exactly one `validation_fold` when no fold tests.
    """

    block: Amount
    """Side of the blocks: several tiles, and more than the distance at which pixels still resemble each other."""
    buffer: Amount = 0.0
    """Least distance between a training and an evaluation tile; with 0 they may touch, but never overlap."""
    unit: Unit = "pixels"
    """Unit of `block` and `buffer`; metres need a projected CRS."""
    folds: PositiveCount = 5
    """Number of folds that share the blocks."""
    validation_fold: int | None = 0
    """Fold that judges."""
    test_fold: int | None = None
    """Fold that neither trains nor selects weights."""
    seed: Count = 0
    """Seed of the pattern."""

    def __post_init__(self) -> None:
        if self.block <= 0 or self.buffer < 0 or self.folds < 2:
            raise ConfigError(f"block={self.block}, buffer={self.buffer}, folds={self.folds}: need > 0, >= 0, >= 2")

    def assign(self, tiles: gpd.GeoDataFrame) -> pd.Series:
        """Side of each row. Tiles of one CRS share their blocks, so dates of one place do; scenes without a CRS stand
        alone. Raises CatalogError when a fold has no tile, ConfigError for metres without a projected CRS.
        """
        side, fold = np.full(len(tiles), "unused", "<U10"), np.full(len(tiles), -1)
        seen, frames = _takes_part(tiles), frames_of(tiles)
        for frame in sorted(set(frames[seen])):
            at = np.flatnonzero(seen & (frames == frame))
            boxes = boxes_of(tiles.iloc[at], self.unit)
            fold[at] = folds_of_blocks(boxes, self.block, self.folds, self.seed)
            side[at] = self._apart(boxes, fold[at])
        _require_folds((self.validation_fold, self.test_fold), sorted(set(fold[fold >= 0])))
        return _settled(tiles, side == "validation", side == "test", side == "training")

    def _apart(self, boxes: Geometries, fold: NDArray[np.int64]) -> NDArray[np.str_]:
        """Sides of tiles by fold; validation gives way to test, and training to both."""
        judges, tests = fold == self.validation_fold, fold == self.test_fold
        judges[judges] &= ~too_near(boxes[judges], boxes[tests], self.buffer)
        trains = (fold != self.validation_fold) & (fold != self.test_fold)
        trains[trains] &= ~too_near(boxes[trains], boxes[judges | tests], self.buffer)
        return np.select([tests, judges, trains], ["test", "validation", "training"], "unused")


Split = ByArea | ByFold | ByColumn | RandomSplit | BlockFolds
"""What a training's config may hold: a value with `assign(tiles) -> Series of Side`."""


@dataclass(frozen=True)
class Division:
    """The tiles of each side, and the kinds of leaks between them that were allowed to pass."""

    training: gpd.GeoDataFrame
    validation: gpd.GeoDataFrame
    test: gpd.GeoDataFrame
    leaks: tuple[LeakKind, ...] = ()


def divide(tiles: gpd.GeoDataFrame, split: Split, allow_leaks: bool | Collection[LeakKind] = False) -> Division:
    """The tiles by side, checked: neither validation nor test leaks from the training, nor test from validation.

    Raises LeakError unless `allow_leaks` lets all kinds pass that are found, and CatalogError when nothing is left to
    train on.
    """
    side = split.assign(tiles)
    training, validation, test = (tiles[side == name] for name in ("training", "validation", "test"))
    kinds = {
        *require_disjoint(training, validation, allow_leaks),
        *require_disjoint(tiles[side.isin(["training", "validation"])], test, allow_leaks),
    }
    return Division(training, validation, test, tuple(kind for kind in KINDS if kind in kinds))


def _takes_part(tiles: gpd.GeoDataFrame) -> NDArray[np.bool_]:
    """Rows that the skip rule has not left out and that hold a measurement."""
    seen = np.ones(len(tiles), bool)
    if "skip" in tiles:
        seen &= ~tiles["skip"].to_numpy(bool)
    if "valid_ratio" in tiles:
        seen &= tiles["valid_ratio"].to_numpy() > 0
    return seen


def _settled(tiles: gpd.GeoDataFrame, validation: Mask, test: Mask = False, training: Mask = True) -> pd.Series:
    """Side of each row by the first mask that holds: test, validation, training. CatalogError when none is to train."""
    masks = [np.broadcast_to(np.asarray(mask, bool), len(tiles)) for mask in (test, validation, training)]
    side = np.select([~_takes_part(tiles), *masks], ["unused", "test", "validation", "training"], "unused")
    if not (side == "training").any():
        counts = ", ".join(f"{name} {(side == name).sum()}" for name in ("validation", "test", "unused"))
        raise CatalogError(f"data: no tile is left to train on ({counts}). Hold out less, or take smaller blocks.")
    return pd.Series(side, index=tiles.index, name="side")


def _say_left_out(empty: pd.Series, column: str) -> None:
    """Say how many tiles take no part because a column says nothing of them."""
    if empty.any():
        log.warning("data.split: %d of %d tiles have no %s and take no part", int(empty.sum()), len(empty), column)


def _sorted_names(names: pd.Series) -> list[Any]:
    """The different names in order; by their texts where they are of several types."""
    different = set(names)
    try:
        return sorted(different)
    except TypeError:
        return sorted(different, key=str)


def _require_apart(lists: Sequence[Sequence[str]], known: Collection[str], what: str) -> None:
    """Every name of the lists is known and in one of them only; `what` introduces the known ones."""
    unknown = [name for names in lists for name in names if name not in known]
    if unknown:
        raise CatalogError(f"data: no tiles of {', '.join(unknown)}. {what}: {', '.join(sorted(known))}.")
    named = [name for names in lists for name in set(names)]
    twice = sorted({name for name in named if named.count(name) > 1})
    if twice:
        raise LeakError(f"data: {', '.join(twice)} cannot both train and judge. Take it out of one of the two lists.")


def _require_folds(wanted: Sequence[int | None], known: Sequence[int]) -> None:
    asked = [fold for fold in wanted if fold is not None]
    unknown = [fold for fold in asked if fold not in known]
    if unknown:
        raise CatalogError(
            f"data: no tile is in fold {', '.join(map(str, unknown))}. Folds: {', '.join(map(str, known))}."
        )
    if len(set(asked)) < len(asked):
        raise LeakError(f"data: fold {asked[0]} cannot be both validation_fold and test_fold. Take another.")


def _two(names: Sequence[str], share: float, seed: int) -> tuple[Sequence[str], Sequence[str]]:
    """(rest, drawn): `share` of the names, rounded up, is drawn."""
    try:
        rest, drawn = train_test_split(list(names), test_size=math.ceil(share * len(names) - 1e-9), random_state=seed)
    except ValueError as error:
        raise CatalogError(f"data: {len(names)} names cannot be divided: {error}") from None
    return rest, drawn


def _share(seed: int, name: str) -> float:
    """A number in [0, 1) that depends on nothing else."""
    return int.from_bytes(hash_of(seed, name)[:6]) / 2**48
