"""From predictions to a submission: dates merged, polygons, an archive that reopens, and scores of a folder."""

from __future__ import annotations

import json
import os
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import geopandas as gpd
import mlflow
import numpy as np
import pytest
from affine import Affine

from swath.challenges.unosat.submission import Layer, check_layer, pack
from swath.errors import VectorError
from swath.geo.grid import Grid
from swath.geo.polygons import PolygonRules, polygonize
from swath.geo.raster import describe, read_image, read_labels
from swath.geo.rasterize import burn
from swath.geo.vector import read_polygons, write_vectors
from swath.geo.windows import ConstantStride, windows
from swath.labels import IGNORE
from tests.conftest import Script
from tests.geo.test_gdal import gdal
from tests.synthetic import blobs, grid, times, write_image, write_mask

SHAPE = (48, 64)
CONFIGS = {name: f"configs/demo/{name}.py" for name in ("all_agg_by_city", "polygonize", "to_submission", "validate")}


def place_of(area: str) -> Grid:
    return grid(SHAPE, (400_000.0 + 50_000 * (area == "fir"), 3_700_000.0))


@pytest.fixture
def predictions(tmp_path: Path) -> Path:
    """Three dates of two areas: probabilities around the same water, each date with a gap of its own."""
    rng = np.random.default_rng(0)
    for area in ("elm", "fir"):
        for i in range(3):
            image = np.clip(blobs(SHAPE, 5) * 0.6 + rng.uniform(0, 0.4, SHAPE), 0, 1)
            image[i * 4 : i * 4 + 4] = np.nan
            write_image(tmp_path / "predictions" / area / f"s1a_{area}_ASC_2015010{i}.tif", image[None], place_of(area))
    return tmp_path / "predictions"


@pytest.fixture
def run(script: Script, predictions: Path, tmp_path: Path) -> Callable[..., int]:
    def start(name: str, **overrides: object) -> int:
        paths = {"input_path": predictions, "output_path": tmp_path / name}
        if name == "to_submission":
            paths["scenes_path"] = tmp_path / "predictions"
        return script(name, CONFIGS[name], **(paths | overrides))

    return start


def test_c96_areas_are_aggregated_and_a_second_run_is_a_no_op(
    run: Callable[..., int], predictions: Path, tmp_path: Path
) -> None:
    assert run("all_agg_by_city") == 0
    out = tmp_path / "all_agg_by_city"
    for area in ("elm", "fir"):
        stack = np.concatenate([read_image(p) for p in sorted((predictions / area).iterdir())]).astype(np.float64)
        mean = np.nanmean(stack, axis=0)
        np.testing.assert_allclose(read_image(out / "probabilities" / f"{area}.tif")[0], mean, atol=1e-5)
        sure = np.abs(mean - 0.5) > 1e-5
        assert np.array_equal(read_labels(out / "classes" / f"{area}.tif")[0][sure], (mean >= 0.5)[sure])
    before = times(out)
    assert run("all_agg_by_city") == 0
    assert times(out) == before


def test_c13_another_rule_into_the_same_folder_is_an_error(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("all_agg_by_city") == 0
    assert run("all_agg_by_city", rule="any") == 1
    assert "rule: mean before, any now" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["all_agg_by_city", "to_submission", "polygonize"])
