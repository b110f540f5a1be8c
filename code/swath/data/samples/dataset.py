"""Samples from tiles: ``{"image": float32 CHW, "target": {task: uint8 HW}, "key": str, "window": Window}``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from swath.data.samples.samplers import CounterRng, Draw
from swath.data.samples.storage import NAME_TASKS, Cache, source_of
from swath.data.scene_bands import tile_bands
from swath.data.tables import mask_of, require_files
from swath.errors import CatalogError, ConfigError
from swath.geo.grid import Window
from swath.geo.raster import describe
from swath.labels import IGNORE

Sample = dict[str, Any]

SEEK_TRIES = 20
SEEK_SHARE = 0.005


@dataclass(frozen=True, kw_only=True)
class Crops:
    """How random windows are drawn: uniformly over all places inside the tile or scene, then accepted or drawn anew."""

    size: int
    """Side in pixels; what a smaller tile lacks is NaN and 255."""
    seek_target: float = 0.0
    """Share of the crops that are drawn anew, up to 20 times, until half a percent of their pixels is target."""
    min_labelled: float = 0.0
    """Share of pixels with a label that every crop has to have: drawn anew up to 20 times, then laid around a labelled
    pixel. 0 takes every place; above 0, no crop is without a label."""


class TileDataset(Dataset[Sample]):
    """Tiles of a table, whole or as random crops; safe in threads and in forked and spawned processes.

    With `crops`, items are `Draw`s and give a random window of the tile. Without, items are positions and give the whole
    tile, labels outside its core set to 255, so that scores over all tiles count each pixel of the scene once. `tasks`
    are bands of the masks by name, whatever their order in each file (a single band without a name serves one task). `cache`:
    where pixels are kept from their first use on, in `cache_path` or in memory. `threads`: how many read at once.
    """

    def __init__(
        self, tiles: gpd.GeoDataFrame, root: Path, tasks: Sequence[str], crops: Crops | None = None,
        cache: Cache = "off", cache_path: Path | None = None, threads: int = 1,
    ) -> None:  # fmt: skip
        """Raises CatalogError that lists missing files, or tiles without a mask beside others that have one; RasterError
        when the masks lack a task."""
        if tiles.empty:
            raise CatalogError(f"{root}: no tiles left to read. Check data.split and the skip rule.")
        self.rows: list[dict[str, Any]] = [
            row | {"mask": mask_of(row)} for row in tiles.drop(columns="geometry").to_dict("records")
        ]
        self.root, self.crops = root, crops
        require_files(tiles, root, "Run `generate_tiles` again.")
        if tasks:
            self._require_masks()
        self.bands = tile_bands(root / self.rows[0]["image"], self.rows[0])
        self.tasks = self._tasks(tasks)
        self.source = source_of(self.rows, root, self.bands, self.tasks, cache, cache_path, threads)

    def _require_masks(self) -> None:
        """All tiles have a mask, or none."""
        without = [row["key"] for row in self.rows if row["mask"] is None]
        if without and len(without) < len(self.rows):
            raise CatalogError(
                f"{self.root}: {len(without)} of {len(self.rows)} tiles have no mask, the first: {without[0]}. Set masks_path "
                "in generate_tiles, or leave them out."
            )

    def _tasks(self, tasks: Sequence[str]) -> tuple[str, ...]:
        """The tasks that samples have labels of: none where no tile has a mask. The first mask is looked at now, to fail
        before anything is read; each later one is read by its own names."""
        masks = [row["mask"] for row in self.rows if row["mask"]]
        if not masks:
            return ()
        describe(self.root / masks[0]).numbers_of_tasks(tasks, NAME_TASKS)
        return tuple(tasks)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, item: int | Draw) -> Sample:
        tile = item.tile if isinstance(item, Draw) else item
        row = self.rows[tile]
        drawn = isinstance(item, Draw) and self.crops is not None
        window = self._random_window(item) if drawn else Window(0, 0, row["height"], row["width"])  # type: ignore[arg-type]
        image = torch.from_numpy(_own(self.source.image(tile, window)))
        target = self._target(tile, window, whole=not isinstance(item, Draw))
        return {"image": image, "target": target, "key": row["key"], "window": window.within(corner_of(row))}

    def __getitems__(self, items: Sequence[int | Draw]) -> list[Sample] | dict[str, Any]:
        """A whole batch, as PyTorch's loader asks for it: random crops are copied into it at once, without the
        interpreter's lock, as threads would spend more time on taking turns than on copies."""
        draws = [item for item in items if isinstance(item, Draw)]
        if self.crops is None or len(draws) < len(items):
            return [self[item] for item in items]
        rows, windows = [self.rows[draw.tile] for draw in draws], [self._random_window(draw) for draw in draws]
        places = [(draw.tile, window) for draw, window in zip(draws, windows, strict=True)]
        target: dict[str, torch.Tensor] = {}
        if self.tasks:
            labels = torch.stack([torch.from_numpy(self.source.labels(*place)) for place in places], dim=1)
            target = dict(zip(self.tasks, labels, strict=True))
        return {
            "image": torch.stack([torch.from_numpy(self.source.image(*place)) for place in places]),
            "target": target, "key": [row["key"] for row in rows],
            "window": [w.within(corner_of(row)) for w, row in zip(windows, rows, strict=True)],
        }  # fmt: skip

    def _random_window(self, draw: Draw) -> Window:
        """Raises CatalogError for a tile without a label where every crop has to have some."""
        assert self.crops is not None
        row, crops, dice = self.rows[draw.tile], self.crops, CounterRng(*draw.seed, 1)
        if row["mask"] is None:
            return _crop(row, crops.size, dice)
        seeking = bool(crops.seek_target) and dice.share() < crops.seek_target
        if not seeking and not crops.min_labelled:
            return _crop(row, crops.size, dice)
        found = None
        for _ in range(SEEK_TRIES):
            window = _crop(row, crops.size, dice)
            labels = self.source.labels(draw.tile, window)
            if (labels != IGNORE).any(axis=0).mean() < crops.min_labelled:
                continue
            found = window
            if not seeking or _target_share(labels[0]) >= SEEK_SHARE:
                break
        return found or self._around_a_label(draw.tile, dice)

    def _around_a_label(self, tile: int, dice: CounterRng) -> Window:
        """A window that holds a labelled pixel, each with the same chance, at a random place within it."""
        assert self.crops is not None
        row, size = self.rows[tile], self.crops.size
        labels = self.source.labels(tile, Window(0, 0, row["height"], row["width"]))
        places = np.flatnonzero((labels != IGNORE).any(axis=0))
        if not len(places):
            raise CatalogError(f"{row['mask']}: {row['key']} has no labelled pixel to train on. Leave it out.")
        at = divmod(int(places[dice.below(len(places))]), row["width"])
        corner = [
            (low := max(0, p - size + 1)) + dice.below(max(0, min(p, row[side] - size)) + 1 - low)
            for p, side in zip(at, ("height", "width"), strict=True)
        ]
        return Window(corner[0], corner[1], size, size)

    def _target(self, tile: int, window: Window, whole: bool) -> dict[str, torch.Tensor]:
        if not self.tasks:
            return {}
        labels = self.source.labels(tile, window)
        labels = only_core(labels, self.rows[tile]) if whole else _own(labels)
        return {task: torch.from_numpy(labels_HW) for task, labels_HW in zip(self.tasks, labels, strict=True)}


