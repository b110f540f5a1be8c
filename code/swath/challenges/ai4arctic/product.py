"""The files of the AI4Arctic sea-ice challenge: their names, what the two products hold, and any channel by its name.

Both are NetCDF-4. The raw product (version 3) has Sentinel-1 at 40 m in dB, NaN where nothing was measured; the
ready-to-train product is it at 80 m and z-scored, 0 where nothing was measured. AMSR2 and ERA5 come in cells of 2 km;
latitude and longitude are given at tie points, and there is no CRS.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from swath.errors import RasterError
from swath.geo.earth import outline_on_earth
from swath.geo.grid import Window
from swath.geo.netcdf import NetcdfReader
from swath.geo.tie_points import TiePoints, area_means, cells_at, even_tie_points, shrunk_length, tie_points

SAR = ("nersc_sar_primary", "nersc_sar_secondary")
AMSR2 = tuple(f"btemp_{band}{p}" for band in ("6_9", "7_3", "10_7", "18_7", "23_8", "36_5", "89_0") for p in "hv")
ERA5 = ("u10m_rotated", "v10m_rotated", "t2m", "skt", "tcwv", "tclw")
CHANNELS = (*SAR, "sar_incidenceangle", "distance_map", *AMSR2, *ERA5)
"""The 24 channels of the challenge's own starter kit."""

PLACE = ("latitude", "longitude")
TIME = ("month_sin", "month_cos", "day_sin", "day_cos")
DERIVED = (*PLACE, *TIME)
"""Channels that no file holds as such: degrees; month (0 to 11) and day of the year (0 to 365) on the unit circle."""

RAW_PIXEL, OFFICIAL_PIXEL, CELL = 40, 80, 2000
"""Metres: pixels of the raw product, of the ready-to-train product and all submissions, and cells of AMSR2 and ERA5."""

Floats = NDArray[np.float32]


# --------------------------------------------------------------------------------------------------------------- names


_SENTINEL_1 = re.compile(r"(S1[A-D])_[A-Z0-9]{2}_GRD\w_\w{4}_(\d{8}T\d{6})_(\d{8}T\d{6})(?:_\w{6}){2}_\w{4}(?=_|\.|$)")
_CHART = re.compile(r"_icechart_(?:(cis)_([A-Za-z]+)_|(dmi)_\d{12}_(\w+?)(?:_RIC)?(?:_pl_a)?(?:\.|$))")
_SHORT = re.compile(r"(\d{8}T\d{6})_(cis|dmi)_prep(?:_reference)?\.nc")
_TIME = "%Y%m%dT%H%M%S"


@dataclass(frozen=True, kw_only=True)
class SceneName:
    """What a file name tells of a scene; a short name has neither mission nor end nor region."""

    start: datetime
    provider: str
    mission: str | None = None
    end: datetime | None = None
    region: str | None = None

    @property
    def key(self) -> str:
        """``YYYYmmddTHHMMSS_<provider>``: how submissions name a scene."""
        return f"{self.start:{_TIME}}_{self.provider}"

    @property
    def columns(self) -> dict[str, Any]:
        """Columns of scenes.parquet; times as ISO texts."""
        return {
            "mission": self.mission, "start": self.start.isoformat(), "end": self.end and self.end.isoformat(),
            "provider": self.provider, "region": self.region, "year": self.start.year, "month": self.start.month,
            "hour": self.start.hour, "day_of_year": self.start.timetuple().tm_yday,
        }  # fmt: skip


def parse_name(name: str) -> SceneName | None:
    """The meaning of a file name of either product; None for any other name, and for dates that do not exist."""
    scene, chart, short = _SENTINEL_1.match(name), _CHART.search(name), _SHORT.fullmatch(name)
    try:
        if short:
            return SceneName(start=datetime.strptime(short[1], _TIME), provider=short[2])
        if scene and chart:
            start, end = (datetime.strptime(text, _TIME) for text in scene.group(2, 3))
            provider, region = (chart[1], chart[2]) if chart[1] else (chart[3], chart[4])
            return SceneName(start=start, provider=provider, mission=scene[1], end=end, region=region)
    except ValueError:
        return None
    return None


# ------------------------------------------------------------------------------------------------------------ products


