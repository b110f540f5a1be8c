"""From predictions to a submission of shapefiles: dates merged by area, polygons, one archive, and its check."""

from __future__ import annotations

import math
import os
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import geopandas as gpd
import numpy as np
from numpy.typing import NDArray

from swath import config as configs
from swath.challenges.steps import Submission, SubmissionWriter
from swath.config import StepConfig, configclass
from swath.data.catalog import TILE_COLUMNS, TILES, area_of, by_key, read_table
from swath.errors import CatalogError, VectorError
from swath.geo.grid import Grid, Window
from swath.geo.mosaic import Overlap, Rule, aggregate, merge_tiles
from swath.geo.polygons import PolygonRules, polygonize_raster
from swath.geo.raster import RasterReader, describe, find_rasters, part_of
from swath.geo.vector import read_polygons, write_vectors


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


@configclass
class AggregateConfig(StepConfig):
    """Predictions of several dates to one map per area."""

    input_path: str
    """Folder of <area>/<scene>.tif: probabilities of class 1, or classes."""
    output_path: str
    """Folder for classes/<area>.tif and probabilities/<area>.tif."""
    rule: Rule = "mean"
    """How dates decide: mean probability, any, majority, or n-1 of the n dates that see the pixel."""
    threshold: float = 0.5
    """Probability from which on a pixel (or a date's vote) is class 1."""


@configclass
class PolygonizeConfig(StepConfig):
    """Class rasters to polygons."""

    input_path: str
    """Folder of class rasters, or one of them."""
    output_path: str
    """Folder for <name>.<format>."""
    task: str | None = None
    """Band of the rasters; None takes the first."""
    classes: tuple[int, ...] = (1,)
    """Classes that become polygons; their number is the attribute `id`."""
    min_area: float = 0.0
    """Smallest polygon to keep, in squared units of the CRS (m2); needs a projected CRS."""
    simplify: float | None = None
    """Cut corners up to about this size, in units of the CRS (m), after small polygons are dropped; shared borders stay
    shared. None keeps the pixels' outlines."""
    format: Literal["shp", "gpkg", "parquet", "fgb", "geojson"] = "shp"
    """File format; parquet is GeoParquet. A shapefile holds at most 2.1 GB."""


@configclass
class SubmissionConfig(SubmissionWriter):
    """Aggregate, polygonise and pack one shapefile per area."""

    input_path: str
    """Folder of <area>/<scene>.tif: probabilities of class 1, or classes."""
    output_path: str
    """Folder for the shapefiles, submission.zip and map.png."""
    rule: Rule = "mean"
    """How dates decide: mean probability, any, majority, or n-1 of the n dates that see the pixel."""
    threshold: float = 0.5
    """Probability from which on a pixel (or a date's vote) is class 1."""
    min_area: float = 0.0
    """Smallest polygon to keep, in squared units of the CRS (m2)."""
    names: dict[str, str] | None = None
    """Area to name of its shapefile; None takes the area's own."""
    scenes_path: str | None = None
    """Folder of the scenes as <area>/...tif; map.png shows the polygons over them."""

    def submit(self) -> Submission:
        """Write a shapefile per area and their archive, reopen and check them."""
        return submit_shapefiles(self)


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


# --------------------------------------------------------------------------------------------------------------- dates


@dataclass(frozen=True, kw_only=True)
class AreaJob:
    """The dates of one area and how they decide."""

    area: str
    dates: Sequence[Path]
    classes: Path
    probability: Path
    rule: Rule
    threshold: float


def area_jobs(source: Path, output: Path, rule: Rule, threshold: float) -> list[AreaJob]:
    """A job per area folder below `source`. Raises CatalogError when there is no raster."""
    dates: dict[str, list[Path]] = {}
    for path in find_rasters(source):
        dates.setdefault(area_of(path, source), []).append(path)
    if not dates:
        raise CatalogError(
            f"{source}: no predictions found. Set input_path to a folder of <area>/<scene>.tif, e.g. .../probabilities."
        )
    return [
        AreaJob(
            area=area, dates=paths, classes=output / "classes" / f"{area}.tif",
            probability=output / "probabilities" / f"{area}.tif", rule=rule, threshold=threshold,
        )
        for area, paths in sorted(dates.items())
    ]  # fmt: skip


