"""Relief, drainage, flood extent and field pattern for the simulated Sentinel-1 scenes of `demo`.

Lengths are in pixels of 10 m unless a name says metres. Everything is drawn from the generators passed in.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage, sparse

PIXEL_M = 10.0
INCIDENCE_DEG = 39.0  # middle of the Sentinel-1 IW swath, 29 to 46 degrees
COARSE_PX = 8  # spacing of the grid on which streams are routed
RIVER_STEP_PX = 0.4  # between two points of a river's centre line
SMALLEST_BODY_PX = 12  # mappers rarely outline less than about 0.1 ha

Bools = NDArray[np.bool_]
Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Terrain:
    """Relief and permanent rivers of one area, each array on the same 10 m grid."""

    height_HW: Floats  # metres above the lowest ground
    hand_HW: Floats  # height above nearest drainage, metres, >= 0
    hilly_HW: Floats  # 0 in the plain .. 1 in the hills
    river_HW: Bools  # main river, wide tributaries and oxbow lakes


def fractal_noise(shape: tuple[int, int], rng: np.random.Generator, *, beta: float, longest_px: float) -> Floats:
    """Isotropic Gaussian field (H, W), zero mean, unit deviation, power spectrum ~ f**-beta.

    The spectrum is flat above wavelengths of `longest_px`. Relief has beta of 3 to 4 (Turcotte, Fractals and
    Chaos in Geology and Geophysics, 1997).
    """
    # The extra rows and columns keep the wrap-around of the transform out of the picture.
    padded = [fft.next_fast_len(n + 48, real=True) for n in shape]
    spectrum = fft.rfft2(rng.standard_normal(padded, dtype=np.float32))
    f2 = fft.fftfreq(padded[0])[:, None] ** 2 + fft.rfftfreq(padded[1])[None, :] ** 2
    spectrum *= ((f2 + longest_px**-2.0) ** (-beta / 4)).astype(np.float32)
    noise_HW = np.asarray(fft.irfft2(spectrum, s=padded)[: shape[0], : shape[1]], dtype=np.float32)
    return np.asarray((noise_HW - noise_HW.mean()) / noise_HW.std(), dtype=np.float32)


def ramp(x: Floats, low: float, high: float) -> Floats:
    """Smooth step: 0 below `low`, 1 above `high`, any shape."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), dtype=np.float32)


def upper_share(score_HW: Floats, share: float) -> Bools:
    """The `share` (0..1) of pixels with the highest score, -inf excluded."""
    if share <= 0:
        return np.zeros(score_HW.shape, dtype=np.bool_)
    cut = np.partition(score_HW, -max(1, round(share * score_HW.size)), axis=None)
    return np.asarray((score_HW >= cut[-max(1, round(share * score_HW.size))]) & np.isfinite(score_HW))


def drop_specks(mask_HW: Bools, smallest_px: int) -> Bools:
    """Remove the bodies (8-connected) of fewer than `smallest_px` pixels."""
    labels_HW, _ = ndimage.label(mask_HW, structure=np.ones((3, 3)))
    return np.asarray(mask_HW & (np.bincount(labels_HW.ravel()) >= smallest_px)[labels_HW], dtype=np.bool_)


def simulate_terrain(shape: tuple[int, int], rng: np.random.Generator) -> Terrain:
    """Relief with a drainage network: a meandering river, oxbow lakes and a tree of tributaries."""
    main_HW, oxbow_HW, course_P2 = _main_river(shape, rng)
    roughness_HW = fractal_noise(shape, rng, beta=4.2, longest_px=420)
    stream_HW, to_stream_HW = _streams(_tributaries(shape, roughness_HW, course_P2, rng), rng)
    to_main_HW = ndimage.distance_transform_edt(~main_HW)
    # The flood plain of the main river is three times as wide as those of its tributaries.
    reach_HW = np.minimum(to_main_HW, 3 * to_stream_HW + 25).astype(np.float32)
    away_HW = np.minimum(to_main_HW, to_stream_HW).astype(np.float32)
    hand_HW, hilly_HW = _relief(reach_HW, away_HW, roughness_HW, rng)
    river_HW = main_HW | oxbow_HW | stream_HW
    return Terrain(height_HW=_tilted(hand_HW, rng), hand_HW=hand_HW, hilly_HW=hilly_HW, river_HW=river_HW)


