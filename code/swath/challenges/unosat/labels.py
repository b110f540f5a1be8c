"""Label polygons of the UNOSAT layout to masks, one per acquisition."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np

from swath.challenges.unosat.scenes import Pair, find_pairs, pair_zones, require_same_grid, zone_report
from swath.config import InputPath, OutputPath, absolute, configclass
from swath.data.naming import area_of, listing
from swath.data.tables import LABELS, label_row, write_table
from swath.errors import VectorError
from swath.geo.layout import RasterSpec
from swath.geo.raster import RasterReader
from swath.geo.raster_writer import RasterWriter
from swath.geo.rasterize import burn_strips
from swath.geo.vector import find_vectors, read_polygons, reprojected
from swath.geo.windows import strips
from swath.geo.zones import MissingZones, zones_from
from swath.labels import IGNORE
from swath.notices import leave_out
from swath.steps.config import Step
from swath.steps.job import Report

STRIP_PIXELS = 2_000_000


@configclass
class RasterizeConfig(Step):
    """Label polygons to masks on each scene's grid."""

    step_name = "rasterize"

    input_path: InputPath
    """Folder of areas, each with a label file (.shp, .gpkg, .fgb, .geojson) beside or above its scenes."""
    output_path: OutputPath
    """Folder for <area>/<name of the VH raster>.tif."""
    labels_path: InputPath | None = None
    """Folder of label files named by area, when they do not lie in input_path."""
    attribute: str = "DN"
    """Attribute of the polygons whose value is burnt; 255, where it is the only one beside 0, becomes class 1."""
    layer: str | None = None
    """Layer of the label files that holds the polygons; None takes the only one."""
    all_touched: bool = True
    """Burn every pixel that a polygon touches, not only those whose centre lies inside."""
    ignore_nodata: bool = True
    """Label pixels without a measurement in VH or VV as 255 = ignore."""
    missing_values: tuple[float, ...] = ()
    """The same values as for generate_3b_images."""
    missing_zones: MissingZones | None = MissingZones()
    """The same zones as for generate_3b_images: 0 in VH and VV on 64 connected pixels or more is no measurement."""
    task: str = "water"
    """Name of the task that the mask's one band is for."""
    area_pattern: str | None = None
    """The same as for generate_3b_images."""

    def jobs(self) -> list[LabelJob]:
        """A job per acquisition. Raises CatalogError for pairs, VectorError for labels that are missing."""
        source = absolute(self.input_path)
        pairs = find_pairs(source, self.output, "vh", self.missing_values, self.area_pattern, self.missing_zones)
        files = absolute(self.labels_path) if self.labels_path else source
        return [label_job(path, pair, self) for path, pair in find_labels(pairs, files, bool(self.labels_path))]

    def finish(self, results: Mapping[str, Any]) -> Report:
        """Write labels.parquet, which says of which scene each mask is; say where zones are missing."""
        rows = [label_row(self.output / made["mask"], self.output, key, made["area"]) for key, made in results.items()]
        write_table(self.output / LABELS, rows)
        report = zone_report(results, self.missing_zones if self.ignore_nodata else None)
        return replace(report, written=[self.output / LABELS])


@dataclass(frozen=True, kw_only=True)
class LabelJob:
    """One mask to make: its label file, the acquisition it is for, and how to burn."""

    labels: Path
    pair: Pair
    attribute: str
    layer: str | None
    all_touched: bool
    ignore_nodata: bool
    task: str

    @property
    def key(self) -> str:
        return self.pair.key

    @property
    def inputs(self) -> tuple[Path, Path, Path]:
        return self.labels, self.pair.vh, self.pair.vv

    @property
    def outputs(self) -> tuple[Path]:
        return (self.pair.output,)

    @property
    def decided_by(self) -> Any:
        """The area that the folders say."""
        return self.pair.area

    def run(self) -> dict[str, Any]:
        """Write the mask."""
        return write_mask(self)


def label_job(labels: Path, pair: Pair, config: RasterizeConfig) -> LabelJob:
    """The job of one mask under a step's config."""
    return LabelJob(
        labels=labels, pair=pair, attribute=config.attribute, layer=config.layer, all_touched=config.all_touched,
        ignore_nodata=config.ignore_nodata, task=config.task,
    )  # fmt: skip


