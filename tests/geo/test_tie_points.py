"""Several grids over one swath: crops of what is resampled, means over areas, linear fields between tie points."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swath.geo.grid import Window
from swath.geo.tie_points import (
    TiePoints,
    area_means,
    cells_at,
    even_tie_points,
    nearest_cells,
    shrunk_length,
    tie_points,
)

RATIOS = [Fraction(25), Fraction(50, 3), Fraction(25, 2), Fraction(5), Fraction(7, 3)]


def coarse(shape: tuple[int, int] = (9, 11), gaps: bool = False) -> np.ndarray:
    rng = np.random.default_rng(1)
    field = rng.normal(size=shape).astype(np.float32)
    if gaps:
        field[rng.random(shape) < 0.2] = np.nan
    return field


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(RATIOS), st.integers(0, 120), st.integers(0, 150), st.integers(1, 60), st.integers(1, 60), st.booleans()
)  # fmt: skip
def test_c28_a_crop_of_the_upsampled_scene_is_the_upsampled_crop(
    ratio: Fraction, row: int, col: int, height: int, width: int, gaps: bool
) -> None:
    field = coarse(gaps=gaps)
    whole, crop = Window(0, 0, 200, 240), Window(row, col, height, width)
    nearest = cells_at(field, ratio, whole, "nearest")[crop.slices]
    np.testing.assert_array_equal(cells_at(field, ratio, crop, "nearest"), nearest)
    bilinear = cells_at(field, ratio, whole, "bilinear")[crop.slices]
    np.testing.assert_allclose(cells_at(field, ratio, crop, "bilinear"), bilinear, atol=1e-6)


def test_c28_each_pixel_has_the_cell_that_holds_its_middle() -> None:
    field = coarse((3, 4))
    np.testing.assert_array_equal(
        cells_at(field, Fraction(25), Window(0, 0, 75, 100), "nearest"), np.kron(field, np.ones((25, 25)))
    )
    # cells of 2.5 pixels: pixel 2 has its middle on the edge of cells 0 and 1 and belongs to the second
    np.testing.assert_array_equal(nearest_cells(0, 6, Fraction(5, 2), 3), [0, 0, 1, 1, 1, 2])
    np.testing.assert_array_equal(nearest_cells(0, 6, Fraction(5, 2), 2), [0, 0, 1, 1, 1, 1])  # the last one goes on


@pytest.mark.parametrize("ratio", RATIOS)
def test_c28_bilinear_reproduces_a_linear_field_between_the_middles_of_cells(ratio: Fraction) -> None:
    rows, cols = (np.arange(n) + 0.5 for n in (9, 11))
    field = 3 * rows[:, None] - 2 * cols + 1
    window = Window(int(ratio) + 1, int(ratio) + 1, 40, 40)
    r = (np.arange(window.row, window.row + 40) + 0.5) / float(ratio)
    c = (np.arange(window.col, window.col + 40) + 0.5) / float(ratio)
    expected = 3 * np.clip(r, 0.5, 8.5)[:, None] - 2 * np.clip(c, 0.5, 10.5) + 1
    np.testing.assert_allclose(cells_at(field, ratio, window, "bilinear"), expected, atol=1e-5)


def test_c28_missing_cells_spread_no_further_than_half_their_weight() -> None:
    field = np.array([[1.0, np.nan, 3.0]])
    values = cells_at(field, Fraction(4), Window(0, 0, 1, 12), "bilinear")[0]
    np.testing.assert_allclose(values[:4], 1)
    assert np.isnan(values[4:8]).all()
    np.testing.assert_allclose(values[8:], 3)


def test_c29_linear_fields_are_exact_at_tie_points_midpoints_and_anywhere() -> None:
    rows, cols = np.array([0.0, 100, 200, 290]), np.array([0.0, 50, 100, 180, 199])
    points = TiePoints(rows=rows, cols=cols, values=0.25 * rows[:, None] - 0.5 * cols + 19)
    np.testing.assert_array_equal(points.at(rows, cols), points.values)
    middle_r, middle_c = (rows[1:] + rows[:-1]) / 2, (cols[1:] + cols[:-1]) / 2
    np.testing.assert_array_equal(points.at(middle_r, middle_c), 0.25 * middle_r[:, None] - 0.5 * middle_c + 19)
    r, c = np.arange(-2.0, 300, 7), np.arange(-2.0, 205, 3)  # beyond the outer ones, too
    np.testing.assert_allclose(points.at(r, c), 0.25 * r[:, None] - 0.5 * c + 19, atol=1e-9)


def test_c29_between_tie_points_a_field_is_what_numpy_interpolates() -> None:
    values = np.random.default_rng(0).normal(size=(4, 5))
    points = even_tie_points(values, (31, 41))
    r, c = np.linspace(0, 30, 17), np.linspace(0, 40, 23)
    along = np.stack([np.interp(c, np.linspace(0, 40, 5), row) for row in values])
    both = np.stack([np.interp(r, np.linspace(0, 30, 4), col) for col in along.T], axis=1)
    np.testing.assert_allclose(points.at(r, c), both, atol=1e-12)


def test_c29_lists_of_tie_points_come_in_any_order_and_have_to_be_complete() -> None:
    lines, samples = (v.ravel() for v in np.meshgrid([0.0, 10, 30], [0.0, 20], indexing="ij"))
    order = np.random.default_rng(0).permutation(6)
    points = tie_points(lines[order], samples[order], (lines + 2 * samples)[order])
    np.testing.assert_array_equal(points.values, [[0, 40], [10, 50], [30, 70]])
    np.testing.assert_array_equal(points.ring, [0, 40, 50, 70, 30, 10])
    with pytest.raises(ValueError, match="5 tie points in 3 rows and 2 columns"):
        tie_points(lines[:5], samples[:5], lines[:5])
    with pytest.raises(ValueError, match="no full lattice"):
        tie_points(np.array([0.0, 1]), np.array([0.0, 0]), np.array([1.0, 2]))


@pytest.mark.parametrize("factor", range(2, 11))
def test_c30_a_checkerboard_becomes_its_mean(factor: int) -> None:
    board = (np.indices((120, 120)).sum(axis=0) % 2).astype(np.float32)
    size = 120 // factor
    means = area_means(board, Fraction(factor), (size, size))
    if factor % 2 == 0:
        np.testing.assert_allclose(means, 0.5)
    else:  # one pixel more of one colour than of the other
        np.testing.assert_allclose(np.abs(means - 0.5), 0.5 / factor**2, rtol=1e-5)


@settings(max_examples=40, deadline=None)
@given(st.fractions(Fraction(1), Fraction(6), max_denominator=4), st.integers(0, 9), st.booleans())
def test_c30_means_are_those_of_a_grid_so_fine_that_no_pixel_is_cut(factor: Fraction, seed: int, gaps: bool) -> None:
    rng = np.random.default_rng(seed)
    image = rng.normal(size=(13, 17))
    if gaps:
        image[rng.random(image.shape) < 0.3] = np.nan
    shape = int(13 // factor), int(17 // factor)
    n, k = factor.numerator, factor.denominator
    fine = np.kron(image, np.ones((k, k)))[: shape[0] * n, : shape[1] * n]
    blocks = fine.reshape(shape[0], n, shape[1], n)
    measured = np.isfinite(blocks).mean(axis=(1, 3))
    total = np.nan_to_num(blocks).mean(axis=(1, 3))
    expected = np.where(measured >= 0.5 - 1e-9, total / np.maximum(measured, 1e-9), np.nan)
    np.testing.assert_allclose(area_means(image, factor, shape), expected, atol=1e-6)


@given(st.integers(2, 12_000), st.integers(2, 10))
def test_c30_size_of_a_reduced_scene(length: int, factor: int) -> None:
    assert shrunk_length(length // 2, Fraction(factor, 2)) == int(length // 2 // (factor / 2))


@pytest.mark.parametrize("factor", range(2, 11))
def test_c30_places_invert_to_pixels_of_the_source(factor: int) -> None:
    """The pixel in the middle of a larger one lies in it: down and up again is the identity."""
    size, ratio = 1000 // factor, Fraction(factor)
    middle = nearest_cells(0, size, 1 / ratio, 1000)
    assert ((middle >= np.arange(size) * factor) & (middle < (np.arange(size) + 1) * factor)).all()
    np.testing.assert_array_equal(nearest_cells(0, 1000, ratio, size)[middle], np.arange(size))
