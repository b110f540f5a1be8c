"""Statistics of tiles and of the data set, over valid pixels only."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from swath.config import InputPath, OutputPath, absolute, configclass
from swath.config.ranges import Share
from swath.data.leakage.fingerprints import fingerprint
from swath.data.leakage.groups import Grouping, group_tiles
from swath.data.running_statistics import Moments, RunningMoments, band_moments, band_statistics, merge_moments
from swath.data.scene_bands import rules_of, scene_bands_decide, tile_bands, tile_reader
from swath.data.splits.folds import GroupFolds, fold_columns, folds_by_area, folds_by_group
from swath.data.tables import (
    CLASSES,
    TILE_COLUMNS,
    TILE_STATS,
    TILES,
    Row,
    is_file,
    masks_of,
    missing_of,
    place_of,
    read_table,
    require_files,
    write_table,
)
from swath.data.tiles.quality import skip_reasons
from swath.data.zones import zones_of
from swath.files import write_json
from swath.geo.grid import Window
from swath.geo.raster import RasterReader, describe
from swath.geo.zones import Zones
from swath.labels import IGNORE
from swath.steps.config import Step
from swath.steps.job import Report


@configclass
class StatsConfig(Step):
    """Statistics per tile and per band, target share, valid share, fingerprints, groups, folds and the skip rule."""

    step_name = "generate_tiles_stats"

    input_path: InputPath
    """Folder with tiles.parquet."""
    output_path: OutputPath | None = None
    """Folder for tile_stats.parquet and band_stats.json; None writes them into input_path."""
    folds: dict[str, int] | GroupFolds | None = None
    """Area to fold number; None numbers the areas in alphabetical order; GroupFolds() deals groups over strata."""
    grouping: Grouping = Grouping()
    """Which tiles hang together: the column `group`."""
    fingerprints: bool = True
    """Digest and thumbnail of each tile, by which copies are found, in splits as well. They take half of the time."""
    min_valid_ratio: Share = 1.0
    """Tiles with a smaller share of valid pixels are skipped (1.0: any nodata pixel skips, as in the UNOSAT pipeline)."""
    max_target_ratio: Share | None = None
    """Tiles with a larger target share are skipped, as their labels are doubtful: 0.4 for rare targets. None: none is."""

    @property
    def output(self) -> Path:
        """The folder of the tables."""
        return absolute(self.output_path or self.input_path)

    def tiles(self) -> gpd.GeoDataFrame:
        """The table of tiles."""
        return read_table(absolute(self.input_path) / TILES, TILE_COLUMNS, "generate_tiles")

    def jobs(self) -> list[SceneTiles]:
        """A job per scene of the table of tiles. Raises CatalogError when files of the table are not there."""
        tiles = self.tiles()
        require_files(tiles, absolute(self.input_path) / TILES, "Run `generate_tiles` again.")
        return scene_jobs(tiles, absolute(self.input_path), self.min_valid_ratio, self.fingerprints)

    def finish(self, results: Mapping[str, Any]) -> Report:
        """Write tile_stats.parquet and band_stats.json."""
        table, bands, counts = summarise(self.tiles(), results, absolute(self.input_path), self.output, self)
        write_table(self.output / TILE_STATS, table)
        write_json(self.output / "band_stats.json", bands)
        skipped = table.loc[table["skip"], ["key", "reason"]]
        return Report(
            metrics={f"preparation/{name}": count for name, count in counts.items()},
            written=[self.output / TILE_STATS, self.output / "band_stats.json"],
            files=[self.output / "band_stats.json"],
            texts={"skipped.csv": skipped.to_csv(index=False)},
            lines=[", ".join(f"{name} {count:g}" for name, count in counts.items())],
        )


ABREAST = 2
"""Tiles of a scene that are worked on at the same time."""


@dataclass(frozen=True, kw_only=True)
class SceneTiles:
    """The tiles of one scene: keys, image and mask paths, their windows in these, and the skip rule's threshold.

    `target` is the task that target shares are of, None without masks.
    """

    key: str
    keys: Sequence[str]
    images: Sequence[Path]
    masks: Sequence[Path | None]
    places: Sequence[Window]
    are_files: Sequence[bool]
    """Which of the tiles have files of their own."""
    rows: Sequence[Row]
    """What the table of tiles says of each."""
    zones: Sequence[Zones | None]
    min_valid_ratio: Share
    fingerprints: bool
    target: str | None

    @property
    def inputs(self) -> list[Path]:
        return [*self.images, *(mask for mask in self.masks if mask)]

    @property
    def outputs(self) -> tuple[Path, ...]:
        return ()

    @property
    def decided_by(self) -> Any:
        """What the table of tiles says of the tiles."""
        return {
            "keys": list(self.keys),
            "places": list(self.places),
            "missing": [missing_of(row) for row in self.rows],
            "zones": [zones.runs.tolist() if zones else None for zones in self.zones],
            "target": self.target,
            **scene_bands_decide(self.rows),
        }

    def run(self) -> dict[str, Any]:
        """Statistics of the scene's tiles and bands."""
        return scene_statistics(self)


