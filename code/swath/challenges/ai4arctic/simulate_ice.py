"""Simulated sea ice as Sentinel-1, AMSR2, a weather model and a chart's author see it, on one swath.

Not a model of physics: enough of it that concentration, age and floes can be told from the bands, and that neither is
told by a threshold. Backscatter by kind of ice follows the ranges of Dierking (Oceanography 26(2), 2013) for C band;
brightness temperatures those of the NASA Team tie points (Cavalieri et al., 2012), between which they are interpolated.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, stats

from swath.challenges.ai4arctic.charts import COLUMNS
from swath.challenges.ai4arctic.product import AMSR2, CELL
from swath.challenges.demo.terrain import drop_specks, fractal_noise, ramp, upper_share

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

LOOKS = 10.7  # equivalent number of looks of Sentinel-1 EW GRDM
NOISE_FLOOR_HV_DB = -29.0
WATER_DB, LAND_DB = (-21.0, -31.0), (-9.0, -15.0)
ICE_DB = ((-19.0, -28.5), (-14.5, -25.0), (-14.0, -24.0), (-13.0, -22.5), (-9.5, -17.5))
"""HH and HV in dB by stage of development: new, young, thin and thick first-year, old ice."""

TENTHS = np.array([0, 1, 3, 5, 7, 9, 10])
"""Concentrations that the chart's author tells apart."""
CONCENTRATION_CODES = {0: 0, 1: 10, 3: 30, 5: 50, 7: 70, 9: 90, 10: 92}
STAGE_CODES = {0: 0, 1: 81, 2: 84, 3: 87, 4: 91, 5: 95}
FLOE_CODES = {0: -9, 1: 2, 2: 3, 3: 4, 4: 5, 5: 6, 6: 10}
BERGS, FAST = 6, 7
"""The last class of forms, and the form that is none: held by the coast."""
STAGE_AGES = (0.15, 0.32, 0.5, 0.72)
"""Ages (0 to 1) at which the next stage of development begins."""

# Kelvin: H and V over open water, first-year ice, old ice, by AMSR2 band.
_WATER_K = ((84, 162), (86, 164), (92, 169), (118, 187), (140, 200), (148, 210), (198, 243))
_YOUNG_K = ((230, 252), (231, 252), (233, 252), (236, 253), (236, 252), (233, 248), (225, 240))
_OLD_K = ((220, 243), (220, 242), (214, 236), (198, 222), (188, 210), (168, 188), (178, 192))

ZONES_KM = (0.0, 0.5, 1, 2, 4, 8, 16, 32, 64, 128)
"""Distances to land at which a zone of the distance map ends; zone 0 is land."""


@dataclass(frozen=True, kw_only=True)
class Swath:
    """One scene before it is written, rows and columns of the SAR's pixels, cells of AMSR2 and the weather model."""

    hh_db_HW: Floats  # NaN beyond the swath's edge
    hv_db_HW: Floats  # NaN where HH is
    zones_HW: Floats  # 0 on land, 1 to 10 by distance from it
    polygons_HW: Floats  # polygon of the chart, NaN on land and where nobody charted
    codes: list[str]  # lines of SIGRID-3 codes, the first one names the columns
    coarse: dict[str, Floats]  # Kelvin, m/s, kg/m2


@dataclass(frozen=True, kw_only=True)
class _Sea:
    """What is there before anyone looks at it, on the SAR's pixels."""

    land_HW: Bools
    ice_HW: Floats  # concentration, 0 to 1
    age_HW: Floats  # 0 to 1
    wind_HW: Floats  # m/s
    cold: float  # 0 in September to 1 in March


def simulate_swath(shape: tuple[int, int], pixel: int, month: int, seed: int) -> Swath:
    """Draw a scene of `shape` pixels of `pixel` metres in a month (1 to 12): most ice is there in March."""
    rngs = [np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(6)]
    unit = 80 / pixel  # lengths below are in pixels of 80 m
    sea = _draw_sea(shape, unit, month, rngs)
    polygons_HW, codes = _chart(sea, max(1, round(4 * unit)), rngs[2])
    stage_HW = _stages(sea.age_HW, unit, rngs[2])
    solid_HW = _floes(sea.ice_HW, unit, rngs[4])
    hh_HW, hv_HW = _backscatter(solid_HW, stage_HW, sea.land_HW, sea.wind_HW, rngs[4])
    outside_HW = _outside(shape, unit, rngs[5])
    for field_HW in (hh_HW, hv_HW, polygons_HW):
        field_HW[outside_HW] = np.nan
    zones_HW = _zones(sea.land_HW, pixel)
    coarse = _coarse(sea, pixel, rngs[5])
    return Swath(
        hh_db_HW=hh_HW, hv_db_HW=hv_HW, zones_HW=zones_HW, polygons_HW=polygons_HW, codes=codes, coarse=coarse
    )  # fmt: skip


