"""Rasters predicted per tile back to their scenes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swath.config import configclass
from swath.data.naming import by_key
from swath.data.tables import TILE_COLUMNS, TILES, read_table
from swath.errors import CatalogError
from swath.geo.grid import Grid, Window
from swath.geo.mosaic import Overlap, merge_tiles
from swath.geo.raster import describe
from swath.steps.config import StepConfig


@configclass
class MergeTilesConfig(StepConfig):
    """Rasters predicted per tile back to their scenes."""

    input_path: str
    """Folder of rasters named as the tiles, e.g. <scene>/tile_<col>_<row>.tif."""
    output_path: str
    """Folder for <area>/<scene>.tif."""
    tiles_path: str
    """Folder with the tiles.parquet that the tiles come from."""
    overlap: Overlap = "last"
    """Which value holds where tiles overlap: last, max or mean."""


# ---------------------------------------------------------------------------------------------------------- tile merge


@dataclass(frozen=True, kw_only=True)
class MergeJob:
    """The tiles of one scene, the scene's grid, and where it goes."""

    key: str
    tiles: Sequence[Path]
    windows: Sequence[Window]
    grid: Grid
    output: Path
    overlap: Overlap


def merge_jobs(config: MergeTilesConfig, source: Path, tiles_path: Path, output: Path) -> list[MergeJob]:
    """A job per scene of tiles.parquet. Raises CatalogError that lists tiles without a raster."""
    table = read_table(tiles_path / TILES, [*TILE_COLUMNS, "scene_transform"], "generate_test_tiles")
    rasters = by_key(source)
    missing = sorted(set(table["key"]) - set(rasters))
    if missing:
        raise CatalogError(
            f"{source}: {len(missing)} tiles have no raster, the first: {missing[0]}. Predict all tiles first."
        )
    jobs = []
    for scene, group in table.groupby("scene", sort=True):
        first = group.iloc[0]
        grid = Grid(
            describe(rasters[first["key"]]).grid.crs,
            _affine(first["scene_transform"]),
            (int(first["scene_height"]), int(first["scene_width"])),
        )
        group = group.sort_values(["row", "col"])
        tiles = [rasters[key] for key in group["key"]]
        places = [Window(*map(int, place)) for place in group[["row", "col", "height", "width"]].to_numpy()]
        target = output / str(first["area"]) / f"{scene}.tif"
        jobs.append(
            MergeJob(key=str(scene), tiles=tiles, windows=places, grid=grid, output=target, overlap=config.overlap)
        )
    return jobs


def _affine(values: Sequence[float]) -> Any:
    from affine import Affine

    return Affine(*values)


def merge_scene(job: MergeJob) -> str:
    """Write one merged scene."""
    merge_tiles(job.tiles, job.grid, job.output, job.overlap, job.windows)
    return str(job.output)