def find_labels(pairs: Sequence[Pair], root: Path, apart: bool = False) -> Iterator[tuple[Path, Pair]]:
    """(label file, acquisition) for every acquisition: the label file in its folder or the nearest one above.

    With `apart`, label files lie elsewhere and belong to the area that they, or their folder, are named by. Raises
    VectorError when there is no label file, or when an acquisition has none or several.
    """
    files = find_vectors(root)
    if not files:
        raise VectorError(
            f"{root}: no label polygons found (.shp, .gpkg, .fgb, .geojson). Set input_path to the labelled areas."
        )
    used: set[Path] = set()
    for pair in pairs:
        found = _labels_apart(files, root, pair) if apart else _nearest_labels(files, pair)
        if len(found) != 1:
            names = ", ".join(str(f) for f in found) or "none"
            raise VectorError(
                f"{pair.vh}: needs one label file for its area {pair.area}, found {names} in {root}. "
                "Keep exactly one beside or above the scenes, or point labels_path at files named by area."
            )
        used.add(found[0])
        yield found[0], pair
    others = sorted(path.name for path in set(files) - used)
    leave_out(len(others), "label files", root, f"no acquisition has them as its nearest ({listing(others)})")


def _nearest_labels(files: Sequence[Path], pair: Pair) -> list[Path]:
    above = [f for f in files if pair.vh.is_relative_to(f.parent)]
    return [f for f in above if len(f.parts) == max(len(g.parts) for g in above)]


def _labels_apart(files: Sequence[Path], root: Path, pair: Pair) -> list[Path]:
    return [f for f in files if pair.area in (f.stem, area_of(f, root))]


def write_mask(job: LabelJob) -> dict[str, Any]:
    """Write the uint8 mask of one acquisition: 0, 1 and, where there is no measurement, 255; missing zones have none.

    Attribute values 0 and 255 mean class 0 and 1, others stand for themselves. Raises VectorError or RasterError.
    """
    vh, _ = require_same_grid(job.pair)
    polygons = reprojected(read_polygons(job.labels, job.attribute, layer=job.layer), vh.grid, job.labels)
    values = _class_values(polygons, job)
    shapes = list(polygons.geometry)
    spec = RasterSpec(grid=vh.grid, bands=(job.task,), dtype="uint8", nodata=IGNORE, compress=True)
    with (
        RasterReader(job.pair.vh, job.pair.missing) as vh_reader,
        RasterReader(job.pair.vv, job.pair.missing) as vv_reader,
        RasterWriter(job.pair.output, spec) as writer,
    ):
        zones = pair_zones(job.pair, vh_reader, vv_reader) if job.ignore_nodata else zones_from([])
        for burnt, mask in burn_strips(shapes, values, vh.grid, job.all_touched):
            for part in strips(burnt.shape, STRIP_PIXELS):
                window, labels = part.within(burnt), mask[part.slices]
                if job.ignore_nodata:
                    labels[np.isnan(vh_reader.image(window)[0]) | np.isnan(vv_reader.image(window)[0])] = IGNORE
                writer.write(zones.hide(labels[None], window, IGNORE), window)
    about = {"area": job.pair.area, "mask": job.pair.name, "polygons": len(shapes)}
    return about | {"zones": zones.count}


def _class_values(polygons: gpd.GeoDataFrame, job: LabelJob) -> list[int]:
    raw = polygons[job.attribute].to_numpy()
    try:
        values = np.asarray(raw, dtype=np.float64)
    except (TypeError, ValueError):
        values = np.full(len(raw), np.nan)
    if not (np.isfinite(values) & (values >= 0) & (values <= 255) & (values == np.round(values))).all():
        raise VectorError(
            f"{job.labels}: attribute {job.attribute!r} must hold whole numbers from 0 to 255, found {list(raw[:3])}. "
            "Set `attribute` to the one that holds the class."
        )
    classes = sorted({int(value) for value in values})
    if 255 in classes and set(classes) - {0, 255}:
        raise VectorError(
            f"{job.labels}: attribute {job.attribute!r} holds {', '.join(map(str, classes))}. 255 stands for class 1 where it is "
            "the only one beside 0; here it would become one class with others. Give it a number of its own, 1 to 254."
        )
    return [1 if value == 255 else int(value) for value in values]
