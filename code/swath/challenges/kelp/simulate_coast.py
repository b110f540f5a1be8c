"""A coast with kelp, made up: relief and sea bed of a place, and what Landsat sees of it on one date.

Reflectances are those of the literature in round numbers: water is dark and darkest in the infrared, a canopy of kelp
is bright in the near infrared only, clouds are bright everywhere. What is taken for kelp besides kelp is there, too:
algae between the tides, salt marsh at elevation 0, and crests of waves, which the bands see at different moments.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from swath.challenges.demo.terrain import Bools, Floats, fractal_noise, ramp
from swath.challenges.kelp.product import MISSING, OPTICAL, SATURATED, SIDE

MARGIN = 16
"""Pixels around a tile that are simulated, too, so that bands can be shifted against each other."""
CANVAS = (SIDE + 2 * MARGIN, SIDE + 2 * MARGIN)

SCALE, OFFSET = 2.75e-5, -0.2
"""Surface reflectance of a digital number: SCALE * number + OFFSET."""

REFLECTANCE = {
    "deep water": (0.004, 0.008, 0.014, 0.028, 0.036),
    "turbid water": (0.010, 0.055, 0.095, 0.090, 0.060),
    "sand": (0.33, 0.27, 0.22, 0.18, 0.14),
    "heath": (0.20, 0.23, 0.075, 0.070, 0.045),
    "grass": (0.17, 0.31, 0.060, 0.080, 0.040),
    "algae on rock": (0.095, 0.19, 0.050, 0.060, 0.038),
    "canopy": (0.018, 0.21, 0.030, 0.042, 0.028),
    "foam": (0.06, 0.20, 0.24, 0.25, 0.25),
    "cloud": (0.42, 0.62, 0.60, 0.60, 0.62),
}
"""Reflectance in SWIR, NIR, R, G, B."""

GENTLE = 0.4
"""Slope of the sea bed as a part of that of the land: kelp grows in belts, not in lines."""

Ints = NDArray[np.int32]


@dataclass(frozen=True)
class Coast:
    """A place, each array on `CANVAS`."""

    height_HW: Floats
    """Metres above the sea, below 0 under water."""
    bed_HW: Floats
    """How well kelp grows on the ground, 0 to 1, whatever the depth."""
    cover_HW: Floats
    """Land cover, a number without unit."""

    @property
    def land(self) -> Bools:
        """Where the ground is above the sea."""
        return self.height_HW > 0


@dataclass(frozen=True, kw_only=True)
class Weather:
    """What is special about one date."""

    clouds: float
    """Share of the tile under clouds."""
    is_striped: bool = False
    """Whether wedges between scan lines are missing, as since a scanner's failure in 2003."""
    is_saturated: bool = False
    """Whether the brightest pixels hold `SATURATED`."""
    lacks_elevation: bool = False
    """Whether elevation is missing in a part of the tile."""
    shift: tuple[int, int] = (0, 0)
    """Rows and columns by which the optical bands and QA lie off elevation and labels."""


@dataclass(frozen=True)
class View:
    """A tile as its files hold it."""

    image_7HW: Ints
    """Bands in the order of the product."""
    kelp_HW: NDArray[np.uint8]
    """Where kelp is: 1."""


# --------------------------------------------------------------------------------------------------------------- place


def simulate_coast(rng: np.random.Generator, like: Coast | None = None, is_sea: bool = False) -> Coast:
    """A coast; one `like` another has a similar course and other bays and hills. Open sea has no land at all."""
    noise_HW = fractal_noise(CANVAS, rng, beta=3.3, longest_px=float(rng.uniform(70, 180)))
    towards = rng.uniform(0, 2 * np.pi)
    row, col = np.meshgrid(np.linspace(-1, 1, CANVAS[0]), np.linspace(-1, 1, CANVAS[1]), indexing="ij")
    slope_HW = np.cos(towards) * row + np.sin(towards) * col
    shape_HW = noise_HW + rng.uniform(0, 1.2) * slope_HW
    if like is not None:
        old_HW = like.height_HW / like.height_HW.std()
        shape_HW = 0.75 * old_HW + 0.5 * shape_HW / shape_HW.std()
    sea_level = np.quantile(shape_HW, rng.uniform(0.5, 0.93))
    metres = rng.uniform(20, 90)
    height_HW = (shape_HW - sea_level) * metres
    height_HW = np.where(height_HW < 0, GENTLE * height_HW, height_HW)
    if is_sea:
        height_HW = height_HW - height_HW.max() - 15
    bed_HW = ramp(octaves(rng, 70, 5, 0.75), *_ramp_of_kelp(rng))
    cover_HW = octaves(rng, 60, 4)
    return Coast(np.asarray(height_HW, np.float32), bed_HW, cover_HW)


