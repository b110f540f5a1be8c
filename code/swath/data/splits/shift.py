"""How a training set differs from the test set in what is known of its scenes, and weights that undo it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from swath.errors import CatalogError

UNKNOWN = "unknown"
"""Category of scenes whose value is not known."""


def categories(scenes: pd.DataFrame, field: str) -> pd.Series:
    """The values of a column as texts. Raises CatalogError for a column that is not there."""
    if field not in scenes:
        raise CatalogError(
            f"no column {field!r} in the table of scenes. It has: {', '.join(map(str, scenes.columns))}."
        )
    values = scenes[field].astype(object)
    return values.where(values.notna(), UNKNOWN).astype(str)


def shares_aimed_at(train: pd.Series, test: pd.Series) -> dict[str, float]:
    """Share of each category of either set in the test set; those that it lacks have 1 / (3 n) before all add up to 1.

    n is the number of categories. So a kind of scene that the test set has no example of is drawn seldom, not never.
    """
    names = sorted({*train, *test})
    shares = test.value_counts(normalize=True).reindex(names).fillna(1 / (3 * len(names)))
    return dict(shares / shares.sum())


def shift_weights(train: pd.DataFrame, test: pd.DataFrame, fields: Sequence[str]) -> NDArray[np.float64]:
    """float64 (len(train),) with sum 1: the product over fields of p_test(k) / p_train(k) of each scene's category k.

    Drawn with these weights, the training scenes have the test set's shares of one field, those of several as far as
    they are independent. Raises CatalogError for missing columns and for an empty set.
    """
    if train.empty or test.empty:
        raise CatalogError(
            f"{len(train)} training and {len(test)} test scenes: both are needed to weight one by the other"
        )
    weights = np.ones(len(train))
    for field in fields:
        ours = categories(train, field)
        theirs = shares_aimed_at(ours, categories(test, field))
        own = ours.value_counts(normalize=True)
        weights *= [theirs[k] / own[k] for k in ours]
    return np.asarray(weights / weights.sum())


def shift_table(sets: Mapping[str, pd.DataFrame], fields: Sequence[str], weights: NDArray[np.float64]) -> pd.DataFrame:
    """A row per field, category and set: number of scenes and share of the set, with a set ``<first> weighted`` besides.

    The first set is the training set, one of `weights` to each of its scenes.
    """
    first, train = next(iter(sets.items()))
    rows = []
    for field in fields:
        names = sorted({name for frame in sets.values() for name in categories(frame, field)}, key=_by_number)
        counts = {
            name: categories(frame, field).value_counts().reindex(names, fill_value=0) for name, frame in sets.items()
        }
        shares = {name: count / max(1, count.sum()) for name, count in counts.items()}
        shares[f"{first} weighted"] = (
            pd.Series(weights).groupby(categories(train, field).to_numpy()).sum().reindex(names)
        )
        for group, share in shares.items():
            scenes = counts[group.removesuffix(" weighted")]
            rows += [
                {
                    "field": field,
                    "value": name,
                    "set": group,
                    "scenes": int(scenes[name]),
                    "share": float(share.fillna(0)[name]),
                }
                for name in names
            ]
    return pd.DataFrame(rows)


def _by_number(name: str) -> tuple[float, str]:
    return (float(name), "") if name.lstrip("-").isdigit() else (np.inf, name)