def simulate_water(
    terrain: Terrain, step_HW: Floats, dry_HW: Bools, share: float, rng: np.random.Generator
) -> tuple[Bools, Bools, Bools]:
    """Permanent water, all open water, and flooded ground under plants, each (H, W).

    `step_HW` (metres) lifts or lowers single fields, so that the flood stops at banks; `dry_HW` marks ground
    with standing plants or houses, which is never open water; `share` (0..1) is the wanted open-water share.
    """
    shape = terrain.hand_HW.shape
    hollow_HW = fractal_noise(shape, rng, beta=3.4, longest_px=140) - 3 * terrain.hilly_HW
    lake_HW = upper_share(hollow_HW, min(rng.uniform(0.005, 0.03), 0.2 * share))
    permanent_HW = drop_specks(terrain.river_HW | lake_HW, SMALLEST_BODY_PX)
    ragged_HW = 0.5 * fractal_noise(shape, rng, beta=3.0, longest_px=110)
    level_HW = terrain.hand_HW + ragged_HW + step_HW
    score_HW = np.where(permanent_HW | dry_HW, np.float32(-np.inf), -level_HW)
    flood_HW = upper_share(score_HW, share - float(permanent_HW.mean()))
    crest = float(level_HW[flood_HW].max()) if flood_HW.any() else 0.0
    # Mappers outline neither puddles nor islands of a few pixels.
    open_HW = ~drop_specks(~(permanent_HW | flood_HW), SMALLEST_BODY_PX)
    open_HW = drop_specks(np.asarray(open_HW, dtype=np.bool_), SMALLEST_BODY_PX)
    soaked_HW = (level_HW < crest + 0.15) & ~open_HW & (terrain.hand_HW < crest + 1.5)
    return permanent_HW, open_HW, np.asarray(soaked_HW, dtype=np.bool_)


def slope_gain(terrain: Terrain, rng: np.random.Generator) -> Floats:
    """Gain in dB (2, H, W) of slopes: bright fronts, dark backs, shadow, for a look to the east or west."""
    east = bool(rng.random() < 0.5)
    height_HW = terrain.height_HW if east else terrain.height_HW[:, ::-1]
    smooth_HW = ndimage.gaussian_filter(height_HW, 0.8)
    rise_HW = np.arctan(np.gradient(smooth_HW, PIXEL_M, axis=1))
    incidence = np.deg2rad(INCIDENCE_DEG)
    local_HW = np.clip(incidence - rise_HW, np.deg2rad(9), np.deg2rad(89))
    # Area of ground in a slant-range cell over that of flat ground (Ulander, IEEE TGRS 34(5), 1996), and a
    # cosine law for what the ground itself returns.
    gain_HW = 10 * np.log10(np.sin(incidence) / np.sin(local_HW) * np.cos(local_HW) / np.cos(incidence))
    ray_HW = smooth_HW + np.arange(height_HW.shape[1]) * PIXEL_M / np.tan(incidence)
    hidden_HW = ray_HW < np.maximum.accumulate(ray_HW, axis=1) - 1.0
    gain_HW = np.clip(gain_HW, -9, 9)
    pair = [np.where(hidden_HW, -11.0, gain_HW), np.where(hidden_HW, -13.0, 0.8 * gain_HW)]
    pair_2HW = np.stack(pair if east else [p[:, ::-1] for p in pair]).astype(np.float32)
    return np.asarray(pair_2HW * (terrain.hilly_HW > 0.01), dtype=np.float32)


