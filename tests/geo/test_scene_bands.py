"""Bands made of whole scenes: against NumPy and SciPy on the whole scene, and the same in every window."""

from __future__ import annotations

import math
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from swath.errors import ConfigError, RasterError
from swath.geo import scene_bands
from swath.geo.conditions import Where
from swath.geo.grid import Window
from swath.geo.scene_bands import Closeness, FromMedian, SceneReader, median_of
from swath.geo.zones import MissingZones, find_zones
from tests.synthetic import grid, write_image

SHAPE, BANDS = (60, 90), ("NIR", "DEM")
WATER, LAND = Where(band="DEM", at_most=1.0), Where(band="DEM", above=1.0)
RULES = {
    "ONIR": FromMedian(band="NIR", over=WATER),
    "LAND": Closeness(to=LAND, reach=25),
    "ALL": FromMedian(band="NIR"),
}


def scene(seed: int = 0) -> NDArray[np.float32]:
    """NIR and DEM (2, H, W) with gaps in both, and an island or two."""
    rng = np.random.default_rng(seed)
    image = rng.normal(8000, 900, (2, *SHAPE)).astype(np.float32)
    image[1] = 0
    image[1, 20:26, 30:41] = rng.uniform(0, 9, (6, 11))
    image[1, 57, 2] = 5
    image[0, 4:9, 50:70] = np.nan
    image[1, 40:50, 60:80] = np.nan
    return image


def written(folder: Path, image: NDArray[np.float32], bands: tuple[str, ...] = BANDS) -> Path:
    return write_image(folder / "scene.tif", image, grid(SHAPE), bands)


