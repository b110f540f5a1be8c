"""Inputs of the UNOSAT steps that say more, or less, than their names: through the scripts, with the right values."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.transform import from_origin
from shapely.geometry import box

from swath.geo.raster import describe, read_image, read_labels
from tests.conftest import Script
from tests.geo.test_validity import tif

X, Y = 500_000, 5_000_000


def pair(root: Path, name: str = "aoi1/20200101/s1a_aoi1_{}_20200101.tif", **more: Any) -> None:
    rng = np.random.default_rng(0)
    for polarisation in ("vh", "vv"):
        path = root / name.format(polarisation)
        path.parent.mkdir(parents=True, exist_ok=True)
        tif(path, rng.gamma(2, 0.05, (64, 64)).astype(np.float32) + 0.01, **more)


Run = Callable[..., int]


@pytest.fixture
def run(script: Script, tmp_path: Path) -> Run:
    def start(name: str, **overrides: object) -> int:
        paths = {"input_path": tmp_path / "in", "output_path": tmp_path / "out", "executor": "serial"}
        return script(name, f"configs/demo/{name}.py", **(paths | overrides))

    return start


def test_c09_letter_case_of_names_and_suffixes_does_not_matter(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pair(tmp_path / "in")
    for name in ("vh", "vv"):
        source = tmp_path / f"in/aoi1/20200101/s1a_aoi1_{name}_20200101.tif"
        for other in (f"aoi2/S1A_B_{name.upper()}_20200101.tif", f"aoi3/s1a_c_{name}_20200101.Tif"):
            (tmp_path / "in" / other).parent.mkdir(exist_ok=True)
            (tmp_path / "in" / other).write_bytes(source.read_bytes())
    tif(tmp_path / "in/aoi1/dem.tif", np.ones((4, 4), np.float32))
    assert run("generate_3b_images") == 0
    made = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.[tT]if")}
    assert made == {"aoi1/s1a_aoi1_3b_20200101.tif", "aoi2/S1A_B_3B_20200101.tif", "aoi3/s1a_c_3b_20200101.Tif"}
    said = capsys.readouterr().out
    assert f"left out: 1 rasters of {tmp_path / 'in'}: neither _vh_ nor _vv_ is in their names (dem.tif)" in said


def test_c116_scaled_polarisations_are_averaged_in_physical_units(run: Run, tmp_path: Path) -> None:
    pair(tmp_path / "in")
    stored = np.random.default_rng(0).integers(0, 3000, (2, 64, 64)).astype(np.int16)
    for counts, name, scale, offset in zip(stored, ("vh", "vv"), (1e-4, 1e-3), (0, -1), strict=True):
        path = tif(tmp_path / f"in/aoi1/20200101/s1a_aoi1_{name}_20200101.tif", counts, nodata=-32768)
        with rasterio.open(path, "r+") as file:
            file.scales, file.offsets = (scale,), (offset,)
    assert run("generate_3b_images", missing_zones=None) == 0
    image = read_image(next((tmp_path / "out").rglob("*_3b_*.tif")))
    vh, vv = stored[0] * 1e-4, stored[1] * 1e-3 - 1
    np.testing.assert_allclose(image, [vh, vv, (vh + vv) / 2], rtol=1e-5, atol=1e-7)


def test_c116_complex_scenes_fail_by_name(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("vh", "vv"):
        (tmp_path / "in/a/b").mkdir(parents=True, exist_ok=True)
        tif(tmp_path / f"in/a/b/s_{name}_1.tif", np.ones((64, 64), np.complex64))
    assert run("generate_3b_images") != 0
    assert "s_vh_1.tif: its pixels are complex numbers (complex64)" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------------------- labels


def labels(
    root: Path, values: list[int], shapes: list[Any], name: str = "aoi1/aoi1.gpkg", crs: Any = 32633, **more: Any
) -> None:
    gpd.GeoDataFrame({"DN": values}, geometry=shapes, crs=crs).to_file(root / name, **more)


def mask(tmp_path: Path) -> np.ndarray:
    return read_labels(next((tmp_path / "out").rglob("*.tif")))[0]


SQUARE = box(X + 101, Y - 199, X + 199, Y - 101)


def test_c116_255_beside_other_classes_is_refused(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pair(tmp_path / "in")
    labels(tmp_path / "in", [1, 255], [SQUARE, box(X + 301, Y - 399, X + 499, Y - 301)])
    assert run("rasterize") != 0
    said = capsys.readouterr().err
    assert "aoi1.gpkg: attribute 'DN' holds 1, 255. 255 stands for class 1 where it is the only one beside 0" in said
    assert not list((tmp_path / "out").rglob("*.tif"))


@pytest.mark.parametrize(("values", "expected"), [([0, 255], {0, 1}), ([1, 2], {0, 1, 2}), ([254, 1], {0, 1, 254})])
def test_c116_other_classes_stand_for_themselves(
    run: Run, tmp_path: Path, values: list[int], expected: set[int]
) -> None:
    pair(tmp_path / "in")
    labels(tmp_path / "in", values, [SQUARE, box(X + 301, Y - 399, X + 399, Y - 301)])
    assert run("rasterize") == 0
    assert set(np.unique(mask(tmp_path))) == expected


def test_c116_a_layer_has_to_be_chosen(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pair(tmp_path / "in")
    labels(tmp_path / "in", [255], [box(X, Y - 640, X + 640, Y)], layer="a_extent")
    labels(tmp_path / "in", [255], [SQUARE], layer="water")
    assert run("rasterize") != 0
    assert (
        "has 2 layers (a_extent, water). Set layer to the one that holds the polygons: -P layer=water"
        in capsys.readouterr().err
    )
    assert run("rasterize", layer="water") == 0
    assert (mask(tmp_path) == 1).sum() == 100


def test_c116_what_labels_leave_out_is_said_and_recorded_again(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pair(tmp_path / "in")
    labels(tmp_path / "in", [255, 255], [SQUARE, SQUARE.exterior])
    line = f"left out: 1 features of {tmp_path / 'in/aoi1/aoi1.gpkg'}: they are LineString geometries, no polygons"
    for _ in range(2):  # the second start finds the mask done, and still says it
        assert run("rasterize") == 0
        assert line in capsys.readouterr().out
    assert (mask(tmp_path) == 1).sum() == 100


def test_c116_labels_over_long_distances_follow_parallels(run: Run, tmp_path: Path) -> None:
    place = {"crs": "EPSG:3413", "transform": from_origin(-600_000, -800_000, 10_000, 10_000)}
    pair(tmp_path / "in", **place)
    labels(tmp_path / "in", [255], [box(-75, 76, -15, 80)], "aoi1/aoi1.geojson", 4326)
    assert run("rasterize", all_touched=False) == 0
    found = mask(tmp_path)
    rows, cols = np.mgrid[:64, :64] + 0.5
    from pyproj import Transformer

    lon, lat = Transformer.from_crs(3413, 4326, always_xy=True).transform(-600_000 + cols * 1e4, -800_000 - rows * 1e4)
    np.testing.assert_array_equal(found == 1, (lon > -75) & (lon < -15) & (lat > 76) & (lat < 80))


# -------------------------------------------------------------------------------------------------------- submissions


def soft_map(path: Path, **more: Any) -> None:
    probability = np.zeros((64, 64), np.float32)
    probability[10:20, 10:30] = 0.9
    path.parent.mkdir(parents=True, exist_ok=True)
    tif(path, probability, ("water_1",), nodata=float("nan"), **more)


def submit(script: Script, tmp_path: Path) -> int:
    paths = {"input_path": tmp_path / "in", "output_path": tmp_path / "out", "scenes_path": None, "min_area": 0.0}
    return script("to_submission", "configs/demo/to_submission.py", **paths)


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ({"transform": Affine(10, 3, X, 0, -10, Y)}, "1 polygons, 0.02 km2, checked"),
        ({"crs": "EPSG:2263", "transform": from_origin(980_000, 200_000, 100, 100)}, "1 polygons, 0.19 km2, checked"),
        ({"crs": "EPSG:4326", "transform": from_origin(15, 45, 0.001, 0.001)}, "1 polygons, 1.75 km2, checked"),
        ({"crs": None, "transform": from_origin(0, 0, 1, 1)}, "1 polygons, checked"),
    ],
    ids=["sheared", "feet", "degrees", "no place"],
)
def test_c116_areas_are_of_the_ground(
    script: Script, tmp_path: Path, capsys: pytest.CaptureFixture[str], place: dict[str, Any], said: str
) -> None:
    soft_map(tmp_path / "in/aoi/s.tif", **place)
    assert submit(script, tmp_path) == 0
    assert said in capsys.readouterr().out


@pytest.mark.parametrize("areas", [("[aoi]", "plain"), ("aoi", "aoi.1"), ("a*", "ab"), ("a?", "ab")], ids=str)
def test_c116_names_of_areas_are_no_patterns(script: Script, tmp_path: Path, areas: tuple[str, str]) -> None:
    import zipfile

    for area in areas:
        soft_map(tmp_path / "in" / area / f"scene_{len(area)}_{area.strip('[]*?')}.tif")
    assert submit(script, tmp_path) == 0
    with zipfile.ZipFile(tmp_path / "out/submission.zip") as packed:
        names = packed.namelist()
    assert len(names) == len(set(names)) == 10
    assert {name for name in names if name.endswith(".shp")} == {f"{area}.shp" for area in areas}


# -------------------------------------------------------------------------------------------------------------- dates


def aggregate(script: Script, tmp_path: Path) -> int:
    paths = {"input_path": tmp_path / "in", "output_path": tmp_path / "out"}
    return script("all_agg_by_city", "configs/demo/all_agg_by_city.py", **paths)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.array([[0, 1], [2, 255]], np.uint8), "d1.tif: holds 2 where classes 0 and 1 are due"),
        (np.array([[0, 1], [1, 255]], np.int16), "d1.tif: holds int16; probabilities of class 1 (float32) or classes"),
        (
            np.array([[0.3, 70], [1, 30]], np.float32),
            "d1.tif: holds 70 where probabilities from 0 to 1 are due; percent",
        ),
        (np.array([[0.3, -5], [1, 0]], np.float32), "d1.tif: holds -5 where probabilities from 0 to 1 are due"),
    ],
    ids=["third class", "type", "percent", "decibel"],
)
def test_c116_dates_hold_probabilities_or_two_classes(
    script: Script, tmp_path: Path, capsys: pytest.CaptureFixture[str], values: np.ndarray, said: str
) -> None:
    (tmp_path / "in/aoi").mkdir(parents=True)
    for name in ("d1", "d2"):
        tif(tmp_path / f"in/aoi/{name}.tif", values)
    assert aggregate(script, tmp_path) != 0
    assert said in capsys.readouterr().err
    assert not list((tmp_path / "out").rglob("*.tif"))


def test_c116_dates_on_both_sides_of_180_degrees_are_of_one_place(script: Script, tmp_path: Path) -> None:
    (tmp_path / "in/aoi").mkdir(parents=True)
    for name, west, value in (("d1", 179.99, 0.9), ("d2", -180.01, 0.1)):
        place = {"crs": "EPSG:4326", "transform": from_origin(west, 10, 0.001, 0.001), "nodata": float("nan")}
        tif(tmp_path / f"in/aoi/{name}.tif", np.full((20, 20), value, np.float32), **place)
    assert aggregate(script, tmp_path) == 0
    (soft,) = (tmp_path / "out").rglob("probabilities/*.tif")
    assert describe(soft).grid.shape == (20, 20)
    np.testing.assert_allclose(read_image(soft), 0.5, atol=1e-6)


def test_c116_dates_far_apart_are_refused(script: Script, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in/aoi").mkdir(parents=True)
    for name, west in (("d1", X), ("d2", X + 3_000_000)):
        tif(tmp_path / f"in/aoi/{name}.tif", np.ones((20, 20), np.float32), transform=from_origin(west, Y, 10, 10))
    assert aggregate(script, tmp_path) != 0
    assert (
        "the dates of the area lie far apart: 300020 x 20 px would hold them, 800 px hold data"
        in capsys.readouterr().err
    )
