"""Raw data of the demo, in the UNOSAT layout: scenes by area and date, label shapefiles, and the truth of the test areas."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS

from swath.challenges.demo.sentinel1 import Landscape, acquire, simulate_landscape
from swath.challenges.protocols import SceneMaker
from swath.challenges.unosat.scenes import NODATA
from swath.config import NotDecisive, OutputPath, configclass
from swath.geo.grid import Grid
from swath.geo.layout import RasterSpec
from swath.geo.polygons import polygonize
from swath.geo.raster_writer import write_raster
from swath.geo.vector import write_vectors

PIXEL = 10.0
DATES = ("20200104t145957", "20200116t145958")
UTM_38N = 32638


@configclass
class DemoScenesConfig(SceneMaker):
    """Generate Sentinel-1-like scenes of floods in the UNOSAT layout."""

    output_path: OutputPath
    """Folder for train/<area>/, test/<area>/ (VH and VV by date) and truth/ (labels of the test areas)."""
    train_areas: tuple[str, ...] = ("alder", "birch", "cedar", "dogwood")
    """Names of the areas with labels beside their scenes."""
    test_areas: tuple[str, ...] = ("elm", "fir")
    """Names of the areas to be mapped; the first date of the last one is on a grid of its own."""
    size: int = 768
    """Height and width of the scenes in pixels of 10 m."""
    seed: int = 0
    """Seed of landscapes, speckle and swath edges."""
    executor: NotDecisive[str] = "processes"
    """Where the work is done, as in every step; processes, as simulating is pure Python."""

    def scenes_to_make(self, output: Path) -> list[DemoArea]:
        """The areas to simulate."""
        return demo_areas(self, output)


@dataclass(frozen=True, kw_only=True)
class DemoArea:
    """One area to simulate: its folder for scenes, its label file, its place and its seed."""

    name: str
    scenes: Path
    labels: Path
    number: int
    size: int
    seed: int
    has_odd_date: bool = False
    """Whether the first date has 10.0027 m pixels, another origin and three rows less."""

    @property
    def grid(self) -> Grid:
        """Areas lie 30 km apart, so that none shares ground with another."""
        transform = Affine(PIXEL, 0, 400_000 + 30_000 * self.number, 0, -PIXEL, 3_700_000)
        return Grid(CRS.from_epsg(UTM_38N), transform, (self.size, self.size))

    def date_grid(self, date: int) -> Grid:
        """The grid of a date, counted from 0."""
        if date or not self.has_odd_date:
            return self.grid
        origin = self.grid.transform @ (0.216, 0.003)
        transform = Affine(10.0027, 0, origin[0], 0, -10.0027, origin[1])
        return Grid(self.grid.crs, transform, (self.size - 3, self.size - 3))

    @property
    def key(self) -> str:
        return self.name

    @property
    def inputs(self) -> tuple[Path, ...]:
        return ()

    def run(self) -> dict[str, float]:
        """Simulate the area and write its files."""
        return write_area(self)

    @property
    def outputs(self) -> list[Path]:
        return [path for date in DATES for path in self.paths(date)] + [self.labels]

    def paths(self, date: str) -> tuple[Path, Path]:
        """(VH, VV) of a date."""
        folder = self.scenes / date.upper()
        return folder / f"s1a_{self.name}_vh_ASC_{date}.tif", folder / f"s1a_{self.name}_vv_ASC_{date}.tif"


def demo_areas(config: DemoScenesConfig, output: Path) -> list[DemoArea]:
    """Areas with labels beside their scenes, and others whose labels lie apart, as the truth to be judged by."""
    areas = []
    for number, name in enumerate((*config.train_areas, *config.test_areas)):
        trains = name in config.train_areas
        folder = output / ("train" if trains else "test") / name
        labels = (folder if trains else output / "truth" / name) / f"{name}.shp"
        areas.append(
            DemoArea(
                name=name, scenes=folder, labels=labels, number=number, size=config.size, seed=config.seed,
                has_odd_date=name in config.test_areas[-1:],
            )
        )  # fmt: skip
    return areas


def write_area(area: DemoArea) -> dict[str, float]:
    """Simulate one area and write its dates and labels; return its share of water."""
    landscape_seed, *date_seeds = _seeds(area)
    landscape = simulate_landscape(area.grid.shape, landscape_seed)
    for i, (date, seed) in enumerate(zip(DATES, date_seeds, strict=True)):
        grid = area.date_grid(i)
        acquisition = acquire(landscape, *_positions(grid, area.grid), seed=seed)
        for path, band_HW in zip(area.paths(date), (acquisition.vh_HW, acquisition.vv_HW), strict=True):
            spec = RasterSpec(grid=grid, bands=(path.stem.split("_")[2],), dtype="float32", nodata=NODATA)
            write_raster(path, band_HW[None], spec)
    _write_labels(area, landscape)
    return {"water_share": float(landscape.water_HW.mean())}


def _seeds(area: DemoArea) -> list[int]:
    words = np.random.SeedSequence([area.seed, area.number]).generate_state(1 + len(DATES))
    return [int(word) for word in words]


def _positions(grid: Grid, landscape: Grid) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rows and columns of the grid's pixel centres, in landscape pixels."""
    place = ~landscape.transform @ grid.transform
    rows = place.e * (np.arange(grid.shape[0]) + 0.5) + place.f
    cols = place.a * (np.arange(grid.shape[1]) + 0.5) + place.c
    return rows, cols


def _write_labels(area: DemoArea, landscape: Landscape) -> None:
    water = polygonize(landscape.water_HW.astype(np.uint8), area.grid)
    write_vectors(area.labels, water.rename(columns={"id": "DN"}).assign(DN=255))