def _ramp_of_kelp(rng: np.random.Generator) -> tuple[float, float]:
    """Between which values of its noise the sea bed turns from bare to grown; one coast in four has nearly nothing."""
    low = rng.uniform(0.0, 1.1) if rng.random() < 0.75 else 3.0
    return low, low + 0.6


def octaves(rng: np.random.Generator, longest_px: float, count: int, falloff: float = 0.55) -> Floats:
    """float32 `CANVAS`, mean 0, deviation 1: coarse grids of noise, each half as wide as the one before, made smooth."""
    total_HW = np.zeros(CANVAS, np.float32)
    for number in range(count):
        cell = max(1.0, longest_px / 2**number)
        coarse = rng.standard_normal([int(side / cell) + 4 for side in CANVAS], dtype=np.float32)
        size = int(coarse.shape[1] * cell), int(coarse.shape[0] * cell)
        fine = cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC)
        total_HW += falloff**number * fine[: CANVAS[0], : CANVAS[1]]
    return np.asarray((total_HW - total_HW.mean()) / total_HW.std(), np.float32)


def elevation(coast: Coast, rng: np.random.Generator) -> Ints:
    """int32 metres of the tile as a terrain model has it: 0 at sea and on the lowest land; dates differ a little."""
    blurred_HW = cv2.GaussianBlur(np.maximum(coast.height_HW, 0), (0, 0), 1.0 + 0.2 * rng.random())
    error_HW = rng.normal(0, 0.8, CANVAS).astype(np.float32)
    metres_HW = np.rint(blurred_HW + error_HW)
    metres_HW[(blurred_HW < 1.5) | ~coast.land] = 0
    return np.maximum(inner(metres_HW), 0).astype(np.int32)


def inner(canvas: NDArray[Any], shift: tuple[int, int] = (0, 0)) -> NDArray[Any]:
    """The tile's part (..., SIDE, SIDE) of arrays on `CANVAS`, moved by rows and columns."""
    row, col = MARGIN + shift[0], MARGIN + shift[1]
    return canvas[..., row : row + SIDE, col : col + SIDE]


# ---------------------------------------------------------------------------------------------------------------- date


def simulate_view(coast: Coast, weather: Weather, rng: np.random.Generator) -> View:
    """What is seen of a coast on one date, and where kelp is."""
    density_HW = kelp_density(coast, rng)
    ground_5HW = _ground(coast, density_HW, rng)
    sky_5HW, thick_HW = _under_sky(ground_5HW, weather, rng)
    numbers_5HW = _digital_numbers(sky_5HW, rng)
    if weather.is_saturated:
        bright_HW = numbers_5HW[1] > np.quantile(numbers_5HW[1], 0.997)
        numbers_5HW[:, bright_HW] = SATURATED
    flagged_HW = _flagged(thick_HW, rng)
    if weather.is_striped:
        gaps_HW = _gaps(rng)
        numbers_5HW[:, gaps_HW] = MISSING
        flagged_HW |= gaps_HW
    height_HW = elevation(coast, rng)
    if weather.lacks_elevation:
        height_HW[inner(_half_plane(rng))] = MISSING
    seen = [inner(band, weather.shift) for band in (*numbers_5HW, flagged_HW.astype(np.int32))]
    return View(np.stack([*seen, height_HW]).astype(np.int32), inner(_labels(density_HW, thick_HW)).astype(np.uint8))


