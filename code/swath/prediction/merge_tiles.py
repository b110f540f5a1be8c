"""Rasters predicted per tile back to their scenes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from affine import Affine

from swath.config import InputPath, OutputPath, absolute, configclass
from swath.data.pairing import by_key
from swath.data.tables import TILE_COLUMNS, TILES, read_table
from swath.errors import CatalogError
from swath.geo.grid import Grid, Window
from swath.geo.mosaic import Overlap, merge_tiles
from swath.geo.raster import describe
from swath.steps.config import Step


@configclass
class MergeTilesConfig(Step):
    """Rasters predicted per tile back to their scenes."""

    step_name = "merge_tiles"

    input_path: InputPath
    """Folder of rasters named as the tiles, e.g. <scene>/tile_<col>_<row>.tif."""
    output_path: OutputPath
    """Folder for <area>/<scene>.tif."""
    tiles_path: InputPath
    """Folder with the tiles.parquet that the tiles come from."""
    overlap: Overlap = "last"
    """Which value holds where tiles overlap: last, max or mean."""

    def jobs(self) -> list[MergeJob]:
        """A job per scene of tiles.parquet. Raises CatalogError that lists tiles without a raster."""
        return merge_jobs(self, absolute(self.input_path), absolute(self.tiles_path), self.output)


@dataclass(frozen=True, kw_only=True)
class MergeJob:
    """The tiles of one scene, the scene's grid, and where it goes."""

    key: str
    tiles: Sequence[Path]
    windows: Sequence[Window]
    grid: Grid
    output: Path
    overlap: Overlap

    @property
    def inputs(self) -> Sequence[Path]:
        return self.tiles

    @property
    def outputs(self) -> tuple[Path]:
        return (self.output,)

    @property
    def decided_by(self) -> Any:
        """Where the table says that the tiles lie."""
        return [list(self.windows), list(self.grid.transform)[:6], list(self.grid.shape)]

    def run(self) -> None:
        """Write the merged scene."""
        merge_tiles(self.tiles, self.grid, self.output, self.overlap, self.windows)


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
            Affine(*first["scene_transform"]),
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
