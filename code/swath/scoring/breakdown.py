"""Scores by condition: where, when and on what kind of ground predictions are good or bad."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd

from swath.errors import CatalogError
from swath.nn.model import Task
from swath.scoring.bootstrap import intervals
from swath.scoring.config import ScoringConfig
from swath.scoring.counts import sampling_units, stacked_matrices
from swath.scoring.metrics import scores

UNKNOWN = "unknown"
MOST_DAYS = 12
"""With more different days than this, dates are put together by month."""


def summary(rows: gpd.GeoDataFrame, classes: Sequence[str], settings: ScoringConfig) -> dict[str, Any]:
    """What rows of one task come to: counts, mean loss, every score of their summed matrix, intervals where possible.

    ``unit`` and ``units`` tell what the intervals ``<score>_low``, ``<score>_high`` were drawn from. Shares and losses
    are means over labelled pixels.
    """
    total = stacked_matrices(rows).sum(0)
    unit, drawn = sampling_units(rows, settings.scenes_needed)
    bounds = intervals(drawn, classes, settings.confidence, settings.resamples, settings.seed)
    pixels = rows["pixels"].to_numpy(float)
    loss = rows["loss"].to_numpy(float)
    mean_loss = math.fsum(loss * pixels) / math.fsum(pixels)  # to the same bits in any order of the rows
    return {
        "scenes": int(rows["scene"].nunique()), "unit": unit, "units": len(drawn), "pixels": int(total.sum()),
        "target_share": float(total[1:].sum() / total.sum()), "loss": mean_loss,
        **scores(total, classes),
        **{f"{name}_{end}": v for name, pair in bounds.items() for end, v in zip(("low", "high"), pair, strict=True)},
    }  # fmt: skip


def by_condition(
    rows: gpd.GeoDataFrame, columns: Sequence[str], tasks: Mapping[str, Task],
    settings: ScoringConfig = ScoringConfig(),  # noqa: B008 - frozen
) -> pd.DataFrame:  # fmt: skip
    """A row per task, condition (one of `columns`) and value of it, with the `summary` of the units that have it.

    Numeric columns with more than `settings.bins` values are cut at their quantiles; a value that fills a whole bin
    by itself, such as a target share of 0, is a bin of its own. Dates stay days while there are at most twelve, else
    they become months. Raises CatalogError for a column that the rows do not have.
    """
    missing = [column for column in columns if column not in rows.columns]
    if missing:
        have = ", ".join(c for c in rows.columns if c not in ("geometry", "matrix"))
        raise CatalogError(f"conditions: no column {', '.join(missing)} in the scored scenes. There are: {have}.")
    found = []
    for task, one in tasks.items():
        mine = rows[rows["task"] == task]
        for column in columns:
            labels = condition_labels(mine[column], settings.bins)
            for value in labels.cat.categories:
                about = {"task": task, "condition": column, "value": value}
                found.append(about | summary(mine[labels == value], one.classes, settings))
    return pd.DataFrame(found)


def condition_labels(values: pd.Series[Any], bins: int) -> pd.Series[Any]:
    """The condition of each unit as an ordered category of texts; every category occurs."""
    if values.name == "date":
        return _ordered(_dates(values))
    numeric = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    if numeric and values.nunique() > bins:
        return _quantiles(values.astype(float), bins)
    if numeric:
        number = values.astype(float).map("{:g}".format)
        order = [f"{v:g}" for v in sorted(values.dropna().unique())]
        return _ordered(number.where(values.notna(), UNKNOWN), order)
    return _ordered(values.where(values.notna() & (values.astype(str) != ""), UNKNOWN).astype(str))


def _ordered(labels: pd.Series[Any], order: Sequence[str] | None = None) -> pd.Series[Any]:
    known = list(dict.fromkeys(order)) if order is not None else sorted(set(labels) - {UNKNOWN})
    categories = [*known, *([UNKNOWN] if (labels == UNKNOWN).any() else [])]
    return labels.astype(pd.CategoricalDtype(categories, ordered=True))


def _dates(values: pd.Series[Any]) -> pd.Series[Any]:
    """``YYYYMMDD...`` (or with dashes) to days, or to months when there are many."""
    digits = values.fillna("").astype(str).str.replace("-", "").str.extract(r"^(\d{8})", expand=False)
    days = digits.str.slice(0, 4) + "-" + digits.str.slice(4, 6) + "-" + digits.str.slice(6, 8)
    return (days if days.nunique() <= MOST_DAYS else days.str.slice(0, 7)).fillna(UNKNOWN)


def _quantiles(values: pd.Series[Any], bins: int) -> pd.Series[Any]:
    number = values.reset_index(drop=True)
    edges = number.quantile(list(np.linspace(0, 1, bins + 1))).to_numpy()
    alone = np.unique(edges[:-1][np.diff(edges) == 0])
    rest = number[number.notna() & ~number.isin(alone)]
    codes, inner = pd.qcut(rest, max(1, bins - len(alone)), labels=False, retbins=True, duplicates="drop")
    cuts = [float(cut) for cut in inner]
    text = _shortest([*map(float, alone), *cuts])
    ranges = [f"{text(low)} to {text(high)}" for low, high in pairwise(cuts)]
    labels = number.map(text).where(number.isin(alone), UNKNOWN)
    labels[rest.index] = codes.map(dict(enumerate(ranges)))
    order = [name for _, name in sorted([*((v, text(v)) for v in alone), *zip(cuts, ranges, strict=False)])]
    used = set(labels)
    return _ordered(labels.set_axis(values.index), [name for name in order if name in used])


def _shortest(values: Sequence[float]) -> Callable[[float], str]:
    """A format with as few digits as tell the values apart."""
    different = len(set(values))
    digits = next((n for n in range(3, 17) if len({f"{v:.{n}g}" for v in values}) == different), 17)
    return lambda value: f"{value:.{digits}g}"
