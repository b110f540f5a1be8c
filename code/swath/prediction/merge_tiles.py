"""Rasters predicted per tile back to their scenes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from affine import Affine

from swath.config import InputPath, OutputPath, absolute, configclass
from swath.data.areas import AreaFields, AreaRule
from swath.data.naming import listing
from swath.data.pairing import MERGED, by_key
from swath.data.tables import TILE_COLUMNS, TILES, read_table
from swath.errors import CatalogError
from swath.files import path_below
from swath.geo.grid import Grid, Window
from swath.geo.mosaic import Overlap, common_grid, merge_tiles
from swath.geo.raster import describe
from swath.prediction.maps import home_of, is_tile, place_in_name, scene_of_tile, soft_folder, soft_predictions
from swath.steps.config import Step


@configclass
class MergeTilesConfig(AreaFields, Step):
    """Rasters predicted per tile back to their scenes."""

    step_name = "merge_tiles"

    input_path: InputPath
    """Folder of rasters named as the tiles, e.g. <area>/<scene>/tile_<col>_<row>.tif; of inference's two folders,
    classes and probabilities, the latter."""
    output_path: OutputPath | None = None
    """Folder for <area>/<scene>.tif; None takes <input_path>/merged, where later steps look for it."""
    tiles_path: InputPath | None = None
    """Folder with the tiles.parquet that the tiles come from: scenes get their own size back, and tiles without a raster
    are listed. None: tiles lie where their headers say, and padding beyond a scene stays as nodata."""
    overlap: Overlap = "last"
    """Which value holds where tiles overlap: last, max or mean."""

    @property
    def output(self) -> Path:
        """The folder of the merged scenes and of the ledger."""
        return absolute(self.output_path) if self.output_path else home_of(absolute(self.input_path)) / MERGED

    def jobs(self) -> list[MergeJob]:
        """A job per scene. Raises CatalogError when there is no tile, or tiles of the table have no raster."""
        if self.tiles_path is not None:
            return merge_jobs(self, soft_folder(absolute(self.input_path)), absolute(self.tiles_path), self.output)
        source, rasters = soft_predictions(absolute(self.input_path))
        return jobs_by_headers(rasters, source, self.output, self.overlap, self.area_rule)


@dataclass(frozen=True, kw_only=True)
class MergeJob:
    """The tiles of one scene, the scene's grid, and where it goes."""

    key: str
    tiles: Sequence[Path]
    windows: Sequence[Window] | None
    """Where the tiles lie on `grid`; None: where their headers say."""
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
        return [self.windows and list(self.windows), list(self.grid.transform)[:6], list(self.grid.shape)]

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
        target = path_below(output, first["area"], scene, suffix=".tif")
        jobs.append(
            MergeJob(key=str(scene), tiles=tiles, windows=places, grid=grid, output=target, overlap=config.overlap)
        )
    return jobs


def jobs_by_headers(
    rasters: Sequence[Path], source: Path, output: Path, overlap: Overlap, rule: AreaRule
) -> list[MergeJob]:
    """A job per folder of tiles; its grid is that of the tiles, grown to all of them.

    Scenes go to `output` / their area, or to `output` itself where no folder, table or pattern tells the area. Raises
    CatalogError when a raster is no tile, or two folders of tiles are called alike; RasterError when tiles of one scene
    lie on different pixels.
    """
    others = [str(raster) for raster in rasters if not is_tile(raster)]
    if others:
        raise CatalogError(
            f"{source}: {listing(others)} is no tile: tiles are called tile_<col>_<row>.tif, in a folder named by their "
            "scene. Set input_path to the folder of the tiles."
        )
    tiles_of: dict[tuple[str, Path], list[Path]] = {}
    for tile in sorted(rasters, key=place_in_name):
        tiles_of.setdefault(scene_of_tile(tile), []).append(tile)
    scenes = sorted(tiles_of)
    _require_own_keys([key for key, _ in scenes], source)
    told = rule.tells(scenes, source)
    jobs = []
    for (key, place), area in zip(scenes, rule.areas(scenes, source), strict=True):
        tiles = tiles_of[key, place]
        folder = path_below(output, area) if told or place.parent != source else output
        grid = common_grid([describe(tile).grid for tile in tiles])
        target = path_below(folder, key, suffix=".tif")
        jobs.append(MergeJob(key=key, tiles=tiles, windows=None, grid=grid, output=target, overlap=overlap))
    return jobs


def _require_own_keys(keys: Sequence[str], source: Path) -> None:
    twice = [key for key, count in Counter(keys).items() if count > 1]
    if twice:
        raise CatalogError(f"{source}: several folders of tiles are called {listing(twice)}. Rename all but one.")
