"""One number for several tasks, as a challenge ranks by: of everything, by condition, and what a constant guess gets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import geopandas as gpd
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from swath.data.stats import CLASSES
from swath.engine.conditions import condition_labels
from swath.engine.units import stacked_matrices
from swath.nn.heads import Task
from swath.nn.metrics import combined, named, scores

if TYPE_CHECKING:
    from swath.engine.score_table import ScoreTable

CONSTANT = "constant guess"
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


def combined_frame(table: ScoreTable) -> pd.DataFrame:
    """A row per `of` (all, a condition, constant guess) and `name`: the combined score and what it is made of.

    Conditions are those that all tasks of a place share: where and when, not how much there was of a class. A part is
    NaN where it is undefined, and so is the combined score then. Empty without weights.
    """
    weights, rows = table.settings.combined, table.rows
    if not weights:
        return pd.DataFrame()
    found = [{"of": "all", "name": "", **_parts(rows, table)}]
    for column in table.settings.conditions:
        if (rows.groupby("key")[column].nunique(dropna=False) > 1).any():
            continue
        labels = condition_labels(rows[column], table.settings.bins)
        found += [{"of": column, "name": v, **_parts(rows[labels == v], table)} for v in labels.cat.categories]
    constant = constant_metrics(table.totals(), table.constants, table.tasks, weights, "all")
    if constant:
        parts = {score: constant.get("/constant_".join(_split(f"all/{score}"))) for score in weights}
        name = ", ".join(f"{task} {table.tasks[task].classes[k]}" for task, k in table.constants.items())
        found.append({"of": CONSTANT, "name": name, "combined": constant.get("all/constant_combined"), **parts})
    return pd.DataFrame(found).astype(dict.fromkeys(("combined", *weights), float))


def _split(metric: str) -> tuple[str, str]:
    folder, _, score = metric.rpartition("/")
    return folder, score


def _parts(rows: gpd.GeoDataFrame, table: ScoreTable) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, task in table.tasks.items():
        mine = rows[rows["task"] == name]
        if len(mine):
            found |= named(scores(stacked_matrices(mine).sum(0), task.classes), "all", name, len(table.tasks))
    weights = table.settings.combined
    whole = combined(found, weights, "all").get("all/combined", np.nan)
    return {"combined": whole, **{score: found.get(f"all/{score}", np.nan) for score in weights}}


def combined_text(frame: pd.DataFrame, weights: Mapping[str, float]) -> list[str]:
    """The table as lines for people; none for an empty one."""
    if frame.empty:
        return []
    terms = " + ".join(f"{weight:g} {score}" for score, weight in weights.items())
    columns = ["combined", *weights]
    lines = [f"combined = ({terms}) / {sum(weights.values()):g}"]
    lines.append(f"{'':44s}" + "".join(f"{column:>18s}" for column in columns))
    for row in frame.to_dict("records"):
        label = f"{row['of']} {row['name']}"
        lines.append(f"{label[:43]:44s}" + "".join(f"{row[column]:18.3f}" for column in columns))
    return lines
