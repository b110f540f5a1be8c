"""Outlines and polygons on the round earth, against pyproj, a brute-force look at every pixel, and sampled ground."""

from __future__ import annotations

import math
from pathlib import Path

import geopandas as gpd
import numpy as np
import pyproj
import pytest
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS
from rasterio.transform import from_origin
from shapely.geometry import Polygon, box

from swath.errors import RasterError, VectorError
from swath.geo.earth import area_km2, brought_to, footprint, footprints
from swath.geo.grid import Grid, Window
from swath.geo.rasterize import burn
from swath.geo.vector import reprojected

POLAR = Grid(CRS.from_epsg(3413), from_origin(-600_000, -800_000, 10_000, 10_000), (60, 120))
LONLAT = pyproj.CRS.from_epsg(4326)


def lonlat_of_pixels(grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Longitude and latitude (height, width) of the middles of a grid's pixels."""
    rows, cols = np.mgrid[: grid.shape[0], : grid.shape[1]] + 0.5
    x, y = grid.transform @ (cols, rows)
    assert grid.crs is not None
    return pyproj.Transformer.from_crs(grid.crs.to_wkt(), LONLAT, always_xy=True).transform(x, y)


# ----------------------------------------------------------------------------------------------------------- polygons


def test_c116_long_edges_follow_the_lines_of_their_own_crs() -> None:
    lon, lat = lonlat_of_pixels(POLAR)
    inside = (lon > -75) & (lon < -15) & (lat > 76) & (lat < 80)
    assert inside.sum() == 4390
    shapes = np.array([box(-75, 76, -15, 80)], dtype=object)
    moved = brought_to(shapes, LONLAT, POLAR, "a.geojson")
    centres = burn(list(moved), [1], POLAR, POLAR.window, all_touched=False)
    np.testing.assert_array_equal(centres == 1, inside)
    assert burn(list(moved), [1], POLAR, POLAR.window, all_touched=True).sum() == 4474


def test_c116_short_edges_stay_as_they_are() -> None:
    grid = Grid(CRS.from_epsg(32633), from_origin(500_000, 5_000_000, 10, 10), (100, 100))
    back = pyproj.Transformer.from_crs(grid.crs.to_wkt(), LONLAT, always_xy=True) if grid.crs else None
    assert back is not None
    triangle = Polygon(np.stack(back.transform([500_100, 500_400, 500_200], [4_999_900, 4_999_800, 4_999_500]), axis=1))
    moved = brought_to(np.array([triangle], dtype=object), LONLAT, grid, "a")[0]
    assert shapely.get_num_coordinates(moved) == 4
    expected = gpd.GeoSeries([triangle], crs=4326).to_crs(32633)[0]
    assert moved.equals(expected)


def test_c116_a_polygon_around_the_earth_covers_the_scene() -> None:
    for grid in (POLAR, Grid(CRS.from_epsg(32633), from_origin(500_000, 5_000_000, 10, 10), (50, 50))):
        moved = brought_to(np.array([box(-180, -90, 180, 90)], dtype=object), LONLAT, grid, "a.geojson")
        assert burn(list(moved), [1], grid, grid.window).all()


@pytest.mark.parametrize("west", [-185.0, 175.0], ids=["from -185", "from 175"])
def test_c116_longitudes_may_count_beyond_180(west: float) -> None:
    grid = Grid(CRS.from_epsg(32601), from_origin(166_000, 1_100_000, 1000, 1000), (80, 400))
    lon, lat = lonlat_of_pixels(grid)
    assert lon.max() > 179
    assert lon.min() < -179
    inside = (np.mod(lon - west, 360) < 10) & (lat > 9.6) & (lat < 9.9)
    moved = brought_to(np.array([box(west, 9.6, west + 10, 9.9)], dtype=object), LONLAT, grid, "a")
    clear = np.minimum(abs(lat - 9.6), abs(lat - 9.9)) > 2e-4  # two hundredths of a pixel
    burnt = burn(list(moved), [1], grid, grid.window, all_touched=False) == 1
    np.testing.assert_array_equal(burnt[clear], inside[clear])


@settings(max_examples=40, deadline=None)
@given(st.floats(-85, 40), st.floats(77, 83), st.floats(1, 50), st.floats(0.5, 6))
def test_c116_boxes_of_degrees_cover_the_pixels_whose_middles_lie_within(
    west: float, south: float, width: float, height: float
) -> None:
    lon, lat = lonlat_of_pixels(POLAR)
    inside = (lon > west) & (lon < west + width) & (lat > south) & (lat < south + height)
    moved = brought_to(
        np.array([box(west, south, west + width, min(90, south + height))], dtype=object), LONLAT, POLAR, "a"
    )
    kept = [shape for shape in moved if not shape.is_empty]
    burnt = burn(kept, [1] * len(kept), POLAR, POLAR.window, all_touched=False) == 1
    assert (burnt != inside).sum() <= 2  # middles within a tenth of a pixel of a border


def test_c116_corners_far_away_do_not_matter() -> None:
    grid = Grid(CRS.from_epsg(32633), from_origin(500_000, 5_000_000, 10, 10), (50, 50))
    near, far = box(500_100, 4_999_700, 500_200, 4_999_900), box(500_100, 4_999_700, 9e9, 9e9)
    crs = pyproj.CRS.from_epsg(32633)
    moved = brought_to(np.array([near, far], dtype=object), crs, grid, "a")
    assert moved[0] is near
    assert np.abs(moved[1].bounds).max() < 2e7
    np.testing.assert_array_equal(
        burn([moved[1]], [1], grid, grid.window), burn([box(500_100, 4_999_700, 600_000, 6e6)], [1], grid, grid.window)
    )


def test_polygons_elsewhere_are_refused_with_both_places() -> None:
    frame = gpd.GeoDataFrame(geometry=[box(-100, 30, -99, 31)], crs=4326)
    with pytest.raises(
        VectorError, match=r"none of its 1 polygons touches the scene\. Polygons span \(-100, 30, -99, 31\)"
    ):
        reprojected(frame, POLAR, Path("a.geojson"))


# ----------------------------------------------------------------------------------------------------------- outlines


def covered(outline: shapely.Geometry, grid: Grid, step: float) -> tuple[np.ndarray, np.ndarray]:
    """(by the outline, by the grid) whether points of a lattice of degrees are covered."""
    lon, lat = np.meshgrid(np.arange(-180 + step / 3, 180, step), np.arange(-90 + step / 3, 90, step))
    assert grid.crs is not None
    x, y = pyproj.Transformer.from_crs(LONLAT, grid.crs.to_wkt(), always_xy=True).transform(lon, lat)
    col, row = (~grid.transform) @ (x, y)
    inside = (row > 0) & (row < grid.shape[0]) & (col > 0) & (col < grid.shape[1])
    return shapely.contains_xy(outline, lon, lat), inside


GRIDS = {
    "polar, with the pole": Grid(CRS.from_epsg(3413), from_origin(-1_000_000, 900_000, 10_000, 10_000), (200, 180)),
    "polar, beside it": POLAR,
    "south pole": Grid(CRS.from_epsg(3031), from_origin(-900_000, 800_000, 10_000, 10_000), (170, 160)),
    "over 180 degrees": Grid(CRS.from_epsg(32601), from_origin(200_000, 7_000_000, 1000, 1000), (300, 400)),
    "over 180, in degrees": Grid(CRS.from_epsg(4326), from_origin(178, 12, 0.01, 0.01), (300, 500)),
    "0 to 360": Grid(CRS.from_epsg(4326), from_origin(350, 12, 0.1, 0.1), (60, 90)),
    "turned": Grid(CRS.from_epsg(32633), Affine(700, 300, 400_000, 300, -700, 6_000_000), (200, 300)),
}


@pytest.mark.parametrize("name", GRIDS)
def test_c116_an_outline_covers_the_ground_of_its_grid(name: str) -> None:
    outline, crs = footprint(GRIDS[name])
    assert crs == "EPSG:4326"
    assert outline.is_valid
    assert -180 <= outline.bounds[0] <= outline.bounds[2] <= 180
    ours, theirs = covered(outline, GRIDS[name], 0.23)
    if name == "0 to 360":
        theirs = covered(outline, Grid(GRIDS[name].crs, from_origin(-10, 12, 0.1, 0.1), (60, 90)), 0.23)[1]
    if name == "over 180, in degrees":
        theirs |= covered(outline, Grid(GRIDS[name].crs, from_origin(-182, 12, 0.01, 0.01), (300, 500)), 0.23)[1]
    assert theirs.sum() > 50
    assert (ours != theirs).sum() <= 0.01 * theirs.sum()


def test_c116_tiles_on_both_sides_of_180_degrees_share_no_ground() -> None:
    grid = GRIDS["over 180 degrees"]
    windows = [Window(0, col, 100, 100) for col in range(0, 400, 100)]
    outlines, _ = footprints(grid, windows)
    assert max(shape.area for shape in outlines) < 3 * min(shape.area for shape in outlines)
    for i, one in enumerate(outlines):
        for other in outlines[i + 1 :]:
            assert one.intersection(other).area < 1e-3 * one.area


def test_c116_the_same_ground_has_one_outline_however_longitudes_count() -> None:
    shape = (20, 20)
    east, west = (Grid(CRS.from_epsg(4326), from_origin(x, 10, 0.001, 0.001), shape) for x in (179.99, -180.01))
    a, b = footprint(east)[0], footprint(west)[0]
    assert a.intersection(b).area == pytest.approx(a.area, rel=1e-6)
    assert a.area == pytest.approx(0.02**2, rel=1e-6)


def test_short_sides_have_no_more_corners() -> None:
    outline, _ = footprint(Grid(CRS.from_epsg(32633), from_origin(500_000, 5_000_000, 10, 10), (512, 512)))
    assert shapely.get_num_coordinates(outline) == 5


def test_c116_a_grid_outside_its_projection_is_refused() -> None:
    disk = CRS.from_proj4("+proj=geos +h=35785831 +lon_0=0 +sweep=y")
    with pytest.raises(RasterError, match="no place on earth"):
        footprint(Grid(disk, from_origin(-9e6, 9e6, 1000, 1000), (100, 100)))


# -------------------------------------------------------------------------------------------------------------- areas


def test_c116_areas_are_of_the_ground_in_metres_feet_and_degrees() -> None:
    assert area_km2(np.array([box(0, 0, 200, 100)]), CRS.from_epsg(32633)) == pytest.approx(0.02)
    feet = area_km2(np.array([box(980_000, 200_000, 980_200, 200_100)]), CRS.from_epsg(2263))
    assert feet == pytest.approx(20_000 * (1200 / 3937) ** 2 / 1e6)
    square = box(15, 44.99, 15.02, 45)
    height, width = 0.01 * 111_131.7, 0.02 * 111_320 * math.cos(math.radians(44.995))
    assert area_km2(np.array([square]), CRS.from_epsg(4326)) == pytest.approx(height * width / 1e6, rel=5e-3)
    assert area_km2(np.array([square]), None) is None
