"""Pixels drawn from tiles, to look at what bands measure on the target and around it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from swath.data.scene_bands import tile_bands, tile_reader
from swath.data.tables import mask_of, place_of
from swath.data.tiles.statistics import first_task
from swath.data.zones import zones_of
from swath.geo.grid import Window
from swath.geo.raster import RasterReader
from swath.labels import IGNORE

CORE = ["core_row", "core_col", "core_height", "core_width"]


@dataclass(frozen=True)
class PixelSample:
    """Drawn pixels, a float64 column per band, NaN where there is no measurement; units as shown.

    `anywhere`: pixels of tiles drawn from all. `background`: those of them whose label is 0, or all of them where no
    tile has labels. `target`: pixels with a label above 0, of tiles drawn from those with target. Labels are those of
    the first task of the first tile's mask.
    """

    units: dict[str, str]
    anywhere: pd.DataFrame
    background: pd.DataFrame
    target: pd.DataFrame

    @property
    def correlation(self) -> pd.DataFrame:
        """Pearson's correlation between bands, over pixels that both measure; NaN for a constant band."""
        return self.anywhere.corr()


def draw_pixels(
    tiles: pd.DataFrame, root: Path, decibel: Sequence[str], tile_count: int, pixel_count: int, seed: int
) -> PixelSample:
    """Draw about `pixel_count` pixels from `tile_count` tiles with valid pixels, and as many of the target.

    Every pixel of the drawn tiles' cores has the same chance, so a histogram is that of the data set. Bands in
    `decibel` become dB unless they hold negative values; 0 is no measurement there.
    """
    rng = np.random.default_rng(seed)
    usable = tiles[~tiles["no_data"]]
    bands = tile_bands(root / tiles["image"].iloc[0], tiles.iloc[0].to_dict())
    source = _Tiles(root, bands, first_task(tiles, root))
    values, labels = _pixels(_drawn(usable, tile_count, rng), source, pixel_count, rng, only_target=False)
    with_target = _drawn(usable[usable["has_target"]], tile_count, rng)
    on_target, _ = _pixels(with_target, source, pixel_count, rng, only_target=True)
    anywhere, target = (pd.DataFrame(v, columns=list(bands), dtype=float) for v in (values, on_target))
    units = {band: "dB" if _is_linear(anywhere[band], target[band], decibel) else "" for band in bands}
    for frame in (anywhere, target):
        for band in bands:
            if units[band]:
                frame[band] = 10 * np.log10(frame[band].where(frame[band] > 0))
    background = anywhere[labels == 0] if (labels != IGNORE).any() else anywhere
    return PixelSample(units, anywhere, background, target)


class _Tiles(NamedTuple):
    """What is read of tiles: bands and the target's task, by name in every file."""

    root: Path
    bands: Sequence[str]
    task: str | None


def _is_linear(anywhere: pd.Series, target: pd.Series, decibel: Sequence[str]) -> bool:
    named = str(anywhere.name).casefold() in {name.casefold() for name in decibel}
    return named and not (anywhere < 0).any() and not (target < 0).any()


def _drawn(tiles: pd.DataFrame, count: int, rng: np.random.Generator) -> pd.DataFrame:
    return tiles.iloc[np.sort(rng.choice(len(tiles), min(count, len(tiles)), replace=False))]


def _pixels(
    tiles: pd.DataFrame, source: _Tiles, count: int, rng: np.random.Generator, only_target: bool
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """(values (N, bands), labels (N,)): about `count` pixels of the tiles, each with the same chance."""
    shares = tiles["target_pct"].fillna(0) / 100 if only_target else tiles["valid_ratio"]
    height, width = ("core_height", "core_width") if _have_cores(tiles) else ("height", "width")
    rate = min(1.0, count / max(1.0, float((tiles[height] * tiles[width] * shares).sum())))
    values, labels = [np.empty((0, len(source.bands)), np.float32)], [np.empty(0, np.uint8)]
    for image_CHW, labels_HW in _cores(tiles, source):
        wanted = np.isfinite(image_CHW).any(axis=0) & (rng.random(labels_HW.shape) < rate)
        if only_target:
            wanted &= (labels_HW > 0) & (labels_HW != IGNORE)
        values.append(image_CHW[:, wanted].T)
        labels.append(labels_HW[wanted])
    return np.concatenate(values), np.concatenate(labels)


def _cores(tiles: pd.DataFrame, source: _Tiles) -> Iterator[tuple[NDArray[np.float32], NDArray[np.uint8]]]:
    """Image and labels of the part of each tile that no other tile of its scene holds; all of it without cores."""
    for row in tiles.to_dict("records"):
        whole = Window(row["row"], row["col"], row["height"], row["width"])
        window = (Window(*(row[c] for c in CORE)) if _have_cores(tiles) else whole).relative_to(whole)
        window = window.within(place_of(row))
        with tile_reader(source.root / row["image"], row) as reader:
            image = reader.image(window, reader.info.numbers_of(source.bands, "Cut it from like scenes."))
        labels = np.full(window.shape, IGNORE, np.uint8)
        mask = mask_of(row)
        if mask is not None and source.task:
            with RasterReader(source.root / mask) as reader:
                number = reader.info.numbers_of_tasks([source.task], "Give all masks the same tasks.")
                labels = reader.labels(window, number)[0]
        zones = zones_of(row)
        if zones:
            image, labels = zones.hide(image, window, np.nan), zones.hide(labels[None], window, IGNORE)[0]
        yield image, labels


def _have_cores(tiles: pd.DataFrame) -> bool:
    return all(column in tiles for column in CORE)
