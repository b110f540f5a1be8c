"""Samples from tiles: ``{"image": float32 CHW, "target": {task: uint8 HW}, "key": str, "window": Window}``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from swath.data.catalog import TILE_COLUMNS, TILE_STATS, read_table
from swath.data.samplers import Draw
from swath.errors import CatalogError, ConfigError, RasterError
from swath.geo.grid import Window
from swath.geo.raster import RasterReader, describe, find_rasters
from swath.labels import IGNORE

Sample = dict[str, Any]

SEEK_TRIES = 20
SEEK_SHARE = 0.005


class TileDataset(Dataset[Sample]):
    """Tiles of a table, whole or as random crops; opened when they are read, so it is safe in forked workers.

    With `crop`, items are `Draw`s and give a random `crop` x `crop` window of the tile (padded with NaN and 255 when
    the tile is smaller); a share `seek_target` of them is drawn anew, up to 20 times, until at least half a percent
    of the window's pixels hold a class above 0. Without, items are positions and give the whole tile, labels outside its core set to 255,
    so that scores over all tiles count each pixel of the scene once.
    """

    def __init__(
        self,
        tiles: gpd.GeoDataFrame,
        root: Path,
        tasks: Sequence[str],
        crop: int | None = None,
        seek_target: float = 0.0,
    ) -> None:
        """Raises CatalogError that lists missing files, ConfigError when the masks lack a task."""
        if tiles.empty:
            raise CatalogError(f"{root}: no tiles left to read. Check data.split and the skip rule.")
        self.rows: list[dict[str, Any]] = tiles.drop(columns="geometry").to_dict("records")
        self.root, self.crop, self.seek_target = root, crop, seek_target
        self._require_files()
        self.bands = describe(root / self.rows[0]["image"]).bands
        self.task_bands = self._task_bands(tasks)

    def _require_files(self) -> None:
        paths = [self.root / row[name] for row in self.rows for name in ("image", "mask") if row[name]]
        missing = [str(path) for path in paths if not path.is_file()]
        if missing:
            listed = ", ".join(missing[:5])
            raise CatalogError(f"{len(missing)} files of the table are missing: {listed}. Run `generate_tiles` again.")

    def _task_bands(self, tasks: Sequence[str]) -> dict[str, int]:
        mask = self.rows[0]["mask"]
        if not mask:
            return {}
        have = describe(self.root / mask).bands
        unknown = [task for task in tasks if task not in have]
        if unknown:
            raise ConfigError(f"tasks: the masks have no band {', '.join(unknown)}. They have: {', '.join(have)}.")
        return {task: have.index(task) for task in tasks}

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, item: int | Draw) -> Sample:
        if isinstance(item, Draw):
            row = self.rows[item.tile]
            window = self._random_window(row, np.random.default_rng([*item.seed, 1]))
        else:
            row = self.rows[item]
            window = Window(0, 0, row["height"], row["width"])
        with RasterReader(self.root / row["image"]) as reader:
            image = reader.image(window, _order(reader, self.bands))
        target = self._target(row, window, whole=not isinstance(item, Draw))
        here = window.within(Window(row["row"], row["col"], row["height"], row["width"]))
        return {"image": torch.from_numpy(image), "target": target, "key": row["key"], "window": here}

    def _random_window(self, row: Mapping[str, Any], rng: np.random.Generator) -> Window:
        if self.crop is None:
            return Window(0, 0, row["height"], row["width"])
        if not row["mask"] or rng.random() >= self.seek_target:
            return _crop(row, self.crop, rng)
        with RasterReader(self.root / row["mask"]) as reader:
            labels = reader.labels()[0]
        target = (labels > 0) & (labels != IGNORE)
        for _ in range(SEEK_TRIES):
            window = _crop(row, self.crop, rng)
            if target[window.slices].mean() >= SEEK_SHARE:
                break
        return window

    def _target(self, row: Mapping[str, Any], window: Window, whole: bool) -> dict[str, torch.Tensor]:
        if not row["mask"]:
            return {}
        with RasterReader(self.root / row["mask"]) as reader:
            labels = reader.labels(window)
        if whole:
            labels = only_core(labels, row)
        return {task: torch.from_numpy(labels[band]) for task, band in self.task_bands.items()}


def _order(reader: RasterReader, bands: Sequence[str]) -> list[int] | None:
    """Where this tile has the bands that the first tile has; None when they stand in the same order."""
    have = reader.info.bands
    if have == tuple(bands):
        return None
    missing = [band for band in bands if band not in have]
    if missing:
        raise RasterError(
            f"{reader.path}: no band {', '.join(missing)}; it has {', '.join(have)}. Cut it from like scenes."
        )
    return [have.index(band) + 1 for band in bands]


def _crop(row: Mapping[str, Any], size: int, rng: np.random.Generator) -> Window:
    offsets = [int(rng.integers(0, max(0, row[side] - size) + 1)) for side in ("height", "width")]
    return Window(offsets[0], offsets[1], size, size)


def only_core(labels_THW: NDArray[np.uint8], row: Mapping[str, Any]) -> NDArray[np.uint8]:
    """Labels of a whole tile with 255 outside the part of the scene that the tile alone answers for."""
    core = Window(row["core_row"], row["core_col"], row["core_height"], row["core_width"])
    rows, cols = core.relative_to(Window(row["row"], row["col"], row["height"], row["width"])).slices
    out = np.full_like(labels_THW, IGNORE)
    out[:, rows, cols] = labels_THW[:, rows, cols]
    return out


def collate(samples: Sequence[Sample]) -> dict[str, Any]:
    """A batch: image (B, C, H, W), target {task: (B, H, W)}, lists of keys and windows."""
    return {
        "image": torch.stack([s["image"] for s in samples]),
        "target": {task: torch.stack([s["target"][task] for s in samples]) for task in samples[0]["target"]},
        "key": [s["key"] for s in samples],
        "window": [s["window"] for s in samples],
    }


def read_tiles(folder: Path) -> gpd.GeoDataFrame:
    """The tiles of a folder with their statistics; skipped ones are left out."""
    table = read_table(folder / TILE_STATS, [*TILE_COLUMNS, "skip", "valid_ratio"], "generate_tiles_stats")
    return table[~table["skip"]].reset_index(drop=True)


def tiles_from_folders(images: Path, masks: Path | None) -> gpd.GeoDataFrame:
    """A table of tiles, each its own scene, from two folders whose files pair by relative name.

    Raises CatalogError that lists images without a mask and masks without an image.
    """
    image_paths = {p.relative_to(images).as_posix(): p for p in find_rasters(images)}
    mask_paths = {p.relative_to(masks).as_posix(): p for p in find_rasters(masks)} if masks else {}
    return tiles_from_lists(image_paths, mask_paths if masks else None)


def tiles_from_lists(images: Mapping[str, Path], masks: Mapping[str, Path] | None) -> gpd.GeoDataFrame:
    """A table of tiles from files by key; paths are absolute. CatalogError lists keys that lack a partner."""
    if not images:
        raise CatalogError("no image files given: the folder or list is empty")
    alone = sorted(set(images) ^ set(masks)) if masks is not None else []
    if alone:
        raise CatalogError(f"{len(alone)} files have no partner of the same name: {', '.join(alone[:5])}")
    return gpd.GeoDataFrame(
        [_lone_tile(key, path, masks[key] if masks else None) for key, path in sorted(images.items())]
    )


def _lone_tile(key: str, image: Path, mask: Path | None) -> dict[str, Any]:
    height, width = describe(image).grid.shape
    name = key.rsplit(".", 1)[0]
    return {
        "key": name, "scene": name, "area": "", "image": str(image.resolve()), "mask": str(mask.resolve()) if mask else None,
        "row": 0, "col": 0, "height": height, "width": width,
        "core_row": 0, "core_col": 0, "core_height": height, "core_width": width, "crs": None, "geometry": None,
    }  # fmt: skip
