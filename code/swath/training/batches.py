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
from swath.data.scene_bands import scene_bands_of
from swath.data.tables import masks_of
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


@dataclass(frozen=True)
class Echoed:
    """Each of `batches` `times` in a row; of the first one, the first `skip` times are left out."""

    batches: Iterable[dict[str, Any]]
    times: int
    skip: int = 0

    def __iter__(self) -> Iterator[dict[str, Any]]:
        left_out = self.skip
        for batch in self.batches:
            for _ in range(left_out, self.times):
                yield batch
            left_out = 0


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

        Raises CatalogError for tiles that were cut with different missing zones or scene bands: `missing_zones` and
        `scene_bands` are what all were cut with.
        """
        if config.data.echo < 1:
            raise ConfigError(f"data.echo={config.data.echo}: each batch has to be used; 1 uses it once")
        self.config, self.device, self.tasks, self.unlabelled = config, device, tuple(tasks), unlabelled
        self.folds = read_sides(config.data, config.seed)
        sides = [self.folds.train, self.folds.validation, self.folds.test]
        self.missing_zones = rule_of(sides)
        self.scene_bands = scene_bands_of([side for side in sides if not side.empty])
        self._require_labels(self.folds.train, "training")
        self.train_set = self._tiles(self.folds.train, self.folds.root, self.tasks, self._crops())
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

    def _require_labels(self, tiles: gpd.GeoDataFrame, side: str) -> None:
        """Raise TrainingError for tiles that are to teach or to judge and have no labels."""
        unlabelled = [key for key, mask in zip(tiles["key"], masks_of(tiles), strict=True) if mask is None]
        if unlabelled and self.tasks:
            raise TrainingError(
                f"{len(unlabelled)} {side} tiles have no mask, the first: {unlabelled[0]}. Set masks_path in generate_tiles."
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
    def loads(self) -> int:
        """Loaded batches per epoch, each of the samples of one step."""
        return max(1, (self.config.data.samples_per_epoch or len(self.train_set)) // self.per_step)

    @property
    def steps(self) -> int:
        """Optimiser steps per epoch: `data.echo` with each loaded batch."""
        return self.loads * self.config.data.echo

    @cached_property
    def stamps_digest(self) -> str:
        """What states of version 0.2 and older know their tiles by: names, sizes and times of files."""
        sides = [(self.folds.root, self.folds.train), (self.folds.root, self.folds.validation)]
        sides += [self.unlabelled_tiles] if self.unlabelled_tiles else []
        files: list[Path] = []
        for root, side in sides:
            files += [root / image for image in side["image"]]
            files += [root / mask for mask in masks_of(side) if mask]
        stamps = [[f.name, s.st_size, s.st_mtime_ns] for f in files for s in [f.stat()]]
        return digest([[list(side["key"]) for _, side in sides], stamps])

    def training_loader(self, first_step: int, epoch: int | None = None) -> Iterable[dict[str, Any]]:
        """Batches from `first_step` on to the end of the training, one for each step; or those that are loaded for one
        `epoch`, counted from 0, each once.

        Unlabelled batches are not echoed: each step has one of its own.
        """
        data, parts = self.config.data, self.config.accumulation
        first_load, used = divmod(first_step, data.echo)
        drawn = self._drawn(
            self.train_set, self.folds.train, data.sampler, data.batch * parts, self.loads, first_load, epoch
        )
        labelled = Echoed(drawn, data.echo if epoch is None else 1, used)
        if self.unlabelled_tiles is None or self.unlabelled is None:
            return labelled
        root, tiles = self.unlabelled_tiles
        others = self._tiles(tiles, root, [], self._crops())
        fresh = self._drawn(others, tiles, Uniform(), self.unlabelled.batch, self.steps, first_step, epoch)
        return Paired(labelled, fresh)

    def _drawn(
        self, dataset: TileDataset, tiles: gpd.GeoDataFrame, policy: Sampling, batch: int, per_epoch: int,
        first: int, epoch: int | None,
    ) -> Loader:  # fmt: skip
        """`per_epoch` batches of `batch` samples in each epoch, from batch number `first` of the training on."""
        world, rank = idist.get_world_size(), idist.get_rank()
        self._require_shares(world)
        last = self.config.epochs
        if epoch is not None:
            first, last = epoch * per_epoch, epoch + 1
        draws = TrainingDraws(tiles, policy, self.config.seed, batch, per_epoch, last, first, rank, world)
        return self._loader(dataset, batch // world, sampler=draws)

    def _require_shares(self, world: int) -> None:
        for batch in (self.config.data.batch, self.unlabelled.batch if self.unlabelled else world):
            if batch % world:
                raise ConfigError(
                    f"data.batch, unlabelled.batch: {batch} samples do not divide among {world} processes"
                )

    def whole_tiles(self, tiles: gpd.GeoDataFrame) -> Loader | None:
        """This rank's share of `tiles`, whole and without augmentation; None when there are none."""
        if tiles.empty:
            return None
        self._require_labels(tiles, "validation or test")
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
