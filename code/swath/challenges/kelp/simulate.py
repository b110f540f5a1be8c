"""Tiles of the Kelp Wanted challenge, made up: files in its layout, the metadata, and the truth in a folder beside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from affine import Affine

from swath.challenges.kelp.product import BANDS, FOLDERS, IMAGE, LABELS, SIDE, TEST, TRAIN, file_name
from swath.challenges.kelp.simulate_coast import Coast, View, Weather, inner, octaves, simulate_coast, simulate_view
from swath.challenges.protocols import SceneMaker
from swath.config import NotDecisive, OutputPath, configclass
from swath.config.ranges import Count, PositiveCount, Share
from swath.data.tables import write_csv
from swath.errors import ConfigError
from swath.geo.grid import Grid
from swath.geo.layout import RasterSpec
from swath.geo.raster_writer import write_raster
from swath.steps.job import Report

GRID = Grid(None, Affine.identity(), (SIDE, SIDE))
"""Tiles have neither a CRS nor a transform."""
TRUTH = Path("truth")
METADATA_NAME = "metadata_simulated.csv"


@configclass
class KelpScenesConfig(SceneMaker):
    """Generate tiles of coasts with kelp in the layout of the Kelp Wanted challenge."""

    output_path: OutputPath
    """Folder of the tiles, of their metadata, and of truth/: what was planted (tiles.csv) and labels of the test tiles."""
    aois: PositiveCount = 30
    """Number of places: two in 30 are open sea, one in 10 resembles another one."""
    tiles: PositiveCount = 120
    """Number of tiles: the dates of all places together."""
    test_share: Share = 0.2
    """Share of the tiles that are for the test: all dates of some places, and single dates of others."""
    layout: Literal["folders", "archives"] = "folders"
    """How the files lie: folders train/images, train/masks, test/images, or archives as they unpack, train_satellite ..."""
    seed: Count = 0
    """Seed of everything."""
    executor: NotDecisive[str] = "processes"
    """Where the work is done, as in every step; processes, as simulating is pure Python."""

    def __post_init__(self) -> None:
        if self.tiles < self.aois:
            raise ConfigError(f"tiles={self.tiles}: give each of the {self.aois} places (aois) one tile at least")

    def scenes_to_make(self, output: Path) -> list[KelpAoi]:
        """A job per place."""
        return plan(self, output)

    def finish(self, results: Mapping[str, Any]) -> Report:
        """Write the metadata and the table of what was planted."""
        truth = pd.DataFrame([row for rows in results.values() for row in rows]).sort_values("tile_id")
        files = [
            {"tile_id": tile, "filename": file_name(tile, kind), "type": kind, "in_train": trains}
            for tile, trains in zip(truth["tile_id"], truth["in_train"], strict=True)
            for kind in ((IMAGE, LABELS) if trains else (IMAGE,))
        ]
        metadata, planted = self.output / METADATA_NAME, self.output / TRUTH / "tiles.csv"
        write_csv(metadata, pd.DataFrame(files))
        write_csv(planted, truth)
        return Report(written=[metadata, planted])


@dataclass(frozen=True, kw_only=True)
class KelpTile:
    """One date of a place: its id, its side, and what is wrong with it."""

    tile: str
    side: str
    weather: Weather
    is_mislabelled: bool = False
    """Whether the labels call nearly everything kelp."""


@dataclass(frozen=True, kw_only=True)
class KelpAoi:
    """One place to simulate: its tiles, the seeds of its coast and of one that it resembles, and where files go."""

    number: int
    seed: int
    output: Path
    layout: str
    tiles: Sequence[KelpTile]
    like: int | None = None
    """Number of the place that it resembles."""
    is_sea: bool = False

    @property
    def key(self) -> str:
        return f"aoi_{self.number:05d}"

    @property
    def inputs(self) -> tuple[Path, ...]:
        return ()

    @property
    def outputs(self) -> list[Path]:
        return [path for tile in self.tiles for path in (self.image(tile), self.labels(tile))]

    def image(self, tile: KelpTile) -> Path:
        """Where the bands of a tile go."""
        return self._folder(tile.side, IMAGE) / file_name(tile.tile, IMAGE)

    def labels(self, tile: KelpTile) -> Path:
        """Where the labels of a tile go: those of the test into the truth."""
        folder = self._folder(TRAIN, LABELS) if tile.side == TRAIN else self.output / TRUTH / "labels"
        return folder / file_name(tile.tile, LABELS)

    def _folder(self, side: str, kind: str) -> Path:
        sorted_by_hand, unpacked = FOLDERS[side, kind]
        return self.output / (sorted_by_hand if self.layout == "folders" else unpacked)

    def run(self) -> list[dict[str, Any]]:
        """Simulate the place and write its tiles; return a row of what was planted for each."""
        coast = self._coast()
        return [self._write(coast, date, tile) for date, tile in enumerate(self.tiles)]

    def _coast(self) -> Coast:
        like = None if self.like is None else simulate_coast(_rng(self.seed, self.like))
        return simulate_coast(_rng(self.seed, self.number), like, self.is_sea)

    def _write(self, coast: Coast, date: int, tile: KelpTile) -> dict[str, Any]:
        rng = _rng(self.seed, self.number, date)
        view = simulate_view(coast, tile.weather, rng)
        if tile.is_mislabelled:
            view = replace(view, kelp_HW=_nearly_everything(rng))
        write_view(view, self.image(tile), self.labels(tile))
        weather, (rows, cols) = tile.weather, tile.weather.shift
        return {
            "tile_id": tile.tile, "aoi": self.number, "in_train": tile.side == TRAIN, "like": self.like,
            "is_sea": self.is_sea, "is_mislabelled": tile.is_mislabelled, "shift_rows": rows, "shift_cols": cols,
            "is_striped": weather.is_striped, "is_saturated": weather.is_saturated,
            "lacks_elevation": weather.lacks_elevation, "kelp_pixels": int(view.kelp_HW.sum()),
        }  # fmt: skip


def write_view(view: View, image: Path, labels: Path) -> None:
    """Write a tile's two files as the challenge has them: int32, bands side by side, no nodata tag, no place."""
    spec = RasterSpec(grid=GRID, bands=BANDS, dtype="int32", block=None, interleave="pixel")
    write_raster(image, view.image_7HW, replace(spec, bands=("",) * len(BANDS)))
    write_raster(labels, view.kelp_HW[None], RasterSpec(grid=GRID, bands=("",), dtype="uint8", compress=True))


