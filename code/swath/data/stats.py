"""Statistics of tiles and of the data set, over valid pixels only."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from swath.config import configclass
from swath.data.splits import folds_by_area
from swath.geo.raster import describe, read_image, read_labels
from swath.labels import IGNORE

SKETCH = 1025
"""Points of a quantile sketch: quantiles merged from sketches are off by at most 1 / (SKETCH - 1) of the pixels each."""

QUANTILES = {"q01": 0.01, "q50": 0.50, "q99": 0.99}


@configclass
class StatsConfig:
    """Statistics per tile and per band, target share, valid share, folds and the skip rule."""

    input_path: str
    """Folder with tiles.parquet."""
    output_path: str | None = None
    """Folder for tile_stats.parquet and band_stats.json; None writes them into input_path."""
    folds: dict[str, int] | None = None
    """Area to fold number; None numbers the areas in alphabetical order."""
    min_valid_ratio: float = 1.0
    """Tiles with a smaller share of valid pixels are skipped (1.0: any nodata pixel skips, as in the UNOSAT pipeline)."""
    executor: str = "threads"
    """Where the work is done: processes, threads or serial."""
    workers: int | None = None
    """Number of worker processes or threads; None takes one per core."""


@dataclass(frozen=True, kw_only=True)
class SceneTiles:
    """The tiles of one scene: keys, image paths, mask paths (or None) and the skip rule's threshold."""

    key: str
    keys: Sequence[str]
    images: Sequence[Path]
    masks: Sequence[Path | None]
    min_valid_ratio: float


def scene_jobs(tiles: gpd.GeoDataFrame, root: Path, min_valid_ratio: float) -> list[SceneTiles]:
    """A job per scene of a table of tiles whose paths are relative to `root`."""
    return [
        SceneTiles(
            key=str(scene), keys=list(group["key"]), images=[root / p for p in group["image"]],
            masks=[root / p if isinstance(p, str) else None for p in group["mask"]], min_valid_ratio=min_valid_ratio,
        )
        for scene, group in tiles.groupby("scene", sort=True)
    ]  # fmt: skip


def summarise(
    tiles: gpd.GeoDataFrame,
    results: Mapping[str, Any],
    root: Path,
    output: Path,
    folds: Mapping[str, int] | None,
) -> tuple[gpd.GeoDataFrame, dict[str, Any], dict[str, float]]:
    """(tiles with their statistics, folds and skip joined by key; statistics per band; counts worth a look).

    Paths of the table become relative to `output`.
    """
    rows = pd.DataFrame([row for result in results.values() for row in result["tiles"]])
    table = tiles.merge(rows, on="key", how="left", validate="one_to_one")
    table["fold"] = table["area"].map(folds_by_area(list(table["area"]), folds))
    for column in ("image", "mask"):
        table[column] = [os.path.relpath(root / p, output) if isinstance(p, str) else None for p in table[column]]
    bands = describe(output / table["image"].iloc[0]).bands
    moments = merge_moments([result["bands"] for result in results.values()])
    counts = {
        "tiles": len(table),
        "skipped": int(table["skip"].sum()),
        "valid_ratio": float(table["valid_ratio"].mean()),
    }
    if "target_ratio" in table:
        counts |= {
            "target_ratio": float(table["target_ratio"].mean()),
            "with_target": int((table["target_ratio"] > 0).sum()),
        }
    return table, band_statistics(moments, bands), counts


def scene_statistics(job: SceneTiles) -> dict[str, Any]:
    """``{"tiles": [row, ...], "bands": {count, mean, m2, min, max, sketch}}`` of one scene, as JSON types."""
    tiles, parts = [], []
    for key, image_path, mask_path in zip(job.keys, job.images, job.masks, strict=True):
        image = read_image(image_path)
        moments = band_moments(image)
        parts.append(moments)
        mask = read_labels(mask_path) if mask_path else None
        tiles.append({"key": key} | tile_row(image, mask, moments, job.min_valid_ratio))
    return {"tiles": tiles, "bands": merge_moments(parts)}


