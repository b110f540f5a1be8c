"""Raw data of the AI4Arctic challenge, made up: NetCDF files of either product, named and laid out as the real ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from swath.challenges.ai4arctic.charts import CHARTS, charts_of, polygon_classes
from swath.challenges.ai4arctic.product import AMSR2, ERA5, OFFICIAL_PIXEL, RAW_PIXEL, SAR
from swath.challenges.ai4arctic.simulate_ice import Swath, simulate_swath
from swath.challenges.protocols import SceneMaker
from swath.config import NotDecisive, OutputPath, configclass
from swath.errors import ConfigError
from swath.geo.netcdf import Variable, write_netcdf
from swath.geo.tie_points import area_means
from swath.labels import IGNORE

REGIONS = {
    "cis": {"SGRDINFLD": (50.0, -54.0), "SGRDIHA": (73.0, -82.0), "SGRDIMID": (66.0, -60.0), "SGRDIEA": (63.0, -68.0)},
    "dmi": {"CapeFarewell": (60.0, -44.0), "SouthWest": (63.0, -52.0), "CentralEast": (70.0, -21.0), "NorthEast": (78.0, -15.0)},
}  # fmt: skip
"""Middle of each chart region: latitude, longitude."""

TRAIN_MONTHS, TEST_MONTHS = (1, 2, 3, 3, 4, 5, 8, 11, 12), (2, 3, 5, 5, 8)
TIES = 21
GRID_2D = ("sar_sample_2dgrid_points", "sar_line_2dgrid_points")
FINE, COARSE = ("sar_lines", "sar_samples"), ("2km_grid_lines", "2km_grid_points")

MEAN_STD: dict[str, tuple[float, float]] = (
    {SAR[0]: (-14.0, 5.5), SAR[1]: (-24.0, 4.7), "sar_incidenceangle": (34.7, 7.4), "distance_map": (7.5, 2.9)}
    | {name: (150.0 + 6 * i, 45.0) for i, name in enumerate(AMSR2)}
    | dict(zip(ERA5, ((0.5, 5.5), (-0.6, 5.4), (263.0, 9.5), (261.0, 10.5), (6.6, 4.4), (0.06, 0.06)), strict=True))
)
"""What the ready-to-train product is standardised by; numbers of the simulation, not the challenge's."""


@configclass
class IceScenesConfig(SceneMaker):
    """Generate sea-ice scenes in the layout of the AI4Arctic challenge."""

    output_path: OutputPath
    """Folder for train/, test/ (no charts) and truth/ (the charts of the test scenes)."""
    product: Literal["ready_to_train", "raw"] = "ready_to_train"
    """Which product to write: ready_to_train (80 m, standardised) or raw (40 m, polygons with codes)."""
    train_scenes: int = 12
    """Number of scenes with charts."""
    test_scenes: int = 4
    """Number of scenes without charts; other regions and months are common among them."""
    size: int = 500
    """Height and width of the scenes in pixels of 80 m; the real ones have about 5000."""
    seed: int = 0
    """Seed of everything."""
    executor: NotDecisive[str] = "processes"
    """Where the work is done, as in every step; processes, as simulating is pure Python."""

    def __post_init__(self) -> None:
        if self.size < 100:
            raise ConfigError(f"size={self.size}: give 100 pixels of 80 m or more")

    def scenes_to_make(self, output: Path) -> list[IceScene]:
        """The scenes of both sets."""
        sides = [("train", self.train_scenes), ("test", self.test_scenes)]
        return [_scene(self, side, i, output) for side, count in sides for i in range(count)]


@dataclass(frozen=True, kw_only=True)
class IceScene:
    """One scene to simulate: what its name tells, where it goes, and its seed."""

    long_name: str
    start: datetime
    provider: str
    region: str
    folder: Path
    truth: Path | None
    """Folder of the charts; None keeps them in the scene."""
    raw: bool
    size: int
    seed: int

    @property
    def key(self) -> str:
        return f"{self.start:%Y%m%dT%H%M%S}_{self.provider}"

    @property
    def inputs(self) -> tuple[Path, ...]:
        return ()

    @property
    def outputs(self) -> list[Path]:
        name = f"{self.long_name}.nc" if self.raw else f"{self.key}_prep.nc"
        truth = name if self.raw else f"{self.key}_prep_reference.nc"
        return [self.folder / name, *([self.truth / truth] if self.truth else [])]

    def run(self) -> dict[str, Any]:
        """Simulate the scene and write its files."""
        return write_scene(self)


