"""Folds as columns of a table: by area, or by groups that are dealt out evenly over strata."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import geopandas as gpd
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from swath.config import configclass
from swath.config.ranges import Count, PositiveCount
from swath.errors import CatalogError

NO_FOLD = -1
"""Fold of tiles that take no part: the skip rule has left them out."""


@configclass
class GroupFolds:
    """K folds that take no group apart and hold every stratum in equal parts."""

    folds: PositiveCount = 5
    """Number of folds."""
    by: str = "group"
    """Column whose equal values stay in one fold."""
    strata: tuple[str, ...] = ("target_ratio",)
    """Columns that make a tile's stratum together; of a fraction only counts whether it is above 0."""
    seed: Count = 42
    """Seed of the draw."""
    balance: Literal["rows", "groups"] = "rows"
    """What folds and strata have equal numbers of: rows, of whatever groups; or groups, whatever their size, each in the
    stratum of most of its rows."""


def folds_by_area(areas: Sequence[str], folds: Mapping[str, int] | None) -> dict[str, int]:
    """Fold of each area: as given, or numbered alphabetically. Raises CatalogError for areas without a fold."""
    names = sorted(set(areas))
    if folds is None:
        return {name: i for i, name in enumerate(names)}
    missing = [name for name in names if name not in folds]
    if missing:
        raise CatalogError(f"folds: no fold for the areas {', '.join(missing)}. Name each of {', '.join(names)}.")
    return {name: folds[name] for name in names}


def folds_by_group(tiles: gpd.GeoDataFrame, config: GroupFolds) -> pd.Series:
    """int64 fold of each row, 0 to folds - 1; `NO_FOLD` for rows that `skip` leaves out.

    Every row is in one fold and no group in two. Where each group lies in one stratum, the rows of a stratum in a fold
    differ from an equal share by at most that stratum's largest group; groups of mixed strata are dealt by their
    counts of each (scikit-learn's StratifiedGroupKFold). With ``balance="groups"`` the groups of a stratum in a fold
    differ from an equal share by less than one (StratifiedKFold of the groups). Raises CatalogError when groups or
    strata do not fill the folds, or a column is missing.
    """
    missing = [column for column in (config.by, *config.strata) if column not in tiles]
    if missing:
        raise CatalogError(f"folds: the table has no column {', '.join(missing)}. It has: {', '.join(tiles.columns)}.")
    kept = tiles[~tiles["skip"]] if "skip" in tiles else tiles
    groups, strata = kept[config.by].to_numpy(), stratum_of(kept, config.strata).to_numpy()
    if config.balance == "groups":
        owner, strata = _commonest(groups, strata)
        groups = np.arange(len(strata))
    else:
        owner = np.arange(len(strata))
    if not 2 <= config.folds <= min(len(set(groups)), pd.Series(strata).value_counts().max()):
        raise CatalogError(
            f"folds: {len(set(groups))} groups (column {config.by!r}) in {len(set(strata))} strata do not fill "
            f"{config.folds} folds. Ask for fewer folds (at least 2) or strata, or loosen `grouping`."
        )
    found = pd.Series(NO_FOLD, index=tiles.index, name="fold", dtype=np.int64)
    found.loc[kept.index] = _dealt(strata, groups, config)[owner]
    if len(set(found) - {NO_FOLD}) < config.folds:
        raise CatalogError(f"folds: {config.folds} folds of so few groups leave one empty. Ask for fewer.")
    return found


def _commonest(groups: NDArray[Any], strata: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """(number of each row's group, the stratum of most rows of each group; of equally many the first by name)."""
    names, owner = np.unique(groups, return_inverse=True)
    kinds, kind = np.unique(strata, return_inverse=True)
    counts = np.zeros((len(names), len(kinds)), np.int64)
    np.add.at(counts, (owner, kind), 1)
    return owner, kinds[counts.argmax(axis=1)]


def _dealt(strata: NDArray[Any], groups: NDArray[Any], config: GroupFolds) -> NDArray[np.int64]:
    """The fold of each entry."""
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold  # a second to import, seldom needed

    kind = StratifiedKFold if config.balance == "groups" else StratifiedGroupKFold
    cut = kind(config.folds, shuffle=True, random_state=config.seed)
    fold = np.full(len(strata), NO_FOLD)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a stratum of fewer rows than folds cannot be in each of them
        for number, (_, judged) in enumerate(cut.split(strata, strata, groups)):
            fold[judged] = number
    return fold


def stratum_of(tiles: gpd.GeoDataFrame, columns: Sequence[str]) -> pd.Series:
    """The values of `columns` as one text per row; fractions as whether they are above 0."""
    parts = [tiles[c] > 0 if pd.api.types.is_float_dtype(tiles[c]) else tiles[c] for c in columns]
    text = pd.Series("", index=tiles.index)
    for name, part in zip(columns, parts, strict=True):
        text = text + f"{name}=" + part.astype(str) + " "
    return text


def fold_columns(fold: pd.Series) -> pd.DataFrame:
    """Columns split_0, split_1, ...: which rows train and which judge when that fold judges."""
    count = int(fold.max()) + 1
    sides = {
        f"split_{k}": np.select([fold == NO_FOLD, fold == k], ["unused", "validation"], "training")
        for k in range(count)
    }
    return pd.DataFrame(sides, index=fold.index)
