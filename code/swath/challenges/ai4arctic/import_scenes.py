"""Import of AI4Arctic scenes: NetCDF of either product to a raster of bands, a raster of charts, and a row of metadata."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np
from affine import Affine
from numpy.typing import NDArray

from swath import config as configs
from swath.challenges.ai4arctic.charts import CHARTS, charts_of, polygon_classes
from swath.challenges.ai4arctic.product import CHANNELS, OFFICIAL_PIXEL, RAW_PIXEL, SAR, Product, SceneName, parse_name
from swath.challenges.protocols import SceneImport
from swath.config import InputPath, OutputPath, configclass
from swath.config.json_files import read_json
from swath.data.tables import scene_row
from swath.errors import CatalogError, ConfigError, RasterError
from swath.geo.grid import Grid, Window
from swath.geo.layout import RasterSpec
from swath.geo.netcdf import NetcdfReader, find_netcdf
from swath.geo.raster_writer import RasterWriter, write_raster
from swath.geo.tie_points import nearest_cells
from swath.geo.windows import strips
from swath.labels import IGNORE

POLYGONS, CODES = "polygon_icechart", "polygon_codes"
STRIP_PIXELS = 2_000_000


@configclass
class ImportIceConfig(SceneImport):
    """NetCDF scenes of the AI4Arctic challenge, raw or ready-to-train, to scenes and labels."""

    input_path: InputPath
    """Folder of .nc files of either product; folders below it are left alone."""
    output_path: OutputPath
    """Folder for scenes.parquet, images/<region>/<scene>.tif and, where there are charts, labels/<region>/<scene>.tif."""
    channels: tuple[str, ...] = CHANNELS
    """Bands of the scenes in this order: variables of the files, or latitude, longitude, month_sin, month_cos, day_sin,
    day_cos."""
    factor: int = 2
    """Pixels of the scenes in units of 40 m, 2 to 10: means over that area; charts take the pixel in its middle."""
    upsampling: Literal["nearest", "bilinear"] = "bilinear"
    """How cells of 2 km (AMSR2, ERA5) come onto the pixels: nearest or bilinear."""
    labels_path: InputPath | None = None
    """Folder of .nc files with the charts, when the scenes do not hold them; files are matched by time and provider."""
    names_path: InputPath | None = None
    """JSON list of the raw product's file names, for ready-to-train files that do not say themselves which they are."""
    ignore_nodata: bool = True
    """Label pixels without a SAR measurement as 255 = ignore."""

    def __post_init__(self) -> None:
        if not 2 <= self.factor <= 10:
            raise ConfigError(f"factor={self.factor}: must be 2 (pixels of 80 m) to 10 (400 m)")
        twice = sorted({c for c in self.channels if self.channels.count(c) > 1})
        if twice or not self.channels:
            raise ConfigError(f"channels: {', '.join(twice) or 'none'}: name each band once, and one at least")

    def scenes_to_import(self, output: Path) -> list[IceJob]:
        """A job per scene of `input_path`."""
        return ice_jobs(self, output)


@dataclass(frozen=True, kw_only=True)
class IceJob:
    """One scene to import: its file, what its name tells, the file with its charts if any, and where it goes."""

    name: SceneName
    source: Path
    charts: Path | None
    output: Path
    config: ImportIceConfig

    @property
    def key(self) -> str:
        return self.name.key

    @property
    def area(self) -> str:
        """The region, or who drew the chart where the region is not known."""
        return self.name.region or self.name.provider

    @property
    def image(self) -> Path:
        return self.output / "images" / self.area / f"{self.key}.tif"

    @property
    def labels(self) -> Path:
        return self.output / "labels" / self.area / f"{self.key}.tif"

    @property
    def inputs(self) -> list[Path]:
        return [self.source, *([self.charts] if self.charts else [])]

    @property
    def outputs(self) -> list[Path]:
        return [self.image, *([self.labels] if self.charts else [])]

    @property
    def decided_by(self) -> Any:
        """What the name of the file says."""
        return [self.key, self.area]

    def run(self) -> dict[str, Any]:
        """Import the scene; return its row."""
        return import_scene(self)


