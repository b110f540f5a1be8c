"""Scores of whole scenes: counts over valid pixels, on one grid, beside the best threshold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from swath.engine.scoring import best_band_threshold, score_scene
from swath.errors import RasterError
from swath.nn.heads import Classification
from tests.synthetic import blobs, grid, labels, write_image, write_mask

BANDS = ("vh", "vv")
WATER = {"water": Classification()}


def test_c78_scene_scores_leave_out_255_and_do_not_forgive_nodata(tmp_path: Path) -> None:
    place = grid((60, 50))
    truth, guess = labels((60, 50), 2, seed=1).numpy(), blobs((60, 50), seed=2)
    guess[:, :10] = 255
    paths = write_mask(tmp_path / "guess.tif", guess, place), write_mask(tmp_path / "truth.tif", truth, place)
    found = score_scene(*paths, None, WATER).matrices["water"]
    expected = np.zeros((2, 2), int)
    for y, p in zip(truth.ravel(), np.where(guess == 255, 0, guess).ravel(), strict=True):
        if y != 255:
            expected[y, p] += 1
    np.testing.assert_array_equal(found, expected)


def test_c74_best_threshold_of_a_scene_separates_what_a_threshold_can(tmp_path: Path) -> None:
    place, truth = grid((60, 50)), blobs((60, 50), seed=3)
    image = np.stack([np.where(truth, 0.001, 0.1), np.full((60, 50), 0.05)]).astype(np.float32)
    mask = write_mask(tmp_path / "truth.tif", truth, place)
    source = write_image(tmp_path / "image.tif", image, place, BANDS)
    found = score_scene(mask, mask, source, WATER)
    iou, rule = best_band_threshold(found.histograms)
    assert iou == 1.0
    assert rule.startswith("vh <")
    assert found.matrices["water"][0, 1] == found.matrices["water"][1, 0] == 0


def test_c78_scores_on_two_grids_are_refused(tmp_path: Path) -> None:
    one = write_mask(tmp_path / "a.tif", blobs((20, 20)), grid((20, 20)))
    other = write_mask(tmp_path / "b.tif", blobs((20, 20)), grid((20, 20), origin=(400_010.0, 3_700_000.0)))
    with pytest.raises(RasterError, match="not on one grid"):
        score_scene(one, other, None, WATER)