def corner_of(row: Mapping[str, Any]) -> Window:
    """The tile within its scene."""
    return Window(row["row"], row["col"], row["height"], row["width"])


def _own(pixels: NDArray[Any]) -> NDArray[Any]:
    """The pixels as an array that nothing else looks at."""
    return pixels if pixels.flags.owndata else pixels.copy()


def _target_share(labels_HW: NDArray[np.uint8]) -> float:
    return float(((labels_HW > 0) & (labels_HW != IGNORE)).mean())


def _crop(row: Mapping[str, Any], size: int, dice: CounterRng) -> Window:
    """A window at a uniformly random place; at the corner of a tile that is smaller."""
    tall, wide = (dice.below(max(0, row[side] - size) + 1) for side in ("height", "width"))
    return Window(tall, wide, size, size)


def only_core(labels_THW: NDArray[np.uint8], row: Mapping[str, Any]) -> NDArray[np.uint8]:
    """Labels of a whole tile with 255 outside the part of the scene that the tile alone answers for."""
    core = Window(row["core_row"], row["core_col"], row["core_height"], row["core_width"])
    rows, cols = core.relative_to(Window(row["row"], row["col"], row["height"], row["width"])).slices
    out = np.full_like(labels_THW, IGNORE)
    out[:, rows, cols] = labels_THW[:, rows, cols]
    return out


def collate(samples: Sequence[Sample] | dict[str, Any]) -> dict[str, Any]:
    """A batch: image (B, C, H, W), target {task: (B, H, W)}, lists of keys and windows.

    Raises ConfigError for samples of different sizes, such as whole scenes.
    """
    if isinstance(samples, dict):  # a batch already
        return samples
    _require_one_size(samples)
    return {
        "image": torch.stack([s["image"] for s in samples]),
        "target": {task: torch.stack([s["target"][task] for s in samples]) for task in samples[0]["target"]},
        "key": [s["key"] for s in samples],
        "window": [s["window"] for s in samples],
    }


def _require_one_size(samples: Sequence[Sample]) -> None:
    first = samples[0]
    for other in samples[1:]:
        if other["image"].shape != first["image"].shape:
            sizes = [
                f"{sample['key']} ({' x '.join(map(str, sample['image'].shape[-2:]))} px)" for sample in (first, other)
            ]
            raise ConfigError(
                f"a batch of {len(samples)} tiles or scenes of different sizes: {' and '.join(sizes)}. Train on crops "
                "(data.crop=256) or on one at a time (data.batch=1); judge by windows (data.validation_tiling) or one at a "
                "time (data.validation_batch=1)."
            )