def simulate_fields(shape: tuple[int, int], rng: np.random.Generator) -> tuple[Ints, int]:
    """Field number of each pixel (H, W) and how many there are: 50 to 300 m long, turned by district."""
    districts = max(2, round(shape[0] * shape[1] / 7e4))
    centre_K2 = rng.uniform(0, 1, (districts, 2)) * shape
    row_HW, col_HW = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    row_HW += 14 * fractal_noise(shape, rng, beta=3.0, longest_px=160)
    col_HW += 14 * fractal_noise(shape, rng, beta=3.0, longest_px=160)
    nearest_HW = np.full(shape, np.inf, dtype=np.float32)
    district_HW = np.zeros(shape, dtype=np.int64)
    for k, centre in enumerate(centre_K2):
        d2_HW = (row_HW - np.float32(centre[0])) ** 2 + (col_HW - np.float32(centre[1])) ** 2
        closer_HW = d2_HW < nearest_HW
        nearest_HW[closer_HW], district_HW[closer_HW] = d2_HW[closer_HW], k
    field_HW = np.zeros(shape, dtype=np.int64)
    count = 0
    for k in range(districts):
        here = np.nonzero(district_HW == k)
        if here[0].size == 0:
            continue
        field_HW[here], used = _strips(here[0], here[1], rng)
        field_HW[here] += count
        count += used
    return field_HW, max(count, 1)


def _smooth_line(n: int, length_px: float, rng: np.random.Generator) -> Doubles:
    """Correlated 1-D noise (n,) along a river, unit deviation before sampling error, correlated over `length_px`."""
    sigma = length_px / RIVER_STEP_PX
    noise = ndimage.gaussian_filter1d(rng.standard_normal(n + 8 * int(sigma)), sigma)[4 * int(sigma) :][:n]
    return np.asarray(noise * np.sqrt(2 * np.sqrt(np.pi) * sigma), dtype=np.float64)


@dataclass(frozen=True, kw_only=True)
class _Valley:
    """The line about which a river swings, with a point for every step of the river."""

    along_P: Doubles  # pixels along the valley from its middle
    wander_P: Doubles  # pixels off the straight line
    middle_2: Doubles  # row, column
    angle: float  # of the valley against the columns, radians

    def course(self, phase_P: Doubles, swing_P: Doubles) -> Doubles:
        """Centre line (P, 2) of a river `swing_P` pixels to either side whose loops lean back (Leopold & Wolman 1960)."""
        along_P = self.along_P - 0.36 * swing_P * np.sin(2 * phase_P)
        across_P = self.wander_P + swing_P * np.sin(phase_P)
        axis_2 = np.array([np.sin(self.angle), np.cos(self.angle)])
        normal_2 = np.array([np.cos(self.angle), -np.sin(self.angle)])
        return self.middle_2 + along_P[:, None] * axis_2 + across_P[:, None] * normal_2


def _main_river(shape: tuple[int, int], rng: np.random.Generator) -> tuple[Bools, Bools, Doubles]:
    """River mask, oxbow mask and river centre line (P, 2) as (row, column)."""
    width = min(rng.uniform(6, 18), 0.05 * min(shape))
    valley = _draw_valley(shape, rng)
    phase_P, swing_P, half_width_P = _meanders(valley.along_P.size, width, rng)
    course_P2 = valley.course(phase_P, swing_P)
    # Oxbow lakes are cut-off bends of an older course, moved along the valley and wider than those of today.
    cut_off_P = _cut_off(phase_P, rng)
    moved_P = 0.5 * _smooth_line(phase_P.size, 6 * width, rng)
    old_P2 = valley.course(phase_P + moved_P, swing_P * 1.15 + 0.9 * width)
    oxbow_HW = _paint(shape, old_P2[cut_off_P], 0.62 * half_width_P[cut_off_P])
    return _paint(shape, course_P2, half_width_P), oxbow_HW, course_P2