def kelp_density(coast: Coast, rng: np.random.Generator) -> Floats:
    """Share of each pixel (0 to 1) that a canopy covers: patches on beds 2 to 20 m deep, more or less of them by date."""
    depth_HW = -coast.height_HW
    at_depth_HW = np.exp(-(((depth_HW - 8) / 5.5) ** 2)) * (depth_HW > 1.5)
    patches_HW = octaves(rng, 18, 4, 0.7)
    grown_HW = ramp(patches_HW + rng.uniform(-0.6, 0.6), -0.8, 0.3)
    return np.asarray(at_depth_HW * coast.bed_HW * grown_HW, np.float32)


def _labels(density_HW: Floats, thick_HW: Floats) -> Bools:
    """What people draw: a canopy that covers a third of a pixel, where no cloud hides it."""
    smooth_HW = cv2.GaussianBlur(density_HW, (0, 0), 0.6)
    return np.asarray((smooth_HW > 0.33) & (thick_HW < 0.5), bool)


def _ground(coast: Coast, density_HW: Floats, rng: np.random.Generator) -> Floats:
    """Reflectance (5, H, W) without sky: sea with kelp, waves and mud; shore; land."""
    depth_HW = np.maximum(-coast.height_HW, 0)
    near_HW = np.asarray(np.exp(-depth_HW / 12), np.float32)
    turbid_HW = ramp(octaves(rng, 110, 4) + 1.4 * near_HW, 0.7, 2.8) * rng.uniform(0.1, 0.9)
    sea_5HW = _mixed(_even("deep water"), "turbid water", turbid_HW)
    sea_5HW = _mixed(sea_5HW, "canopy", 0.75 * density_HW)
    sea_5HW = sea_5HW + _crests(near_HW, rng)
    sea_5HW = _mixed(sea_5HW, "foam", 0.8 * ramp(octaves(rng, 9, 2) * near_HW, 1.2, 2.2))
    rock_HW = ramp(octaves(rng, 14, 3), -0.3, 0.6)
    shore_5HW = _mixed(_even("sand"), "algae on rock", rock_HW)
    height_HW = coast.height_HW
    land_5HW = _mixed(_even("heath"), "grass", ramp(coast.cover_HW, -0.5, 1.2))
    land_5HW = _mixed(land_5HW, "sand", 0.5 * ramp(-coast.cover_HW, 0.9, 2.2))
    lit_HW = 1 + 0.25 * np.clip(np.gradient(cv2.GaussianBlur(height_HW, (0, 0), 1.5), axis=1) / 4, -1, 1)
    land_5HW = land_5HW * lit_HW
    tide = rng.uniform(0.4, 1.6)
    on_shore_HW = ramp(height_HW, -tide - 0.4, -tide + 0.4)
    on_land_HW = ramp(height_HW, 0.3, 1.6)
    dry_5HW = shore_5HW * (1 - on_land_HW) + land_5HW * on_land_HW
    return np.asarray(sea_5HW * (1 - on_shore_HW) + dry_5HW * on_shore_HW, np.float32)


def _even(surface: str) -> Floats:
    return np.array(REFLECTANCE[surface], np.float32)[:, None, None]


def _mixed(field_5HW: Floats, surface: str, share_HW: Floats) -> Floats:
    """A field of which `share_HW` (0 to 1) is another surface."""
    return np.asarray(field_5HW * (1 - share_HW) + _even(surface) * share_HW, np.float32)