# ---------------------------------------------------------------------------------------------------------- find files


def ice_jobs(config: ImportIceConfig, output: Path) -> list[IceJob]:
    """A job per file of a scene. Raises CatalogError that lists names that mean nothing, and scenes without charts."""
    source = configs.absolute(config.input_path)
    scenes = _by_key(source)
    if not scenes:
        raise CatalogError(f"{source}: no scene found (no .nc file). Set input_path to the folder of the scenes.")
    charts = _by_key(configs.absolute(config.labels_path)) if config.labels_path else {}
    without = sorted(set(scenes) - set(charts)) if config.labels_path else []
    if without:
        raise CatalogError(f"{config.labels_path}: no charts of {_some(without)}. Add them, or leave these scenes out.")
    listed = _listed(config.names_path)
    jobs = []
    for key, (path, name) in sorted(scenes.items()):
        with NetcdfReader(path) as reader:
            told = _told_by(reader, name) or listed.get(key)
            own = path if {*CHARTS} <= {*reader.names} or POLYGONS in reader.names else None
        full = replace(name, mission=told.mission, end=told.end, region=told.region) if told else name
        where = charts[key][0] if charts else own
        jobs.append(IceJob(name=full, source=path, charts=where, output=output, config=config))
    return jobs


def _by_key(folder: Path) -> dict[str, tuple[Path, SceneName]]:
    """Files of a folder by scene. Raises CatalogError that lists bad names, or files of one scene."""
    named = {path: parse_name(path.name) for path in find_netcdf(folder)}
    bad = [path.name for path, name in named.items() if name is None]
    if bad:
        raise CatalogError(
            f"{folder}: names that tell neither time nor chart provider: {_some(bad)}. Expected "
            "YYYYmmddTHHMMSS_<cis|dmi>_prep.nc or S1A_EW_GRDM_1SDH_..._icechart_<cis|dmi>_....nc: rename or remove them."
        )
    found: dict[str, tuple[Path, SceneName]] = {}
    for path, name in named.items():
        assert name is not None
        if name.key in found:
            raise CatalogError(f"{path} and {found[name.key][0]} are both {name.key}. Keep one of them in {folder}.")
        found[name.key] = path, name
    return found


def _told_by(reader: NetcdfReader, name: SceneName) -> SceneName | None:
    """The long name: the file's own, or what a ready-to-train file calls its origin."""
    told = parse_name(str(reader.attributes.get("original_id", "")))
    return name if name.mission else told if told and told.key == name.key else None


def _listed(names_path: str | None) -> dict[str, SceneName]:
    if names_path is None:
        return {}
    path = configs.absolute(names_path)
    remedy = 'Give a JSON list of file names, such as ["S1A_EW_GRDM_1SDH_....nc"].'
    names = read_json(path, list[str], CatalogError, remedy)
    parsed = {name: parse_name(name) for name in names}
    bad = [name for name, found in parsed.items() if found is None]
    if bad:
        raise CatalogError(f"{path}: names that tell neither time nor chart provider: {_some(bad)}. Correct the list.")
    return {found.key: found for found in parsed.values() if found}


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


# -------------------------------------------------------------------------------------------------------------- import