def _draw_valley(shape: tuple[int, int], rng: np.random.Generator) -> _Valley:
    """A valley of any direction through the middle of the area, long enough to leave it at both ends."""
    diagonal = float(np.hypot(*shape))
    along_P = np.arange(-0.75 * diagonal, 0.75 * diagonal, RIVER_STEP_PX)
    angle = rng.uniform(0, np.pi)
    middle_2 = np.array(shape) * rng.uniform(0.35, 0.65, 2)
    wander_P = 0.045 * diagonal * _smooth_line(along_P.size, 0.1 * diagonal, rng)
    return _Valley(along_P=along_P, wander_P=wander_P, middle_2=middle_2, angle=angle)


def _meanders(points: int, width: float, rng: np.random.Generator) -> tuple[Doubles, Doubles, Doubles]:
    """Phase (radians, 2 pi a meander), swing to either side and half width (pixels) of a river, each (points,)."""
    length_P = width * 11 * np.exp(0.28 * _smooth_line(points, 12 * width, rng))  # Leopold & Wolman (1960)
    phase_P = np.cumsum(2 * np.pi * RIVER_STEP_PX / length_P)
    swing_P = length_P * np.clip(0.2 + 0.11 * _smooth_line(points, 14 * width, rng), 0.03, 0.36)
    half_width_P = 0.5 * width * (1 + 0.15 * _smooth_line(points, 3 * width, rng)).clip(0.6, 1.5)
    return phase_P, swing_P, half_width_P


def _cut_off(phase_P: Doubles, rng: np.random.Generator) -> Bools:
    """Which points lie in a bend that was cut off, away from the crossings between bends, (P,)."""
    bend_P = np.floor(phase_P / np.pi).astype(np.int64)
    is_cut_off_B = rng.random(int(bend_P.max()) + 1) < 0.45
    return np.asarray(is_cut_off_B[bend_P] & (np.sin(phase_P) ** 2 > rng.uniform(0.15, 0.4)), dtype=np.bool_)


def _paint(shape: tuple[int, int], line_P2: Doubles, half_width_P: Doubles) -> Bools:
    """Mask of the pixels within `half_width_P` of the centre line (P, 2)."""
    value_HW = np.zeros(shape, dtype=np.float32)
    inside = ((line_P2 >= 0) & (line_P2 < shape)).all(axis=1)
    cells = line_P2[inside].astype(np.int64)
    value_HW[cells[:, 0], cells[:, 1]] = half_width_P[inside]
    if not inside.any():
        return np.zeros(shape, dtype=np.bool_)
    distance_HW, nearest = ndimage.distance_transform_edt(value_HW == 0, return_indices=True)
    return np.asarray(distance_HW <= value_HW[tuple(nearest)], dtype=np.bool_)


def _tributaries(shape: tuple[int, int], roughness_HW: Floats, course_P2: Doubles, rng: np.random.Generator) -> Floats:
    """Half widths (pixels) along the centre lines of the tributaries, 0 elsewhere, (H, W).

    Streams are the cheapest ways to the main river, as wide as the root of drained area (Leopold & Maddock 1953).
    """
    rough_hw = roughness_HW[::COARSE_PX, ::COARSE_PX]
    nodes = rough_hw.shape
    cost_N = np.exp(0.9 * rough_hw + 0.6 * rng.standard_normal(nodes)).ravel()
    graph, mouths = _grid_graph(nodes, cost_N), _mouths(course_P2, nodes)
    far_N, down_N, _ = sparse.csgraph.dijkstra(graph, indices=mouths, min_only=True, return_predecessors=True)
    area_N, up_N = _accumulate(far_N, down_N)
    place_N2, next_N2 = _node_places(nodes, down_N, up_N, rng)
    stream_N = (area_N > 40) & (down_N >= 0)
    half_width_N = np.minimum(0.03 * np.sqrt(area_N[stream_N]), 2.5)
    return _draw_links(shape, place_N2[stream_N], next_N2[stream_N], half_width_N)