def _crests(near_HW: Floats, rng: np.random.Generator) -> Floats:
    """Reflectance (5, H, W) that waves add: lines across the wind. Near infrared is seen a moment before the others, so a
    crest is bright there where it is dark in red, as kelp is."""
    row, col = np.meshgrid(np.arange(CANVAS[0]), np.arange(CANVAS[1]), indexing="ij")
    across = rng.uniform(0, np.pi)
    length_px = rng.uniform(5.0, 9.0)
    bent_HW = 4 * octaves(rng, 60, 2)
    phase_HW = np.float32(2 * np.pi / length_px) * (np.cos(across) * row + np.sin(across) * col + bent_HW).astype(
        np.float32
    )
    rough_HW = ramp(octaves(rng, 80, 3) + 0.5 * near_HW, 0.5, 1.6) * rng.uniform(0.0, 1.0)
    waves = [np.maximum(np.sin(phase_HW - np.float32(lag)), 0) for lag in (0.9, 0.0, 1.3)]
    sharp = [wave_HW * wave_HW * wave_HW for wave_HW in waves]
    bright = {"SWIR": 0.01 * sharp[0], "NIR": 0.10 * sharp[1], "R": 0.05 * sharp[2]}
    others = 0.045 * sharp[2]
    return np.asarray(np.stack([bright.get(band, others) for band in OPTICAL]) * rough_HW, np.float32)


def _under_sky(ground_5HW: Floats, weather: Weather, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """(reflectance (5, H, W) under glint, haze and clouds, thickness of clouds (H, W) from 0 to 1)."""
    glint = rng.uniform(0, 0.03) * np.array([0.8, 1.0, 1.0, 1.0, 1.0], np.float32)
    haze = rng.uniform(0, 0.035) * np.array([0.1, 0.35, 0.6, 0.8, 1.0], np.float32)
    seen_5HW = ground_5HW * (1 - haze.max()) + (glint + haze)[:, None, None]
    field_HW = octaves(rng, 120, 6)
    if weather.clouds <= 0:
        return np.asarray(seen_5HW, np.float32), np.zeros(CANVAS, np.float32)
    edge = float(np.quantile(field_HW, 1 - min(weather.clouds, 0.999)))
    thick_HW = ramp(field_HW, edge - 0.35, edge + 0.5)
    fall = int(rng.integers(4, 12))
    shadow_HW = np.roll(thick_HW, (fall, -fall), axis=(0, 1)) * (1 - thick_HW)
    seen_5HW = seen_5HW * (1 - 0.55 * shadow_HW)
    bright_HW = 0.75 + 0.2 * octaves(rng, 40, 4)
    return np.asarray(seen_5HW * (1 - thick_HW) + _even("cloud") * bright_HW * thick_HW, np.float32), thick_HW


def _digital_numbers(reflectance_5HW: Floats, rng: np.random.Generator) -> Ints:
    """int32 numbers with the sensor's noise, and lines that are a little too bright or dark."""
    noise = np.float32(0.0022) * rng.standard_normal(reflectance_5HW.shape, np.float32)
    lines = rng.normal(0, 0.0012, (5, CANVAS[0], 1)).astype(np.float32)
    numbers = (reflectance_5HW + noise + lines - OFFSET) / SCALE
    return np.clip(np.rint(numbers), 1, SATURATED - 1).astype(np.int32)


def _flagged(thick_HW: Floats, rng: np.random.Generator) -> Bools:
    """Where QA says cloud: too much at the edges, and now and then not at all."""
    found_HW = (thick_HW > 0.35) & (octaves(rng, 30, 2) > -2.2)
    size = 2 * int(rng.integers(0, 3)) + 1
    return cv2.dilate(found_HW.view(np.uint8), np.ones((size, size), np.uint8)).astype(bool)


def _gaps(rng: np.random.Generator) -> Bools:
    """Wedges between scan lines, which are wider on one side."""
    row, col = np.meshgrid(np.arange(CANVAS[0]), np.arange(CANVAS[1]), indexing="ij")
    every = 33.0
    along_HW = row + 0.16 * col + rng.uniform(0, every)
    width_HW = 2 + rng.uniform(4, 9) * (col if rng.random() < 0.5 else CANVAS[1] - col) / CANVAS[1]
    return np.asarray(along_HW % every < width_HW, bool)


def _half_plane(rng: np.random.Generator) -> Bools:
    """A side of the tile, up to a third of it."""
    row, col = np.meshgrid(np.linspace(-1, 1, CANVAS[0]), np.linspace(-1, 1, CANVAS[1]), indexing="ij")
    towards = rng.uniform(0, 2 * np.pi)
    return np.asarray(np.cos(towards) * row + np.sin(towards) * col > rng.uniform(0.45, 0.9), bool)
