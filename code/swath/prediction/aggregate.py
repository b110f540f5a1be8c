"""Predictions of several dates to one map per area."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from swath.config import InputPath, OutputPath, absolute, configclass
from swath.data.naming import area_of
from swath.errors import CatalogError
from swath.geo.mosaic import Rule, aggregate
from swath.geo.raster import find_rasters
from swath.steps.config import Step


@configclass
class AggregateConfig(Step):
    """Predictions of several dates to one map per area."""

    step_name = "all_agg_by_city"

    input_path: InputPath
    """Folder of <area>/<scene>.tif: probabilities of class 1, or classes."""
    output_path: OutputPath
    """Folder for classes/<area>.tif and probabilities/<area>.tif."""
    rule: Rule = "mean"
    """How dates decide: mean probability, any, majority, or n-1 of the n dates that see the pixel."""
    threshold: float = 0.5
    """Probability from which on a pixel (or a date's vote) is class 1."""

    def jobs(self) -> list[AreaJob]:
        """A job per area folder below `input_path`. Raises CatalogError when there is no raster."""
        return area_jobs(absolute(self.input_path), self.output, self.rule, self.threshold)


@dataclass(frozen=True, kw_only=True)
class AreaJob:
    """The dates of one area and how they decide."""

    area: str
    dates: Sequence[Path]
    classes: Path
    probability: Path
    rule: Rule
    threshold: float

    @property
    def key(self) -> str:
        return self.area

    @property
    def inputs(self) -> Sequence[Path]:
        return self.dates

    @property
    def outputs(self) -> tuple[Path, Path]:
        return self.classes, self.probability

    def run(self) -> None:
        """Write the class raster and the mean probability of the area."""
        aggregate(self.dates, self.classes, self.probability, self.rule, self.threshold)


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