def scene_jobs(
    tiles: gpd.GeoDataFrame, root: Path, min_valid_ratio: float, fingerprints: bool = True
) -> list[SceneTiles]:
    """A job per scene of a table of tiles whose paths are relative to `root`.

    Target shares are of the first task of the first mask, in all scenes, whatever the order of bands in the others.
    """
    target = first_task(tiles, root)
    jobs = []
    for scene, group in tiles.groupby("scene", sort=True):
        rows = group.drop(columns="geometry", errors="ignore").to_dict("records")
        job = SceneTiles(
            key=str(scene), keys=list(group["key"]), images=[root / p for p in group["image"]],
            masks=[root / mask if mask else None for mask in masks_of(group)],
            min_valid_ratio=min_valid_ratio, places=[place_of(row) for row in rows],
            are_files=[is_file(row) for row in rows], rows=rows, fingerprints=fingerprints,
            target=target, zones=[zones_of(row) for row in rows],
        )  # fmt: skip
        jobs.append(job)
    return jobs


def first_task(tiles: pd.DataFrame, root: Path) -> str | None:
    """The first band of the first mask of a table, which target shares are of; None without masks."""
    first = next(filter(None, masks_of(tiles)), None)
    return describe(root / first).bands[0] if first else None


def summarise(
    tiles: gpd.GeoDataFrame,
    results: Mapping[str, Any],
    root: Path,
    output: Path,
    config: StatsConfig,
) -> tuple[gpd.GeoDataFrame, dict[str, Any], dict[str, float]]:
    """(tiles with their statistics, groups, folds, skip and its reason; statistics per band; counts worth a look).

    Paths of the table become relative to `output`.
    """
    rows = pd.DataFrame([row for result in results.values() for row in result["tiles"]])
    table = tiles.merge(rows, on="key", how="left", validate="one_to_one")
    table["reason"] = skip_reasons(table, config.max_target_ratio)
    table["skip"] = table["reason"] != ""
    table["group"] = group_tiles(table, config.grouping)
    table = with_folds(table, config.folds)
    for column in ("image", "mask"):
        table[column] = [os.path.relpath(root / p, output) if isinstance(p, str) else None for p in table[column]]
    bands = tile_bands(output / table["image"].iloc[0], table.iloc[0].to_dict())
    moments = merge_moments([result["bands"] for result in results.values()])
    counts = {
        "tiles": len(table),
        "skipped": int(table["skip"].sum()),
        "valid_ratio": _mean(table["valid_ratio"]),
        "groups": table["group"].nunique(),
    }
    if "target_ratio" in table:
        counts |= {
            "target_ratio": _mean(table["target_ratio"]),
            "with_target": int((table["target_ratio"] > 0).sum()),
        }
    return table, band_statistics(moments, bands), counts


def _mean(values: pd.Series) -> float:
    """The mean of what is not NaN; the order of the values changes no bit."""
    known = values.dropna()
    return math.fsum(known) / len(known) if len(known) else float("nan")


def with_folds(table: gpd.GeoDataFrame, folds: Mapping[str, int] | GroupFolds | None) -> gpd.GeoDataFrame:
    """The table with a column `fold`; folds of groups come with split_0, split_1, ... as well."""
    if not isinstance(folds, GroupFolds):
        return table.assign(fold=table["area"].map(folds_by_area(list(table["area"]), folds)))
    fold = folds_by_group(table, folds)
    return table.assign(fold=fold, **fold_columns(fold))