def tile_row(
    image_CHW: NDArray[np.float32],
    mask_THW: NDArray[np.uint8] | None,
    moments: Mapping[str, Any],
    min_valid_ratio: float,
) -> dict[str, Any]:
    """Statistics of one tile. `target_ratio` is the share of the first task's labelled pixels with a class above 0.

    `skip`: no valid pixel, all valid pixels equal in every band, or valid_ratio below the threshold.
    """
    valid_ratio = float(np.isfinite(image_CHW).all(axis=0).mean())
    constant = moments["min"] == moments["max"]
    row: dict[str, Any] = {
        "valid_ratio": valid_ratio,
        "skip": bool(valid_ratio == 0 or constant or valid_ratio < min_valid_ratio),
        **{f"img_{name}": moments[name] for name in ("min", "max", "mean")},
        "img_std": [
            float(np.sqrt(m / n)) if n else float("nan") for m, n in zip(moments["m2"], moments["count"], strict=True)
        ],
    }
    if mask_THW is not None:
        labelled = mask_THW[0] != IGNORE
        row["labelled_ratio"] = float(labelled.mean())
        row["target_ratio"] = float((mask_THW[0][labelled] > 0).mean()) if labelled.any() else 0.0
    return row


def band_moments(image_CHW: NDArray[np.float32]) -> dict[str, list[Any]]:
    """Per band over finite pixels: count, mean, m2 (sum of squared deviations), min, max and a sketch of quantiles."""
    bands = [_moments(band[np.isfinite(band)]) for band in image_CHW]
    return {name: [band[name] for band in bands] for name in bands[0]}


def _moments(values: NDArray[np.float32]) -> dict[str, Any]:
    if not values.size:
        return {
            "count": 0,
            "mean": float("nan"),
            "m2": 0.0,
            "min": float("nan"),
            "max": float("nan"),
            "sketch": [],
        }
    mean = float(values.mean(dtype=np.float64))
    return {
        "count": int(values.size), "mean": mean, "m2": float(np.square(values - mean, dtype=np.float64).sum()),
        "min": float(values.min()), "max": float(values.max()),
        "sketch": np.quantile(values, np.linspace(0, 1, SKETCH)).astype(float).tolist(),
    }  # fmt: skip


def merge_moments(parts: Sequence[Mapping[str, list[Any]]]) -> dict[str, list[Any]]:
    """Moments of the union of several sets of pixels: Chan, Golub and LeVeque's pairwise update, weighted sketches."""
    merged = [
        _merge_band([{k: v[band] for k, v in part.items()} for part in parts]) for band in range(len(parts[0]["count"]))
    ]
    return {name: [band[name] for band in merged] for name in merged[0]}


def _merge_band(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    full = [p for p in parts if p["count"]]
    if not full:
        return dict(parts[0])
    counts = np.array([p["count"] for p in full], np.float64)
    means = np.array([p["mean"] for p in full])
    mean = float((counts * means).sum() / counts.sum())
    m2 = float(sum(p["m2"] for p in full) + (counts * (means - mean) ** 2).sum())
    return {
        "count": int(counts.sum()), "mean": mean, "m2": m2,
        "min": min(p["min"] for p in full), "max": max(p["max"] for p in full),
        "sketch": _merge_sketches([p["sketch"] for p in full], counts),
    }  # fmt: skip


def _merge_sketches(sketches: Sequence[Sequence[float]], counts: NDArray[np.float64]) -> list[float]:
    if len(sketches) == 1:
        return list(sketches[0])
    values = np.concatenate([np.asarray(s) for s in sketches])
    weights = np.repeat(counts / SKETCH, SKETCH)
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order]) - 0.5 * weights[order]
    merged = np.interp(np.linspace(0, 1, SKETCH), reached / counts.sum(), values[order])
    merged[0], merged[-1] = values.min(), values.max()
    return merged.tolist()


def band_statistics(moments: Mapping[str, list[Any]], bands: Sequence[str]) -> dict[str, dict[str, float]]:
    """``{band: {count, mean, std, min, max, q01, q50, q99}}`` of the data set; finite unless a band has no valid pixel."""
    table = {}
    for i, band in enumerate(bands):
        count, sketch = moments["count"][i], moments["sketch"][i]
        quantiles = (
            {n: float(np.interp(q, np.linspace(0, 1, SKETCH), sketch)) for n, q in QUANTILES.items()} if count else {}
        )
        std = float(np.sqrt(moments["m2"][i] / count)) if count else 0.0
        table[band] = (
            {"count": count, "std": std} | {n: moments[n][i] for n in ("mean", "min", "max") if count} | quantiles
        )
    return table
