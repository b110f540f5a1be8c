"""What a map scores that says the same everywhere: the least that a model has to beat."""

from __future__ import annotations

from collections.abc import Mapping

import geopandas as gpd
import numpy as np
from numpy.typing import NDArray

from swath.data.tables import CLASSES
from swath.geo.grid import Window
from swath.geo.raster import RasterReader
from swath.nn.model import Task
from swath.scoring.metrics import (
    best_threshold,
    combined,
    named,
    scores,
    threshold_histogram,
)

_PLAIN = ("accuracy", "iou_fg", "f1_fg", "f1_weighted", "r2", "combined")
"""Scores that are logged of a constant guess."""


def constant_guesses(tiles: gpd.GeoDataFrame, tasks: Mapping[str, Task]) -> dict[str, int]:
    """The class of each task to name everywhere, knowing nothing but the labels of `tiles`, the training ones.

    That is the commonest class, or the step nearest to the mean. Tasks that the table has no counts of are left out
    (`generate_tiles_stats` writes them).
    """
    found = {}
    for name, task in tasks.items():
        lists = tiles[f"{CLASSES}{name}"].dropna() if f"{CLASSES}{name}" in tiles else ()
        counts = np.zeros(len(task.classes), np.int64)
        for some in lists:
            counts[: len(some)] += np.asarray(some, np.int64)[: len(counts)]
        if counts.any():
            found[name] = task.constant(counts)
    return found


def constant_metrics(
    totals: Mapping[str, NDArray[np.int64]], guesses: Mapping[str, int], tasks: Mapping[str, Task],
    weights: Mapping[str, float], prefix: str,
) -> dict[str, float]:  # fmt: skip
    """What `guesses` score on the truth of confusion matrices: ``<prefix>/SIC/constant_r2``, ``<prefix>/constant_combined``."""
    found: dict[str, float] = {}
    for name in guesses.keys() & totals.keys():
        always = np.zeros_like(totals[name])
        always[:, guesses[name]] = totals[name].sum(1)
        found |= named(scores(always, tasks[name].classes), prefix, name, len(tasks))
    found |= combined(found, weights, prefix)
    split = {metric: metric.rpartition("/") for metric in found}
    return {f"{folder}/constant_{score}": found[m] for m, (folder, _, score) in split.items() if score in _PLAIN}


def add_histograms(
    histograms: dict[str, NDArray[np.int64]], source: RasterReader, strip: Window, truth_HW: NDArray[np.uint8]
) -> None:
    """Count the values of each band of a strip (uint8 truth of its shape) by class, in place."""
    for name, band_HW in zip(source.info.bands, source.image(strip), strict=True):
        found = threshold_histogram(band_HW, truth_HW)
        histograms[name] = histograms[name] + found if name in histograms else found


def best_band_threshold(histograms: Mapping[str, NDArray[np.int64]]) -> tuple[float, str]:
    """(IoU, rule as text) of the best threshold on one band: the most that thresholding can reach on these scenes."""
    best = max(((*best_threshold(h), band) for band, h in histograms.items()), key=lambda found: found[0])
    iou, threshold, below, band = best
    return iou, f"{band} {'<' if below else '>='} {threshold:.4g}"
