"""Class rasters to polygons: strips against one pass, areas, borders that stay shared."""

from __future__ import annotations

import tracemalloc
from itertools import combinations
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from rasterio import features
from rasterio.crs import CRS
from scipy import ndimage

from swath.errors import VectorError
from swath.geo import polygons as geo_polygons
from swath.geo import tracing
from swath.geo.grid import Grid, Window
from swath.geo.polygons import PolygonRules, polygonize, polygonize_raster, polygonize_strips
from swath.geo.rasterize import burn
from tests.synthetic import UTM, blobs, grid, write_mask

LAW = settings(max_examples=60, deadline=None)
TURNED = Affine.translation(4e5, 3.7e6) @ Affine.rotation(30) @ Affine.scale(10, -20)
ODD = Affine(7.3, 0, 400_003.3, 0, -7.3, 3_700_001.7)
masks = st.one_of(
    hnp.arrays(
        np.uint8, st.tuples(st.integers(1, 14), st.integers(1, 14)), elements=st.sampled_from(values), fill=st.nothing()
    )
    for values in ([0, 1], [0, 1, 2, 255])
)
"""Two classes for nested rings and corners that touch; more for borders that three of them share."""


def by_rasterio(mask: np.ndarray, transform: Affine, classes: tuple[int, ...]) -> list[tuple[int, bytes]]:
    """GDAL's polygons of the whole array."""
    found = features.shapes(mask, mask=np.isin(mask, classes), connectivity=4, transform=transform)
    return sorted((int(value), shapely.geometry.shape(shape).normalize().wkb) for shape, value in found)


def normal(frame: gpd.GeoDataFrame) -> list[tuple[int, bytes]]:
    return sorted(zip(frame["id"], frame.normalize().to_wkb(), strict=True))


# ----------------------------------------------------------------------------------------------- strips against one pass


@LAW
@given(masks, st.integers(1, 15), st.integers(1, 80), st.integers(1, 3), st.sampled_from([grid().transform, ODD]))
def test_c98_strips_give_the_polygons_of_one_pass(
    mask: np.ndarray, rows: int, chunk: int, workers: int, transform: Affine
) -> None:
    place, rules = Grid(UTM, transform, mask.shape), PolygonRules(classes=(0, 1, 2))
    whole = polygonize(mask, place, rules)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(geo_polygons, "STRIP_ROWS", rows)
        patch.setattr(tracing, "CHUNK", chunk)
        strips = polygonize_strips(lambda window: mask[window.slices], place, rules, workers)
    assert strips.equals(whole)  # the order, too
    assert normal(whole) == by_rasterio(mask, transform, (0, 1, 2))


def test_c98_a_spiral_with_its_hole_over_all_strips_is_one_polygon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(geo_polygons, "STRIP_ROWS", 3)
    mask = np.zeros((40, 40), np.uint8)
    for i in range(0, 18, 4):  # nested frames, joined by a bridge
        mask[i : 40 - i, i : 40 - i] = 1
        mask[i + 2 : 38 - i, i + 2 : 38 - i] = 0
    mask[20, :19] = 1
    frame = polygonize(mask, grid(mask.shape))
    assert len(frame) == 1
    assert normal(frame) == by_rasterio(mask, grid(mask.shape).transform, (1,))


def test_c98_a_raster_file_is_read_by_strips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mask, place = blobs((90, 70)), grid((90, 70))
    path = write_mask(tmp_path / "mask.tif", mask, place)
    asked: list[Window] = []
    read = geo_polygons.RasterReader.labels
    monkeypatch.setattr(geo_polygons, "STRIP_ROWS", 20)
    monkeypatch.setattr(geo_polygons.RasterReader, "labels", lambda self, w: asked.append(w) or read(self, w))
    frame = polygonize_raster(path, PolygonRules(), workers=2)
    assert sorted(asked) == [Window(r, 0, min(20, 90 - r), 70) for r in range(0, 90, 20)]
    assert normal(frame) == by_rasterio(mask, place.transform, (1,))


def test_c98_memory_does_not_grow_with_the_rows() -> None:
    def peak(rows: int) -> int:
        place, row = grid((rows, 2000)), np.arange(2000) % 2000 < 1000
        strip = np.repeat(row[None], geo_polygons.STRIP_ROWS, axis=0).astype(np.uint8)
        tracemalloc.start()
        frame = polygonize_strips(lambda w: strip[: w.height].copy(), place, PolygonRules())
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert frame.area.tolist() == [100.0 * rows * 1000]
        return found

    assert peak(24_000) < 1.5 * peak(3_000) < 12_000_000


# ----------------------------------------------------------------------------------------------------------------- areas


@LAW
@given(masks, st.floats(0.5, 500), st.booleans())
def test_c98_area_is_exact_and_burning_back_gives_the_mask(mask: np.ndarray, pixel: float, south_up: bool) -> None:
    place = Grid(UTM, Affine(pixel, 0, 4e5, 0, pixel if south_up else -pixel, 3.7e6), mask.shape)
    frame = polygonize(mask, place)
    assert frame.is_valid.all()
    assert (frame["id"] == 1).all()
    assert frame.area.sum() == pytest.approx((mask == 1).sum() * pixel**2, rel=1e-9, abs=1e-9)
    back = burn(list(frame.geometry), [1] * len(frame), place, place.window, all_touched=False)
    assert np.array_equal(back, mask == 1)