def _mouths(course_P2: Doubles, nodes: tuple[int, int]) -> Ints:
    """Routing nodes, counted row by row, on the main river; if it misses the area, the middle of the first row."""
    cell_P2 = (course_P2 // COARSE_PX).astype(np.int64)
    cell_P2 = cell_P2[((cell_P2 >= 0) & (cell_P2 < nodes)).all(axis=1)]
    return np.unique(cell_P2[:, 0] * nodes[1] + cell_P2[:, 1]) if len(cell_P2) else np.array([nodes[1] // 2])


def _accumulate(far_N: Doubles, down_N: Ints) -> tuple[Doubles, Ints]:
    """Drained area of each node, in nodes, and its largest feeder, at a source the node itself, both (N,)."""
    area_N, up_N, largest_N = np.ones(far_N.size), np.arange(far_N.size), np.zeros(far_N.size)
    for node in np.argsort(-far_N):  # farthest first: the area of a node is complete when it is passed down
        below = down_N[node]
        if below >= 0:
            area_N[below] += area_N[node]
            if area_N[node] > largest_N[below]:
                largest_N[below], up_N[below] = area_N[node], node
    return area_N, up_N


def _node_places(nodes: tuple[int, int], down_N: Ints, up_N: Ints, rng: np.random.Generator) -> tuple[Doubles, Doubles]:
    """Places (N, 2) of the routing nodes and of those below them, moved so that streams do not show the grid."""
    below_N = np.where(down_N >= 0, down_N, np.arange(down_N.size))
    place_N2 = (np.stack(np.divmod(np.arange(down_N.size), nodes[1]), axis=1) + 0.5) * COARSE_PX
    place_N2 += rng.normal(0, 0.45 * COARSE_PX, place_N2.shape)
    for _ in range(4):  # takes the corners of the grid out of the lines
        place_N2 = 0.4 * place_N2 + 0.3 * place_N2[below_N] + 0.3 * place_N2[up_N]
    return place_N2, place_N2[below_N]


def _draw_links(shape: tuple[int, int], from_N2: Doubles, to_N2: Doubles, half_width_N: Doubles) -> Floats:
    """Half widths (pixels) on the pixels that straight links cross, the largest where links meet, 0 elsewhere."""
    s = np.linspace(0, 1, 4 * COARSE_PX)[:, None, None]
    line_SN2 = (1 - s) * from_N2 + s * to_N2
    inside_SN = ((line_SN2 >= 0) & (line_SN2 < shape)).all(axis=2)
    cell_P2 = line_SN2[inside_SN].astype(np.int64)
    half_width_P = np.broadcast_to(half_width_N, inside_SN.shape)[inside_SN].astype(np.float32)
    half_width_HW = np.zeros(shape, dtype=np.float32)
    np.maximum.at(half_width_HW, (cell_P2[:, 0], cell_P2[:, 1]), half_width_P)
    return half_width_HW


def _grid_graph(nodes: tuple[int, int], cost_N: Doubles) -> sparse.csr_array:
    """Links between 8-neighbours of a grid, weighted by length times mean cost."""
    index = np.arange(nodes[0] * nodes[1]).reshape(nodes)
    pairs = [
        (index[:, :-1], index[:, 1:], 1.0),
        (index[:-1], index[1:], 1.0),
        (index[:-1, :-1], index[1:, 1:], np.sqrt(2)),
        (index[:-1, 1:], index[1:, :-1], np.sqrt(2)),
    ]
    a = np.concatenate([p[0].ravel() for p in pairs])
    b = np.concatenate([p[1].ravel() for p in pairs])
    length = np.concatenate([np.full(p[0].size, p[2]) for p in pairs])
    weight = length * (cost_N[a] + cost_N[b]) / 2
    both = (np.concatenate([weight, weight]), (np.concatenate([a, b]), np.concatenate([b, a])))
    return sparse.csr_array(both, shape=(cost_N.size, cost_N.size))


def _streams(half_width_HW: Floats, rng: np.random.Generator) -> tuple[Bools, Doubles]:
    """Streams as open water and distance (pixels) to the nearest one, (H, W), from half widths on centre lines."""
    on_line_HW = half_width_HW > 0
    distance_HW = np.full(on_line_HW.shape, 1e4)
    if on_line_HW.any():
        distance_HW, nearest = ndimage.distance_transform_edt(~on_line_HW, return_indices=True)
        half_width_HW = half_width_HW[tuple(nearest)]
    edge_HW = np.minimum(0.35 * fractal_noise(on_line_HW.shape, rng, beta=1.5, longest_px=20), 0.5 * half_width_HW)
    # Streams under about 17 m are hidden by the plants on their banks: nobody maps them as open water.
    return (half_width_HW > 0.85) & (distance_HW <= half_width_HW + edge_HW), distance_HW


def _tilted(hand_HW: Floats, rng: np.random.Generator) -> Floats:
    """Height (metres above the lowest ground) of an area that also falls by up to 2 m a kilometre each way."""
    tilt = rng.uniform(-2e-3, 2e-3, 2) * PIXEL_M
    height_HW = hand_HW + tilt[0] * np.arange(hand_HW.shape[0])[:, None] + tilt[1] * np.arange(hand_HW.shape[1])
    return np.asarray(height_HW - height_HW.min(), dtype=np.float32)


def _relief(reach_HW: Floats, away_HW: Floats, roughness_HW: Floats, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Height above nearest drainage (metres) and hilliness (0..1) from the distance to streams (pixels)."""
    shape = (reach_HW.shape[0], reach_HW.shape[1])
    # About a third of the areas have no hills at all.
    start = rng.choice([0.2, 0.6, 1.0, 2.6], p=[0.25, 0.25, 0.2, 0.3])
    hilly_HW = ramp(roughness_HW, start, start + 1.3) * ramp(away_HW, 2, 70)
    # Valleys cut by |noise| = 0 lines: rounded crests between narrow, branching gullies.
    gully_HW = np.abs(fractal_noise(shape, rng, beta=4.2, longest_px=110))
    crest_HW = 0.35 + gully_HW * 0.4 + 0.06 * fractal_noise(shape, rng, beta=3.6, longest_px=60)
    swell_HW = fractal_noise(shape, rng, beta=3.0, longest_px=120)
    plain_HW = 0.02 * reach_HW**1.12 + 0.7 * swell_HW * ramp(away_HW, 0, 40)
    hand_HW = np.maximum(plain_HW, 0) + rng.uniform(220, 380) * ndimage.gaussian_filter(hilly_HW * crest_HW, 1.5)
    return hand_HW.astype(np.float32), hilly_HW


def _strips(row_P: Ints, col_P: Ints, rng: np.random.Generator) -> tuple[Ints, int]:
    """Field numbers (P,) inside one district: strips of uneven width, each cut into uneven lengths."""
    angle, size = rng.uniform(0, np.pi), rng.uniform(0.8, 1.2)
    u_P = col_P * np.cos(angle) + row_P * np.sin(angle)
    v_P = row_P * np.cos(angle) - col_P * np.sin(angle)
    u_P, v_P = u_P - u_P.min(), v_P - v_P.min()
    cuts = np.cumsum(size * rng.uniform(5, 20, int(u_P.max() / 5 / size) + 2))
    strip_P = np.searchsorted(cuts, u_P)
    pitch = size * rng.uniform(9, 28, cuts.size + 1)
    along_P = v_P / pitch[strip_P] + rng.uniform(0, 1, cuts.size + 1)[strip_P]
    most = int(along_P.max()) + 2
    cut_P = along_P + rng.uniform(-0.35, 0.35, (cuts.size + 1, most))[strip_P, along_P.astype(np.int64)]
    number_P = strip_P * (most + 1) + np.clip(np.round(cut_P), 0, most).astype(np.int64)
    return number_P, (cuts.size + 1) * (most + 1)