def aggregate_area(job: AreaJob) -> str:
    """Write the class raster and the mean probability of one area."""
    aggregate(job.dates, job.classes, job.probability, job.rule, job.threshold)
    return str(job.classes)


# ------------------------------------------------------------------------------------------------------------ polygons


@dataclass(frozen=True, kw_only=True)
class PolygonJob:
    """One class raster to polygonise, with the threads that it may take."""

    raster: Path
    output: Path
    rules: PolygonRules
    workers: int = 1
    task: str | None = None


def polygonize_job(job: PolygonJob) -> int:
    """Write the polygons of one class raster; return their number."""
    frame = polygonize_raster(job.raster, job.rules, job.workers, job.task)
    write_vectors(job.output, frame)
    return len(frame)


# ---------------------------------------------------------------------------------------------------------- submission


@dataclass(frozen=True)
class Layer:
    """One shapefile of a submission and the class raster that it was made from."""

    shapefile: Path
    raster: Path
    polygons: int


def submit_shapefiles(config: SubmissionConfig) -> Submission:
    """Merge dates by area, polygonise, pack, reopen and check."""
    source, output = configs.absolute(config.input_path), configs.absolute(config.output_path)
    layers: dict[str, Layer] = {}
    for job in area_jobs(source, output / "aggregated", config.rule, config.threshold):
        aggregate_area(job)
        target = output / f"{(config.names or {}).get(job.area, job.area)}.shp"
        rules = PolygonRules(min_area=config.min_area)
        polygons = PolygonJob(raster=job.classes, output=target, rules=rules, workers=os.cpu_count() or 1)
        layers[job.area] = Layer(target, job.classes, polygonize_job(polygons))
    archive = output / "submission.zip"
    archive.unlink(missing_ok=True)  # an older one must not stand beside newer shapefiles
    pack(list(layers.values()), archive)
    found = {area: check_layer(layer, archive, config.min_area) for area, layer in layers.items()}
    return Submission(
        archive=archive,
        metrics={f"{name}_{area}": value for area, values in found.items() for name, value in values.items()},
        lines=[
            f"{layers[area].shapefile}: {values['polygons']:.0f} polygons, {values['area_km2']:.2f} km2, checked"
            for area, values in found.items()
        ],
        picture=_picture(layers, config.scenes_path, output),
    )


def _picture(layers: Mapping[str, Layer], scenes_path: str | None, output: Path) -> NDArray[np.uint8] | None:
    """One picture of all areas, also written as map.png: the polygons over their scenes."""
    if not scenes_path:
        return None
    scenes = configs.absolute(scenes_path)
    drawn = {a: area_picture(a, layer, scenes) for a, layer in layers.items()}
    found = {f"{a}: {layers[a].polygons} polygons": p for a, p in drawn.items() if p is not None}
    if not found:
        return None
    image = beside(found)
    write_picture(output / "map.png", image)
    return image


def pack(layers: Sequence[Layer], archive: Path) -> None:
    """Put all parts of the shapefiles into one zip; whole or not at all."""
    part = part_of(archive)
    try:
        with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as file:
            for layer in layers:
                for path in sorted(layer.shapefile.parent.glob(f"{layer.shapefile.stem}.*")):
                    if path.suffix in (".shp", ".shx", ".dbf", ".prj", ".cpg"):
                        file.write(path, path.name)
        os.replace(part, archive)
    except OSError as error:
        raise VectorError(
            f"{archive}: cannot be written ({error}). Free disk space and start the same command again."
        ) from error
    finally:
        part.unlink(missing_ok=True)


