"""Classes that cannot be where the scene's own bands fulfil a condition: against NumPy, on real files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from swath.data.tables import place as place_columns
from swath.data.tables import write_table
from swath.errors import CatalogError, ConfigError, RasterError, SwathError
from swath.geo.raster import describe, read_labels
from swath.labels import IGNORE
from swath.prediction import impossible
from swath.prediction.impossible import Impossible
from swath.prediction.postprocess import PostprocessConfig, matrix_of, postprocess_jobs, postprocess_scene
from tests.synthetic import grid, write_image, write_mask

SHAPE, BANDS = (48, 56), ("NIR", "QA", "DEM")
LAND, CLOUD = Impossible(band="DEM", above=0.0), Impossible(band="QA", above=0.5)


def bands() -> NDArray[np.float32]:
    """NIR, QA (0, 1) and DEM (whole metres, mostly 0, some missing)."""
    rng = np.random.default_rng(5)
    image = rng.uniform(0, 1, (3, *SHAPE)).astype(np.float32)
    image[1] = image[1] > 0.9
    image[2] = np.where(image[2] > 0.9, np.ceil(40 * image[2]), 0)
    image[2, 10:14, 20:30] = np.nan
    return image


def classes() -> NDArray[np.uint8]:
    """Classes 0, 1, 2 and nodata."""
    found = np.random.default_rng(6).integers(0, 3, SHAPE).astype(np.uint8)
    found[:, -4:] = IGNORE
    return found


def run(folder: Path, conditions: dict[str, Impossible], **settings: object) -> NDArray[np.uint8]:
    """The map that postprocess makes of `classes` with the bands of a scene."""
    source = write_mask(folder / "maps" / "classes" / "elm" / "s_1.tif", classes(), grid(SHAPE))
    if not (folder / "scenes").exists():
        write_image(folder / "scenes" / "elm" / "s_1.tif", bands(), grid(SHAPE), BANDS)
    config = PostprocessConfig(
        input_path=str(folder / "maps"), output_path=str(folder / "out"), scenes_path=str(folder / "scenes"),
        impossible=conditions,
    )  # fmt: skip
    config = replace(config, **settings)  # type: ignore[arg-type]
    (job,) = postprocess_jobs(config, source.parents[1], folder / "out")
    found = postprocess_scene(job)
    result = read_labels(job.output)[0]
    assert found["changed"] == (result != classes()).sum()
    return result


@pytest.mark.parametrize("strip", [100, 4_000_000])
@pytest.mark.parametrize(("masked_as", "value"), [("background", 0), ("nodata", IGNORE)])
def test_c99_a_class_is_taken_off_land_and_pixels_of_unknown_elevation_stay(
    tmp_path: Path, masked_as: str, value: int, strip: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(impossible, "STRIP_PIXELS", strip)
    before, height = classes(), bands()[2]
    expected = before.copy()
    expected[(height > 0) & (before == 1)] = value
    np.testing.assert_array_equal(run(tmp_path, {"land": LAND}, masked_as=masked_as), expected)
    unknown = np.isnan(height)
    assert (before[unknown] == 1).any()
    np.testing.assert_array_equal(expected[unknown], before[unknown])


@pytest.mark.parametrize("strip", [100, 4_000_000])
@pytest.mark.parametrize("square", [2, 3])
def test_c99_sums_over_squares(tmp_path: Path, square: int, strip: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(impossible, "STRIP_PIXELS", strip)
    before, height = classes(), bands()[2]
    expected = before.copy()
    for row, col in np.ndindex(*SHAPE):
        window = height[max(0, row - square + 1) : row + 1, max(0, col - square + 1) : col + 1]
        if np.nansum(window) >= 0.5 and before[row, col] == 1 and not np.isnan(height[row, col]):
            expected[row, col] = 0
    found = run(tmp_path, {"land": Impossible(band="DEM", above=0.49, square=square)})
    np.testing.assert_array_equal(found, expected)
    assert (found != run(tmp_path / "one", {"land": LAND})).any()


def test_c99_each_condition_is_a_filter_that_is_scored_on_and_off(tmp_path: Path) -> None:
    truth = np.where((bands()[2] > 0) | (classes() == IGNORE), 0, classes()).astype(np.uint8)
    write_mask(tmp_path / "labels" / "elm" / "s_1.tif", truth, grid(SHAPE))
    run(tmp_path, {"land": LAND, "cloud": CLOUD})
    config = PostprocessConfig(
        input_path="", output_path="", scenes_path=str(tmp_path / "scenes"), impossible={"land": LAND, "cloud": CLOUD},
        labels_path=str(tmp_path / "labels"),
    )  # fmt: skip
    (job,) = postprocess_jobs(config, tmp_path / "maps" / "classes", tmp_path / "scored")
    matrices = postprocess_scene(job)["matrices"]
    assert list(matrices) == [
        "none", "all", "without impossible.land", "without impossible.cloud",
    ]  # fmt: skip  # of two, "without" the one is "only" the other
    clean = np.where((bands()[2] > 0) & (classes() == 1), 0, classes())
    assert matrices["without impossible.cloud"] == matrix_of(clean.astype(np.uint8), truth, 1)
    assert job.decided_by == {"missing": (), "bands": None} or job.decided_by["bands"] == BANDS


def test_c99_names_and_missing_values_come_from_the_table_of_scenes(tmp_path: Path) -> None:
    image = bands()
    image[2, :10] = -7  # stands for no measurement
    path = write_image(tmp_path / "scenes" / "raw.tif", image, grid(SHAPE))
    row = {"key": "s_1", "area": "elm", "date": "", "image": "raw.tif", "nodata": -7.0, "bands": ["a", "b", "height"]}
    write_table(tmp_path / "scenes" / "scenes.parquet", [row | place_columns(describe(path))])
    found = run(tmp_path, {"low": Impossible(band="height", at_most=0.0)})
    expected = classes()
    expected[(image[2] == 0) & (expected == 1)] = 0
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("settings", "kind", "said"),
    [
        ({"scenes_path": None}, ConfigError, "one needs the other"),
        ({"impossible": {}}, ConfigError, "one needs the other"),
        ({"impossible": {"x": Impossible(band="SLOPE", above=1.0)}}, RasterError, "no band SLOPE; it has NIR, QA, DEM"),
        ({"scenes_path": "elsewhere"}, CatalogError, "no scene for the maps s_1"),
        ({"scenes_path": "shifted"}, RasterError, "not on the grid of its map"),
    ],
)
def test_c99_what_does_not_fit_is_named(
    tmp_path: Path, settings: dict[str, object], kind: type[SwathError], said: str
) -> None:
    write_image(tmp_path / "elsewhere" / "t_2.tif", bands(), grid(SHAPE), BANDS)
    write_image(tmp_path / "shifted" / "s_1.tif", bands(), grid(SHAPE, (0.0, 0.0)), BANDS)
    if isinstance(settings.get("scenes_path"), str):
        settings = settings | {"scenes_path": str(tmp_path / str(settings["scenes_path"]))}
    with pytest.raises(kind, match=said):
        run(tmp_path, {"land": LAND}, **settings)


@pytest.mark.parametrize("wrong", [{}, {"above": 1.0, "square": 0}, {"above": 2.0, "at_most": 1.0}])
def test_c99_conditions_without_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=r"Impossible|Where"):
        Impossible(band="DEM", **wrong)  # type: ignore[arg-type]
