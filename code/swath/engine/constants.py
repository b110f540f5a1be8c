"""What a map scores that says the same everywhere: the least that a model has to beat."""

from __future__ import annotations

from collections.abc import Mapping

import geopandas as gpd
import numpy as np
from numpy.typing import NDArray

from swath.data.stats import CLASSES
from swath.nn.heads import Task
from swath.nn.metrics import combined, named, scores

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
