"""Windows, grids and cores: laws against brute force."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st

from swath.geo.grid import Grid, Window
from swath.geo.windows import (
    ConstantSize,
    ConstantStride,
    blend_weights,
    bricks,
    constant_size_offsets,
    constant_stride_offsets,
    strips,
    windows,
)
from tests.synthetic import UTM, grid

LAW = settings(max_examples=50, deadline=None)
sizes = st.integers(1, 40)
lengths = st.integers(1, 200)


@st.composite
def tilings(draw: st.DrawFn) -> ConstantSize | ConstantStride:
    size = draw(sizes)
    if draw(st.booleans()):
        return ConstantSize(size=size, min_overlap=draw(st.integers(0, size - 1)))
    edge = draw(st.sampled_from(["pad", "shift"]))
    return ConstantStride(size=size, stride=draw(st.integers(1, size)), edge=edge)


# ------------------------------------------------------------------------------------------------------ constant size


@LAW
@given(lengths, sizes, st.data())
def test_c11_const_size_covers_without_gaps(length: int, size: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, size - 1))
    offsets = constant_size_offsets(length, size, overlap)
    if length <= size:
        assert offsets == [0]
        return
    seen = np.zeros(length, int)
    for offset in offsets:
        assert 0 <= offset <= length - size  # every window is whole
        seen[offset : offset + size] += 1
    assert (seen > 0).all()
    assert all(a + size - b >= overlap for a, b in pairwise(offsets))


def test_c11_const_size_example_of_the_specification() -> None:
    offsets = constant_size_offsets(1022, 224, 24)
    n = math.ceil(1022 / 200)
    o = (224 * n - 1022) / (n - 1)
    assert offsets == [round(i * (224 - o)) for i in range(n)]
    assert offsets[0] == 0
    assert offsets[-1] + 224 == 1022
    assert np.diff(offsets).max() <= 200


@LAW
@given(st.integers(2, 3000), st.integers(2, 600), st.data())
def test_c11_const_size_agrees_with_the_reference_tiler(length: int, size: int, data: st.DataObject) -> None:
    """The rule of the `tiling` package: n = ceil(L / (T - m + 1e-10)), o = (T n - L) / (n - 1)."""
    overlap = data.draw(st.integers(0, size - 1))
    n = math.ceil(length / (size - overlap + 1e-10))
    if n < 2 or length <= size:
        assert constant_size_offsets(length, size, overlap) == [0]
        return
    o = (size * n - length) / (n - 1)
    expected = [i * (size - o) for i in range(n)]
    found = constant_size_offsets(length, size, overlap)
    assert len(found) == n
    assert np.abs(np.array(found) - expected).max() <= 0.5 + 1e-6


@pytest.mark.parametrize(("length", "size", "overlap"), [(10, 4, 4), (10, 4, -1), (0, 4, 1)])
def test_c11_const_size_refuses_impossible_numbers(length: int, size: int, overlap: int) -> None:
    with pytest.raises(ValueError, match=f"min_overlap={overlap}, size={size}, length={length}"):
        constant_size_offsets(length, size, overlap)


# ---------------------------------------------------------------------------------------------------- constant stride


@LAW
@given(lengths, sizes, st.data())
def test_c12_const_stride_covers_and_starts_on_the_stride(length: int, size: int, data: st.DataObject) -> None:
    stride = data.draw(st.integers(1, size))
    padded = constant_stride_offsets(length, size, stride, "pad")
    assert padded == [i * stride for i in range(len(padded))]
    assert padded[-1] + size >= length
    assert len(padded) == 1 or padded[-2] + size < length  # no window more than needed
    covered = {p for o in padded for p in range(o, o + size)}
    assert covered >= set(range(length))


@LAW
@given(lengths, sizes, st.data())
def test_c12_shift_inside_is_the_slide_rule(length: int, size: int, data: st.DataObject) -> None:
    """Sliding-window inference: for each step, x2 = min(x1 + size, length), x1 = max(x2 - size, 0)."""
    stride = data.draw(st.integers(1, size))
    steps = max(length - size + stride - 1, 0) // stride + 1
    expected = [max(min(i * stride + size, length) - size, 0) for i in range(steps)]
    assert constant_stride_offsets(length, size, stride, "shift") == expected


def test_c12_unosat_scene_gives_five_by_six_tiles() -> None:
    tiles = list(windows((10190, 10526), ConstantStride(size=2048, stride=2048)))
    assert len({w.row for w, _ in tiles}) == 5
    assert len({w.col for w, _ in tiles}) == 6
    assert len(tiles) == 30


@pytest.mark.parametrize(("length", "size", "stride"), [(10, 4, 5), (10, 4, 0), (0, 4, 4)])
def test_c12_const_stride_refuses_gaps(length: int, size: int, stride: int) -> None:
    with pytest.raises(ValueError, match=f"stride={stride}, size={size}, length={length}"):
        constant_stride_offsets(length, size, stride)


# -------------------------------------------------------------------------------------------------------------- cores


@LAW
@given(st.tuples(st.integers(1, 70), st.integers(1, 70)), tilings())
def test_c11_cores_partition_the_scene(shape: tuple[int, int], tiling: ConstantSize | ConstantStride) -> None:
    owners = np.zeros(shape, int)
    for window, core in windows(shape, tiling):
        assert window.shape == (tiling.size, tiling.size)
        assert core.intersect(window) == core
        owners[core.slices] += 1
    assert (owners == 1).all()


@LAW
@given(st.tuples(st.integers(1, 60), st.integers(1, 60)), tilings(), st.sampled_from(["uniform", "linear", "gaussian"]))
def test_c91_windows_give_every_pixel_a_weight(
    shape: tuple[int, int], tiling: ConstantSize | ConstantStride, kind: str
) -> None:
    total = np.zeros(shape)
    weights = blend_weights((tiling.size, tiling.size), kind)
    for window, _ in windows(shape, tiling):
        inside = window.intersect(Window(0, 0, *shape))
        total[inside.slices] += weights[inside.relative_to(window).slices]
    assert (total > 0).all()


@LAW
@given(st.tuples(st.integers(1, 90), st.integers(1, 90)), st.integers(1, 500))
def test_c91_strips_partition_the_raster_in_bounded_memory(shape: tuple[int, int], pixels: int) -> None:
    parts = list(strips(shape, pixels))
    owners = np.zeros(shape, int)
    for part in parts:
        owners[part.slices] += 1
        assert part.height * part.width <= max(pixels, shape[1])
    assert (owners == 1).all()


@pytest.mark.parametrize("kind", ["uniform", "linear", "gaussian"])
@pytest.mark.parametrize("shape", [(1, 1), (8, 8), (7, 12)])
def test_c91_blend_weights_are_symmetric_and_highest_in_the_middle(kind: str, shape: tuple[int, int]) -> None:
    weights = blend_weights(shape, kind)
    assert weights.shape == shape
    assert weights.dtype == np.float32
    assert np.allclose(weights, weights[::-1, ::-1])
    assert weights.max() == weights[shape[0] // 2, shape[1] // 2]
    assert 0.2 < weights.max() <= 1


# ----------------------------------------------------------------------------------------------------------- geometry

boxes = st.builds(Window, st.integers(-9, 9), st.integers(-9, 9), st.integers(0, 9), st.integers(0, 9))


def pixels(window: Window) -> set[tuple[int, int]]:
    return {
        (r, c)
        for r in range(window.row, window.row + window.height)
        for c in range(window.col, window.col + window.width)
    }


@LAW
@given(boxes, boxes)
def test_c11_window_intersection_is_that_of_pixel_sets(a: Window, b: Window) -> None:
    assert pixels(a.intersect(b)) == pixels(a) & pixels(b)
    assert a.intersect(b).is_empty == (not pixels(a) & pixels(b))


@LAW
@given(boxes, boxes)
def test_c11_relative_to_and_within_are_inverse(a: Window, b: Window) -> None:
    assert a.relative_to(b).within(b) == a
    assert b.relative_to(b) == Window(0, 0, b.height, b.width)


GRIDS = {
    "north_up": Affine(10, 0, 400_000, 0, -10, 3_700_000),
    "south_up": Affine(10, 0, 400_000, 0, 10, 3_700_000),
    "rotated": Affine.translation(400_000, 3_700_000) @ Affine.rotation(30) @ Affine.scale(10, -20),
}


@pytest.mark.parametrize("kind", GRIDS)
def test_c11_grid_of_a_window_keeps_every_pixel_in_place(kind: str) -> None:
    whole = Grid(UTM, GRIDS[kind], (30, 40))
    part = whole.at(Window(-3, 7, 12, 50))
    for row, col in [(0, 0), (5, 5), (12, 50)]:
        assert part.transform @ (col, row) == pytest.approx(whole.transform @ (col + 7, row - 3), abs=1e-6)
    assert part.crs == whole.crs
    assert part.shape == (12, 50)


@pytest.mark.parametrize("kind", GRIDS)
def test_c11_bounds_hold_every_pixel_corner(kind: str) -> None:
    place = Grid(UTM, GRIDS[kind], (30, 40))
    points = np.array([place.transform @ (col, row) for row in range(31) for col in range(41)])
    expected = (*points.min(axis=0), *points.max(axis=0))
    assert place.bounds == pytest.approx(expected, abs=1e-6)
    assert math.prod(place.resolution) == pytest.approx(abs(place.transform.determinant))
    assert place.resolution == pytest.approx((20, 10) if kind == "rotated" else (10, 10))


def test_c09_grid_difference_names_both_values() -> None:
    here = grid((30, 40))
    assert here.difference(grid((30, 40))) is None
    assert here.difference(grid((30, 40), (400_000.005, 3_700_000.0))) is None  # half a thousandth of a pixel
    assert here.difference(grid((31, 40))) == "size 40 x 30 px against 40 x 31 px"
    assert here.difference(Grid(None, here.transform, here.shape)) == "CRS EPSG:32638 against none"
    text = here.difference(grid((30, 40), (400_010.0, 3_700_000.0)))
    assert text is not None
    assert "400000.0" in text
    assert "400010.0" in text
    assert "transform" in (here.difference(grid((30, 40), pixel=10.0027)) or "")


@given(
    shape=st.tuples(st.integers(1, 300), st.integers(1, 300)), block=st.sampled_from([16, 32]), blocks=st.integers(0, 6)
)
def test_bricks_cover_every_block_whole_and_once(shape: tuple[int, int], block: int, blocks: int) -> None:
    seen = np.zeros(shape, int)
    for brick in bricks(shape, block, blocks * block**2):
        seen[brick.slices] += 1
        assert brick.row % block == brick.col % block == 0
        assert brick.height <= block
        assert brick.width <= max(1, blocks) * block
    assert (seen == 1).all()