def expected(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """ONIR, LAND, ALL of the whole scene."""
    nir, height = image.astype(np.float64)
    onir = nir - np.median(nir[(height <= 1) & ~np.isnan(nir)])
    distance = distance_transform_edt(~(height > 1))
    land = np.where(distance <= 25, 1 / (1 + 0.1 * distance), 0)
    return np.stack([onir, land, nir - np.nanmedian(nir)]).astype(np.float32)


def test_c45_bands_are_those_of_numpy_and_scipy(tmp_path: Path) -> None:
    image = scene()
    with SceneReader(written(tmp_path, image), rules=RULES) as reader:
        assert reader.info.bands == ("NIR", "DEM", "ONIR", "LAND", "ALL")
        reader.find_medians()
        np.testing.assert_allclose(reader.image(), np.concatenate([image, expected(image)]), rtol=1e-6, atol=2e-3)
        np.testing.assert_array_equal(reader.image(bands=[4, 1]), np.stack([reader.image()[3], image[0]]))


@settings(max_examples=40, deadline=None)
@given(st.integers(-9, 65), st.integers(-9, 95), st.integers(1, 50), st.integers(1, 60), st.integers(3, 40))
def test_c45_any_window_has_the_bands_of_the_whole_scene(
    tmp_path_factory: pytest.TempPathFactory, row: int, col: int, height: int, width: int, chunk: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        path = tmp_path_factory.mktemp("scene") / "scene.tif"
        write_image(path, scene(1), grid(SHAPE), BANDS)
        with SceneReader(path, rules=RULES) as reader:
            reader.find_medians()
            whole = np.full((5, SHAPE[0] + 140, SHAPE[1] + 180), np.nan, np.float32)
            whole[:, 70 : 70 + SHAPE[0], 90 : 90 + SHAPE[1]] = reader.image()
            patch.setattr(scene_bands, "CHUNK", chunk)
            found = reader.image(Window(row, col, height, width))
    np.testing.assert_array_equal(found, whole[:, 70 + row : 70 + row + height, 90 + col : 90 + col + width])


@settings(max_examples=100, deadline=None)
@given(arrays(np.float32, st.integers(0, 40), elements=st.floats(-(2.0**127), 2.0**127, width=32)), st.integers(1, 5))
def test_c45_medians_are_numpys(values: NDArray[np.float32], parts: int) -> None:
    found = median_of(lambda: iter(np.array_split(values, parts)))
    if not len(values):
        assert math.isnan(found)
        return
    np.testing.assert_allclose(found, np.float32(np.median(values.astype(np.float64))), rtol=1e-7, atol=0)


def test_c45_medians_of_many_equal_and_close_numbers() -> None:
    rng = np.random.default_rng(3)
    for values in (rng.integers(0, 3, 1001), 7000 + rng.integers(0, 2, 2000) * 1e-3, -np.arange(10), np.zeros(4)):
        numbers = values.astype(np.float32)
        found = median_of(lambda numbers=numbers: iter(np.array_split(numbers, 3)))  # type: ignore[misc]
        assert found == np.float32(np.median(numbers.astype(np.float64)))


def test_c45_strips_change_no_median_and_zones_do_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = scene(2)
    image[:, :20, :25] = 0  # of no measurement
    path = written(tmp_path, image)
    with SceneReader(path, rules=RULES) as reader:
        counted = dict(reader.find_medians())
    monkeypatch.setattr(scene_bands, "STRIP_PIXELS", 500)
    with SceneReader(path, rules=RULES) as reader:
        assert reader.find_medians() == counted
    with SceneReader(path, rules=RULES) as reader:
        zones = find_zones(reader.measured, SHAPE, MissingZones(min_pixels=300))
        hidden = reader.find_medians(zones)
    image[:, :20, :25] = np.nan
    assert hidden["ALL"] == np.float32(np.nanmedian(image[0].astype(np.float64)))
    assert hidden["ALL"] != counted["ALL"]


def test_c45_without_water_or_land(tmp_path: Path) -> None:
    image = scene()
    image[1] = 7
    with SceneReader(written(tmp_path, image), rules=RULES) as reader:
        assert math.isnan(reader.find_medians()["ONIR"])
        found = reader.image()
        assert np.isnan(found[2]).all()
        assert (found[3] == 1).all()
    image[1] = np.nan
    with SceneReader(written(tmp_path, image), rules=RULES) as reader:
        reader.find_medians()
        nothing = np.isnan(image).all(axis=0)
        assert nothing.any()
        np.testing.assert_array_equal(reader.image()[3], np.where(nothing, np.nan, 0))


def test_c45_what_the_file_has_under_the_name_stays(tmp_path: Path) -> None:
    image = np.concatenate([scene(), np.full((1, *SHAPE), 3, np.float32)])
    with SceneReader(written(tmp_path, image, (*BANDS, "LAND")), rules=RULES) as reader:
        reader.find_medians()
        assert reader.info.bands == ("NIR", "DEM", "LAND", "ONIR", "ALL")
        assert (reader.image(bands=[3]) == 3).all()
        again = pickle.loads(pickle.dumps(reader))
    np.testing.assert_array_equal(again.image(bands=[4]), expected(image[:2])[:1])
    again.close()


def test_c45_rules_of_bands_that_are_not_there_are_named(tmp_path: Path) -> None:
    rules = {"X": FromMedian(band="NIR", over=Where(band="HEIGHT", above=0.0))}
    with pytest.raises(RasterError, match=r"no band HEIGHT; it has NIR, DEM.*scene_bands"):
        SceneReader(written(tmp_path, scene()), rules=rules)


@pytest.mark.parametrize(
    "limits", [{}, {"above": 2.0, "at_most": 1.0}, {"above": 1.0, "at_most": 1.0}, {"above": math.inf}, {"at_most": math.nan}]
)  # fmt: skip
def test_c45_conditions_without_sense_are_refused(limits: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=r"Where.*such as above=0.0"):
        Where(band="DEM", **limits)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [{"per_pixel": 0.0}, {"reach": 0}, {"reach": 10_001}, {"per_pixel": math.nan}])
def test_c45_distances_without_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="such as per_pixel"):
        Closeness(to=LAND, **wrong)  # type: ignore[arg-type]
