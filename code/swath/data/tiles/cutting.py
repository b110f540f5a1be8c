"""Scenes to tiles on disk: GeoTIFFs that carry CRS and transform, and the rows of tiles.parquet."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
from numpy.typing import NDArray

from swath.config import InputPath, OutputPath, absolute, configclass
from swath.data.pairing import pair_masks
from swath.data.scene_bands import scene_band_columns
from swath.data.tables import (
    TILES,
    bands_of,
    missing_of,
    only_where,
    place_of,
    read_scenes,
    require_files,
    scene_details,
    write_table,
)
from swath.data.zones import ZONES, zone_columns, zone_summary
from swath.errors import RasterError
from swath.files import remove_parts
from swath.geo.earth import footprints
from swath.geo.grid import Grid, Window
from swath.geo.layout import RasterInfo, RasterSpec
from swath.geo.raster import RasterReader, describe, require_clear_labels
from swath.geo.raster_writer import write_raster
from swath.geo.scene_bands import SceneBand, SceneBands, SceneReader
from swath.geo.windows import ConstantSize, Tiling, windows
from swath.geo.zones import MissingZones, Zones, find_zones
from swath.labels import IGNORE
from swath.steps.config import Step
from swath.steps.job import Report
from swath.steps.prefetch import prefetch, write_behind

PLACE = ("row", "col", "height", "width")
"""Columns of a tile's window in its scene."""


@configclass
class TilesConfig(Step):
    """Cut scenes, and their masks where there are some, into tiles."""

    step_name = "generate_tiles"

    input_path: InputPath
    """Folder of scenes with a scenes.parquet, or any folder of GeoTIFFs."""
    output_path: OutputPath
    """Folder for images/, masks/ and tiles.parquet."""
    masks_path: InputPath | None = None
    """Folder of the scenes' label rasters; None takes those that scenes.parquet names, and cuts images only without any."""
    only: dict[str, tuple[str, ...]] | None = None
    """Column of scenes.parquet to values, as texts: only scenes that have one of them in each column are cut."""
    tiling: Tiling = ConstantSize(size=512, min_overlap=32)
    """How scenes are divided: ConstantSize(size, min_overlap) or ConstantStride(size, stride, edge), in pixels;
    Whole() leaves each scene in one piece."""
    write: bool = True
    """Write tiles to disk; False writes tiles.parquet alone, whose tiles are windows of the scenes and give the same
    samples. Scenes and masks have to stay where they are."""
    missing_values: tuple[float, ...] = ()
    """Values of the scenes that mean no measurement though their headers do not say so. Inference on such scenes needs
    them in the model's channels, too: partial(Bands, missing=...)."""
    missing_zones: MissingZones | None = None
    """Zones of one value in all bands that mean no measurement, such as MissingZones(value=0.0, min_pixels=64) where 0 fills
    what was not seen: NaN in images, 255 in masks. They are found in whole scenes, so a tile may hold a small part of one.
    Trainings note them in the model's record, and inference looks for them in its scenes. None: single values decide."""

    scene_bands: dict[str, SceneBand] = field(default_factory=dict)
    """Bands that are made of whole scenes, by name, beside those that scenes have: FromMedian(band="NIR", over=Where(band=
    "DEM", at_most=1.0)) is NIR less its median over water, Closeness(to=Where(band="DEM", above=1.0)) tells how near land is.
    Trainings note the rules in the model's record, and inference makes the same bands of its scenes."""

    def jobs(self) -> list[Cut]:
        """A job per scene. Raises CatalogError when there is none, one has no mask, or its file is not there."""
        source = absolute(self.input_path)
        scenes = only_where(read_scenes(source), self.only)
        used = ("image",) if self.masks_path else ("image", "labels")
        require_files(scenes, source, "Correct its table, or run the step that makes the scenes again.", used)
        masks = pair_masks(scenes, absolute(self.masks_path) if self.masks_path else None)
        return cut_jobs(
            scenes, masks, self.output, self.tiling, self.missing_values, self.write, self.missing_zones,
            self.scene_bands,
        )  # fmt: skip

    def finish(self, results: Mapping[str, Any]) -> Report:
        """Write tiles.parquet, with what the table of scenes knows of each tile's scene; say where zones are missing."""
        about = scene_details(read_scenes(absolute(self.input_path)))
        rows = [about[row["scene"]] | row for found in results.values() for row in found]
        write_table(self.output / TILES, rows)
        counts, lines = zone_summary(rows)
        metrics = {f"preparation/{name}": value for name, value in ({"tiles": len(rows)} | counts).items()}
        return Report(metrics=metrics, written=[self.output / TILES], lines=lines)


