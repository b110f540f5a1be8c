"""Flags of a scene or tile from its own pixels: target, corruption, elevation. Shares are in percent of all its pixels.

Columns of tables: what ends in `_pct` is from 0 to 100, what ends in `_pixels` a count, all others are true or false.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from swath.data.tiles.quality import HIGH_TARGET
from swath.labels import IGNORE

HIGH_CORRUPTED = 0.4
"""Share of corrupted pixels above which a tile counts as highly corrupted."""

ALMOST_ALL = 0.98
"""Share of pixels without land above which a tile is almost all water."""

Flags = dict[str, Any]


def target_flags(labels_HW: NDArray[np.uint8], high: float = HIGH_TARGET) -> Flags:
    """`has_target`, `target_pixels`, `target_pct` (of the labelled pixels) and `high_target`: more than the share `high`.

    uint8 labels, 255 = none; every class above 0 is target. Without a labelled pixel `target_pct` is None.
    """
    labelled = int(np.count_nonzero(labels_HW != IGNORE))
    target = int(np.count_nonzero((labels_HW > 0) & (labels_HW != IGNORE)))
    return {
        "has_target": target > 0, "target_pixels": target,
        "target_pct": 100 * target / labelled if labelled else None, "high_target": target > high * labelled,
    }  # fmt: skip


def corruption_flags(mask_HW: NDArray[np.floating]) -> Flags:
    """`corrupted_pixels`, `corrupted_pct`, `qa_ok` (there is none) and `high_corrupted` of a mask band.

    Pixels count that are 1: a missing one (NaN) says nothing.
    """
    corrupted = int(np.count_nonzero(mask_HW == 1))
    return {
        "corrupted_pixels": corrupted, "corrupted_pct": 100 * corrupted / mask_HW.size, "qa_ok": corrupted == 0,
        "high_corrupted": corrupted > HIGH_CORRUPTED * mask_HW.size,
    }  # fmt: skip


def elevation_flags(height_HW: NDArray[np.floating]) -> Flags:
    """Flags of an elevation band in metres, NaN where it is missing, which it usually is over open sea.

    `dem_missing_pct`, `dem_has_missing`, `dem_zero_pct`, `dem_below_zero_pct`, `water_pct` (not above 0, or missing) and
    `almost_all_water`: more than 98 % of that.
    """
    pixels = height_HW.size
    missing = int(np.count_nonzero(np.isnan(height_HW)))
    water = pixels - int(np.count_nonzero(height_HW > 0))
    return {
        "dem_missing_pct": 100 * missing / pixels, "dem_has_missing": missing > 0,
        "dem_zero_pct": 100 * int(np.count_nonzero(height_HW == 0)) / pixels,
        "dem_below_zero_pct": 100 * int(np.count_nonzero(height_HW < 0)) / pixels,
        "water_pct": 100 * water / pixels, "almost_all_water": water > ALMOST_ALL * pixels,
    }  # fmt: skip


def measurement_flags(image_CHW: NDArray[np.floating]) -> Flags:
    """`missing_pct`: pixels that lack a band, NaN."""
    return {"missing_pct": 100 * float(np.isnan(image_CHW).any(axis=0).mean())}