def _nearly_everything(rng: np.random.Generator) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Labels that call nine pixels in ten kelp."""
    field_HW = inner(octaves(rng, 60, 3))
    return np.asarray(field_HW < np.quantile(field_HW, 0.9), np.uint8)


def _rng(*seeds: int) -> np.random.Generator:
    return np.random.default_rng(seeds)


# ---------------------------------------------------------------------------------------------------------------- plan


def plan(config: KelpScenesConfig, output: Path) -> list[KelpAoi]:
    """The places with their tiles, and what is planted in which."""
    rng = _rng(config.seed)
    dates = np.bincount(rng.integers(0, config.aois, config.tiles - config.aois), minlength=config.aois) + 1
    sides = _sides(dates, config.test_share, rng)
    ids = iter(_ids(config.tiles, rng))
    tiles = [[_tile(next(ids), side, rng) for side in of_aoi] for of_aoi in sides]
    seas = set(range(1, 1 + config.aois // 15)) if config.aois >= 15 else {1} if config.aois > 3 else set()
    _plant_faults(tiles, seas, rng)
    alike = range(4, config.aois, 10)  # 14 resembles 13, and so on
    return [
        KelpAoi(
            number=number, seed=config.seed, output=output, layout=config.layout, tiles=of_aoi,
            like=number - 1 if number in alike else None, is_sea=number in seas,
        )
        for number, of_aoi in enumerate(tiles)
    ]  # fmt: skip


def _sides(dates: np.ndarray[Any, np.dtype[np.int64]], test_share: float, rng: np.random.Generator) -> list[list[str]]:
    """The side of each date of each place. One place in 15 that has several dates, and one at least, is on both."""
    sides = [[TRAIN] * int(count) for count in dates]
    wanted = round(test_share * int(dates.sum()))
    order = rng.permutation(len(dates)).tolist()
    several = [number for number in order if dates[number] > 1]
    shared = several[: max(1, len(dates) // 15)] if wanted else []
    for number in shared:
        sides[number][-1] = TEST
    wanted -= len(shared)
    for number in order:
        if number not in shared and dates[number] <= wanted:
            sides[number] = [TEST] * int(dates[number])
            wanted -= int(dates[number])
    return sides


def _ids(count: int, rng: np.random.Generator) -> list[str]:
    """Different tile ids: two letters, six digits."""
    numbers = rng.choice(26 * 26 * 10**6, count, replace=False)
    return [f"{chr(65 + n // 26_000_000)}{chr(65 + n // 10**6 % 26)}{n % 10**6:06d}" for n in numbers.tolist()]


def _tile(tile: str, side: str, rng: np.random.Generator) -> KelpTile:
    clouds = float(rng.choice([0.0, 0.0, 0.05, 0.15, 0.4, 0.8], p=[0.3, 0.2, 0.2, 0.15, 0.1, 0.05]))
    weather = Weather(
        clouds=clouds,
        is_striped=rng.random() < 0.12,
        is_saturated=rng.random() < 0.08,
        lacks_elevation=rng.random() < 0.1,
    )
    return KelpTile(tile=tile, side=side, weather=weather)


def _plant_faults(tiles: list[list[KelpTile]], seas: set[int], rng: np.random.Generator) -> None:
    """Mislabel one training tile in 120, and shift one tile in 50, but one and two at least; in place."""
    places = [(aoi, date) for aoi, of_aoi in enumerate(tiles) if aoi not in seas for date in range(len(of_aoi))]
    order = [places[at] for at in rng.permutation(len(places)).tolist()]
    trains = [(aoi, date) for aoi, date in order if tiles[aoi][date].side == TRAIN]
    wrong = trains[: max(1, len(places) // 120)]
    for aoi, date in wrong:
        tiles[aoi][date] = replace(tiles[aoi][date], is_mislabelled=True)
    moved = [place for place in order if place not in wrong][: max(2, len(places) // 50)]
    for aoi, date in moved:
        row, col = (int(rng.integers(4, 15) * rng.choice([-1, 1])) for _ in range(2))
        tile = tiles[aoi][date]
        tiles[aoi][date] = replace(tile, weather=replace(tile.weather, shift=(row, col), lacks_elevation=False))