@dataclass(frozen=True, kw_only=True)
class Cut:
    """One scene to cut: where it is, where its tiles go, and how it is divided."""

    key: str
    area: str
    image: Path
    mask: Path | None
    output: Path
    tiling: Tiling
    missing: tuple[float, ...] = ()
    """Values of the scene that mean no measurement, besides its nodata."""
    bands: tuple[str, ...] | None = None
    """Names of the scene's bands that stand above its own."""
    write: bool = True
    """Whether tiles become files."""
    zones: MissingZones | None = None
    """Which zones of the scene mean no measurement."""
    scene_bands: SceneBands = field(default_factory=dict)
    """Bands that are made of the whole scene."""

    @property
    def inputs(self) -> list[Path]:
        return [self.image, *([self.mask] if self.mask else [])]

    @property
    def outputs(self) -> list[Path]:
        return tile_files(self)

    @property
    def decided_by(self) -> Any:
        """What the table of scenes says of the scene."""
        return {"area": self.area, "missing": self.missing, "bands": self.bands}

    def run(self) -> list[dict[str, Any]]:
        """Cut the scene; return the rows of its tiles."""
        return cut_scene(self)


def cut_jobs(
    scenes: gpd.GeoDataFrame,
    masks: Mapping[str, Path],
    output: Path,
    tiling: Tiling,
    missing: tuple[float, ...] = (),
    write: bool = True,
    zones: MissingZones | None = None,
    scene_bands: SceneBands | None = None,
) -> list[Cut]:
    """A job per scene; `masks` maps scene keys to label rasters, `missing` values of scenes mean no measurement, and `zones`."""
    return [
        Cut(
            key=row["key"], area=row["area"], image=Path(row["image"]), mask=masks.get(row["key"]), output=output,
            tiling=tiling, missing=tuple(dict.fromkeys((*missing, *missing_of(row)))), bands=bands_of(row), write=write,
            zones=zones, scene_bands=scene_bands or {},
        )
        for row in scenes.to_dict("records")
    ]  # fmt: skip


def cut_scene(job: Cut) -> list[dict[str, Any]]:
    """Write all tiles of one scene, unless they stay windows of it; return their rows for tiles.parquet (geometry as WKT).

    Places outside the scene hold nodata in images (-99999 when the scene declares none) and 255 in masks.
    Raises RasterError when the mask does not lie on the scene's grid.
    """
    with SceneReader(job.image, job.missing, job.bands, job.scene_bands) as image:
        grid = image.info.grid
        if job.mask is not None:
            _same_grid(job.image, grid, job.mask)
            require_clear_labels(job.mask)
        places = list(windows(grid.shape, job.tiling))
        remove_parts({path.parent for path in _files(job, places[:1])})  # of a worker that was killed at this scene
        zones = find_zones(image.measured, grid.shape, job.zones) if job.zones else None
        image.find_medians(zones)
        rows = (
            _cut_tiles(job, image, places, zones)
            if job.write
            else [_window_row(job, image, zones, *place) for place in places]
        )
    outlines, geometry_crs = footprints(grid, [Window(*(row[name] for name in PLACE)) for row in rows])
    where = {"crs": grid.crs.to_string() if grid.crs else None, "geometry_crs": geometry_crs}
    return [row | where | {"geometry": outline.wkt} for row, outline in zip(rows, outlines, strict=True)]


def tile_files(job: Cut) -> list[Path]:
    """The files that `cut_scene` leaves. Raises RasterError when the scene cannot be read."""
    if not job.write:
        return []
    return _files(job, list(windows(describe(job.image).grid.shape, job.tiling)))


def _files(job: Cut, places: Sequence[tuple[Window, Window]]) -> list[Path]:
    kinds = [("images", job.image), *([("masks", job.mask)] if job.mask else [])]
    names = [f"tile_{window.col}_{window.row}" for window, _ in places]
    return [tile_path(job.output / folder, scene, name) for folder, scene in kinds for name in names]


def _same_grid(image: Path, grid: Grid, mask: Path) -> None:
    difference = describe(mask).grid.difference(grid)
    if difference:
        raise RasterError(f"{mask}: not on the grid of {image}: {difference}. Rasterise the labels on this scene.")


