"""Polygons to pixels and back."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely
from affine import Affine
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rasterio import features

from swath.errors import VectorError
from swath.geo import rasterize, vector
from swath.geo.block_cache import bounded_cache
from swath.geo.earth import footprint
from swath.geo.grid import Grid, Window
from swath.geo.polygons import PolygonRules, polygonize
from swath.geo.rasterize import burn, burn_strips
from swath.geo.vector import find_vectors, read_polygons, reprojected, write_vectors
from tests.synthetic import UTM, blobs, grid, polygons

ROOT = Path(__file__).resolve().parents[2]
LAW = settings(max_examples=50, deadline=None)
TURNED = Affine.translation(4e5, 3.7e6) @ Affine.rotation(30) @ Affine.scale(10, -20)


# --------------------------------------------------------------------------------------------------------------- burn


def on_corners(rng: np.random.Generator, place: Grid, count: int = 4) -> list[shapely.Polygon]:
    """Triangles between corners of pixels: their borders pass through many corners of others."""
    x, y = place.transform @ tuple(rng.integers(-10, 60, (2, count * 3)))
    return [shapely.Polygon(t) for t in np.stack([x, y], axis=1).reshape(count, 3, 2)]


@LAW
@given(st.integers(0, 10_000), st.integers(1, 64), st.booleans(), st.booleans())
def test_c10_windows_are_parts_of_the_mask_burnt_at_once(
    seed: int, height: int, all_touched: bool, corners: bool
) -> None:
    place, rng = grid((64, 50)), np.random.default_rng(seed)
    anywhere = rng.uniform(-100, 740, (4, 3, 2)) * (1, -1) + (400_000, 3_700_000)
    shapes = on_corners(rng, place) if corners else [shapely.Polygon(c) for c in anywhere]
    values = [1, 2, 0, 3]
    pairs = list(zip(shapes, values, strict=True))
    # GDAL burns a pixel too much, or memory of others, where a border meets the right edge in a corner: none reaches it
    whole = features.rasterize(
        pairs, out_shape=(64, 128), transform=place.transform, all_touched=all_touched, dtype="uint8"
    )[:, :50]
    parts = [
        burn(shapes, values, place, Window(r, 0, min(height, 64 - r), 50), all_touched) for r in range(0, 64, height)
    ]
    assert np.array_equal(np.concatenate(parts), whole)
    beyond = burn(shapes, values, place, Window(-3, -4, 70, 60), all_touched)
    assert np.array_equal(beyond[3:67, 4:54], whole)
    assert np.count_nonzero(beyond) == np.count_nonzero(whole)


@LAW
@given(st.integers(0, 10_000), st.integers(1, 64), st.booleans())
@example(295, 1, True)  # a border through a corner and on through the pixel: GDAL leaves that one out in one strip
def test_c10_rasters_too_large_for_one_strip_differ_in_touched_corners_only(
    seed: int, height: int, all_touched: bool
) -> None:
    place, rng = grid((64, 50)), np.random.default_rng(seed)
    shapes = on_corners(rng, place, 1)
    whole = burn(shapes, [1], place, place.window, all_touched)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rasterize, "BURN_PIXELS", 64 * 50 - 1)
        patch.setattr(rasterize, "STRIP_PIXELS", height * 50)
        found = list(burn_strips(shapes, [1], place, all_touched))
    assert [w.row for w, _ in found] == list(range(0, 64, height))
    rows, cols = np.nonzero(np.concatenate([mask for _, mask in found]) != whole)
    border = shapely.boundary(shapes[0])
    x, y = place.transform @ (cols.astype(float), rows.astype(float))
    corners = [shapely.points(x + dx, y - dy) for dx in (0, 10) for dy in (0, 10)]
    assert not len(rows) or all_touched
    assert (np.min([shapely.distance(corner, border) for corner in corners], axis=0) < 1e-6).all()


def test_c10_a_border_through_a_corner_at_the_right_edge_burns_nothing_else() -> None:
    """GDAL by itself writes beyond the mask: into column 0 of the next row here, beyond its memory in the last row."""
    place, corners = grid((64, 50)), np.array([(19.0, 10), (50, -2), (57, 32)])
    shape = shapely.Polygon(np.stack(place.transform @ (corners[:, 0], corners[:, 1]), axis=1))
    mask = burn([shape], [1], place, place.window)
    assert mask[10, 19]
    assert not mask[~shapely.intersects(shape, _pixels(place))].any()
    beyond = shapely.box(400_560, 3_699_000, 410_000, 3_700_500)
    assert np.array_equal(burn([shape, beyond], [1, 2], place, place.window), mask)
    across = shapely.box(400_300, 3_699_500, 410_000, 3_699_600)
    assert burn([across], [1], place, place.window)[40:50, 30:].all()


@pytest.mark.system
def test_c10_strips_of_one_row_do_not_damage_memory() -> None:
    """What GDAL does to memory shows when it is freed: in a process of its own."""
    code = (
        "import numpy as np, shapely\n"
        "from swath.geo import rasterize\n"
        "from tests.geo.test_vector import on_corners\n"
        "from tests.synthetic import grid\n"
        "rasterize.BURN_PIXELS, rasterize.STRIP_PIXELS = 64 * 50 - 1, 50\n"
        "for seed in range(40):\n"
        "    shapes = on_corners(np.random.default_rng(seed), grid((64, 50)), 1)\n"
        "    list(rasterize.burn_strips(shapes, [1], grid((64, 50))))\n"
    )
    path = os.pathsep.join(sys.path)
    done = subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": path}, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()


def _pixels(place: Grid) -> np.ndarray:
    """The squares of all pixels, (height, width)."""
    x, y = np.meshgrid(np.arange(place.shape[1] + 1.0), np.arange(place.shape[0] + 1.0))
    x, y = place.transform @ (x, y)
    return shapely.box(x[:-1, :-1], y[1:, :-1], x[1:, 1:], y[:-1, 1:])


def test_c10_multipolygons_and_heights_are_burnt() -> None:
    place = grid((10, 10))
    box = shapely.box(400_000, 3_699_950, 400_050, 3_700_000)
    two = shapely.MultiPolygon([box, shapely.box(400_060, 3_699_900, 400_100, 3_699_940)])
    for shapes in ([two], [shapely.force_3d(two, 7.0)]):
        mask = burn(shapes, [9], place, place.window, all_touched=False)
        assert mask[:5, :5].tolist() == [[9] * 5] * 5
        assert np.count_nonzero(mask) == 25 + 16


@LAW
@given(st.integers(0, 10_000))
def test_c10_centres_inside_are_burnt_and_all_touched_burns_more(seed: int) -> None:
    place, rng = grid((30, 30)), np.random.default_rng(seed)
    shape = shapely.Polygon(rng.uniform(0, 300, (3, 2)) * (1, -1) + (400_000, 3_700_000))
    x, y = np.meshgrid(400_005.0 + 10 * np.arange(30), 3_699_995.0 - 10 * np.arange(30))
    inside = shapely.contains_xy(shape, x, y)
    exact = burn([shape], [1], place, place.window, all_touched=False)
    touched = burn([shape], [1], place, place.window, all_touched=True)
    assert np.array_equal(exact, inside)
    assert (touched >= exact).all()
    assert (touched[~shapely.intersects(shape, shapely.box(x - 5, y - 5, x + 5, y + 5))] == 0).all()


def test_c10_later_polygons_win_and_elsewhere_is_zero() -> None:
    place = grid((10, 10))
    left, all_ = (
        shapely.box(400_000, 3_699_900, 400_050, 3_700_000),
        shapely.box(400_000, 3_699_900, 400_100, 3_700_000),
    )
    assert (burn([all_, left], [1, 0], place, place.window)[:, :5] == 0).all()
    assert (burn([left, all_], [0, 1], place, place.window) == 1).all()
    assert (burn([left], [1], place, Window(0, 8, 10, 10)) == 0).all()


# --------------------------------------------------------------------------------------------------------- read errors


def test_c10_missing_attribute_is_named_with_those_there(tmp_path: Path) -> None:
    write_vectors(tmp_path / "a.shp", polygons(grid(), attribute="KLASSE"))
    with pytest.raises(VectorError, match=r"a\.shp: no attribute 'DN'\. It has: KLASSE\. Set `attribute`"):
        read_polygons(tmp_path / "a.shp", "DN")


def test_c10_missing_crs_says_how_to_assign_one(tmp_path: Path) -> None:
    write_vectors(tmp_path / "a.shp", polygons(grid()))
    (tmp_path / "a.prj").unlink()
    with pytest.raises(VectorError, match=r"a\.shp: no CRS\. Add the \.prj file, or .*ogr2ogr -a_srs"):
        read_polygons(tmp_path / "a.shp", "DN")
    assert len(read_polygons(tmp_path / "a.shp", "DN", need_crs=False)) == 3


@pytest.mark.parametrize("suffix", ["shp", "gpkg", "parquet", "fgb", "geojson"])
def test_c10_empty_file_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    write_vectors(path, polygons(grid(), crs="EPSG:4326").iloc[:0])
    with pytest.raises(
        VectorError, match=rf"a\.{suffix}: no polygons in it \(0 features\)\. Remove the file or fill it"
    ):
        read_polygons(path)


def test_c10_points_are_no_polygons(tmp_path: Path) -> None:
    gpd.GeoDataFrame({"DN": [1]}, geometry=[shapely.Point(0, 0)], crs=32638).to_file(tmp_path / "a.gpkg")
    with pytest.raises(VectorError, match=r"a\.gpkg: no polygons in it \(1 features\)"):
        read_polygons(tmp_path / "a.gpkg", "DN")


@pytest.mark.parametrize("name", ["text.shp", "gone.shp", "text.parquet", "gone.parquet"])
def test_c10_unreadable_vectors_are_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "text.shp").write_text("no shapes here")
    (tmp_path / "text.parquet").write_text("no table here")
    said = (
        "no such file"
        if name.startswith("gone")
        else r"does not begin like a \.\w+ file .*Copy or download it again, with all its parts"
    )
    with pytest.raises(VectorError, match=rf"{name}: {said}"):
        read_polygons(tmp_path / name, "DN")


def test_c10_labels_outside_the_scene_show_both_places(tmp_path: Path) -> None:
    far = grid(origin=(700_000.0, 3_000_000.0))
    with pytest.raises(
        VectorError, match=r"a\.shp: none of its 3 polygons touches the scene.*70\d{4}.*400000.*check the CRS"
    ):
        reprojected(polygons(far), grid(), tmp_path / "a.shp")


def test_c10_labels_on_a_scene_without_crs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(VectorError, match=r"a\.shp: the scene has no CRS.*Declare the scene's CRS"):
        reprojected(polygons(grid()), Grid(None, grid().transform, (64, 80)), tmp_path / "a.shp")


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3857", "EPSG:32637"])
def test_c10_polygons_in_another_crs_are_reprojected(tmp_path: Path, crs: str) -> None:
    here, moved = polygons(grid()), polygons(grid(), crs=crs)
    back = reprojected(moved, grid(), tmp_path / "a.shp")
    assert back.crs.to_epsg() == 32638
    assert back.geometry.geom_equals_exact(here.geometry, 0.01).all()


# ------------------------------------------------------------------------------------------------------------- writing


FORMATS = ["shp", "gpkg", "parquet", "fgb", "geojson"]


@pytest.mark.parametrize("suffix", FORMATS)
def test_c98_every_format_reopens_with_equal_polygons_ids_and_crs(tmp_path: Path, suffix: str) -> None:
    mask = blobs((40, 40)) + (2 * blobs((40, 40), 5)).astype(np.uint8)
    frame = polygonize(mask, grid((40, 40), pixel=9.7), PolygonRules(classes=(1, 2, 3)))
    for part in (frame, frame.iloc[:1]):  # the second write replaces the first
        write_vectors(tmp_path / f"a.{suffix}", part)
        found = read_polygons(tmp_path / f"a.{suffix}", "id")
        assert found.crs.to_epsg() == 32638
        assert sorted(zip(found["id"], found.normalize().to_wkb(), strict=True)) == sorted(
            zip(part["id"], part.normalize().to_wkb(), strict=True)
        )
    assert not [p.name for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_c98_a_shapefile_too_small_for_the_polygons_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frame, path = polygonize(blobs((40, 40)), grid((40, 40))), tmp_path / "a.shp"
    write_vectors(path, frame)
    size = path.stat().st_size
    monkeypatch.setattr(vector, "SHAPEFILE_BYTES", size)
    write_vectors(path, frame)
    monkeypatch.setattr(vector, "SHAPEFILE_BYTES", size - 1)
    with pytest.raises(VectorError, match=r"a\.shp: \d+ polygons need .* Write gpkg, parquet or fgb, or drop small"):
        write_vectors(path, frame)
    write_vectors(path.with_suffix(".gpkg"), frame)


def test_c98_a_name_that_a_shapefile_would_cut_is_refused(tmp_path: Path) -> None:
    frame = polygons(grid(), attribute="probability")
    with pytest.raises(VectorError, match=r"a\.shp: a shapefile has 10 characters .*few for probability\. Rename it"):
        write_vectors(tmp_path / "a.shp", frame)
    write_vectors(tmp_path / "a.parquet", frame)
    assert read_polygons(tmp_path / "a.parquet", "probability")["probability"].tolist() == [255] * 3


def test_c98_unknown_format_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(VectorError, match=r"a\.dxf: unknown vector format '\.dxf'\. Known: \.shp, \.gpkg"):
        write_vectors(tmp_path / "a.dxf", polygons(grid()))


FULL_DISK = """
import sys
from pathlib import Path
from swath.errors import VectorError
from swath.geo.polygons import polygonize
from swath.geo.vector import write_vectors
from tests.limits import limit_file_size
from tests.synthetic import blobs, grid