class Product:
    """The channels of an open file at `factor` times 40 m: any of them by name, strip by strip.

    Raises RasterError when the file is neither product, or when `factor` asks for smaller pixels than it has.
    """

    def __init__(self, reader: NetcdfReader, factor: int, name: SceneName, how: Literal["nearest", "bilinear"]) -> None:
        self.reader, self.factor, self.name, self.how = reader, factor, name, how
        self.is_raw = "sar_grid_line" in reader.names
        if not self.is_raw and "sar_grid2d_latitude" not in reader.names:
            raise RasterError(
                f"{reader.path}: neither the raw product (sar_grid_line) nor the ready-to-train one (sar_grid2d_latitude) "
                f"of AI4Arctic. It has: {', '.join(reader.names)}."
            )
        self.pixel = RAW_PIXEL if self.is_raw else OFFICIAL_PIXEL
        self.source_shape = self._two(reader.shape(SAR[0]), SAR[0])

    @property
    def ratio(self) -> Fraction:
        """Pixels of the file per pixel of the scene, in each direction."""
        return Fraction(self.factor * RAW_PIXEL, self.pixel)

    @property
    def official_shape(self) -> tuple[int, int]:
        """Rows and columns at 80 m, those of a submission."""
        height, width = self.source_shape
        return (height // 2, width // 2) if self.is_raw else (height, width)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the scene: int(h // 2 // (factor / 2)) of the h rows at 40 m."""
        height, width = (
            shrunk_length(n, Fraction(self.factor * RAW_PIXEL, OFFICIAL_PIXEL)) for n in self.official_shape
        )
        return height, width

    def _two(self, shape: tuple[int, ...], name: str) -> tuple[int, int]:
        if len(shape) != 2:
            raise RasterError(f"{self.reader.path}: variable {name!r} has {len(shape)} dimensions instead of 2")
        return shape[0], shape[1]

    def require(self, channels: tuple[str, ...]) -> None:
        """Raise RasterError that names every channel that the file cannot give, and what it has."""
        have = self.reader.names
        missing = [c for c in channels if c not in DERIVED and self._variable(c) not in have]
        if missing:
            raise RasterError(
                f"{self.reader.path}: no variable {', '.join(repr(c) for c in missing)}. It has: {', '.join(have)}; "
                f"derived from others are {', '.join(DERIVED)}."
            )

    def _variable(self, channel: str) -> str:
        return "sar_grid_incidenceangle" if self.is_raw and channel == "sar_incidenceangle" else channel

    def rows(self, channel: str, window: Window) -> Floats:
        """float32 (window) of one channel, NaN where nothing was measured; the window spans all columns.

        Variables on the SAR's pixels are means over the scene's larger ones, cells of 2 km are brought onto them, and
        tie points are interpolated. `window.row` and all but the last window's height are even.
        """
        variable = self._variable(channel)
        if channel in TIME:
            return np.full(window.shape, self._time(channel), np.float32)
        if channel in PLACE or variable.startswith("sar_grid_"):
            return self.tie_points(variable).at(*self._middles(window)).astype(np.float32)
        if self.reader.dims(variable) == self.reader.dims(SAR[0]):
            return self._means(variable, window)
        return cells_at(self._coarse(variable), self._pixels_per_cell, window, self.how)

    def _means(self, variable: str, window: Window) -> Floats:
        first, last = window.row * self.ratio, math.ceil((window.row + window.height) * self.ratio)
        if first.denominator != 1:
            raise ValueError(f"row {window.row} begins inside a pixel of {self.reader.path}")
        source_HW = self.reader.read(variable, slice(int(first), last))
        if variable in SAR and not self.is_raw:
            source_HW = np.where(source_HW == 0, np.float32(np.nan), source_HW)
        return area_means(source_HW, self.ratio, window.shape)

    @property
    def _pixels_per_cell(self) -> Fraction:
        return Fraction(CELL, self.factor * RAW_PIXEL)

    def _coarse(self, variable: str) -> NDArray[np.floating]:
        coarse_HW = self.reader.read(variable)
        cells = tuple(n * self.pixel / CELL for n in self.source_shape)
        if coarse_HW.ndim != 2 or any(abs(n - wanted) > 1 for n, wanted in zip(coarse_HW.shape, cells, strict=True)):
            raise RasterError(
                f"{self.reader.path}: variable {variable!r} is {coarse_HW.shape}, neither {self.source_shape} as the SAR nor "
                f"about {tuple(math.ceil(n) for n in cells)} cells of {CELL} m."
            )
        return coarse_HW

    def _middles(self, window: Window) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Rows and columns of the middles of a window's pixels, counted in pixels of the file from the first one's middle."""
        ratio = float(self.ratio)
        rows = np.arange(window.row, window.row + window.height, dtype=np.float64)
        cols = np.arange(window.col, window.col + window.width, dtype=np.float64)
        return (rows + 0.5) * ratio - 0.5, (cols + 0.5) * ratio - 0.5

    def tie_points(self, variable: str) -> TiePoints:
        """Tie points of latitude, longitude (without a jump of 360 degrees) or another variable of that grid."""
        stored = {"latitude": "latitude", "longitude": "longitude"}.get(variable)
        name = f"sar_{'grid' if self.is_raw else 'grid2d'}_{stored}" if stored else variable
        values = self.reader.read(name).astype(np.float64)
        if not self.is_raw:
            found = even_tie_points(values, self.source_shape)
        else:
            try:
                found = tie_points(self.reader.read("sar_grid_line"), self.reader.read("sar_grid_sample"), values)
            except ValueError as error:
                raise RasterError(f"{self.reader.path}: variable {name!r}: {error}.") from error
        if variable != "longitude":
            return found
        return TiePoints(rows=found.rows, cols=found.cols, values=_unwrapped(found.values))

    def _time(self, channel: str) -> float:
        what, function = channel.split("_")
        start = self.name.start
        turn = (start.month - 1) / 12 if what == "month" else (start.timetuple().tm_yday - 1) / 366
        return math.sin(2 * math.pi * turn) if function == "sin" else math.cos(2 * math.pi * turn)

    @cached_property
    def footprint(self) -> BaseGeometry:
        """What the outer tie points enclose, in longitude and latitude."""
        ring = np.stack([self.tie_points(name).ring for name in ("longitude", "latitude")], axis=1)
        return outline_on_earth(np.vstack([ring, ring[:1]]), str(self.reader.path))


def _unwrapped(longitude: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.unwrap(np.unwrap(longitude, axis=0, period=360), axis=1, period=360)