@LAW
@given(masks)
def test_c98_each_class_asked_for_is_kept_with_area_error_zero(mask: np.ndarray) -> None:
    frame = polygonize(mask, grid(mask.shape), PolygonRules(classes=(0, 2)))
    assert set(frame["id"]) == set(np.unique(mask)) & {0, 2}
    assert frame.crs.to_epsg() == 32638
    for value in (0, 2):
        assert frame[frame["id"] == value].area.sum() == 100.0 * (mask == value).sum()


@LAW
@given(masks)
def test_c98_polygons_are_the_four_connected_parts(mask: np.ndarray) -> None:
    assert len(polygonize(mask, grid(mask.shape))) == ndimage.label(mask == 1)[1]


@LAW
@given(masks, st.integers(0, 12))
def test_c98_min_area_drops_the_small_ones_only(mask: np.ndarray, pixels: int) -> None:
    everything, large = (polygonize(mask, grid(mask.shape), PolygonRules(min_area=a)) for a in (0.0, 100.0 * pixels))
    assert large.geometry.tolist() == [g for g in everything.geometry if g.area >= 100.0 * pixels]


def test_c98_rotated_grid_keeps_area_and_place() -> None:
    mask = blobs((24, 20))
    place = Grid(UTM, TURNED, mask.shape)
    frame = polygonize(mask, place)
    assert frame.area.sum() == pytest.approx(mask.sum() * 200.0, rel=1e-9)
    assert np.array_equal(burn(list(frame.geometry), [1] * len(frame), place, place.window, all_touched=False), mask)


def test_c98_scene_without_crs_gives_polygons_without_crs() -> None:
    frame = polygonize(np.ones((4, 4), np.uint8), Grid(None, Affine.identity(), (4, 4)), PolygonRules(min_area=16.0))
    assert frame.crs is None
    assert frame.area.tolist() == [16.0]


@pytest.mark.parametrize("rule", [{"min_area": 4.0}, {"simplify": 4.0}])
def test_c98_lengths_in_degrees_are_refused(rule: dict[str, float]) -> None:
    place = Grid(CRS.from_epsg(4326), Affine(1e-4, 0, 45, 0, -1e-4, 33), (4, 4))
    with pytest.raises(
        VectorError, match=rf"{next(iter(rule))}=4\.0: the raster's CRS EPSG:4326 is in degrees.*gdalwarp"
    ):
        polygonize(np.ones((4, 4), np.uint8), place, PolygonRules(**rule))
    assert len(polygonize(np.ones((4, 4), np.uint8), place)) == 1


# ------------------------------------------------------------------------------------------------------------ simplified


@LAW
@given(masks, st.sampled_from([12.0, 30.0, 100.0]), st.sampled_from([0.0, 300.0]), st.booleans())
def test_c98_simplified_polygons_stay_valid_and_do_not_overlap(
    mask: np.ndarray, tolerance: float, min_area: float, one_class: bool
) -> None:
    rules = PolygonRules(classes=(1,) if one_class else (0, 1, 2, 255), min_area=min_area, simplify=tolerance)
    frame = polygonize(np.kron(mask, np.ones((2, 2), np.uint8)), grid((2 * mask.shape[0], 2 * mask.shape[1])), rules)
    assert frame.is_valid.all()
    assert frame.empty or shapely.coverage_is_valid(frame.geometry.values)
    assert (frame.geom_type == "Polygon").all()
    assert not frame.is_empty.any()
    assert all(a.intersection(b).area == pytest.approx(0, abs=1e-6) for a, b in combinations(frame.geometry, 2))


def test_c98_simplified_borders_stay_shared() -> None:
    mask = (np.hypot(*np.mgrid[-30:30, -30:30]) < 22) + 2 * (np.mgrid[-30:30, -30:30][1] > 4).astype(np.uint8)
    exact, simple = (
        polygonize(mask, grid(mask.shape), PolygonRules(classes=(0, 1, 2, 3), simplify=s)) for s in (None, 25.0)
    )
    assert (
        shapely.get_num_coordinates(simple.geometry.values).sum()
        < 0.6 * shapely.get_num_coordinates(exact.geometry.values).sum()
    )
    assert shapely.coverage_is_valid(simple.geometry.values)
    assert simple["id"].tolist() == exact["id"].tolist()
    assert simple.area.sum() == pytest.approx(exact.area.sum(), rel=0.02)  # the outer border is cut at its corners
    inner = simple[simple["id"].isin([1, 3])].union_all()
    assert inner.geom_type == "Polygon"
    assert not inner.interiors


@LAW
@given(masks)
def test_c98_simplifying_by_nothing_keeps_the_polygons(mask: np.ndarray) -> None:
    exact, simple = (
        polygonize(mask, grid(mask.shape), PolygonRules(classes=(0, 1, 2), simplify=s)) for s in (None, 0.0)
    )
    assert simple.geom_equals(exact).all()