frame = polygonize(blobs((500, 500)), grid((500, 500)))
limit_file_size(30_000)
for path in sys.argv[1:]:
    try:
        write_vectors(Path(path), frame)
        print("written:", path)
    except VectorError as error:
        print("error:", error)
"""


@pytest.mark.system
def test_c98_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    paths = [tmp_path / f"a.{suffix}" for suffix in ("shp", "gpkg", "parquet", "fgb")]
    for path in paths:
        write_vectors(path, polygons(grid()))
    env = {"PYTHONPATH": f"{ROOT / 'code'}:{ROOT}", "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-c", FULL_DISK, *map(str, paths)]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    for path, said in zip(paths, done.stdout.splitlines(), strict=True):
        assert said.startswith(f"error: {path}: cannot be written")
        assert "Free disk space" in said
        assert len(read_polygons(path, "DN")) == 3
    assert not [p.name for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_c10_find_vectors_skips_hidden_folders(tmp_path: Path) -> None:
    write_vectors(tmp_path / "b" / "x.shp", polygons(grid()))
    shutil.copytree(tmp_path / "b", tmp_path / ".b.1234")
    assert find_vectors(tmp_path) == [tmp_path / "b/x.shp"]
    with pytest.raises(VectorError, match=r"nowhere: no such folder\. Set input_path"):
        find_vectors(tmp_path / "nowhere")


# ---------------------------------------------------------------------------------------------------------- footprints


@pytest.mark.parametrize(
    "transform", [grid().transform, Affine(10, 0, 4e5, 0, 10, 3.7e6), TURNED], ids=["north_up", "south_up", "rotated"]
)
def test_c14_footprint_is_the_outline_on_earth(transform: Affine) -> None:
    place = Grid(UTM, transform, (64, 80))
    outline, crs = footprint(place)
    assert crs == "EPSG:4326"
    back = gpd.GeoSeries([outline], crs=crs).to_crs(32638).iloc[0]
    assert back.is_valid
    assert back.area == pytest.approx(64 * 80 * abs(transform.determinant), rel=1e-6)
    assert back.bounds == pytest.approx(place.bounds, abs=0.01)


def test_c14_footprint_without_crs_is_in_the_scenes_own_units() -> None:
    outline, crs = footprint(Grid(None, Affine.identity(), (3, 5)))
    assert crs is None
    assert outline.bounds == (0, 0, 5, 3)


@pytest.mark.system
def test_c10_burning_does_not_depend_on_gdals_cache() -> None:
    """GDAL burns as many rows at once as its cache holds, and its answer at touched corners depends on the first of them;
    while a raster is written, the cache is bounded."""
    place = Grid(UTM, Affine(1, 0, 0, 0, -1, 0), (2000, 20_000))
    rng = np.random.default_rng(0)
    corners = rng.integers(1, 1900, (300, 3, 2)) * [10, -1]
    triangles = [shapely.Polygon(points) for points in corners]
    free = burn(triangles, [1] * 300, place, place.window)
    with bounded_cache():
        bounded = burn(triangles, [1] * 300, place, place.window)
    np.testing.assert_array_equal(free, bounded)
