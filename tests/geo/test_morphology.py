"""Clean-up filters against scipy and pixel-by-pixel definitions; nodata is never touched."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from swath.geo.morphology import Connectivity, closed, disk, fill_holes, masked, opened, remove_objects
from swath.labels import IGNORE
from tests.synthetic import blobs

CORNERS = {4: ndimage.generate_binary_structure(2, 1), 8: ndimage.generate_binary_structure(2, 2)}
CONNECTIVITIES: tuple[Connectivity, ...] = (4, 8)
Classes = NDArray[np.uint8]


def drawn(shape: tuple[int, int], seed: int, values: tuple[int, ...]) -> Classes:
    """Independent pixels: with two thirds of class 1 there are many holes, and many that only corners join."""
    return np.random.default_rng(seed).choice(np.array(values, np.uint8), shape)


shapes, seeds = st.tuples(st.integers(1, 14), st.integers(1, 14)), st.integers(0, 2**32 - 1)
rasters = st.builds(drawn, shapes, seeds, st.sampled_from([(0, 1, 1), (0, 0, 1), (0, 0, 0, 1, 1, 1, 1, 1, 2, IGNORE)]))
binary = st.builds(drawn, shapes, seeds, st.just((0, 1, 1)))


def labelled(mask: NDArray[np.bool_], connectivity: int) -> list[NDArray[np.bool_]]:
    """Each component as a mask, by scipy."""
    labels, count = ndimage.label(mask, CORNERS[connectivity])
    return [labels == i for i in range(1, count + 1)]


@settings(max_examples=150, deadline=None)
@given(rasters, st.integers(0, 8), st.sampled_from(CONNECTIVITIES))
def test_c99_objects_below_the_area_go_and_no_others(classes: Classes, area: int, connectivity: Connectivity) -> None:
    expected = classes.copy()
    for component in labelled(classes == 1, connectivity):
        if component.sum() < area:
            expected[component] = 0
    np.testing.assert_array_equal(remove_objects(classes, 1, area, connectivity), expected)


@settings(max_examples=150, deadline=None)
@given(rasters, st.integers(0, 30), st.sampled_from(CONNECTIVITIES))
def test_c99_holes_up_to_the_area_are_filled_and_no_others(
    classes: Classes, area: int, connectivity: Connectivity
) -> None:
    expected = classes.copy()
    edge = np.ones(classes.shape, bool)
    edge[1:-1, 1:-1] = False
    for component in labelled(classes != 1, 12 - connectivity):
        enclosed = (classes[component] == 0).all() and not (component & edge).any()
        if enclosed and component.sum() <= area:
            expected[component] = 1
    np.testing.assert_array_equal(fill_holes(classes, 1, area, connectivity), expected)


@settings(max_examples=100, deadline=None)
@given(binary)
def test_c99_without_a_limit_holes_are_those_that_scipy_fills(classes: Classes) -> None:
    filled = fill_holes(classes, 1, classes.size, 8)  # scipy's background is connected by sides
    np.testing.assert_array_equal(filled == 1, ndimage.binary_fill_holes(classes == 1))


def by_definition(classes: Classes, radius: int, first: str) -> NDArray[np.bool_]:
    """Opening or closing of class 1 from the definition, looking at each pixel's valid neighbours within the radius."""
    rows, cols = np.indices(classes.shape)
    valid = classes != IGNORE
    mask = classes == 1
    for step in (first, "dilate" if first == "erode" else "erode"):
        fresh = np.zeros_like(mask)
        for r, c in np.argwhere(valid):
            near = ((rows - r) ** 2 + (cols - c) ** 2 <= radius**2) & valid
            fresh[r, c] = mask[near].all() if step == "erode" else mask[near].any()
        mask = fresh
    return mask


@settings(max_examples=60, deadline=None)
@given(rasters, st.integers(1, 3))
def test_c99_opening_and_closing_follow_their_definition(classes: Classes, radius: int) -> None:
    kept, grown = by_definition(classes, radius, "erode"), by_definition(classes, radius, "dilate")
    np.testing.assert_array_equal(opened(classes, 1, radius), np.where((classes == 1) & ~kept, 0, classes))
    np.testing.assert_array_equal(closed(classes, 1, radius), np.where((classes == 0) & grown, 1, classes))


