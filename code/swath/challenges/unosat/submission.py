"""From predictions to a submission of shapefiles: dates merged by area, polygons, one archive, and its check."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from swath import config as configs
from swath.challenges.protocols import Submission, SubmissionWriter
from swath.config import InputPath, OutputPath, configclass
from swath.data.areas import AreaFields, AreaRule, images_by_area
from swath.data.pairing import AGGREGATED, MERGED
from swath.errors import CatalogError, ConfigError, VectorError
from swath.figures.pictures import beside, draw_outlines, write_picture
from swath.files import atomic_write, leads_outside, path_below, scratch_folder
from swath.geo.earth import area_km2
from swath.geo.mosaic import STRIP_PIXELS, Overlap, Rule
from swath.geo.polygons import PolygonRules
from swath.geo.raster import RasterReader, describe
from swath.geo.vector import read_polygons
from swath.geo.windows import strips
from swath.prediction.aggregate import AreaJob, area_jobs
from swath.prediction.maps import (
    group_by_area,
    home_of,
    raise_unknown_areas,
    scene_of_tile,
    soft_predictions,
    tiles_in,
)
from swath.prediction.merge_tiles import MergeJob, jobs_by_headers
from swath.prediction.polygonize import PolygonJob

POLYGONS = "polygons"


@configclass
class SubmissionConfig(AreaFields, SubmissionWriter):
    """Aggregate, polygonise and pack one shapefile per area."""

    input_path: InputPath
    """Folder of <area>/.../<scene>.tif, probabilities of class 1 or classes; or a folder that holds such folders, of which
    probabilities go first. Tiles, <scene>/tile_<col>_<row>.tif in the place of <scene>.tif, are merged first."""
    output_path: OutputPath | None = None
    """Folder for the shapefiles, submission.zip and map.png; None takes input_path."""
    rule: Rule = "mean"
    """How dates decide: mean probability, any, majority, or n-1 of the n dates that see the pixel."""
    threshold: float = 0.5
    """Probability from which on a pixel (or a date's vote) is class 1."""
    min_area: float = 0.0
    """Smallest polygon to keep, in squared units of the CRS (m2)."""
    names: dict[str, str] | None = None
    """Area to name of its shapefile; None takes the area's own."""
    overlap: Overlap = "last"
    """Which value holds where tiles overlap: last, max or mean."""
    scenes_path: InputPath | None = None
    """Folder of the scenes; map.png shows the polygons over them, and its scenes.parquet names their areas."""

    @property
    def output(self) -> Path:
        """The folder of the submission and of its ledger."""
        return configs.absolute(self.output_path) if self.output_path else home_of(configs.absolute(self.input_path))

    def stages(self) -> list[list[StageJob]]:
        """Tiles to scenes, where there are tiles; dates to areas; areas to polygons."""
        return submission_stages(self)

    def submit(self, results: Mapping[str, Any]) -> Submission:
        """Pack a shapefile per area into an archive, reopen and check them."""
        return submit_shapefiles(self, results)


# ---------------------------------------------------------------------------------------------------------- submission


@dataclass(frozen=True)
class Layer:
    """One shapefile of a submission and the class raster that it was made from."""

    shapefile: Path
    raster: Path
    polygons: int


@dataclass(frozen=True)
class StageJob:
    """A job of another step within a submission; its key says which step it is of."""

    stage: str
    name: str
    job: MergeJob | AreaJob | PolygonJob

    @property
    def key(self) -> str:
        return f"{self.stage}/{self.name}"

    @property
    def inputs(self) -> Sequence[Path]:
        return self.job.inputs

    @property
    def outputs(self) -> Sequence[Path]:
        return self.job.outputs

    @property
    def decided_by(self) -> Any:
        return self.job.decided_by if isinstance(self.job, MergeJob) else None

    def run(self) -> Any:
        """Do the other step's job."""
        return self.job.run()


def submission_stages(config: SubmissionConfig) -> list[list[StageJob]]:
    """The jobs that a submission is put together from; each needs only what changed to be done again."""
    output = config.output
    rule = config.area_rule
    merging, dates = _dates(config, configs.absolute(config.input_path), output, rule)
    stems = _stems(config.names or {}, list(dates))
    areas = area_jobs(dates, output / AGGREGATED, config.rule, config.threshold)
    rules = PolygonRules(min_area=config.min_area)
    cores = os.cpu_count() or 1
    polygons = []
    for job in areas:
        target = path_below(output, stems[job.area], suffix=".shp")
        polygons.append(PolygonJob(raster=job.classes, output=target, rules=rules, workers=cores))
    return [
        [StageJob(MERGED, job.key, job) for job in merging],
        [StageJob(AGGREGATED, job.area, job) for job in areas],
        [StageJob(POLYGONS, area.area, job) for area, job in zip(areas, polygons, strict=True)],
    ]


def submit_shapefiles(config: SubmissionConfig, results: Mapping[str, Any]) -> Submission:
    """Pack, reopen and check the shapefiles of all areas."""
    output = config.output
    rule = config.area_rule
    layers: dict[str, Layer] = {}
    for staged in config.stages()[-1]:
        assert isinstance(staged.job, PolygonJob)
        layers[staged.name] = Layer(staged.job.output, staged.job.raster, results[staged.key])
    archive = output / "submission.zip"
    archive.unlink(missing_ok=True)  # an older one must not stand beside newer shapefiles
    pack(list(layers.values()), archive)
    found = {area: check_layer(layer, archive, config.min_area) for area, layer in layers.items()}
    return Submission(
        archive=archive,
        metrics={f"{name}_{area}": value for area, values in found.items() for name, value in values.items()},
        lines=[
            f"{layers[area].shapefile}: {values['polygons']:.0f} polygons{_ground(values)}, checked"
            for area, values in found.items()
        ],
        picture=_picture(layers, rule, output),
        written=[*_files(layers, output), archive],
    )


def _ground(values: Mapping[str, float]) -> str:
    if "area_km2" not in values:
        return ""
    area = values["area_km2"]
    return f", {area:.2f} km2" if area >= 1 or area == 0 else f", {area:.2g} km2"


def _files(layers: Mapping[str, Layer], output: Path) -> list[Path]:
    """What a submission leaves besides its archive: shapefiles and the rasters that they were made from."""
    shapefiles = [layer.shapefile for layer in layers.values() if layer.polygons]
    rasters = [path for folder in (AGGREGATED, MERGED) for path in sorted((output / folder).rglob("*.tif"))]
    picture = output / "map.png"
    return [*shapefiles, *rasters, *([picture] if picture.is_file() else [])]


def _dates(
    config: SubmissionConfig, source: Path, output: Path, rule: AreaRule
) -> tuple[list[MergeJob], dict[str, list[Path]]]:
    """Area to the maps of its dates, after the jobs that merge tiles to scenes in `output`/merged, if these are tiles."""
    folder, rasters = soft_predictions(source)
    if not tiles_in(rasters, folder):
        return [], group_by_area(rasters, folder, rule)
    scenes = {scene_of_tile(tile) for tile in rasters}
    bare = sorted(key for key, place in scenes if place.parent == folder)
    if bare and not rule.tells(sorted(scenes), folder):
        raise_unknown_areas(bare, folder)
    jobs = jobs_by_headers(rasters, folder, output / MERGED, config.overlap, rule)
    return jobs, group_by_area([job.output for job in jobs], output / MERGED, AreaRule())


def _stems(names: Mapping[str, str], areas: Sequence[str]) -> dict[str, str]:
    """Area to the name of its shapefile. Raises CatalogError for an area that is not there, ConfigError for a name of two,
    and for one that is no name of a file: the archive has no folders.
    """
    unknown = [area for area in names if area not in areas]
    if unknown:
        raise CatalogError(f"names: no predictions of {', '.join(unknown)}. There are {', '.join(areas)}.")
    wrong = [f"{area}: {name!r}" for area, name in names.items() if leads_outside(name) or "/" in name]
    if wrong:
        raise ConfigError(f"names: {wrong[0]} is no name of a shapefile. Give one without folders, such as {areas[0]}.")
    stems = {area: names.get(area, area) for area in areas}
    twice = sorted({stem for stem in stems.values() if list(stems.values()).count(stem) > 1})
    if twice:
        both = ", ".join(area for area, stem in stems.items() if stem == twice[0])
        raise ConfigError(f"names: {both} would all be {twice[0]}.shp. Give each area a name of its own.")
    return stems


def _picture(layers: Mapping[str, Layer], rule: AreaRule, output: Path) -> NDArray[np.uint8] | None:
    """One picture of all areas, also written as map.png: the polygons over their scenes."""
    images = images_by_area(rule)
    drawn = {area: area_picture(images.get(area, ()), layer) for area, layer in layers.items()}
    found = {f"{a}: {layers[a].polygons} polygons": p for a, p in drawn.items() if p is not None}
    if not found:
        return None
    image = beside(found)
    write_picture(output / "map.png", image)
    return image


def pack(layers: Sequence[Layer], archive: Path) -> None:
    """Put all parts of the shapefiles into one zip; whole or not at all."""
    with (
        atomic_write(archive, VectorError) as part,
        zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as file,
    ):
        for layer in layers:
            for suffix in (".cpg", ".dbf", ".prj", ".shp", ".shx"):
                path = layer.shapefile.with_name(
                    f"{layer.shapefile.stem}{suffix}"
                )  # no pattern: names may hold * and [
                if path.is_file():
                    file.write(path, path.name)


def check_layer(layer: Layer, archive: Path, min_area: float) -> dict[str, float]:
    """Reopen a packed shapefile and compare it with its raster; return polygons and, where the raster has a CRS, km2.

    Raises VectorError when a part is missing, the CRS or `id` is wrong, a geometry is invalid, or the polygons do not
    cover exactly the class-1 pixels (unless small ones were left out).
    """
    if layer.polygons == 0:
        return {"polygons": 0.0, "area_km2": 0.0}
    info = describe(layer.raster)
    with scratch_folder() as folder:
        with zipfile.ZipFile(archive) as packed:
            packed.extractall(folder)
        frame = read_polygons(Path(folder) / layer.shapefile.name, "id", need_crs=info.grid.crs is not None)
    expected = _pixels_of_class_one(layer.raster) * info.grid.pixel_area
    covered = float(shapely.area(frame.geometry.to_numpy()).sum())
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
    ground = area_km2(frame.geometry.to_numpy(), info.grid.crs)
    return {"polygons": float(len(frame))} | ({} if ground is None else {"area_km2": ground})


def _pixels_of_class_one(raster: Path) -> int:
    """Counted strip by strip: a map of an area may be larger than memory."""
    count = 0
    with RasterReader(raster) as reader:
        for strip in strips(reader.info.grid.shape, STRIP_PIXELS):
            count += int((reader.labels(strip)[0] == 1).sum())
    return count


def area_picture(images: Sequence[Path], layer: Layer) -> NDArray[np.uint8] | None:
    """An area's first image with the outlines of its polygons, read back from the shapefile; None without an image."""
    same_grid = [path for path in images if describe(path).grid.crs == describe(layer.raster).grid.crs]
    if not same_grid:
        return None
    from swath.prediction.previews import quick_look  # brings PyTorch, which no other step here needs

    picture = quick_look({"image": same_grid[0]}, None)
    grid = describe(same_grid[0]).grid
    scale = picture.shape[1] / grid.shape[1]
    if layer.polygons:
        draw_outlines(picture, read_polygons(layer.shapefile, need_crs=grid.crs is not None), grid, scale)
    return picture
