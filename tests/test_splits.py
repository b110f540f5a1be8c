"""Folds by area, and no shared ground between those who train and those who judge."""

from __future__ import annotations

from collections.abc import Sequence

import geopandas as gpd
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from swath.data.splits import folds_by_area, require_disjoint, shared_ground, split_by_area, split_test
from swath.errors import CatalogError, LeakError

LAW = settings(max_examples=50, deadline=None)
squares = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60), st.integers(1, 20)), min_size=1, max_size=8)


def table(
    boxes: Sequence[tuple[float, float, float]], name: str, areas: Sequence[str] = (), crs: str | None = "EPSG:32638"
) -> gpd.GeoDataFrame:
    """Square tiles (x, y, side) with keys <name><i>, each of a scene `name`."""
    shapes = [shapely.box(x, y, x + side, y + side) for x, y, side in boxes]
    rows = {"key": [f"{name}{i}" for i in range(len(boxes))], "scene": name, "crs": crs}
    return gpd.GeoDataFrame({**rows, "area": list(areas) or [name] * len(boxes)}, geometry=shapes)


def test_c16_folds_are_as_given_or_alphabetical() -> None:
    assert folds_by_area(["b", "a", "b"], None) == {"a": 0, "b": 1}
    assert folds_by_area(["b", "a"], {"a": 3, "b": 1, "c": 2}) == {"a": 3, "b": 1}
    with pytest.raises(CatalogError, match=r"no fold for the areas b\. Name each of a, b"):
        folds_by_area(["a", "b"], {"a": 0})


@LAW
@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=12), st.sets(st.sampled_from("abcd")))
def test_c16_areas_divide_the_tiles(areas: list[str], held_out: set[str]) -> None:
    tiles = table([(0, 0, 1)] * len(areas), "t", areas)
    if not held_out <= set(areas):
        with pytest.raises(CatalogError, match=r"no tiles of .*Areas in the table"):
            split_by_area(tiles, sorted(held_out))
    elif held_out == set(areas):
        with pytest.raises(CatalogError, match=r"all areas .*held out, none is left to train on"):
            split_by_area(tiles, sorted(held_out))
    else:
        train, judged = split_by_area(tiles, sorted(held_out))
        assert sorted([*train["key"], *judged["key"]]) == sorted(tiles["key"])
        assert set(judged["area"]) == held_out
        assert not set(train["area"]) & held_out


@LAW
@given(squares, squares)
def test_c16_shared_ground_equals_a_loop_over_pairs(
    a: list[tuple[int, int, int]], b: list[tuple[int, int, int]]
) -> None:
    expected = {
        (i, j)
        for i, (x, y, s) in enumerate(a)
        for j, (u, v, t) in enumerate(b)
        if max(0, min(x + s, u + t) - max(x, u)) * max(0, min(y + s, v + t) - max(y, v)) > 0.01 * min(s, t) ** 2
    }
    first, second = table(a, "a"), table(b, "b")
    assert set(shared_ground(first, second)) == expected
    if expected:
        with pytest.raises(LeakError, match=f"{len(expected)} pairs of training and evaluation tiles share ground"):
            require_disjoint(first, second)
    else:
        require_disjoint(first, second)


def test_c16_the_same_tile_on_both_sides_raises_and_is_named() -> None:
    tiles = table([(0, 0, 10), (100, 0, 10)], "t")
    with pytest.raises(LeakError, match=r"the first: t1 and t1.*hold out whole areas"):
        require_disjoint(tiles, tiles.iloc[[1]])


def test_c16_neighbours_that_touch_are_fine() -> None:
    require_disjoint(table([(0, 0, 10)], "a"), table([(10, 0, 10), (0, 10, 10), (9.95, 0, 10)], "b"))


def test_c16_tiles_without_crs_are_compared_within_their_scene() -> None:
    here, same, other = (
        table([(0, 0, 9)], "x", crs=None),
        table([(5, 5, 9)], "x", crs=None),
        table([(5, 5, 9)], "y", crs=None),
    )
    require_disjoint(here, other)  # no place on earth: another scene's pixels say nothing
    assert shared_ground(here, same) == [(0, 0)]
    same["key"] = ["x7"]
    with pytest.raises(LeakError, match="the first: x0 and x7"):
        require_disjoint(here, same)


def test_c16_shared_ground_is_symmetric() -> None:
    rng = np.random.default_rng(0)
    a, b = (table([tuple(r) for r in rng.integers(1, 40, (30, 3))], name) for name in "ab")
    pairs = shared_ground(a, b)
    assert pairs
    assert {(i, j) for j, i in shared_ground(b, a)} == set(pairs)


@LAW
@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=12), st.data())
def test_c83_areas_that_report_neither_train_nor_judge(areas: list[str], data: st.DataObject) -> None:
    tiles = table([(0, 0, 1)] * len(areas), "t", areas)
    names = st.sets(st.sampled_from(sorted(set(areas))))
    test, validation = data.draw(names), data.draw(names)
    if test & validation:
        with pytest.raises(LeakError, match=r"would select the weights and report on them.*allow_selection_set"):
            split_test(tiles, sorted(test), sorted(validation))
    rest, reports = split_test(tiles, sorted(test), sorted(validation), allow_selection_set=True)
    assert set(reports["area"]) == test
    assert set(rest["area"]) == set(areas) - (test - validation)
    if not test & validation:
        assert sorted([*rest["key"], *reports["key"]]) == sorted(tiles["key"])


def test_c83_an_unknown_test_area_is_named() -> None:
    with pytest.raises(CatalogError, match=r"no tiles of z\. Areas in the table: a"):
        split_test(table([(0, 0, 1)], "t", ["a"]), ["z"], [])