def scene_statistics(job: SceneTiles) -> dict[str, Any]:
    """``{"tiles": [row, ...], "bands": {count, mean, m2, min, max, sketch}}`` of one scene, as JSON types.

    Rows are sorted by key, so that the order of the tiles changes nothing.
    """
    tiles, bands = [], RunningMoments()
    order = sorted(range(len(job.keys)), key=lambda number: job.keys[number])
    with ThreadPoolExecutor(ABREAST) as pool:  # reading, sorting and hashing let go of the interpreter's lock
        for row, moments in pool.map(partial(_tile, job), order):
            tiles.append(row)
            bands.push(moments)
    return {"tiles": tiles, "bands": bands.total()}


def _tile(job: SceneTiles, number: int) -> tuple[dict[str, Any], Moments]:
    place, mask_path = job.places[number], job.masks[number]
    zones, made = job.zones[number], rules_of(job.rows[number])
    with tile_reader(job.images[number], job.rows[number]) as reader:
        reader.info.require_tile(place, job.are_files[number])
        image, names = reader.image(place), reader.info.bands
    image = zones.hide(image, place, np.nan) if zones else image
    moments = band_moments(image)
    labels = read_target_first(mask_path, place, job.target) if mask_path and job.target else {}
    if zones:
        labels = {task: zones.hide(labels_HW[None], place, IGNORE)[0] for task, labels_HW in labels.items()}
    mask = np.stack(list(labels.values())) if labels else None
    measured = image[[name not in made for name in names]] if made else image
    row = tile_row(measured, mask, moments, job.min_valid_ratio) | class_counts(labels)
    return {"key": job.keys[number]} | row | (fingerprint(measured) if job.fingerprints else {}), moments


def read_target_first(mask: Path, place: Window, target: str) -> dict[str, NDArray[np.uint8]]:
    """Labels (height, width) of a window by task, the one called `target` first, whatever the order in the file.

    A single band without a name is the target. Raises RasterError for a mask without it.
    """
    with RasterReader(mask) as reader:
        names = reader.info.bands
        first = reader.info.numbers_of_tasks([target], "Give all masks the same tasks.")[0]
        order = [first, *(number for number in range(1, len(names) + 1) if number != first)]
        labels = reader.labels(place, order)
    tasks = [target, *(names[number - 1] for number in order[1:])]
    return dict(zip(tasks, labels, strict=True))


def class_counts(labels: Mapping[str, NDArray[np.uint8]]) -> dict[str, list[int]]:
    """``classes_<task>``: pixels of class 0, 1, ... up to the highest there is; 255 is none."""
    return {f"{CLASSES}{task}": np.bincount(mask_HW[mask_HW != IGNORE]).tolist() for task, mask_HW in labels.items()}


def tile_row(
    image_CHW: NDArray[np.float32],
    mask_THW: NDArray[np.uint8] | None,
    moments: Mapping[str, Any],
    min_valid_ratio: float,
) -> dict[str, Any]:
    """Statistics of one tile. `target_ratio` is the share of the first task's labelled pixels with a class above 0.

    `skip`: no valid pixel, all valid pixels equal in every band, or valid_ratio below the threshold.
    """
    whole = min(moments["count"]) == image_CHW[0].size
    valid_ratio = 1.0 if whole else float(np.isfinite(image_CHW).all(axis=0).mean())
    constant = moments["min"] == moments["max"]
    row: dict[str, Any] = {
        "valid_ratio": valid_ratio,
        "skip": bool(valid_ratio == 0 or constant or valid_ratio < min_valid_ratio),
        **{f"img_{name}": moments[name] for name in ("min", "max", "mean")},
        "img_std": [
            float(np.sqrt(m / n)) if n else float("nan") for m, n in zip(moments["m2"], moments["count"], strict=True)
        ],
    }
    if mask_THW is not None:
        labelled = mask_THW[0] != IGNORE
        row["labelled_ratio"] = float(labelled.mean())
        row["target_ratio"] = float((mask_THW[0][labelled] > 0).mean()) if labelled.any() else 0.0
    return row
