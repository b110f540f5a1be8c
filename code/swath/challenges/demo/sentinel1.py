"""Simulated Sentinel-1 flood scenes: GRD-like backscatter of VV and VH on a 10 m grid, with a water mask.

The scenes hold what makes real ones hard for a threshold: sand, tarmac, smooth soil and radar shadow are as
dark as water, wind and standing stubble make water as bright as land, and speckle blurs both. The mean values
are those usually quoted for C band between 30 and 45 degrees of incidence (Ulaby & Dobson, Handbook of Radar
Scattering Statistics for Terrain, 1989; Twele et al., IJRS 37(13), 2016, for Sentinel-1 floods). Speckle is
the multi-look gamma law of Oliver & Quegan, Understanding SAR Images, 2004, chapter 4.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage, special

from swath.challenges.demo.terrain import (
    SMALLEST_BODY_PX,
    Bools,
    Doubles,
    Floats,
    Ints,
    Terrain,
    drop_specks,
    fractal_noise,
    ramp,
    simulate_fields,
    simulate_terrain,
    simulate_water,
    slope_gain,
    upper_share,
)

LOOKS = 4.4  # equivalent number of looks of Sentinel-1 IW GRDH (Sentinel-1 Product Definition, ESA)
NOISE_FLOOR_DB = (-32.0, -30.0)  # noise-equivalent backscatter, best and worst place of the swath

# Mean VV and VH in dB and how often a field has that cover.
CROPS_DB = np.array(  # two cereals, pasture, ploughed soil, fallow, smooth seedbed
    [[-10.5, -16.5], [-9.5, -15.2], [-11.8, -18.2], [-10.0, -19.5], [-13.0, -20.0], [-17.0, -23.8]]
)
CROP_SHARES = np.array([0.26, 0.20, 0.26, 0.13, 0.10, 0.05])
FOREST_DB, SOAKED_DB, GARDEN_DB, SAND_DB = (-8.0, -13.0), (-6.0, -14.0), (-8.5, -15.0), (-20.5, -25.6)
RIVER_DB, FLOOD_DB, TARMAC_DB = (-22.2, -30.8), (-21.8, -30.0), (-18.5, -24.5)
BRIDGE_DB, DAM_DB = (-4.0, -12.0), (-9.0, -16.0)


@dataclass(frozen=True, kw_only=True)
class Landscape:
    """What is on the ground in one area, on a 10 m grid, north up, rows from north to south."""

    water_HW: Bools  # what a mapper would outline: permanent and flood water, the same on all dates
    vv_db_HW: Floats  # mean backscatter (sigma0) in dB without speckle, -33 to +12
    vh_db_HW: Floats  # the same in VH, -40 to +5; the noise floor is added by `acquire`
    height_HW: Floats  # metres above the lowest ground of the area, 0 to about 600


@dataclass(frozen=True, kw_only=True)
class Acquisition:
    """One date over a landscape."""

    vv_HW: Floats  # linear backscatter (sigma0), above 0, NaN outside the swath
    vh_HW: Floats  # the same in VH, NaN where VV is NaN


def simulate_landscape(shape: tuple[int, int], seed: int) -> Landscape:
    """Draw an area of `shape` (rows, columns) pixels of 10 m, 64 or more each way; 6 to 25 % is water."""
    if min(shape) < 64:
        raise ValueError(f"a landscape needs at least 64 x 64 pixels, not {shape[0]} x {shape[1]}")
    *cover_rngs, rng = _generators(seed, 6)
    cover = _draw_cover(shape, cover_rngs)
    db_2HW, road_HW = _lay_land(cover, rng)
    db_2HW += slope_gain(cover.terrain, rng)
    _lay_water(db_2HW, cover.permanent_HW, cover.water_HW, rng)
    crossing_HW = road_HW & cover.water_HW
    _lay(db_2HW, crossing_HW & cover.permanent_HW, BRIDGE_DB, 0.0)
    _lay(db_2HW, crossing_HW & ~cover.permanent_HW, DAM_DB, 0.0)
    vv_db_HW, vh_db_HW = _resolve(db_2HW)
    mapped_HW = drop_specks(cover.water_HW & ~crossing_HW, SMALLEST_BODY_PX)
    return Landscape(water_HW=mapped_HW, vv_db_HW=vv_db_HW, vh_db_HW=vh_db_HW, height_HW=cover.terrain.height_HW)


def acquire(landscape: Landscape, rows: Doubles, cols: Doubles, seed: int) -> Acquisition:
    """Backscatter of one date on the grid of landscape positions `rows` (H,) and `cols` (W,).

    Positions are in landscape pixels, the centre of the first pixel being 0.5; those outside the landscape
    give NaN. The mean fields are interpolated linearly in dB, shifted by soil moisture, by the trend across
    the track and by wind on open water, raised by the thermal noise and multiplied by speckle. The swath ends
    on a slanted line.
    """
    moisture_rng, wind_rng, edge_rng, speckle_rng = _generators(seed, 4)
    wet_HW = _sample(landscape.water_HW.astype(np.float32), rows, cols)
    across_W = np.linspace(-0.5, 0.5, cols.size, dtype=np.float32) * moisture_rng.choice([-1.0, 1.0])
    land_HW = _moisture(wet_HW, across_W, moisture_rng)
    rough_HW = _wind(wet_HW, wind_rng)
    # Water depends more on incidence than land; wind hardly lifts it in VH, which is mostly noise there.
    vv_db_HW = _sample(landscape.vv_db_HW, rows, cols)
    vv_db_HW += land_HW + rough_HW - 1.5 * across_W * wet_HW
    vh_db_HW = _sample(landscape.vh_db_HW, rows, cols)
    vh_db_HW += 0.6 * land_HW + 0.2 * rough_HW
    outside_HW = _unseen(landscape, rows, cols, edge_rng)
    return Acquisition(
        vv_HW=_measure(vv_db_HW, across_W, outside_HW, speckle_rng),
        vh_HW=_measure(vh_db_HW, across_W, outside_HW, speckle_rng),
    )


def _generators(seed: int, count: int) -> list[np.random.Generator]:
    """Independent generators, so that a draw more in one part changes nothing in the others."""
    return [np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(count)]


@dataclass(frozen=True, kw_only=True)
class _Cover:
    """What covers the ground, before anyone looks at it; masks and numbers are (H, W)."""

    terrain: Terrain
    field_HW: Ints
    fields: int
    forest_HW: Bools
    town_HW: Ints  # number of the town, 0 outside
    step_HW: Floats  # metres by which a field lies higher
    permanent_HW: Bools  # rivers and lakes
    water_HW: Bools  # these and the flood
    soaked_HW: Bools  # flooded under plants


def _draw_cover(shape: tuple[int, int], rngs: list[np.random.Generator]) -> _Cover:
    """Draw terrain, fields, forest, towns and water, each from its own one of five generators."""
    terrain = simulate_terrain(shape, rngs[0])
    field_HW, fields = simulate_fields(shape, rngs[1])
    forest_HW = _forest(terrain, field_HW, fields, rngs[2])
    town_HW = _towns(terrain, rngs[3])
    # Low dikes around fields and small differences in level make the flood follow some field edges.
    step_HW = rngs[4].normal(0, 0.3, fields).astype(np.float32)[field_HW]
    share = rngs[4].uniform(0.08, 0.23)
    dry_HW = forest_HW | (town_HW > 0)
    permanent_HW, water_HW, soaked_HW = simulate_water(terrain, step_HW, dry_HW, share, rngs[4])
    return _Cover(
        terrain=terrain, field_HW=field_HW, fields=fields, forest_HW=forest_HW, town_HW=town_HW, step_HW=step_HW,
        permanent_HW=permanent_HW, water_HW=water_HW, soaked_HW=soaked_HW,
    )  # fmt: skip


def _lay_land(cover: _Cover, rng: np.random.Generator) -> tuple[Floats, Bools]:
    """Backscatter of fields, sand, forest, soaked ground, towns and roads in dB, (2, H, W), and the roads, (H, W)."""
    shape = cover.field_HW.shape
    db_2HW = _crops(cover.field_HW, cover.fields, rng)
    _lay_sand(db_2HW, cover.terrain, cover.water_HW, rng)
    _lay(db_2HW, cover.forest_HW, FOREST_DB, 0.8 * fractal_noise(shape, rng, beta=1.2, longest_px=60))
    # Water under trees and on the higher fields, where stalks stand out of it, returns more than dry ground.
    bright_HW = cover.soaked_HW & (cover.forest_HW | (cover.step_HW > 0.1))
    _lay(db_2HW, bright_HW, SOAKED_DB, rng.normal(0, 0.7, shape))
    _lay_towns(db_2HW, cover.town_HW, rng)
    road_HW = _roads(cover.town_HW, rng)
    _lay(db_2HW, road_HW, TARMAC_DB, 0.0)
    return db_2HW, road_HW


def _lay(db_2HW: Floats, mask_HW: Bools, mean_db: tuple[float, float], texture_HW: Floats | Doubles | float) -> None:
    """Overwrite both bands (2, H, W) on a mask, in place; the texture (dB) is common to the bands."""
    texture = np.broadcast_to(texture_HW, mask_HW.shape)[mask_HW]
    for band, mean in enumerate(mean_db):
        db_2HW[band][mask_HW] = mean + texture


def _crops(field_HW: Ints, count: int, rng: np.random.Generator) -> Floats:
    """Backscatter of the fields in dB, (2, H, W)."""
    kind = rng.choice(len(CROP_SHARES), size=count, p=CROP_SHARES)
    level = CROPS_DB[kind] + rng.normal(0, 0.6, (count, 1)) + rng.normal(0, 0.4, (count, 2))
    texture_HW = 0.4 * fractal_noise((field_HW.shape[0], field_HW.shape[1]), rng, beta=1.5, longest_px=60)
    db_2HW = np.stack([level[:, band].astype(np.float32)[field_HW] + texture_HW for band in range(2)])
    edge_HW = (field_HW != np.roll(field_HW, 1, axis=0)) | (field_HW != np.roll(field_HW, 1, axis=1))
    hedge_HW = edge_HW & (rng.random(count) < 0.25)[field_HW]
    db_2HW += np.where(hedge_HW, np.float32(1.5), np.float32(0))
    farm_HW = rng.random(field_HW.shape) < 1.5e-4
    _lay(db_2HW, farm_HW, (3.0, -5.0), rng.normal(0, 3, field_HW.shape).clip(-6, 6))
    return db_2HW.astype(np.float32)


def _forest(terrain: Terrain, field_HW: Ints, count: int, rng: np.random.Generator) -> Bools:
    """Forest on steep ground, woods with ragged edges and whole wooded fields, (H, W)."""
    shape = terrain.hand_HW.shape
    score_HW = fractal_noise((shape[0], shape[1]), rng, beta=2.8, longest_px=110) + 0.9 * terrain.hilly_HW
    woods_HW = upper_share(score_HW, rng.uniform(0.05, 0.16))
    return np.asarray(woods_HW | (rng.random(count) < 0.03)[field_HW], dtype=np.bool_) & ~terrain.river_HW


def _towns(terrain: Terrain, rng: np.random.Generator) -> Ints:
    """Number of the town each pixel belongs to, 0 outside towns, (H, W)."""
    shape = terrain.hand_HW.shape
    town_HW = np.zeros(shape, dtype=np.int64)
    warp_HW = fractal_noise((shape[0], shape[1]), rng, beta=2.0, longest_px=60)
    for number in range(1, 2 + round(shape[0] * shape[1] / 7e4)):
        row, col = rng.uniform(0, 1, 2) * shape
        radius = min(5 + rng.gamma(2.0, 5.0), 60, 0.12 * min(shape))
        top, left = max(0, int(row - 3 * radius)), max(0, int(col - 3 * radius))
        low, right = min(shape[0], int(row + 3 * radius) + 1), min(shape[1], int(col + 3 * radius) + 1)
        window = (slice(top, low), slice(left, right))
        rows, cols = np.ogrid[window]
        ground = (terrain.hand_HW[window] > 1.0) & (terrain.hilly_HW[window] < 0.3)
        r = np.hypot(rows - row, cols - col) / radius
        town_HW[window][(r + 0.45 * warp_HW[window] < 0.8) & ground] = number
    return town_HW


def _lay_towns(db_2HW: Floats, town_HW: Ints, rng: np.random.Generator) -> None:
    """Gardens with houses along streets that have one direction per town, in place."""
    _lay(db_2HW, town_HW > 0, GARDEN_DB, rng.normal(0, 1.0, town_HW.shape))
    for number, window in enumerate(ndimage.find_objects(town_HW), start=1):
        if window is None:
            continue
        rows, cols = np.ogrid[window]
        angle = rng.uniform(0, np.pi / 2)
        u = cols * np.cos(angle) + rows * np.sin(angle)
        v = rows * np.cos(angle) - cols * np.sin(angle)
        street = (np.mod(u, 9) < 2) | (np.mod(v, 13) < 2)
        house = (town_HW[window] == number) & ~street & (rng.random(street.shape) < 0.5)
        # Walls square to the beam return most: towns turned away from it are several dB darker in VV.
        facing = 3.0 * np.cos(2 * angle) ** 2 - 2.0
        bright = (-2.0 + facing, -9.0 + 0.3 * facing)
        _lay(db_2HW[(slice(None), *window)], house, bright, rng.gamma(1.5, 2.6, street.shape).clip(0, 14) - 2.5)


def _roads(town_HW: Ints, rng: np.random.Generator) -> Bools:
    """Roads one or two pixels wide between neighbouring towns, (H, W)."""
    road_HW = np.zeros(town_HW.shape, dtype=np.bool_)
    numbers = np.unique(town_HW)[1:]
    place_K2 = np.array(ndimage.center_of_mass(town_HW > 0, town_HW, numbers)).reshape(-1, 2)
    last_2 = np.array(town_HW.shape) - 1
    for k in range(1, len(place_K2)):
        squared = ((place_K2[:k] - place_K2[k]) ** 2).sum(axis=1)
        line_S2 = _winding_line(place_K2[k], place_K2[np.argmin(squared)], rng)
        row_S, col_S = np.clip(line_S2, 0, last_2).T
        road_HW[row_S, col_S] = True
        if rng.random() < 0.4:
            road_HW[np.minimum(row_S + 1, last_2[0]), col_S] = True
    return road_HW


def _winding_line(start: Doubles, end: Doubles, rng: np.random.Generator) -> Ints:
    """Pixels (S, 2) on a line from one (row, column) to another, which sways most in its middle."""
    steps = 2 * int(np.hypot(*(end - start))) + 8
    s = np.linspace(0, 1, steps)[:, None]
    sway = ndimage.gaussian_filter1d(rng.normal(0, 1, steps), steps / 10) * s[:, 0] * (1 - s[:, 0])
    line_S2 = start + s * (end - start) + 2.5 * steps * sway[:, None] * rng.permutation([1.0, 0.3])
    return line_S2.astype(np.int64)


def _lay_sand(db_2HW: Floats, terrain: Terrain, water_HW: Bools, rng: np.random.Generator) -> None:
    """Salt flats, sand and an airstrip, smooth and dry and as dark as water, in place."""
    shape = (water_HW.shape[0], water_HW.shape[1])
    score_HW = fractal_noise(shape, rng, beta=3.3, longest_px=150) - 4 * terrain.hilly_HW
    score_HW[water_HW] = -np.inf
    sand_HW = upper_share(score_HW, float(water_HW.mean()) * rng.uniform(0.25, 0.5))
    mottle_HW = 1.0 * fractal_noise(shape, rng, beta=2.2, longest_px=40)
    _lay(db_2HW, sand_HW, SAND_DB, mottle_HW)
    row_HW, col_HW = np.ogrid[: shape[0], : shape[1]]
    centre, angle = rng.uniform(0.2, 0.8, 2) * shape, rng.uniform(0, np.pi)
    along = (col_HW - centre[1]) * np.cos(angle) + (row_HW - centre[0]) * np.sin(angle)
    across = (row_HW - centre[0]) * np.cos(angle) - (col_HW - centre[1]) * np.sin(angle)
    strip_HW = (np.abs(along) < min(110, 0.2 * min(shape))) & (np.abs(across) < 2.6)
    _lay(db_2HW, strip_HW & (terrain.hilly_HW < 0.05) & (rng.random() < 0.6), TARMAC_DB, -2.0)


def _lay_water(db_2HW: Floats, permanent_HW: Bools, water_HW: Bools, rng: np.random.Generator) -> None:
    """Rivers and lakes, then the flood, parts of which stand shallow between stubble and reeds, in place."""
    shape = (water_HW.shape[0], water_HW.shape[1])
    calm_HW = 0.7 * fractal_noise(shape, rng, beta=3.0, longest_px=90)
    _lay(db_2HW, permanent_HW, RIVER_DB, calm_HW)
    _lay(db_2HW, water_HW & ~permanent_HW, FLOOD_DB, calm_HW)
    reeds_HW = fractal_noise(shape, rng, beta=2.2, longest_px=50)
    stubble_HW = ramp(reeds_HW, 0.9, 1.9) * (water_HW & ~permanent_HW)
    db_2HW += np.stack([6.0 * stubble_HW, 4.0 * stubble_HW])
    ship_HW = permanent_HW & (rng.random(shape) < 2e-4)
    _lay(db_2HW, ship_HW, (5.0, -4.0), rng.normal(0, 3, shape).clip(-6, 6))


def _resolve(db_2HW: Floats) -> Floats:
    """Blur of the 20 m resolution on the 10 m grid, in linear power, (2, H, W) dB."""
    power_2HW = np.exp(db_2HW * np.float32(np.log(10) / 10))
    blurred_2HW = ndimage.gaussian_filter(power_2HW, (0, 0.7, 0.7), truncate=3)
    return np.asarray(10 * np.log10(np.maximum(blurred_2HW, 1e-5)), dtype=np.float32)


def _sample(field_HW: Floats, rows: Doubles, cols: Doubles) -> Floats:
    """Linear interpolation of a field at pixel positions (centres at .5), (rows.size, cols.size)."""
    for axis, at in enumerate((rows, cols)):
        place = np.clip(at - 0.5, 0, field_HW.shape[axis] - 1)
        first = np.minimum(place.astype(np.int64), field_HW.shape[axis] - 2)
        part = (place - first).astype(np.float32)
        part = part[:, None] if axis == 0 else part[None, :]
        field_HW = np.take(field_HW, first, axis) * (1 - part) + np.take(field_HW, first + 1, axis) * part
    return np.asarray(field_HW, dtype=np.float32)


def _moisture(wet_HW: Floats, across_W: Floats, rng: np.random.Generator) -> Doubles:
    """Gain of land in dB (H, W) by soil moisture on this date and by the trend across the track, 0 on water."""
    moist_HW = rng.normal(0, 0.8) + 0.5 * fractal_noise(wet_HW.shape, rng, beta=2.5, longest_px=200)
    return np.asarray((moist_HW - rng.uniform(0.2, 1.0) * across_W) * (1 - wet_HW))


def _wind(wet_HW: Floats, rng: np.random.Generator) -> Floats:
    """Gain of VV in dB (H, W), 0 to about 9, where wind roughens open water on this date."""
    shape = (wet_HW.shape[0], wet_HW.shape[1])
    gust_HW = fractal_noise(shape, rng, beta=3.2, longest_px=180)
    calm = rng.uniform(-0.2, 1.4)
    # Waves need fetch: narrow channels and shores stay smooth.
    fetch_HW = ramp(ndimage.uniform_filter(wet_HW, 11), 0.35, 0.9)
    return np.asarray(wet_HW * fetch_HW * 8.5 * ramp(gust_HW, calm - 0.3, calm + 0.9), dtype=np.float32)


def _beyond_swath(shape: tuple[int, int], rng: np.random.Generator) -> Bools:
    """True beyond the slanted edge of the swath: 2 to 12 % of the scene at a side or 1 to 4 % at a corner."""
    corner = bool(rng.random() < 0.3)
    share = rng.uniform(0.01, 0.04) if corner else rng.uniform(0.02, 0.12)
    # Tracks lean 8 to 14 degrees from north; the far ends of a slice cut the scene across.
    lean, across = np.deg2rad(rng.uniform(8, 14)), rng.choice([0.0, 0.5]) * np.pi
    angle = rng.uniform(0.2, 0.3) * np.pi if corner else lean + across
    signs = rng.choice([-1.0, 1.0], 2)
    row_H, col_W = np.linspace(-1, 1, shape[0]), np.linspace(-1, 1, shape[1]) * shape[1] / shape[0]
    depth_HW = signs[0] * np.sin(angle) * row_H[:, None] + signs[1] * np.cos(angle) * col_W[None, :]
    return np.asarray(depth_HW > np.quantile(depth_HW, 1 - share), dtype=np.bool_)


def _unseen(landscape: Landscape, rows: Doubles, cols: Doubles, rng: np.random.Generator) -> Bools:
    """True at the positions (H, W) beyond the swath or beyond the landscape."""
    height, width = landscape.water_HW.shape
    beyond_H = (rows < 0) | (rows > height)
    beyond_W = (cols < 0) | (cols > width)
    return _beyond_swath((rows.size, cols.size), rng) | beyond_H[:, None] | beyond_W[None, :]


def _measure(db_HW: Floats, across_W: Floats, outside_HW: Bools, rng: np.random.Generator) -> Floats:
    """Linear backscatter (H, W) with thermal noise and speckle, NaN outside, from mean dB without them."""
    low, high = NOISE_FLOOR_DB
    floor_W = 10 ** ((low + (high - low) * (2 * across_W) ** 2) / 10)
    mean_HW = np.exp(db_HW * np.float32(np.log(10) / 10)) + floor_W
    power_HW = mean_HW * _speckle(db_HW.shape, rng)
    return np.where(outside_HW, np.float32(np.nan), power_HW).astype(np.float32)


def _speckle(shape: tuple[int, int], rng: np.random.Generator) -> Floats:
    """Gamma noise (H, W) of mean 1 and variance 1 / LOOKS, correlated by about 0.3 between neighbours."""
    # Correlated Gaussian noise carried to the gamma law by its distribution function keeps the law exact.
    side = 0.155
    normal_HW = rng.standard_normal((shape[0] + 2, shape[1] + 2), dtype=np.float32)
    normal_HW = normal_HW[1:-1] + side * (normal_HW[:-2] + normal_HW[2:])
    normal_HW = normal_HW[:, 1:-1] + side * (normal_HW[:, :-2] + normal_HW[:, 2:])
    normal_HW /= 1 + 2 * side**2
    at = np.linspace(-5.5, 5.5, 2048)
    law = special.gammaincinv(LOOKS, special.ndtr(at)) / LOOKS
    return np.asarray(np.interp(normal_HW, at, law), dtype=np.float32)
