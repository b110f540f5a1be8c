"""Flags of a tile on hand-made arrays."""

from __future__ import annotations

import numpy as np
import pytest

from swath.data.tiles.flags import corruption_flags, elevation_flags, measurement_flags, target_flags


def test_c20_target_counts_labelled_pixels_only() -> None:
    labels = np.zeros((10, 10), np.uint8)
    labels[0, :3], labels[9] = 1, 255
    found = target_flags(labels)
    assert found["target_pixels"] == 3
    assert found["target_pct"] == pytest.approx(100 * 3 / 90)
    assert (found["has_target"], found["high_target"]) == (True, False)
    labels[:5] = 1
    assert target_flags(labels)["high_target"]
    assert not target_flags(labels, 0.6)["high_target"]
    nothing = target_flags(np.full((4, 4), 255, np.uint8))
    assert (nothing["has_target"], nothing["target_pct"], nothing["high_target"]) == (False, None, False)


def test_c20_corrupted_pixels_are_those_of_one() -> None:
    mask = np.zeros((10, 10), np.float32)
    mask[0, :4], mask[1, :5], mask[2, :6] = 1, np.nan, -32768
    found = corruption_flags(mask)
    assert found == {"corrupted_pixels": 4, "corrupted_pct": 4.0, "qa_ok": False, "high_corrupted": False}
    mask[5:] = 1
    assert corruption_flags(mask)["high_corrupted"]
    assert corruption_flags(np.zeros((3, 3), np.float32))["qa_ok"]


def test_c20_missing_elevation_is_not_elevation_below_zero() -> None:
    height = np.full((10, 10), 5, np.float32)
    height[0], height[1, :5], height[2, :2] = np.nan, 0, -3
    found = elevation_flags(height)
    assert found["dem_missing_pct"] == 10
    assert found["dem_zero_pct"] == 5
    assert found["dem_below_zero_pct"] == 2
    assert found["water_pct"] == 17
    assert (found["dem_has_missing"], found["almost_all_water"]) == (True, False)
    height[:, :] = 0
    height[0, :2] = 1
    assert not elevation_flags(height)["almost_all_water"]  # 98 % is not more than 98 %
    height[0, 0] = np.nan
    assert elevation_flags(height)["almost_all_water"]


def test_c20_a_pixel_that_lacks_a_band_is_missing() -> None:
    image = np.zeros((2, 2, 2), np.float32)
    image[1, 0, 0] = np.nan
    assert measurement_flags(image) == {"missing_pct": 25.0}
