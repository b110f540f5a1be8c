"""Class rasters to files of polygons."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from swath.config import configclass
from swath.geo.polygons import PolygonRules, polygonize_raster
from swath.geo.vector import write_vectors
from swath.steps.config import StepConfig


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