def check_layer(layer: Layer, archive: Path, min_area: float) -> dict[str, float]:
    """Reopen a packed shapefile and compare it with its raster; return polygons and area in km2 (of metric CRSs).

    Raises VectorError when a part is missing, the CRS or `id` is wrong, a geometry is invalid, or the polygons do not
    cover exactly the class-1 pixels (unless small ones were left out).
    """
    if layer.polygons == 0:
        return {"polygons": 0, "area_km2": 0.0}
    info = describe(layer.raster)
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(archive) as packed:
            packed.extractall(folder)
        frame = read_polygons(Path(folder) / layer.shapefile.name, "id", need_crs=info.grid.crs is not None)
    with RasterReader(layer.raster) as reader:
        pixels = int((reader.labels()[0] == 1).sum())
    expected = pixels * math.prod(info.grid.resolution)
    covered = float(frame.area.sum())
    faults = [
        text
        for text, bad in (
            (f"{len(frame)} polygons instead of {layer.polygons}", len(frame) != layer.polygons),
            (
                "another CRS than its raster",
                info.grid.crs is not None
                and not frame.crs.is_exact_same(info.grid.crs.to_wkt())
                and frame.crs.to_epsg() != info.grid.crs.to_epsg(),
            ),
            ("id other than 1", not (frame["id"] == 1).all()),
            ("invalid geometries", not frame.is_valid.all()),
            (
                f"area {covered:.0f} instead of {expected:.0f}",
                min_area == 0 and abs(covered - expected) > 1e-6 * max(expected, 1),
            ),
        )
        if bad
    ]
    if faults:
        archive.unlink()
        raise VectorError(f"{archive}: {layer.shapefile.name} has {'; '.join(faults)}. Run to_submission again.")
    return {"polygons": float(len(frame)), "area_km2": covered / 1e6}


def area_picture(area: str, layer: Layer, scenes: Path) -> NDArray[np.uint8] | None:
    """An area's first scene with the outlines of its polygons, read back from the shapefile; None without a scene."""
    found = [p for p in find_rasters(scenes) if area_of(p, scenes) == area]
    same_grid = [p for p in found if describe(p).grid.crs == describe(layer.raster).grid.crs]
    if not same_grid:
        return None
    from swath.engine.inference import quick_look  # brings PyTorch, which no other step here needs

    picture = quick_look(same_grid[0], None)
    grid = describe(same_grid[0]).grid
    scale = picture.shape[1] / grid.shape[1]
    if layer.polygons:
        draw_outlines(picture, read_polygons(layer.shapefile, need_crs=grid.crs is not None), grid, scale)
    return picture


def draw_outlines(picture: NDArray[np.uint8], frame: gpd.GeoDataFrame, grid: Grid, scale: float) -> None:
    """Draw the rings of polygons onto a picture of `grid` at `scale` picture pixels per pixel, in place."""
    for geometry in frame.geometry:
        for part in getattr(geometry, "geoms", [geometry]):
            for ring in (part.exterior, *part.interiors):
                x, y = np.asarray(ring.coords).T[:2]
                col, row = ~grid.transform @ (x, y)
                points = np.stack([col, row], axis=1) * scale
                cv2.polylines(picture, [np.rint(points).astype(np.int32)], True, (235, 30, 40), 1, cv2.LINE_AA)


def beside(pictures: Mapping[str, NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Pictures in a row on white, each under its name."""
    height = max(p.shape[0] for p in pictures.values()) + 26
    cells = []
    for name, picture in pictures.items():
        cell = np.full((height, picture.shape[1] + 8, 3), 255, np.uint8)
        cell[24 : 24 + picture.shape[0], 4 : 4 + picture.shape[1]] = picture
        cv2.putText(cell, name, (6, 17), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
        cells.append(cell)
    return np.concatenate(cells, axis=1)


def write_picture(path: Path, image_HWC: NDArray[np.uint8]) -> None:
    """Write an RGB picture; whole or not at all."""
    part = part_of(path)
    cv2.imwrite(str(part), image_HWC[..., ::-1])
    os.replace(part, path)
