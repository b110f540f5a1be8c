"""The clean-up step: filters by config, masks from rasters and vectors, and what each filter is worth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import geopandas as gpd
import mlflow
import numpy as np
import pandas as pd
import pytest
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from scipy import ndimage
from sklearn.metrics import confusion_matrix, jaccard_score

from swath.errors import CatalogError, ConfigError, RasterError, SwathError, VectorError
from swath.geo.grid import Grid
from swath.geo.morphology import fill_holes
from swath.geo.raster import describe, read_labels
from swath.geo.vector import write_vectors
from swath.labels import IGNORE
from swath.prediction.postprocess import (
    PostprocessConfig,
    PostprocessJob,
    matrix_of,
    postprocess_jobs,
    postprocess_scene,
    variants,
)
from tests.conftest import Script
from tests.runs import training_run
from tests.synthetic import blobs, grid, labels, times, write_image, write_mask, write_scenes

SHAPE = (48, 56)
PLACE = grid(SHAPE)
CONFIG = PostprocessConfig(input_path="in", output_path="out")


def speckled(seed: int = 0) -> NDArray[np.uint8]:
    """Blobs with specks, pinholes and a band of nodata."""
    rng = np.random.default_rng(seed)
    mask = blobs(SHAPE, seed)
    mask[rng.random(SHAPE) < 0.03] ^= 1
    mask[:, -4:] = IGNORE
    return mask


def run(folder: Path, classes: NDArray[np.uint8], place: Grid = PLACE, **settings: object) -> NDArray[np.uint8]:
    """What the filters of a config make of one raster."""
    config = replace(CONFIG, **settings)  # type: ignore[arg-type]
    source = write_mask(folder / "in" / "elm" / "s_1.tif", classes, place)
    (job,) = postprocess_jobs(config, source.parents[1], folder / "out")
    postprocess_scene(job)
    assert job.output == folder / "out" / "classes" / "elm" / "s_1.tif"
    return read_labels(job.output)[0]


def areas(mask: NDArray[np.bool_]) -> list[int]:
    labelled, count = ndimage.label(mask)
    return [int(n) for n in np.bincount(labelled.ravel(), minlength=count + 1)[1:]]


@pytest.mark.parametrize(("unit", "pixel", "size"), [("px", 10.0, 6), ("m2", 10.0, 600), ("m2", 20.0, 2400)])
def test_c99_areas_are_in_pixels_or_square_metres(tmp_path: Path, unit: str, pixel: float, size: float) -> None:
    classes = speckled()
    found = run(tmp_path, classes, grid(SHAPE, pixel=pixel), min_object=size, area_unit=unit)
    assert sorted(areas(found == 1)) == sorted(n for n in areas(classes == 1) if n >= 6)
    assert (found != classes).sum() > 0
    np.testing.assert_array_equal(found == IGNORE, classes == IGNORE)
    classes[20:30, 10:30] = 1
    classes[22:24, 12:15] = classes[22:24, 20:25] = 0  # holes of 6 and 10 pixels
    filled = run(tmp_path / "holes", classes, grid(SHAPE, pixel=pixel), max_hole=size, area_unit=unit)
    np.testing.assert_array_equal(filled, fill_holes(classes, 1, 6))
    assert (filled[22, 12], filled[22, 20]) == (1, 0)


def test_c99_feet_are_not_taken_for_metres(tmp_path: Path) -> None:
    feet = Grid(CRS.from_epsg(2263), Affine(10, 0, 1e6, 0, -10, 2e5), SHAPE)  # a pixel has 9.29 m2
    found = run(tmp_path, speckled(), feet, min_object=6 * 9.29, area_unit="m2")
    assert sorted(areas(found == 1)) == sorted(n for n in areas(speckled() == 1) if n >= 6)


@pytest.mark.parametrize("crs", [None, CRS.from_epsg(4326)])
def test_c99_square_metres_need_a_projected_crs(tmp_path: Path, crs: CRS | None) -> None:
    with pytest.raises(RasterError, match="areas in m2 need a projected CRS"):
        run(tmp_path, speckled(), Grid(crs, Affine(0.001, 0, 10, 0, -0.001, 50), SHAPE), max_hole=5, area_unit="m2")


def test_c99_each_filter_does_its_part_in_the_order_of_the_fields(tmp_path: Path) -> None:
    classes = speckled()
    valid = classes != IGNORE
    alone = {name: run(tmp_path / name, classes, **{name: 3}) for name in ("min_object", "max_hole", "closing")}
    alone |= {"opening": run(tmp_path / "opening", classes, opening=1)}
    for name, found in alone.items():
        changed = found[valid] != classes[valid]
        assert changed.any(), name
        assert set(found[valid][changed]) == {0 if name in ("min_object", "opening") else 1}, name
    both = run(tmp_path / "both", classes, opening=1, closing=2, min_object=9, max_hole=9)
    step = run(tmp_path / "step1", classes, opening=1)
    step = run(tmp_path / "step2", step, closing=2)
    step = run(tmp_path / "step3", step, min_object=9)
    np.testing.assert_array_equal(both, run(tmp_path / "step4", step, max_hole=9))


def test_c99_other_bands_are_copied_and_a_task_is_chosen_by_name(tmp_path: Path) -> None:
    bands = np.stack([labels(SHAPE, 4, seed=1).numpy(), speckled()])
    source = write_mask(tmp_path / "in" / "s_1.tif", bands, PLACE, ("ice", "water"))
    config = replace(CONFIG, task="water", min_object=9.0)
    (job,) = postprocess_jobs(config, source.parent, tmp_path / "out")
    postprocess_scene(job)
    found = read_labels(job.output)
    np.testing.assert_array_equal(found[0], bands[0])
    assert describe(job.output).bands == ("ice", "water")
    assert min(areas(found[1] == 1)) >= 9
    with pytest.raises(RasterError, match="no band floe; it has ice, water"):
        postprocess_scene(replace(job, config=replace(config, task="floe")))
    write_image(source, bands.astype(np.float32), PLACE, ("ice", "water"))
    with pytest.raises(RasterError, match="float32, not classes"):
        postprocess_scene(job)


# --------------------------------------------------------------------------------------------------------------- masks


def half_plane() -> gpd.GeoDataFrame:
    """The left half of the scene, to the middle of a pixel row's columns."""
    x_min, y_min, _, y_max = PLACE.bounds
    return gpd.GeoDataFrame(
        {"id": [1]}, geometry=[shapely.box(x_min - 50, y_min - 50, x_min + 280, y_max + 50)], crs=32638
    )


