"""What is worth a look in a table of tiles: flags by tile, and the reason why a tile is left out."""

from __future__ import annotations

import numpy as np
import pandas as pd

HIGH_TARGET = 0.4
"""Target share above which the labels of a rare target are doubtful."""


def tile_flags(tiles: pd.DataFrame, high_target: float = HIGH_TARGET) -> pd.DataFrame:
    """Flags of tiles with their statistics, a row each, same index.

    `no_data`: no valid pixel. `constant`: in every band, all valid pixels are equal. `unlabelled`: no labelled pixel.
    `has_target`, `target_pct` (percent of the labelled pixels, NaN without any) and `high_target`: more than the share
    `high_target` of them is target.
    """
    labelled = _column(tiles, "labelled_ratio").fillna(0) > 0
    ratio = _column(tiles, "target_ratio").where(labelled)
    no_data = tiles["valid_ratio"] == 0
    return pd.DataFrame(
        {
            "no_data": no_data, "constant": _constant(tiles) & ~no_data, "unlabelled": ~labelled,
            "has_target": ratio > 0, "target_pct": 100 * ratio, "high_target": ratio > high_target,
        }
    )  # fmt: skip


def _column(tiles: pd.DataFrame, name: str) -> pd.Series:
    """A column of shares; NaN where tiles have no masks."""
    return tiles[name] if name in tiles else pd.Series(np.nan, tiles.index)


def _constant(tiles: pd.DataFrame) -> pd.Series:
    pairs = zip(tiles["img_min"], tiles["img_max"], strict=True)
    return pd.Series([np.array_equal(low, high) for low, high in pairs], tiles.index, dtype=bool)


def skip_reasons(tiles: pd.DataFrame, max_target_ratio: float | None = None) -> pd.Series:
    """Why each tile is left out of training and validation, as text; empty for those that take part.

    The reasons of the column `skip`, and a target share above `max_target_ratio` (None: no limit).
    """
    limit = np.inf if max_target_ratio is None else max_target_ratio
    flags = tile_flags(tiles, limit)
    reasons = {
        "no valid pixel": flags["no_data"], "all valid pixels equal": flags["constant"],
        "too few valid pixels": tiles["skip"], f"target share above {100 * limit:g} %": flags["high_target"],
    }  # fmt: skip
    return pd.Series(np.select(list(reasons.values()), list(reasons), ""), tiles.index)
