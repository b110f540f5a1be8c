"""Zones of one value: SciPy's labels as oracle, whatever the strips, the value and the windows that are looked at."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from swath.config import configclass, override
from swath.errors import ConfigError
from swath.geo.grid import Window
from swath.geo.raster import RasterReader
from swath.geo.zones import MissingZones, find_zones, without_zones, zones_from
from tests.synthetic import grid, write_image


def by_scipy(image: NDArray[np.float32], rule: MissingZones) -> tuple[int, NDArray[np.bool_]]:
    """Number of the zones, and the pixels in them."""
    labels, _ = ndimage.label((image == rule.value).all(axis=0))
    pixels = np.bincount(labels.ravel())
    large = pixels >= rule.min_pixels
    large[0] = False
    return int(large.sum()), large[labels]


def cut(image: NDArray[np.float32], window: Window) -> NDArray[np.float32]:
    """A window that may leave the image, NaN outside."""
    wide = np.pad(image, ((0, 0), (64, 64), (64, 64)), constant_values=np.nan)
    return wide[:, 64 + window.row :, 64 + window.col :][:, : window.height, : window.width]


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_c45_zones_are_those_of_scipy_for_any_strips_and_windows(data: st.DataObject) -> None:
    shape = data.draw(st.tuples(st.integers(1, 25), st.integers(1, 25)))
    rng = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    share, value = data.draw(st.sampled_from([0.02, 0.3, 0.5, 0.7, 0.98])), data.draw(st.sampled_from([0.0, -9.0]))
    image = np.ones((2, *shape), np.float32)
    image[:, rng.random(shape) < share] = value
    image[1][rng.random(shape) < 0.1] = 5  # one band alone is no zone
    image[0][rng.random(shape) < 0.1] = np.nan
    rule = MissingZones(value=value, min_pixels=data.draw(st.integers(1, 40)))
    found = find_zones(lambda w: image[:, *w.slices], shape, rule, strip_pixels=data.draw(st.integers(1, 700)))
    count, expected = by_scipy(image, rule)
    assert (found.count, found.pixels) == (count, expected.sum())
    np.testing.assert_array_equal(found.mask(Window(0, 0, *shape)), expected)
    place = data.draw(st.tuples(st.integers(-9, 30), st.integers(-9, 30), st.integers(1, 30), st.integers(1, 30)))
    window = Window(*place)
    pixels = cut(image, window)
    hidden = np.where(np.nan_to_num(cut(expected[None].astype(np.float32), window)[0]) > 0, np.nan, pixels)
    np.testing.assert_array_equal(found.hide(pixels, window, np.nan), hidden)
    part = zones_from(found.inside(window).ravel().tolist())  # as a table holds it
    np.testing.assert_array_equal(part.hide(pixels, window, np.nan), hidden)


def test_c45_a_zone_goes_over_strips_and_its_parts_count_together(tmp_path: Path) -> None:
    image = np.ones((1, 40, 40), np.float32)
    image[0, 4:36, 10:12] = 0  # 64 px, never more than 2 in a row
    image[0, 4:36, 20:22] = 0
    image[0, 20, 20] = 1  # 63 px
    path = write_image(tmp_path / "x.tif", image, grid((40, 40)))
    with RasterReader(path) as reader:
        found = find_zones(reader.image, (40, 40), MissingZones(), strip_pixels=40)
        read = without_zones(reader.image, (40, 40), MissingZones())
        assert (found.count, found.pixels) == (1, 64)
        assert np.isnan(read(Window(0, 0, 6, 40))[0, 4:, 10:12]).all()
        assert np.isnan(read(Window(0, 0, 40, 40))).sum() == 64


@configclass
class Holder:
    """A config with a rule in it."""

    missing_zones: MissingZones | None = None
    """The rule."""


def test_c45_the_rule_is_set_and_turned_off_on_the_command_line() -> None:
    wanted = override(Holder(), "missing_zones.min_pixels", "200")
    assert wanted.missing_zones == MissingZones(value=0.0, min_pixels=200)
    assert override(wanted, "missing_zones", "None").missing_zones is None
    for wrong in ({"min_pixels": 0}, {"value": float("nan")}):
        with pytest.raises(ConfigError, match=r"give a finite value and 1 pixel or more, such as value=0\.0"):
            MissingZones(**wrong)  # type: ignore[arg-type]