def _cut_tiles(
    job: Cut, image: RasterReader, places: Sequence[tuple[Window, Window]], zones: Zones | None
) -> list[dict[str, Any]]:
    """The next tile is read while one is written."""
    info, rows = image.info, []
    with RasterReader(job.mask) if job.mask else nullcontext() as mask, write_behind(write_raster) as write:
        made = prefetch(_pixels(image, mask, window, zones) for window, _ in places)
        with closing(made) as pixels:  # done before its readers close
            for (window, core), (data, labels) in zip(places, pixels, strict=True):
                spec = RasterSpec(
                    grid=info.grid.at(window), bands=info.bands, dtype="float32", nodata=info.fill, block=None
                )
                image_path = tile_path(job.output / "images", job.image, f"tile_{window.col}_{window.row}")
                write(image_path, data, spec)
                mask_path = None
                if mask is not None and job.mask is not None:
                    mask_path = tile_path(job.output / "masks", job.mask, image_path.stem)
                    write(mask_path, labels, _mask_spec(mask.info, window))
                row = _row(job, info, window, core, image_path, mask_path)
                rows.append(row | zone_columns(job.zones, zones, window) | scene_band_columns(job.scene_bands))
    return rows


def _pixels(
    image: RasterReader, mask: RasterReader | None, window: Window, zones: Zones | None
) -> tuple[NDArray[np.float32], NDArray[np.uint8] | None]:
    """Bands and labels of a window, NaN and 255 in missing zones."""
    data, labels = image.image(window), mask.labels(window) if mask else None
    if zones is None:
        return data, labels
    return zones.hide(data, window, np.nan), None if labels is None else zones.hide(labels, window, IGNORE)


def _mask_spec(mask: RasterInfo, window: Window) -> RasterSpec:
    return RasterSpec(
        grid=mask.grid.at(window), bands=mask.bands, dtype="uint8", nodata=IGNORE, block=None, compress=True
    )


def _window_row(
    job: Cut, image: SceneReader, zones: Zones | None, window: Window, core: Window
) -> dict[str, Any]:  # fmt: skip
    """The row of a tile that stays a window of its scene, with the missing zones that a file would have lost."""
    where = {
        "at_row": window.row, "at_col": window.col, "missing": list(job.missing), "bands": list(image.measured_bands),
    }  # fmt: skip
    if zones is not None:
        where |= {ZONES: zones.inside(window).ravel().tolist()}
    row = _row(job, image.info, window, core, job.image, job.mask)
    made = scene_band_columns(job.scene_bands, image.medians)
    return row | where | zone_columns(job.zones, zones, window) | made


def _row(job: Cut, info: RasterInfo, window: Window, core: Window, image: Path, mask: Path | None) -> dict[str, Any]:
    return {
        "key": f"{job.key}/tile_{window.col}_{window.row}", "scene": job.key, "area": job.area,
        "image": os.path.relpath(image, job.output), "mask": os.path.relpath(mask, job.output) if mask else None,
        **columns(window), **columns(core, "core_"),
        "scene_height": info.grid.shape[0], "scene_width": info.grid.shape[1],
        "scene_transform": list(info.grid.transform)[:6],
    }  # fmt: skip


def as_windows(tiles: gpd.GeoDataFrame, tiling: Tiling) -> gpd.GeoDataFrame:
    """The same ground by windows of tiles or whole scenes: a row per window, its core within that of its tile.

    Keys stay, so that what is counted on the windows of a tile is counted for the tile. No file is read.
    """
    rows = []
    for row in tiles.to_dict("records"):
        place = place_of(row)
        corner = Window(row["row"], row["col"], *place.shape)
        own = Window(row["core_row"], row["core_col"], row["core_height"], row["core_width"])
        for window, core in windows(place.shape, tiling):
            kept, there = core.within(corner).intersect(own), window.within(corner)
            if not kept.is_empty:
                at = window.within(place)
                rows.append(row | columns(there) | columns(kept, "core_") | {"at_row": at.row, "at_col": at.col})
    return gpd.GeoDataFrame(rows, geometry="geometry", crs=tiles.crs)


def columns(window: Window, prefix: str = "") -> dict[str, int]:
    """A window as columns of a table of tiles."""
    return {f"{prefix}{name}": value for name, value in asdict(window).items()}


def tile_path(folder: Path, scene: Path, name: str) -> Path:
    """``<folder>/<scene's stem>_tiles/tile_<col>_<row>.tif``."""
    return folder / f"{scene.stem}_tiles" / f"{name}.tif"