def _draw_sea(shape: tuple[int, int], unit: float, month: int, rngs: list[np.random.Generator]) -> _Sea:
    """Draw the coast, the ice and the wind, each from its own generator: those of 0, 1 and 3."""
    cold = 0.5 + 0.5 * np.cos(2 * np.pi * (month - 3) / 12)
    land_HW = _land(shape, unit, rngs[0])
    ice_HW, age_HW = _fields(shape, unit, cold, rngs[1])
    wind_HW = np.abs(6 + 3 * fractal_noise(shape, rngs[3], beta=3.5, longest_px=250 * unit))
    return _Sea(land_HW=land_HW, ice_HW=ice_HW, age_HW=age_HW, wind_HW=wind_HW, cold=cold)


def _land(shape: tuple[int, int], unit: float, rng: np.random.Generator) -> Bools:
    """A coast on one side of most scenes, with islands."""
    slope = np.linspace(-1, 1, shape[1], dtype=np.float32) * rng.choice([-1.5, 1.5])
    height_HW = fractal_noise(shape, rng, beta=3.2, longest_px=300 * unit) + slope
    share = max(0.0, rng.uniform(-0.05, 0.2))
    return drop_specks(upper_share(height_HW, share), round(20 * unit**2))


def _fields(shape: tuple[int, int], unit: float, cold: float, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Concentration (0 to 1) and age (0 to 1): the pack lies on one side, older ice deeper in it."""
    angle = rng.uniform(0, 2 * np.pi)
    rows, cols = np.linspace(-1, 1, shape[0])[:, None], np.linspace(-1, 1, shape[1])[None]
    tilt_HW = (np.cos(angle) * rows + np.sin(angle) * cols).astype(np.float32)
    pack_HW = 1.2 * tilt_HW + 0.6 * fractal_noise(shape, rng, beta=3.4, longest_px=260 * unit)
    pack_HW += np.float32(1.6 * cold - 0.8 + rng.normal(0, 0.25))
    age_HW = 0.55 * ramp(pack_HW, 0.0, 2.2) + 0.2 * fractal_noise(shape, rng, beta=3.4, longest_px=200 * unit)
    return ramp(pack_HW, -0.3, 0.9), np.clip(age_HW + np.float32(0.1 + 0.15 * cold), 0, 1)


def _chart(sea: _Sea, step: int, rng: np.random.Generator) -> tuple[Floats, list[str]]:
    """Polygons and their lines of codes: the author sees smooth fields, and every `step`-th pixel of them."""
    kind_hw = _charted_kinds(sea, step)
    polygons_hw = np.zeros(kind_hw.shape, np.float32)
    codes = [";".join(COLUMNS)]
    for kind in np.unique(kind_hw):
        # Connected parts of one kind are polygons of their own; label() numbers them from 1.
        parts_hw, count = ndimage.label(kind_hw == kind)
        inside_hw = parts_hw > 0
        polygons_hw[inside_hw] = parts_hw[inside_hw] + len(codes) - 1
        about = int(TENTHS[kind // 64]), int(kind // 8 % 8), int(kind % 8)
        for _ in range(count):
            codes.append(_line(len(codes), *about, rng))
    height, width = sea.land_HW.shape
    polygons_HW = np.repeat(np.repeat(polygons_hw, step, axis=0), step, axis=1)[:height, :width]
    return np.where(sea.land_HW, np.float32(np.nan), polygons_HW), codes


def _charted_kinds(sea: _Sea, step: int) -> Ints:
    """Kind of ice of every `step`-th pixel: 64 times the position in `TENTHS`, 8 times the stage, and the form."""
    smooth_hw = ndimage.gaussian_filter(sea.ice_HW[::step, ::step], 3)
    old_hw = ndimage.gaussian_filter(sea.age_HW[::step, ::step], 3)
    near_hw = ndimage.gaussian_filter(sea.land_HW[::step, ::step].astype(np.float32), 5) > 0.15
    tenth_hw = np.digitize(smooth_hw, [0.05, 0.2, 0.4, 0.6, 0.8, 0.95])
    stage_hw = np.where(tenth_hw > 0, 1 + np.digitize(old_hw, STAGE_AGES), 0)
    form_hw = _charted_forms(smooth_hw, old_hw, near_hw, tenth_hw)
    return np.asarray((tenth_hw * 8 + stage_hw) * 8 + form_hw)


def _charted_forms(smooth_hw: Floats, old_hw: Floats, near_hw: Bools, tenth_hw: Ints) -> Ints:
    """Classes of floes, larger where ice is dense and old; bergs in thin old ice, fast ice in full ice near land."""
    is_ice_hw = tenth_hw > 0
    size_hw = 1 + np.digitize(smooth_hw + 0.4 * old_hw, [0.35, 0.6, 0.9, 1.15])
    form_hw = np.where(is_ice_hw, size_hw, 0)
    form_hw = np.where(is_ice_hw & (tenth_hw < 3) & (old_hw > 0.4), BERGS, form_hw)
    return np.where(near_hw & (tenth_hw == len(TENTHS) - 1), FAST, form_hw)


def _line(number: int, tenth: int, stage: int, form: int, rng: np.random.Generator) -> str:
    """A line of codes; some ice is of two stages, and one in ten of those has none that stands for the polygon."""
    if tenth == 0:
        return f"{number};{0 if rng.random() < 0.5 else 55}" + ";-9" * 12 + ";W"
    code, first = CONCENTRATION_CODES[tenth], STAGE_CODES[stage]
    floe = 8 if form == FAST else FLOE_CODES[form]
    if tenth < 5 or rng.random() < 0.6:
        return f"{number};{code};-9;{first};{floe}" + ";-9" * 9 + ";I"
    main = tenth - (4 if rng.random() < 0.1 else 2)
    second = STAGE_CODES[max(1, stage - 1)]
    return f"{number};{code};{10 * main};{first};{floe};{10 * (tenth - main)};{second};2" + ";-9" * 6 + ";I"


def _stages(age_HW: Floats, unit: float, rng: np.random.Generator) -> Ints:
    """Stage of development, 1 to 5, of each pixel: by its age and by patches that no chart shows."""
    patchy_HW = age_HW + 0.06 * fractal_noise(age_HW.shape, rng, beta=2.5, longest_px=30 * unit)
    return np.asarray(1 + np.digitize(patchy_HW, STAGE_AGES))


def _floes(ice_HW: Floats, unit: float, rng: np.random.Generator) -> Bools:
    """Where ice is at all: so much of each place as the concentration says, in large floes and small ones."""
    noise_HW = 0.8 * fractal_noise(ice_HW.shape, rng, beta=2.6, longest_px=40 * unit)
    noise_HW += 0.6 * fractal_noise(ice_HW.shape, rng, beta=2.0, longest_px=10 * unit)
    return np.asarray(noise_HW < stats.norm.ppf(np.clip(ice_HW, 1e-6, 1 - 1e-6)))


def _backscatter(
    solid_HW: Bools, stage_HW: Ints, land_HW: Bools, wind_HW: Floats, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """HH and HV in dB with speckle, `stage_HW` (1 to 5) telling the kind of ice; wind roughens open water, which depends on incidence more than ice does."""
    across_W = np.linspace(-0.5, 0.5, land_HW.shape[1], dtype=np.float32)
    texture_HW = 0.8 * fractal_noise(land_HW.shape, rng, beta=1.4, longest_px=80)
    bands = []
    for band, roughening in ((0, 1.0), (1, 0.25)):
        table = np.array([db[band] for db in ICE_DB], np.float32)
        ice_HW = table[stage_HW - 1] + texture_HW - 4 * across_W
        water_HW = WATER_DB[band] + roughening * 1.2 * (wind_HW - 3) - (14 if band == 0 else 2) * across_W
        db_HW = np.where(land_HW, LAND_DB[band] + 2 * texture_HW, np.where(solid_HW, ice_HW, water_HW))
        floor = 10 ** (NOISE_FLOOR_HV_DB / 10) if band else 0.0
        power_HW = (10 ** (db_HW / 10) + floor) * rng.gamma(LOOKS, 1 / LOOKS, land_HW.shape)
        bands.append((10 * np.log10(power_HW)).astype(np.float32))
    return bands[0], bands[1]


def _outside(shape: tuple[int, int], unit: float, rng: np.random.Generator) -> Bools:
    """Beyond the swath: a slanted strip at each side."""
    left_H = unit * (rng.uniform(2, 12) + rng.uniform(-6, 6) * np.linspace(-0.5, 0.5, shape[0]))
    right_H = shape[1] - unit * (rng.uniform(2, 12) + rng.uniform(-6, 6) * np.linspace(-0.5, 0.5, shape[0]))
    col_W = np.arange(shape[1])
    return (col_W < left_H[:, None]) | (col_W >= right_H[:, None])


def _zones(land_HW: Bools, pixel: int) -> Floats:
    if not land_HW.any():
        return np.full(land_HW.shape, len(ZONES_KM), np.float32)
    km_HW = ndimage.distance_transform_edt(~land_HW) * pixel / 1000
    return np.where(land_HW, 0, np.digitize(km_HW, ZONES_KM)).astype(np.float32)


def _coarse(sea: _Sea, pixel: int, rng: np.random.Generator) -> dict[str, Floats]:
    """Brightness temperatures and weather in cells of `CELL` metres."""
    ice_hw = _cell_means(sea.ice_HW, pixel)
    age_hw = _cell_means(sea.age_HW, pixel)
    land_hw = _cell_means(sea.land_HW.astype(np.float32), pixel)
    wind_hw = _cell_means(sea.wind_HW, pixel)
    found = _brightness(ice_hw, age_hw, land_hw, wind_hw, rng) | _weather(ice_hw, wind_hw, sea.cold, rng)
    return {name: np.asarray(field_hw, dtype=np.float32) for name, field_hw in found.items()}


def _cell_means(field_HW: Floats, pixel: int) -> Floats:
    """Means around the middles of the cells that cover the scene; the last ones may stick out of it."""
    side = CELL // pixel
    blurred_HW = ndimage.uniform_filter(field_HW, side, mode="nearest")
    middles = []
    for length in field_HW.shape:
        cells = -(-length * pixel // CELL)
        middles.append(np.minimum(np.arange(cells) * side + side // 2, length - 1))
    return np.asarray(blurred_HW[np.ix_(*middles)], dtype=np.float32)


def _brightness(
    ice_hw: Floats, age_hw: Floats, land_hw: Floats, wind_hw: Floats, rng: np.random.Generator
) -> dict[str, Floats | Doubles]:
    """Kelvin in each channel of AMSR2: wind warms open water, which ice covers, and land shines in from the coast."""
    tie_points: list[tuple[int, int, int]] = []  # of water, young and old ice, by channel: H, then V of each band
    for water_hv, young_hv, old_hv in zip(_WATER_K, _YOUNG_K, _OLD_K, strict=True):
        tie_points += zip(water_hv, young_hv, old_hv, strict=True)
    kelvin: dict[str, Floats | Doubles] = {}
    for name, (water, young, old) in zip(AMSR2, tie_points, strict=True):
        frozen_hw = young + (old - young) * ramp(age_hw, 0.4, 0.9)
        sea_hw = water + 1.2 * (wind_hw - 6) + (frozen_hw - water - 1.2 * (wind_hw - 6)) * ice_hw
        kelvin[name] = sea_hw + (255 - sea_hw) * land_hw + rng.normal(0, 1.2, ice_hw.shape)
    return kelvin


def _weather(ice_hw: Floats, wind_hw: Floats, cold: float, rng: np.random.Generator) -> dict[str, Floats | Doubles]:
    """Fields of the weather model: m/s, Kelvin and kg/m2; the wind blows one way in the whole scene."""
    turn = rng.uniform(0, 2 * np.pi)
    air_hw = 274 - 22 * cold * (0.35 + 0.65 * ice_hw) + rng.normal(0, 0.3, ice_hw.shape)
    vapour_hw = 3 + 9 * (1 - cold) + rng.normal(0, 0.3, ice_hw.shape)
    cloud_hw = np.clip(0.01 * vapour_hw + rng.normal(0, 0.02, ice_hw.shape), 0, None)
    return {
        "u10m_rotated": wind_hw * np.cos(turn),
        "v10m_rotated": wind_hw * np.sin(turn),
        "t2m": air_hw,
        "skt": air_hw - 1.5 * ice_hw,
        "tcwv": vapour_hw,
        "tclw": cloud_hw,
    }
