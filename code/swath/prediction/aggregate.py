"""Predictions of several dates to one map per area."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from swath.config import InputPath, OutputPath, absolute, configclass
from swath.data.areas import AreaFields
from swath.data.pairing import AGGREGATED
from swath.files import path_below
from swath.geo.mosaic import Rule, aggregate
from swath.prediction.maps import dates_by_area, home_of
from swath.steps.config import Step


@configclass
class AggregateConfig(AreaFields, Step):
    """Predictions of several dates to one map per area."""

    step_name = "all_agg_by_city"

    input_path: InputPath
    """Folder of <area>/.../<scene>.tif, probabilities of class 1 or classes; or a folder that holds such folders, of which
    probabilities go first; or one of tiles that merge_tiles has merged."""
    output_path: OutputPath | None = None
    """Folder for classes/<area>.tif and probabilities/<area>.tif; None takes <input_path>/aggregated."""
    rule: Rule = "mean"
    """How dates decide: mean probability, any, majority, or n-1 of the n dates that see the pixel."""
    threshold: float = 0.5
    """Probability from which on a pixel (or a date's vote) is class 1."""

    @property
    def output(self) -> Path:
        """The folder of the maps and of the ledger."""
        return absolute(self.output_path) if self.output_path else home_of(absolute(self.input_path)) / AGGREGATED

    def jobs(self) -> list[AreaJob]:
        """A job per area. Raises CatalogError when there is no raster, or tiles have to be merged first."""
        dates = dates_by_area(absolute(self.input_path), self.area_rule)
        return area_jobs(dates, self.output, self.rule, self.threshold)


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


def area_jobs(dates: Mapping[str, Sequence[Path]], output: Path, rule: Rule, threshold: float) -> list[AreaJob]:
    """A job per area, from the maps of its dates."""
    return [
        AreaJob(
            area=area, dates=paths, classes=path_below(output / "classes", area, suffix=".tif"),
            probability=path_below(output / "probabilities", area, suffix=".tif"), rule=rule, threshold=threshold,
        )
        for area, paths in dates.items()
    ]  # fmt: skip
