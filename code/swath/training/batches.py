"""The batches of a training: drawn crops in an order that restarts agree on, and whole tiles to be judged."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import geopandas as gpd
import ignite.distributed as idist
import torch
from torch.utils.data import Subset

from swath.config import absolute, digest
from swath.data.samples.dataset import Crops, TileDataset
from swath.data.samples.loader import Loader
from swath.data.samples.samplers import Sampling, TrainingDraws, Uniform
from swath.data.tiles.cutting import as_windows
from swath.data.zones import rule_of
from swath.errors import ConfigError, TrainingError
from swath.training.config import LearningConfig, Unlabelled
from swath.training.sides import limited, read_sides, read_unlabelled

BESIDE_A_GPU = 4
"""Threads that make batches while a GPU computes."""


@dataclass(frozen=True)
class Paired:
    """Batches of labelled tiles, each with one of tiles without labels."""

    labelled: Iterable[dict[str, Any]]
    unlabelled: Iterable[dict[str, Any]]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for batch, other in zip(self.labelled, self.unlabelled, strict=False):
            yield batch | {"unlabelled": other}


class Batches:
    """Tiles of a config by side, and the loaders over them. Raises what reading and dividing the table raise."""

    def __init__(
        self,
        config: LearningConfig,
        device: torch.device,
        tasks: Sequence[str] = (),
        unlabelled: Unlabelled | None = None,
    ) -> None:
        """`tasks`: bands of the masks to learn from; none: labels are not even read.

        Raises CatalogError for tiles that were cut with different missing zones: `missing_zones` is what all were cut with.
        """
        self.config, self.device, self.tasks, self.unlabelled = config, device, tuple(tasks), unlabelled
        self.folds = read_sides(config.data, config.seed)
        self.missing_zones = rule_of([self.folds.train, self.folds.validation, self.folds.test])
        self.train_set = self._tiles(self.folds.train, self.folds.root, self.tasks, self._crops())
        self._require_labels()
        self.unlabelled_tiles = read_unlabelled(unlabelled.tiles_path) if unlabelled else None

    def _crops(self) -> Crops | None:
        data = self.config.data
        if data.crop is None:
            return None
        return Crops(size=data.crop, seek_target=data.seek_target, min_labelled=data.min_labelled)

    def _tiles(
        self, tiles: gpd.GeoDataFrame, root: Path, tasks: Sequence[str], crops: Crops | None = None
    ) -> TileDataset:
        data = self.config.data
        tiles = tiles if tasks else tiles.assign(mask=None)  # labels that nobody asks for are not looked at
        return TileDataset(tiles, root, tasks, crops, data.cache, absolute(data.cache_path), max(1, self._workers))

    def _require_labels(self) -> None:
        unlabelled = [row["key"] for row in self.train_set.rows if not row["mask"] and self.tasks]
        if unlabelled:
            raise TrainingError(
                f"{len(unlabelled)} training tiles have no mask, the first: {unlabelled[0]}. Set masks_path in generate_tiles."
            )

    @property
    def _workers(self) -> int:
        asked = self.config.data.workers
        return asked if asked is not None else BESIDE_A_GPU * (self.device.type == "cuda")

    @property
    def per_step(self) -> int:
        """Labelled samples per optimiser step, over all ranks."""
        return self.config.data.batch * self.config.accumulation

    @property
    def steps(self) -> int:
        """Optimiser steps per epoch."""
        return max(1, (self.config.data.samples_per_epoch or len(self.train_set)) // self.per_step)

    @cached_property
    def data_digest(self) -> str:
        """Changes when a tile is added, removed, moved to the other side, or its files are written anew."""
        sides = [(self.folds.root, self.folds.train), (self.folds.root, self.folds.validation)]
        sides += [self.unlabelled_tiles] if self.unlabelled_tiles else []
        files = [root / p for root, side in sides for name in ("image", "mask") for p in side[name] if p]
        stamps = [[f.name, s.st_size, s.st_mtime_ns] for f in files for s in [f.stat()]]
        return digest([[list(side["key"]) for _, side in sides], stamps])

    def training_loader(self, first_step: int, epoch: int | None = None) -> Iterable[dict[str, Any]]:
        """Batches from `first_step` on to the end of the training; or those of one `epoch`, counted from 0, alone."""
        config = self.config
        data, parts = config.data, config.accumulation
        labelled = self._drawn(self.train_set, self.folds.train, data.sampler, data.batch, parts, first_step, epoch)
        if self.unlabelled_tiles is None or self.unlabelled is None:
            return labelled
        root, tiles = self.unlabelled_tiles
        others = self._tiles(tiles, root, [], self._crops())
        return Paired(labelled, self._drawn(others, tiles, Uniform(), self.unlabelled.batch, 1, first_step, epoch))

    def _drawn(
        self, dataset: TileDataset, tiles: gpd.GeoDataFrame, policy: Sampling, batch: int, parts: int,
        first_step: int, epoch: int | None,
    ) -> Loader:  # fmt: skip
        world, rank = idist.get_world_size(), idist.get_rank()
        if batch % world:
            raise ConfigError(f"data.batch, unlabelled.batch: {batch} samples do not divide among {world} processes")
        first, last = (first_step, self.config.epochs) if epoch is None else (epoch * self.steps, epoch + 1)
        draws = TrainingDraws(tiles, policy, self.config.seed, batch * parts, self.steps, last, first, rank, world)
        return self._loader(dataset, batch * parts // world, sampler=draws)

    def whole_tiles(self, tiles: gpd.GeoDataFrame) -> Loader | None:
        """This rank's share of `tiles`, whole and without augmentation; None when there are none."""
        if tiles.empty:
            return None
        if self.config.data.validation_tiling is not None:
            tiles = as_windows(tiles, self.config.data.validation_tiling)
        dataset = self._tiles(tiles, self.folds.root, self.tasks)
        mine = Subset(dataset, range(idist.get_rank(), len(dataset), idist.get_world_size()))
        return self._loader(mine, self.config.data.validation_batch)

    @cached_property
    def subset_loader(self) -> Loader | None:
        """As many training tiles as there are validation tiles, whole and without augmentation, drawn by the seed."""
        return self.whole_tiles(limited(self.folds.train, len(self.folds.validation), self.config.seed))

    def _loader(self, dataset: Any, batch: int, sampler: Any = None) -> Loader:
        return Loader(dataset, batch, sampler, self._workers, pinned=self.device.type == "cuda")