def _scene(config: IceScenesConfig, side: str, number: int, output: Path) -> IceScene:
    """Scenes of training and test take other months, and regions in another order: a shift to be seen."""
    rng = np.random.default_rng([config.seed, side == "test", number])
    provider, region = _draw_region(side, rng)
    start = _draw_start(side, number, rng)
    long_name = _draw_name(start, provider, region, rng)
    return IceScene(
        long_name=long_name, start=start, provider=provider, region=region, folder=output / side,
        truth=output / "truth" if side == "test" else None, raw=config.product == "raw", size=config.size,
        seed=int(rng.integers(2**31)),
    )  # fmt: skip


def _draw_region(side: str, rng: np.random.Generator) -> tuple[str, str]:
    """Provider and region of a scene of the set `side`, train or test."""
    provider = "cis" if rng.random() < (0.6 if side == "train" else 0.4) else "dmi"
    common = np.array([3.0, 3, 2, 2] if side == "train" else [1.0, 2, 3, 4])
    return provider, str(rng.choice(list(REGIONS[provider]), p=common / common.sum()))


def _draw_start(side: str, number: int, rng: np.random.Generator) -> datetime:
    """When the scene's acquisition begins; `number` and `side` keep any two scenes of one hour apart."""
    month = int(rng.choice(TRAIN_MONTHS if side == "train" else TEST_MONTHS))
    year = 2018 + int(rng.integers(4))
    day = 1 + int(rng.integers(28))
    hour = int(rng.choice([8, 10, 20, 22]))
    seconds = int(rng.integers(60)) + (30 if side == "test" else 0)
    return datetime(year, month, day, hour) + timedelta(minutes=number, seconds=seconds)


def _draw_name(start: datetime, provider: str, region: str, rng: np.random.Generator) -> str:
    """The scene's name as the raw product has it: mission, times and orbit, then the chart."""
    orbit = f"{rng.integers(20000, 40000):06d}_{rng.integers(16**6):06X}_{rng.integers(16**4):04X}"
    mission = "S1A" if rng.random() < 0.7 else "S1B"
    times = f"{start:%Y%m%dT%H%M%S}_{start + timedelta(seconds=60):%Y%m%dT%H%M%S}"
    charts = {"cis": f"cis_{region}_{start:%Y%m%dT%H%M}Z_pl_a", "dmi": f"dmi_{start:%Y%m%d%H%M}_{region}_RIC"}
    return f"{mission}_EW_GRDM_1SDH_{times}_{orbit}_icechart_{charts[provider]}"


def write_scene(scene: IceScene) -> dict[str, Any]:
    """Simulate one scene at 40 m and write it in its product's format; return its share of ice among charted pixels."""
    shape = (2 * scene.size, 2 * scene.size)
    swath = simulate_swath(shape, RAW_PIXEL, scene.start.month, scene.seed)
    charts_3HW = charts_of(swath.polygons_HW, polygon_classes(swath.codes, scene.long_name))
    fields = dict(_raw(scene, swath) if scene.raw else _ready_to_train(scene, swath))
    charts = dict(_polygons(swath) if scene.raw else _charts(charts_3HW))
    target = scene.outputs[0]
    write_netcdf(target, (fields | ({} if scene.truth else charts)).items(), _about(scene, target.name))
    if scene.truth:
        write_netcdf(scene.outputs[1], charts.items(), _about(scene, scene.outputs[1].name))
    charted = charts_3HW[0] != IGNORE
    return {"ice_share": float((charts_3HW[0][charted] > 0).mean()) if charted.any() else 0.0}


def _about(scene: IceScene, name: str) -> dict[str, Any]:
    return {
        "scene_id": name, "original_id": f"{scene.long_name}.nc", "ice_service": scene.provider, "flip": 0,
        "pixel_spacing": RAW_PIXEL if scene.raw else OFFICIAL_PIXEL, "comment": "simulated",
    }  # fmt: skip


