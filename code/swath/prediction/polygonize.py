"""Class rasters to files of polygons."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from swath.config import InputPath, OutputPath, absolute, configclass
from swath.config.ranges import Amount
from swath.errors import CatalogError
from swath.geo.polygons import PolygonRules, polygonize_raster
from swath.geo.vector import write_vectors
from swath.prediction.maps import class_maps, home_of
from swath.steps.config import Step
from swath.steps.job import Report


@configclass
class PolygonizeConfig(Step):
    """Class rasters to polygons."""

    step_name = "polygonize"

    input_path: InputPath
    """Folder of class rasters, or one of them; of a folder in which all_agg_by_city has worked, its maps of areas."""
    output_path: OutputPath | None = None
    """Folder for <name>.<format>; None takes input_path."""
    task: str | None = None
    """Band of the rasters; None takes the first."""
    classes: tuple[int, ...] = (1,)
    """Classes that become polygons; their number is the attribute `id`."""
    min_area: Amount = 0.0
    """Smallest polygon to keep, in squared units of the CRS (m2); needs a projected CRS."""
    simplify: Amount | None = None
    """Cut corners up to about this size, in units of the CRS (m), after small polygons are dropped; shared borders stay
    shared. None keeps the pixels' outlines."""
    format: Literal["shp", "gpkg", "parquet", "fgb", "geojson"] = "shp"
    """File format; parquet is GeoParquet. A shapefile holds at most 2.1 GB."""

    @property
    def output(self) -> Path:
        """The folder of the polygons and of the ledger."""
        source = absolute(self.input_path)
        if self.output_path:
            return absolute(self.output_path)
        return source.parent if source.is_file() else home_of(source)

    def jobs(self) -> list[PolygonJob]:
        """A job per raster. Raises CatalogError when there is none, or two have the same name."""
        source = absolute(self.input_path)
        rasters = [source] if source.is_file() else class_maps(source)
        _require_own_names(rasters, source)
        rules = PolygonRules(classes=self.classes, min_area=self.min_area, simplify=self.simplify)
        cores = self.workers or os.cpu_count() or 1
        share = max(1, cores // len(rasters))  # of few rasters strips are worked on in parallel
        return [
            PolygonJob(
                raster=raster, output=self.output / f"{raster.stem}.{self.format}", rules=rules, workers=share,
                task=self.task,
            )
            for raster in rasters
        ]  # fmt: skip

    def finish(self, results: Mapping[str, int]) -> Report:
        """Report the number of all polygons."""
        return Report(metrics={"polygons": float(sum(results.values()))})


def _require_own_names(rasters: Sequence[Path], source: Path) -> None:
    if not rasters:
        raise CatalogError(
            f"{source}: no class rasters found. Set input_path to the output of inference or all_agg_by_city."
        )
    twice = [name for name, count in Counter(r.stem for r in rasters).items() if count > 1]
    if twice:
        raise CatalogError(
            f"{source}: several rasters are called {', '.join(twice[:5])}; their polygons would get the same name. "
            "Set input_path to one folder at a time, or rename one of them."
        )


@dataclass(frozen=True, kw_only=True)
class PolygonJob:
    """One class raster to polygonise, with the threads that it may take."""

    raster: Path
    output: Path
    rules: PolygonRules
    workers: int = 1
    task: str | None = None

    @property
    def key(self) -> str:
        return self.raster.stem

    @property
    def inputs(self) -> tuple[Path]:
        return (self.raster,)

    @property
    def outputs(self) -> tuple[Path]:
        return (self.output,)

    def run(self) -> int:
        """Write the polygons of the raster; return their number."""
        frame = polygonize_raster(self.raster, self.rules, self.workers, self.task)
        write_vectors(self.output, frame)
        return len(frame)