def test_c96_an_empty_folder_says_what_belongs_there(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    (tmp_path / "nothing").mkdir()
    assert run(name, input_path=tmp_path / "nothing") == 1
    said = capsys.readouterr().err
    assert f"{tmp_path / 'nothing'}: no " in said
    assert "Set input_path to" in said


@pytest.mark.parametrize("suffix", ["shp", "gpkg"])
def test_c98_polygons_of_class_one_have_the_area_of_its_pixels(
    run: Callable[..., int], tmp_path: Path, suffix: str
) -> None:
    mask = blobs(SHAPE, 1)
    mask[40:] = IGNORE
    write_mask(tmp_path / "classes" / "elm.tif", mask, place_of("elm"))
    assert run("polygonize", input_path=tmp_path / "classes", format=suffix, min_area=0) == 0
    frame = gpd.read_file(tmp_path / "polygonize" / f"elm.{suffix}")
    assert set(frame["id"]) == {1}
    assert frame.crs.to_epsg() == 32638
    assert frame.is_valid.all()
    assert frame.area.sum() == 100.0 * (mask == 1).sum()
    before = times(tmp_path / "polygonize", f"*.{suffix}")
    assert run("polygonize", input_path=tmp_path / "classes", format=suffix, min_area=0) == 0
    assert times(tmp_path / "polygonize", f"*.{suffix}") == before


def test_c98_class_zero_on_request_and_small_ones_left_out(run: Callable[..., int], tmp_path: Path) -> None:
    mask = np.zeros(SHAPE, np.uint8)
    mask[2:4, 2:4], mask[20, 20] = 1, 1
    path = write_mask(tmp_path / "elm.tif", mask, place_of("elm"))
    assert run("polygonize", input_path=path, classes="0,1", min_area=400) == 0
    frame = gpd.read_file(tmp_path / "polygonize" / "elm.shp")
    assert sorted(zip(frame["id"], frame.area, strict=True)) == [(0, 100.0 * (mask == 0).sum()), (1, 400.0)]


def test_c98_simplified_polygons_of_every_class_as_geoparquet(run: Callable[..., int], tmp_path: Path) -> None:
    path = write_mask(tmp_path / "elm.tif", blobs(SHAPE, 1), place_of("elm"))
    assert run("polygonize", input_path=path, classes="0,1", min_area=300, simplify=15, format="parquet") == 0
    found = read_polygons(tmp_path / "polygonize" / "elm.parquet", "id")
    rules = PolygonRules(classes=(0, 1), min_area=300, simplify=15)
    expected = polygonize(blobs(SHAPE, 1), place_of("elm"), rules)
    assert found.geometry.tolist() == expected.geometry.tolist()
    assert found["id"].tolist() == expected["id"].tolist()
    assert run("polygonize", input_path=path, output_path=tmp_path / "other", format="dxf") == 1


def test_c98_rasters_of_one_name_are_refused(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for area in ("elm", "fir"):
        write_mask(tmp_path / "classes" / area / "water.tif", blobs(SHAPE), place_of(area))
    assert run("polygonize", input_path=tmp_path / "classes") == 1
    assert "several rasters are called water; their polygons would get the same name" in capsys.readouterr().err


# ---------------------------------------------------------------------------------------------------------- submission


def test_c100_the_archive_reopens_as_one_shapefile_per_area(run: Callable[..., int], tmp_path: Path) -> None:
    assert run("to_submission", min_area=0, names='{"elm": "38RNV_Samawah", "fir": "38SLD_Tikrit"}') == 0
    out = tmp_path / "to_submission"
    with zipfile.ZipFile(out / "submission.zip") as packed:
        names = sorted(packed.namelist())
        packed.extractall(tmp_path / "unpacked")
    parts = (".cpg", ".dbf", ".prj", ".shp", ".shx")
    assert names == [f"{stem}{part}" for stem in ("38RNV_Samawah", "38SLD_Tikrit") for part in parts]
    for area, stem in (("elm", "38RNV_Samawah"), ("fir", "38SLD_Tikrit")):
        frame = gpd.read_file(tmp_path / "unpacked" / f"{stem}.shp")
        classes = read_labels(out / "aggregated" / "classes" / f"{area}.tif")[0]
        assert (frame["id"] == 1).all()
        assert frame.crs.to_epsg() == 32638
        assert frame.area.sum() == 100.0 * (classes == 1).sum() > 0
        place = place_of(area)
        back = burn(list(frame.geometry), [1] * len(frame), place, place.window, all_touched=False)
        assert np.array_equal(back, classes == 1)
    assert (out / "map.png").stat().st_size > 1000


@pytest.mark.system
def test_c100_a_second_start_makes_only_the_areas_that_changed(
    run: Callable[..., int], predictions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "to_submission"

    def files() -> dict[str, int]:
        return times(out, "*.tif") | times(out, "*.shp")

    def made_by_another_start() -> set[str]:
        before = files()
        assert run("to_submission") == 0
        return {name for name, time in files().items() if before.get(name) != time}

    assert run("to_submission") == 0
    assert "4 of 4 items done now" in capsys.readouterr().out
    whole = {path.name: path.read_bytes() for path in out.rglob("*") if path.suffix in (".shp", ".dbf", ".tif")}
    assert made_by_another_start() == set()
    assert "0 of 4 items done now, 4 before" in capsys.readouterr().out
    (out / "elm.shp").unlink()
    assert made_by_another_start() == {"elm.shp"}
    assert "1 of 4 items done now, 3 before" in capsys.readouterr().out
    (out / "aggregated/classes/fir.tif").unlink()
    assert made_by_another_start() == {"aggregated/classes/fir.tif", "aggregated/probabilities/fir.tif"}
    again = {path.name: path.read_bytes() for path in out.rglob("*") if path.suffix in (".shp", ".dbf", ".tif")}
    assert again == whole
    date = sorted((predictions / "fir").iterdir())[0]
    write_image(date, np.ones((1, *SHAPE), np.float32), place_of("fir"))
    assert made_by_another_start() == {"aggregated/classes/fir.tif", "aggregated/probabilities/fir.tif", "fir.shp"}
    assert "2 of 4 items done now, 2 before" in capsys.readouterr().out


def test_c100_an_area_without_water_has_an_empty_shapefile(
    run: Callable[..., int], predictions: Path, tmp_path: Path
) -> None:
    for path in (predictions / "fir").iterdir():
        write_image(path, np.zeros((1, *SHAPE)), place_of("fir"))
    assert run("to_submission") == 0
    assert len(gpd.read_file(tmp_path / "to_submission" / "fir.shp")) == 0
    with zipfile.ZipFile(tmp_path / "to_submission" / "submission.zip") as packed:
        assert "fir.shp" in packed.namelist()


def test_c100_scenes_without_crs_can_be_submitted(run: Callable[..., int], predictions: Path, tmp_path: Path) -> None:
    for path in predictions.rglob("*.tif"):
        write_image(path, read_image(path), Grid(None, Affine(1, 0, 0, 0, -1, 0), SHAPE))
    assert run("to_submission", min_area=0) == 0
    frame = gpd.read_file(tmp_path / "to_submission" / "elm.shp")
    assert frame.area.sum() == (read_labels(tmp_path / "to_submission" / "aggregated/classes/elm.tif") == 1).sum()


@pytest.mark.parametrize("fault", ["id", "area", "count", "crs"])
def test_c100_a_wrong_archive_is_refused(tmp_path: Path, fault: str) -> None:
    mask, place = blobs(SHAPE, 1), place_of("elm")
    raster = write_mask(tmp_path / "elm.tif", mask, place)
    frame = polygonize(mask, place)
    count = len(frame)
    spoilt = {
        "id": lambda: frame.assign(id=2), "area": lambda: frame.assign(geometry=frame.buffer(1)),
        "count": lambda: frame.iloc[1:], "crs": lambda: frame.set_crs(32637, allow_override=True),
    }[fault]()  # fmt: skip
    said = {"id": "id other than 1", "area": "area .* instead of", "count": "polygons instead of", "crs": "another CRS"}
    for layer_frame, good in ((frame, True), (spoilt, False)):
        write_vectors(tmp_path / "elm.shp", layer_frame)
        layer = Layer(tmp_path / "elm.shp", raster, count)
        pack([layer], tmp_path / "submission.zip")
        if good:
            found = check_layer(layer, tmp_path / "submission.zip", 0)
            assert found == {"polygons": count, "area_km2": pytest.approx(mask.sum() / 1e4)}
        else:
            with pytest.raises(
                VectorError, match=rf"submission\.zip: elm\.shp has .*{said[fault]}.*Run to_submission again"
            ):
                check_layer(layer, tmp_path / "submission.zip", 0)


def test_c100_the_check_of_a_large_layer_takes_little_memory(tmp_path: Path) -> None:
    shape = (6000, 6000)
    place = grid(shape)
    mask = np.zeros(shape, np.uint8)
    mask[100:140, 200:260], mask[5990:, :10] = 1, 1
    raster = write_mask(tmp_path / "elm.tif", mask, place)
    write_vectors(tmp_path / "elm.shp", polygonize(mask, place))
    layer = Layer(tmp_path / "elm.shp", raster, 2)
    pack([layer], tmp_path / "submission.zip")
    del mask
    tracemalloc.start()
    try:
        assert check_layer(layer, tmp_path / "submission.zip", 0)["area_km2"] == pytest.approx(0.25)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20e6  # the raster has 36 MB


@pytest.mark.parametrize("name", ["../../evil", "/tmp/evil", "sub/elm", "", "a\0b"])
def test_c130_names_of_shapefiles_stay_in_the_output_folder(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    before = sorted(tmp_path.parent.rglob("*.shp"))
    assert run("to_submission", names=json.dumps({"elm": name})) == 1
    assert f"names: elm: {name!r} is no name of a shapefile" in capsys.readouterr().err
    assert sorted(tmp_path.parent.rglob("*.shp")) == before


# ------------------------------------------------------------------------------------------------ from tiles to shapefiles


TILING = ConstantStride(size=24, stride=20)


def cut(predictions: Path, tiles: Path, name: str = "{area}/{scene}") -> None:
    """Every map as padded tiles that overlap, in folders called `name`."""
    for path in predictions.rglob("*.tif"):
        image, place = read_image(path), describe(path).grid
        wide = np.pad(image, ((0, 0), (0, TILING.size), (0, TILING.size)), constant_values=np.nan)
        folder = tiles / name.format(area=path.parent.name, scene=path.stem)
        for window, _ in windows(place.shape, TILING):
            write_image(folder / f"tile_{window.col}_{window.row}.tif", wide[:, *window.slices], place.at(window))


@pytest.mark.system
@pytest.mark.parametrize("beside", [False, True], ids=["bare", "of inference"])
def test_c100_tiles_become_one_shapefile_per_area_in_their_root(
    run: Callable[..., int], predictions: Path, tmp_path: Path, beside: bool
) -> None:
    tiles = tmp_path / "tiled"
    cut(predictions, tiles / "probabilities" if beside else tiles)
    assert run("to_submission", min_area=0) == 0
    for _ in range(2):  # what the first left there is no prediction for the second
        assert run("to_submission", min_area=0, input_path=tiles, output_path="None") == 0
        assert sorted(p.name for p in tiles.glob("*.shp")) == ["elm.shp", "fir.shp"]
    with zipfile.ZipFile(tiles / "submission.zip") as packed:
        assert sorted(n for n in packed.namelist() if n.endswith("shp")) == ["elm.shp", "fir.shp"]
    for area in ("elm", "fir"):
        whole, found = (gpd.read_file(folder / f"{area}.shp") for folder in (tmp_path / "to_submission", tiles))
        assert len(found) > 1
        assert found.geometry.normalize().tolist() == whole.geometry.normalize().tolist()
        assert len(list((tiles / "merged" / area).glob("*.tif"))) == 3


@pytest.mark.system
def test_c97_c100_merged_tiles_and_burnt_shapefiles_are_gdals(
    run: Callable[..., int], predictions: Path, tmp_path: Path
) -> None:
    tiles = tmp_path / "tiled"
    cut(predictions, tiles)
    assert run("to_submission", min_area=0, input_path=tiles, output_path="None") == 0
    for merged in sorted((tiles / "merged").rglob("*.tif")):
        parts = sorted((tiles / merged.parent.name / merged.stem).glob("*.tif"))
        gdal("gdalbuildvrt", "-q", tmp_path / "theirs.vrt", *parts)
        gdal("gdal_translate", "-q", tmp_path / "theirs.vrt", tmp_path / "theirs.tif")
        theirs = read_image(tmp_path / "theirs.tif")
        assert np.array_equal(read_image(merged), theirs, equal_nan=True)
    for area in ("elm", "fir"):
        classes = tiles / "aggregated" / "classes" / f"{area}.tif"
        place = describe(classes).grid
        burnt = write_mask(tmp_path / f"{area}.tif", np.zeros(place.shape, np.uint8), place)
        gdal("gdal_rasterize", "-q", "-a", "id", tiles / f"{area}.shp", burnt)
        assert np.array_equal(read_labels(burnt)[0] == 1, read_labels(classes)[0] == 1)


def test_c100_tiles_in_folders_of_scenes_need_a_pattern_or_a_table(
    run: Callable[..., int], predictions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiles = tmp_path / "raw"
    cut(predictions, tiles, "{scene}_tiles")
    assert run("to_submission", input_path=tiles, output_path="None") == 1
    said = capsys.readouterr().err
    assert "nothing says which area s1a_elm_ASC_20150100" in said
    assert "-P area_pattern=" in said
    assert not list(tiles.rglob("*.shp"))
    assert run("to_submission", input_path=tiles, output_path="None", area_pattern="s1a_([a-z]+)_") == 0
    assert sorted(p.name for p in tiles.glob("*.shp")) == ["elm.shp", "fir.shp"]
    assert (tiles / "map.png").is_file()


def test_c96_c97_c98_steps_follow_one_another_with_input_path_alone(
    script: Script, predictions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiles = tmp_path / "tiled"
    cut(predictions, tiles)
    for name in ("all_agg_by_city", "polygonize"):
        assert script(name, CONFIGS[name], input_path=tiles) == 1
        said = capsys.readouterr().err
        assert f"mlflow run . -e merge_tiles --env-manager local -P input_path={tiles}" in said
    assert script("merge_tiles", "configs/demo/merge_tiles.py", input_path=tiles) == 0
    assert script("all_agg_by_city", CONFIGS["all_agg_by_city"], input_path=tiles) == 0
    assert script("polygonize", CONFIGS["polygonize"], input_path=tiles, min_area=0) == 0
    for area in ("elm", "fir"):
        classes = read_labels(tiles / "aggregated" / "classes" / f"{area}.tif")[0]
        assert gpd.read_file(tiles / f"{area}.shp").area.sum() == 100.0 * (classes == 1).sum() > 0
        stack = np.concatenate([read_image(p) for p in sorted((predictions / area).iterdir())]).astype(np.float64)
        mean = np.nanmean(stack, axis=0)
        sure = np.abs(mean - 0.5) > 1e-5
        assert np.array_equal(classes[: SHAPE[0], : SHAPE[1]][sure], (mean >= 0.5)[sure])
        assert (classes[SHAPE[0] :] == IGNORE).all()
    (first, *_) = sorted(tiles.rglob("tile_*.tif"))
    os.utime(first)
    assert script("all_agg_by_city", CONFIGS["all_agg_by_city"], input_path=tiles) == 1
    assert "merged is older than its tiles" in capsys.readouterr().err


def test_c97_scenes_of_tiles_by_table_have_their_own_size(script: Script, predictions: Path, tmp_path: Path) -> None:
    path = predictions / "elm" / "s1a_elm_ASC_20150100.tif"
    paths = {"input_path": predictions / "elm", "output_path": tmp_path / "cut"}
    tiling = {"tiling__size": 32, "tiling__stride": 32}
    assert script("generate_tiles", "configs/demo/generate_test_tiles.py", **paths, **tiling) == 0
    images = tmp_path / "cut" / "images"
    assert script("merge_tiles", "configs/demo/merge_tiles.py", input_path=images, tiles_path=tmp_path / "cut") == 0
    (merged,) = (images / "merged").rglob(path.name)
    assert describe(merged).grid == describe(path).grid
    assert np.array_equal(read_image(merged), read_image(path), equal_nan=True)


@pytest.mark.parametrize("folder", ["date1", "s1a_20150102", "20150102"])
def test_c96_dates_in_folders_of_any_name_are_one_area(run: Callable[..., int], tmp_path: Path, folder: str) -> None:
    for i, area in enumerate(("38SNE", "20170314")):
        for j in range(2):
            image = np.full((1, *SHAPE), float(i), np.float32)
            write_image(tmp_path / "maps" / area / f"{folder}_{j}" / "map.tif", image, place_of(area))
    assert run("to_submission", input_path=tmp_path / "maps") == 0
    assert sorted(p.stem for p in (tmp_path / "to_submission").glob("*.shp")) == ["20170314", "38SNE"]


def test_c96_maps_of_areas_stay_maps_of_areas(run: Callable[..., int], tmp_path: Path) -> None:
    assert run("all_agg_by_city") == 0
    assert run("to_submission", input_path=tmp_path / "all_agg_by_city", min_area=0) == 0
    assert sorted(p.stem for p in (tmp_path / "to_submission").glob("*.shp")) == ["elm", "fir"]


def test_c100_names_of_shapefiles_are_of_areas_and_differ(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("to_submission", names='{"oak": "38RNV_Samawah"}') == 1
    assert "names: no predictions of oak. There are elm, fir." in capsys.readouterr().err
    assert run("to_submission", names='{"elm": "fir"}') == 1
    assert "names: elm, fir would all be fir.shp" in capsys.readouterr().err


# -------------------------------------------------------------------------------------------------------------- scores


def test_c81_a_folder_of_predictions_is_scored_by_key(
    script: Script, last_run: Callable[[], mlflow.entities.Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    counts = np.zeros((2, 2), int)
    for i in range(2):
        truth, found = blobs(SHAPE, i), blobs(SHAPE, i + 10)
        truth[:, :5] = IGNORE
        write_mask(tmp_path / "truth" / "elm" / f"s1a_elm_vh_ASC_{i}.tif", truth, place_of("elm"))
        write_mask(tmp_path / "found" / "elm" / f"s1a_elm_3b_ASC_{i}.tif", found, place_of("elm"))
        for t, p in zip(truth[:, 5:].ravel(), found[:, 5:].ravel(), strict=True):
            counts[t, p] += 1
    write_mask(tmp_path / "truth" / "elm" / "lonely_vh_1.tif", truth, place_of("elm"))
    write_mask(tmp_path / "found" / "elm" / "extra_3b_1.tif", found, place_of("elm"))
    paths = {"preds_path": tmp_path / "found", "gt_path": tmp_path / "truth"}
    assert script("validate", CONFIGS["validate"], **paths, name_parts='["vh", "3b"]') == 0
    said = capsys.readouterr().out
    assert "1 labels without a prediction: lonely_1" in said
    assert "1 predictions without labels: extra_1" in said
    metrics = last_run().data.metrics
    iou = counts.diagonal() / (counts.sum(0) + counts.sum(1) - counts.diagonal())
    f1 = 2 * counts.diagonal() / (counts.sum(0) + counts.sum(1))
    assert metrics["validation/iou_fg"] == pytest.approx(iou[1])
    assert metrics["validation/iou_macro_bg"] == pytest.approx(iou.mean())
    assert metrics["validation/f1_fg"] == pytest.approx(f1[1])
    assert metrics["validation/f1_macro_bg"] == pytest.approx(f1.mean())
    assert (metrics["validation/missing"], metrics["validation/extra"]) == (1, 1)


def test_c81_folders_without_a_common_scene_are_refused(
    script: Script, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("found", "truth"):
        write_mask(tmp_path / name / f"{name}_vh_1.tif", blobs(SHAPE), place_of("elm"))
    paths = {"preds_path": tmp_path / "found", "gt_path": tmp_path / "truth"}
    assert script("validate", CONFIGS["validate"], **paths) == 1
    assert "have no scene in common (1 and 1 rasters). Check both paths" in capsys.readouterr().err