def _place(scene: IceScene, size: int, pixel: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Latitude and longitude (TIES, TIES) of tie points from the first to the last pixel, around the region's middle."""
    latitude, longitude = REGIONS[scene.provider][scene.region]
    rng = np.random.default_rng(scene.seed)
    away = np.linspace(-0.5, 0.5, TIES) * size * pixel / 111_320  # degrees of latitude
    turn = np.deg2rad(rng.uniform(-20, 20))
    north = -away[:, None] * np.cos(turn) + away[None] * np.sin(turn) + latitude + rng.normal(0, 0.5)
    east = away[None] * np.cos(turn) + away[:, None] * np.sin(turn)
    return north, longitude + rng.normal(0, 0.5) + east / np.cos(np.deg2rad(north))


def _incidence(places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Degrees at places from 0, the first pixel, to 1, the last one."""
    return 19.0 + 28.0 * places


def _raw(scene: IceScene, swath: Swath) -> Iterator[tuple[str, Variable]]:
    """Variables of the raw product but for the chart: dB, Kelvin, tie points in lists."""
    size = swath.hh_db_HW.shape[0]
    gap = float("nan")
    for name, band, kind in ((SAR[0], swath.hh_db_HW, "HH"), (SAR[1], swath.hv_db_HW, "HV")):
        yield name, Variable(dims=FINE, data=band, attributes={"units": "dB", "polarisation": kind}, fill=gap)
    yield "distance_map", Variable(dims=FINE, data=swath.zones_HW, attributes=_ZONES, fill=gap)
    nodes = np.round(np.linspace(0, size - 1, TIES)).astype(np.float64)
    lines, samples = (np.asarray(n, np.float64) for n in np.meshgrid(nodes, nodes, indexing="ij"))
    latitude, longitude = _place(scene, size, RAW_PIXEL)
    angle = _incidence(samples / (size - 1))
    points: dict[str, NDArray[np.float64]] = {
        "line": lines, "sample": samples, "latitude": latitude, "longitude": longitude, "incidenceangle": angle,
        "height": np.zeros(lines.shape),
    }  # fmt: skip
    for name, values in points.items():
        yield f"sar_grid_{name}", Variable(dims=("sar_grid_points",), data=values.ravel())
    for name, field in swath.coarse.items():
        yield name, Variable(dims=COARSE, data=field.astype(np.float64), fill=gap)


def _polygons(swath: Swath) -> Iterator[tuple[str, Variable]]:
    yield "polygon_icechart", Variable(dims=FINE, data=swath.polygons_HW, fill=float("nan"))
    yield "polygon_codes", Variable(dims=("polygon_codes",), data=np.array(swath.codes, object))


_ZONES = {"long_name": "Zones of distance to land: 0 is land, 10 is more than 128 km from it"}


def _ready_to_train(scene: IceScene, swath: Swath) -> Iterator[tuple[str, Variable]]:
    """Variables of the ready-to-train product but for the charts: 80 m, standardised, SAR 0 where there is none."""
    shape = (scene.size, scene.size)
    incidence_HW = np.broadcast_to(_incidence(np.linspace(0, 1, 2 * scene.size)), swath.hh_db_HW.shape)
    fields: dict[str, NDArray[np.floating]] = {
        SAR[0]: swath.hh_db_HW,
        SAR[1]: swath.hv_db_HW,
        "sar_incidenceangle": incidence_HW,
        "distance_map": swath.zones_HW,
    }
    for name, field in fields.items():
        means_HW = area_means(field, Fraction(2), shape)
        gap = np.float32(0)  # the mean of the standardised values
        data = np.where(np.isfinite(means_HW), _standardised(name, means_HW), gap)
        yield name, Variable(dims=FINE, data=data, attributes=_ZONES if name == "distance_map" else {})
    latitude, longitude = _place(scene, scene.size, OFFICIAL_PIXEL)
    yield "sar_grid2d_latitude", Variable(dims=GRID_2D, data=latitude)
    yield "sar_grid2d_longitude", Variable(dims=GRID_2D, data=longitude)
    for name, field in swath.coarse.items():
        yield name, Variable(dims=COARSE, data=_standardised(name, field))


def _standardised(name: str, field: NDArray[np.floating]) -> NDArray[np.float32]:
    mean, deviation = MEAN_STD[name]
    return ((field - mean) / deviation).astype(np.float32)


def _charts(charts_3HW: NDArray[np.uint8]) -> Iterator[tuple[str, Variable]]:
    """Charts at 80 m: the largest of four, so that a pixel without a label stays one."""
    for name, chart_HW in zip(CHARTS, charts_3HW, strict=True):
        height, width = (n // 2 for n in chart_HW.shape)
        largest = chart_HW[: 2 * height, : 2 * width].reshape(height, 2, width, 2).max(axis=(1, 3))
        yield name, Variable(dims=FINE, data=largest, attributes={"chart_fill_value": IGNORE})