@pytest.mark.parametrize(("masked_as", "value"), [("background", 0), ("nodata", IGNORE)])
@pytest.mark.parametrize("keeps", [False, True])
@pytest.mark.parametrize("kind", ["vector", "other CRS", "raster", "coarse raster", "folder"])
def test_c99_masks_come_from_vectors_and_rasters_on_any_grid(
    tmp_path: Path, kind: str, keeps: bool, masked_as: str, value: int
) -> None:
    path, land = tmp_path / "land.gpkg", np.zeros(SHAPE, np.uint8)
    land[:, :28] = 7
    if kind == "vector":
        write_vectors(path, half_plane())
    elif kind == "other CRS":
        write_vectors(path, half_plane().to_crs(4326))
    elif kind == "raster":
        path = write_mask(tmp_path / "land.tif", land, PLACE)
    elif kind == "coarse raster":  # of 9 x 14 pixels of 40 m: nothing is marked below row 36
        wide = np.zeros((9, 14), np.uint8)
        wide[:, :7] = 7
        path = write_mask(tmp_path / "land.tif", wide, grid((9, 14), pixel=40.0))
        land[36:] = 0
    else:
        path = write_mask(tmp_path / "lands" / "s_1.tif", land, PLACE).parent
    classes = speckled()
    found = run(tmp_path, classes, mask_path=str(path), masked_as=masked_as, mask_keeps=keeps)
    out = (land == 7) != keeps
    np.testing.assert_array_equal(found, np.where(out & (classes != IGNORE), value, classes))


def test_c99_a_quality_band_masks_by_its_flags(tmp_path: Path) -> None:
    flags = np.full(SHAPE, IGNORE, np.uint8)
    flags[:10], flags[10:20], flags[20:30] = 1, 2, 3
    path = write_mask(tmp_path / "flags.tif", flags, PLACE)
    classes = np.ones(SHAPE, np.uint8)
    found = run(tmp_path, classes, mask_path=str(path), mask_values=(1, 3))
    np.testing.assert_array_equal(found[:, 0], [0] * 10 + [1] * 10 + [0] * 10 + [1] * 18)  # unknown is not masked
    np.testing.assert_array_equal(run(tmp_path / "any", classes, mask_path=str(path))[:, 0], [0] * 30 + [1] * 18)