@pytest.mark.parametrize("radius", [1, 2, 3])
def test_c99_inside_a_raster_opening_and_closing_are_scipys(radius: int) -> None:
    mask = blobs((60, 70), 4)
    inner = (slice(2 * radius, -2 * radius),) * 2
    for ours, theirs in ((opened, ndimage.binary_opening), (closed, ndimage.binary_closing)):
        np.testing.assert_array_equal(ours(mask, 1, radius)[inner], theirs(mask, disk(radius))[inner])
        assert not np.array_equal(ours(mask, 1, radius), mask)


FILTERS: dict[str, Callable[[Classes], Classes]] = {
    "objects": partial(remove_objects, target=1, min_area=4), "holes": partial(fill_holes, target=1, max_area=6),
    "opening": partial(opened, target=1, radius=1), "closing": partial(closed, target=1, radius=1),
}  # fmt: skip


@pytest.mark.parametrize("name", FILTERS)
@settings(max_examples=40, deadline=None)
@given(classes=rasters)
def test_c99_nodata_and_other_classes_stay_and_a_second_time_changes_nothing(name: str, classes: Classes) -> None:
    given = classes.copy()
    once = FILTERS[name](classes)
    np.testing.assert_array_equal(classes, given)  # the input is not written to
    assert once.dtype == np.uint8
    np.testing.assert_array_equal(once == IGNORE, classes == IGNORE)
    np.testing.assert_array_equal(once == 2, classes == 2)
    taken, added = (classes == 1) & (once != 1), (classes != 1) & (once == 1)
    assert not (added if name in ("objects", "opening") else taken).any()
    np.testing.assert_array_equal(FILTERS[name](once), once)


@pytest.mark.parametrize("name", FILTERS)
@settings(max_examples=30, deadline=None)
@given(classes=rasters)
def test_c99_filters_commute_with_quarter_turns(name: str, classes: Classes) -> None:
    np.testing.assert_array_equal(FILTERS[name](np.rot90(classes)), np.rot90(FILTERS[name](classes)))


def test_c99_a_gap_that_touches_nodata_or_the_edge_is_no_hole() -> None:
    ring = np.ones((7, 7), np.uint8)
    ring[3, 3] = 0
    assert (fill_holes(ring, 1, 1) == 1).all()
    beside = ring.copy()
    beside[3, 4] = IGNORE
    np.testing.assert_array_equal(fill_holes(beside, 1, 9), beside)
    at_edge = ring.copy()
    at_edge[3, :4] = 0
    np.testing.assert_array_equal(fill_holes(at_edge, 1, 9), at_edge)


def test_c99_a_hole_that_opens_over_a_corner_is_open_for_objects_joined_by_sides() -> None:
    ring = np.ones((6, 6), np.uint8)
    ring[2, 2] = ring[1, 3] = ring[0, 3] = 0
    np.testing.assert_array_equal(fill_holes(ring, 1, 9, 4), ring)
    assert fill_holes(ring, 1, 9, 8)[2, 2] == 1


def test_c99_a_diagonal_bridge_joins_objects_only_by_corners() -> None:
    pair = np.zeros((6, 6), np.uint8)
    pair[1:3, 1:3] = pair[3:5, 3:5] = 1
    assert remove_objects(pair, 1, 5, 4).sum() == 0
    assert remove_objects(pair, 1, 5, 8).sum() == 8


@settings(max_examples=50, deadline=None)
@given(rasters, st.sampled_from([0, IGNORE]))
def test_c99_masked_pixels_take_the_value_and_nodata_stays(classes: Classes, value: int) -> None:
    mask = np.indices(classes.shape).sum(0) % 2 == 0
    expected = [value if m and c != IGNORE else c for m, c in zip(mask.ravel(), classes.ravel(), strict=True)]
    np.testing.assert_array_equal(masked(classes, mask, value).ravel(), expected)
