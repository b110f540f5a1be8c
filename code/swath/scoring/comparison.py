"""Two predictions of the same ground: is one better, or is it chance?"""

from __future__ import annotations

from collections.abc import Mapping

import geopandas as gpd
import numpy as np
import pandas as pd

from swath.errors import CatalogError
from swath.nn.model import Task
from swath.scoring.bootstrap import few_units_notes, interval_mark, paired_differences
from swath.scoring.config import ScoringConfig
from swath.scoring.counts import sampling_units, stacked_matrices
from swath.scoring.metrics import score_arrays


def compare(
    a: gpd.GeoDataFrame, b: gpd.GeoDataFrame, tasks: Mapping[str, Task],
    settings: ScoringConfig = ScoringConfig(),  # noqa: B008 - frozen
) -> pd.DataFrame:  # fmt: skip
    """How the scores of B differ from those of A, two tables of units of the same tiles or blocks.

    A row per task and score: ``a``, ``b``, ``difference`` (b - a) with ``low`` and ``high`` of its paired bootstrap,
    ``better`` (share of the resamples in which B is better), ``clear`` (the interval leaves out 0), ``unit`` and
    ``units``. Raises CatalogError when the two were not scored on the same units with the same labels.
    """
    found = []
    for task, one in tasks.items():
        sides = [side[side["task"] == task].sort_values("key") for side in (a, b)]
        _require_same(sides[0], sides[1])
        unit, drawn_a = sampling_units(sides[0], settings.scenes_needed)
        _, drawn_b = sampling_units(sides[1], settings.scenes_needed)
        whole = [score_arrays(stacked_matrices(side).sum(0), one.classes) for side in sides]
        changes = paired_differences(
            drawn_a, drawn_b, one.classes, settings.confidence, settings.resamples, settings.seed
        )
        for name, change in changes.items():
            found.append({
                "task": task, "score": name, "a": float(whole[0][name]), "b": float(whole[1][name]),
                "difference": change.value, "low": change.low, "high": change.high, "better": change.better,
                "clear": change.is_clear, "unit": unit, "units": len(drawn_a),
            })  # fmt: skip
    return pd.DataFrame(found)


def comparison_text(table: pd.DataFrame, scores: tuple[str, ...] = ("iou_fg", "f1_fg")) -> str:
    """The comparison's main scores as sentences."""
    if table.empty:
        return "too few units to compare\n"
    lines = []
    for row in table[table["score"].isin(scores)].to_dict("records"):
        verdict = "" if row["clear"] else ", not clear: the interval holds 0"
        lines.append(
            f"{row['task']} {row['score']}: {row['a']:.3f} -> {row['b']:.3f}, difference {row['difference']:+.3f} "
            f"[{row['low']:+.3f}, {row['high']:+.3f}]{interval_mark(row['units'])} over {row['units']} {row['unit']}{verdict}"
        )
    return "\n".join([*lines, *few_units_notes(table["units"])]) + "\n"


def _require_same(a: gpd.GeoDataFrame, b: gpd.GeoDataFrame) -> None:
    alone = sorted(set(a["key"]) ^ set(b["key"]))
    if alone or a.empty:
        what = ", ".join(alone[:5]) or "all of them"
        raise CatalogError(
            f"the two runs were not scored on the same units ({len(alone)} stand on one side only: {what}). "
            "Score both on the same scenes with the same scoring.block."
        )
    different = (stacked_matrices(a).sum(-1) != stacked_matrices(b).sum(-1)).any(-1)
    if different.any():
        raise CatalogError(
            f"{np.asarray(a['key'])[different][0]}: the labels of the two runs differ there. Score both against the same labels."
        )
