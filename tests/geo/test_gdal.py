"""GDAL's own command-line tools as a second opinion on rasterising, merging and polygonising."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely

from swath.geo import mosaic
from swath.geo import polygons as geo_polygons
from swath.geo.grid import Grid
from swath.geo.mosaic import merge_tiles
from swath.geo.polygons import PolygonRules, polygonize_raster
from swath.geo.raster import read_image, read_labels
from swath.geo.rasterize import burn
from swath.geo.vector import write_vectors
from swath.geo.windows import ConstantSize, ConstantStride, windows
from swath.labels import IGNORE
from tests.synthetic import NODATA, backscatter, blobs, grid, polygons, write_image, write_mask

SHAPE = (90, 110)


def gdal(tool: str, *arguments: object) -> None:
    """Run one of GDAL's tools; skip where it is not installed or cannot start."""
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not on PATH")
    done = subprocess.run([tool, *map(str, arguments)], capture_output=True, text=True, check=False)
    if "ModuleNotFoundError" in done.stderr or "ImportError" in done.stderr:
        pytest.skip(f"{tool} cannot start: GDAL's Python bindings are missing")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("all_touched", [True, False])
@pytest.mark.parametrize("place", [grid(SHAPE), grid(SHAPE, (400_003.3, 3_700_001.7), 7.3)], ids=["even", "odd"])
def test_c10_burn_equals_gdal_rasterize(tmp_path: Path, place: Grid, all_touched: bool) -> None:
    frame = polygons(place)
    rng = np.random.default_rng(0)
    frame = frame.assign(geometry=frame.rotate(rng.uniform(1, 80)), DN=[1, 2, 3])
    write_vectors(tmp_path / "labels.shp", frame)
    target = write_mask(tmp_path / "mask.tif", np.zeros(place.shape, np.uint8), place)
    gdal("gdal_rasterize", "-q", *(["-at"] if all_touched else []), "-a", "DN", tmp_path / "labels.shp", target)
    ours = burn(list(frame.geometry), list(frame["DN"]), place, place.window, all_touched)
    theirs = read_labels(target)[0]
    assert set(np.unique(theirs)) == {0, 1, 2, 3}
    assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("all_touched", [True, False])
def test_c10_burn_equals_gdal_rasterize_on_corners_of_pixels(tmp_path: Path, all_touched: bool) -> None:
    place = grid((600, 90))  # high enough to show what counting rows from elsewhere does
    corners = np.random.default_rng(0).integers(0, 90, (200, 3, 2)) + np.arange(0, 600, 3)[:, None, None] * (0, 1)
    x, y = place.transform @ tuple(corners.reshape(-1, 2).T)
    shapes = shapely.polygons(np.stack([x, y], axis=1).reshape(-1, 3, 2))
    frame = gpd.GeoDataFrame({"DN": np.arange(200) % 9}, geometry=shapes, crs=place.crs.to_wkt())
    write_vectors(tmp_path / "labels.gpkg", frame)
    target = write_mask(tmp_path / "mask.tif", np.zeros(place.shape, np.uint8), place)
    gdal("gdal_rasterize", "-q", *(["-at"] if all_touched else []), "-a", "DN", tmp_path / "labels.gpkg", target)
    ours = burn(list(frame.geometry), list(frame["DN"]), place, place.window, all_touched)
    assert np.array_equal(ours, read_labels(target)[0])


@pytest.mark.parametrize(
    "tiling", [ConstantSize(size=48, min_overlap=12), ConstantStride(size=40, stride=25, edge="shift")]
)
def test_c97_merge_equals_gdal_merge_where_the_last_wins(tmp_path: Path, tiling: ConstantSize | ConstantStride) -> None:
    place, paths = grid(SHAPE), []
    for i, (window, _) in enumerate(windows(SHAPE, tiling)):
        image = backscatter(window.shape, bands=2, seed=i)  # neighbours disagree, and each has a gap at its right edge
        paths.append(write_image(tmp_path / f"tile_{window.col}_{window.row}.tif", image, place.at(window)))
    merge_tiles(paths, place, tmp_path / "ours.tif", "last")
    gdal(
        "gdal_merge.py", "-q", "-n", NODATA, "-init", NODATA, "-a_nodata", NODATA, "-o", tmp_path / "theirs.tif", *paths
    )
    theirs = read_image(tmp_path / "theirs.tif")
    assert np.isfinite(theirs).mean() > 0.9
    assert np.array_equal(read_image(tmp_path / "ours.tif"), theirs, equal_nan=True)


def test_c97_merged_classes_equal_gdal_merge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mosaic, "STRIP_PIXELS", 17 * SHAPE[1] // 4)
    place, rng = grid(SHAPE), np.random.default_rng(0)
    places = [window for window, _ in windows(SHAPE, ConstantSize(size=48, min_overlap=12))]
    paths = [
        write_mask(tmp_path / f"{i}.tif", rng.choice([0, 1, 2, IGNORE], w.shape).astype(np.uint8), place.at(w))
        for i, w in enumerate(places)
    ]
    for known in (places, None):
        merge_tiles(paths, place, tmp_path / "ours.tif", "last", known)
        gdal("gdal_merge.py", "-q", "-n", IGNORE, "-init", IGNORE, "-o", tmp_path / "theirs.tif", *paths)
        assert np.array_equal(read_labels(tmp_path / "ours.tif"), read_labels(tmp_path / "theirs.tif"))


@pytest.mark.parametrize("place", [grid(SHAPE), grid(SHAPE, (400_003.3, 3_700_001.7), 7.3)], ids=["even", "odd"])
def test_c98_polygons_equal_gdal_polygonize(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: Grid) -> None:
    monkeypatch.setattr(geo_polygons, "STRIP_ROWS", 16)
    mask = blobs(SHAPE, 3) + 2 * (np.random.default_rng(0).random(SHAPE) < 0.3).astype(np.uint8)
    path = write_mask(tmp_path / "mask.tif", mask, place)
    gdal("gdal_polygonize.py", "-q", path, "-f", "GPKG", tmp_path / "theirs.gpkg", "theirs", "id")
    theirs = gpd.read_file(tmp_path / "theirs.gpkg")
    assert set(theirs["id"]) == {0, 1, 2, 3}
    ours = polygonize_raster(path, PolygonRules(classes=(0, 1, 2, 3)), workers=3)
    assert sorted(zip(ours["id"], ours.normalize().to_wkb(), strict=True)) == sorted(
        zip(theirs["id"], theirs.normalize().to_wkb(), strict=True)
    )
