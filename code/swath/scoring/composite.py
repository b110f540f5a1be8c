"""One number for several tasks, as a challenge ranks by: of everything, by condition, and what a constant guess gets."""

from __future__ import annotations

from collections.abc import Mapping

import geopandas as gpd
import numpy as np
import pandas as pd

from swath.scoring.baselines import constant_metrics
from swath.scoring.breakdown import condition_labels
from swath.scoring.counts import stacked_matrices
from swath.scoring.metrics import combined, named, scores
from swath.scoring.table import ScoreTable

CONSTANT = "constant guess"


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
        label = row["of"] if row["of"] == CONSTANT else f"{row['of']} {row['name']}"
        lines.append(f"{label[:43]:44s}" + "".join(f"{row[column]:18.3f}" for column in columns))
    constant = frame[frame["of"] == CONSTANT]["name"]
    lines += [f"{CONSTANT}: {name} everywhere, from the labels of the training" for name in constant]
    return lines