def test_c99_masks_that_cannot_be_placed_are_refused(tmp_path: Path) -> None:
    write_vectors(tmp_path / "land.gpkg", half_plane())
    nowhere = Grid(None, Affine(1, 0, 0, 0, -1, 0), SHAPE)
    with pytest.raises(VectorError, match="have no CRS, so its polygons have no place"):
        run(tmp_path, speckled(), nowhere, mask_path=str(tmp_path / "land.gpkg"))
    (tmp_path / "lands").mkdir()
    with pytest.raises(CatalogError, match=r"mask_path=.*: no raster for s_1"):
        run(tmp_path, speckled(), mask_path=str(tmp_path / "lands"))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [({}, "no filter is on: set mask_path, opening"), ({"opening": -1, "closing": 2}, "opening=-1: sizes")],
)
def test_c99_a_config_without_filters_or_sense_is_refused(tmp_path: Path, wrong: dict[str, int], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        run(tmp_path, speckled(), **wrong)


def test_c99_without_rasters_there_is_nothing_to_filter(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="no class rasters found"):
        postprocess_jobs(replace(CONFIG, opening=1), tmp_path, tmp_path / "out")


# ---------------------------------------------------------------------------------------------------------- evaluation


def test_c99_variants_turn_each_filter_on_and_off_once() -> None:
    assert list(variants(["a"])) == ["none", "all"]
    assert variants(["a", "b"]) == {"none": (), "all": ("a", "b"), "without a": ("b",), "without b": ("a",)}
    three = variants(["a", "b", "c"])
    assert len(three) == len(set(three.values())) == 8
    assert three["without b"] == ("a", "c")
    assert three["only b"] == ("b",)


@pytest.mark.parametrize("target", [1, 2])
def test_c99_scores_are_of_the_target_over_labelled_pixels(target: int) -> None:
    truth, found = labels(SHAPE, 3, seed=3).numpy(), labels(SHAPE, 3, seed=4).numpy()
    valid = truth != IGNORE
    expected = confusion_matrix(truth[valid] == target, found[valid] == target)
    np.testing.assert_array_equal(matrix_of(found, truth, target), expected)


@pytest.mark.system
def test_c99_the_step_tells_what_each_filter_is_worth(
    script: Script, last_run: Callable[[], mlflow.entities.Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scenes = write_scenes(tmp_path / "scenes", 3, SHAPE, tmp_path / "masks")
    run_id = training_run(tmp_path / "run", train=scenes[:1], validation=scenes[1:2])
    predicted = {
        "run_id": run_id,
        "input_path": scenes[2].parent,
        "labels_path": None,
        "output_path": tmp_path / "predictions",
    }
    assert script("inference", "configs/demo/inference.py", **predicted, previews=0) == 0
    raster = next((tmp_path / "predictions/classes").rglob("*.tif"))
    write_mask(raster, speckled(2), describe(raster).grid)  # something to clean up
    truth = read_labels(tmp_path / "masks/area2/s1a_area2_ASC_20150102.tif")[0]
    paths = {
        "input_path": tmp_path / "predictions",
        "output_path": tmp_path / "clean",
        "labels_path": tmp_path / "masks",
    }
    given = paths | {"min_object": 600, "max_hole": 600}
    assert script("postprocess", "configs/demo/postprocess.py", **given) == 0
    said, logged = capsys.readouterr().out, last_run().data
    table = pd.read_csv(tmp_path / "clean/filters.csv", index_col="filters", keep_default_na=False)
    assert list(table.index) == ["none", "all", "without min_object", "without max_hole"]
    assert "without min_object" in said
    chosen = {"none": {}, "all": {"min_object": 6.0, "max_hole": 6.0}, "without min_object": {"max_hole": 6.0},
              "without max_hole": {"min_object": 6.0}}  # fmt: skip
    for name, filters in chosen.items():
        found = run(tmp_path / name, speckled(2), **filters) if filters else speckled(2)
        iou = jaccard_score(truth.ravel() == 1, found.ravel() == 1)
        assert table["iou_fg"][name] == pytest.approx(iou, abs=1e-6)
        assert logged.metrics[f"postprocess/iou_fg_{name.replace(' ', '_')}"] == pytest.approx(iou)
        if name == "all":
            written = read_labels(next((tmp_path / "clean/classes").rglob("*.tif")))[0]
            np.testing.assert_array_equal(written, found)
            assert logged.metrics["postprocess/changed_pixels"] == (found != speckled(2)).sum()
    assert table["gain"]["all"] == pytest.approx(table["iou_fg"]["all"] - table["iou_fg"]["none"], abs=2e-6)
    # again: nothing is done anew; the shapefiles can be made of the result
    before = times(tmp_path / "clean", "*.tif")
    assert script("postprocess", "configs/demo/postprocess.py", **given) == 0
    assert times(tmp_path / "clean", "*.tif") == before
    submission = {"input_path": tmp_path / "clean/classes", "output_path": tmp_path / "shapes", "scenes_path": "None"}
    assert script("to_submission", "configs/demo/to_submission.py", **submission) == 0
    # scenes that trained the model say nothing about filters
    capsys.readouterr()
    everything = predicted | {"input_path": tmp_path / "scenes", "output_path": tmp_path / "all"}
    assert script("inference", "configs/demo/inference.py", **everything, previews=0) == 0
    leaking = given | {"input_path": tmp_path / "all", "output_path": tmp_path / "leak"}
    assert script("postprocess", "configs/demo/postprocess.py", **leaking) == 1
    assert "trained this model" in capsys.readouterr().err


def test_c99_labels_on_another_grid_are_refused(tmp_path: Path) -> None:
    write_mask(tmp_path / "labels/s_1.tif", blobs(SHAPE), grid(SHAPE, (0.0, 0.0)))
    with pytest.raises(SwathError, match="not on one grid"):
        run(tmp_path, speckled(), opening=1, labels_path=str(tmp_path / "labels"))


def test_c99_a_job_can_go_to_another_process(tmp_path: Path) -> None:
    import pickle

    source = write_mask(tmp_path / "in" / "s_1.tif", speckled(), PLACE)
    (job,) = postprocess_jobs(replace(CONFIG, opening=1), source.parent, tmp_path / "out")
    again: PostprocessJob = pickle.loads(pickle.dumps(job))
    assert again == job