def import_scene(job: IceJob) -> dict[str, Any]:
    """Write the bands and the charts of one scene; return its row of scenes.parquet.

    A scene without CRS counts metres from the first pixel's corner, rows downwards; its footprint is that of the tie
    points, in longitude and latitude. Raises RasterError that names file and variable.
    """
    config = job.config
    with NetcdfReader(job.source) as reader:
        product = Product(reader, config.factor, job.name, config.upsampling)
        product.require(config.channels)
        grid = swath_grid(product.shape, config.factor)
        missing_HW = _write_bands(job, product, grid)
        official, footprint = product.official_shape, product.footprint
    if job.charts:
        labels_3HW = _charts(job.charts, grid.shape, config.factor)
        if config.ignore_nodata:
            labels_3HW[:, missing_HW] = IGNORE
        spec = RasterSpec(grid=grid, bands=tuple(CHARTS), dtype="uint8", nodata=IGNORE, compress=True)
        write_raster(job.labels, labels_3HW, spec)
    labels = job.labels if job.charts else None
    row = scene_row(job.image, job.output, job.area, labels=labels) | job.name.columns
    return row | {
        "date": f"{job.name.start:%Y%m%dT%H%M%S}", "factor": config.factor, "labelled": job.charts is not None,
        "official_height": official[0], "official_width": official[1], "measured": float(1 - missing_HW.mean()),
        "geometry": footprint.wkt, "geometry_crs": "EPSG:4326",
    }  # fmt: skip


def swath_grid(shape: tuple[int, int], factor: int) -> Grid:
    """The grid of a scene without a place on earth: metres along and across the swath, from the first pixel's corner."""
    return Grid(None, Affine.scale(factor * RAW_PIXEL, -factor * RAW_PIXEL), shape)


def _write_bands(job: IceJob, product: Product, grid: Grid) -> NDArray[np.bool_]:
    """Write the raster of bands strip by strip; return where the first SAR band (H, W) measured nothing."""
    channels = job.config.channels
    spec = RasterSpec(grid=grid, bands=channels, dtype="float32", nodata=math.nan, compress=True)
    missing_HW = np.zeros(grid.shape, bool)
    with RasterWriter(job.image, spec) as writer:
        for strip in _even_strips(grid.shape):
            bands = [product.rows(channel, strip) for channel in channels]
            writer.write(np.stack(bands), strip)
            sar = bands[channels.index(SAR[0])] if SAR[0] in channels else product.rows(SAR[0], strip)
            missing_HW[strip.slices] = np.isnan(sar)
    return missing_HW


def _even_strips(shape: tuple[int, int]) -> Sequence[Window]:
    """Strips that begin at even rows: of any factor, these begin with a pixel of the file."""
    height = max(2, next(strips(shape, STRIP_PIXELS)).height // 2 * 2)
    return [Window(row, 0, min(height, shape[0] - row), shape[1]) for row in range(0, shape[0], height)]


def _charts(path: Path, shape: tuple[int, int], factor: int) -> NDArray[np.uint8]:
    """uint8 (3, H, W): SIC, SOD, FLOE of the pixel that holds the middle of each larger one."""
    with NetcdfReader(path) as reader:
        raw = POLYGONS in reader.names
        first = POLYGONS if raw else "SIC"
        ratio = Fraction(factor * RAW_PIXEL, RAW_PIXEL if raw else OFFICIAL_PIXEL)
        source = reader.shape(first)
        if any(abs(n * ratio - old) >= 2 * ratio for n, old in zip(shape, source, strict=True)):
            raise RasterError(
                f"{path}: variable {first!r} is {source}, which does not fit scenes of {shape} at {factor} x 40 m."
            )
        rows, cols = (nearest_cells(0, n, 1 / ratio, old) for n, old in zip(shape, source, strict=True))
        if raw:
            classes = polygon_classes(reader.texts(CODES), f"{path}, variable {CODES!r}")
            return charts_of(reader.read(first)[rows[:, None], cols], classes)
        return np.stack([_chart(reader, chart)[rows[:, None], cols] for chart in CHARTS])


def _chart(reader: NetcdfReader, chart: str) -> NDArray[np.uint8]:
    values = reader.read(chart)
    whole = np.where(np.isfinite(values), values, IGNORE)
    wrong = [value for value in np.unique(whole).tolist() if value not in {*range(CHARTS[chart]), IGNORE}]
    if wrong:
        raise RasterError(
            f"{reader.path}: variable {chart!r} holds {wrong[:5]}; classes are 0 to {CHARTS[chart] - 1}, and 255 is no label."
        )
    return whole.astype(np.uint8)
