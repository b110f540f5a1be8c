"""Folds of areas and of groups."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from swath.data.splits.folds import NO_FOLD, GroupFolds, fold_columns, folds_by_area, folds_by_group, stratum_of
from swath.errors import CatalogError
from tests.synthetic import tile_table

LAW = settings(max_examples=50, deadline=None)


def grouped(seed: int, count: int, mixed: bool) -> gpd.GeoDataFrame:
    """Tiles of `count` groups of 1 to 12 tiles; each group in one stratum, or in any."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 13, count)
    group = np.repeat(np.arange(count), sizes)
    of_group = rng.integers(0, 2, count)[group]
    target = rng.integers(0, 2, len(group)) if mixed else of_group
    table = tile_table([(0, 0, 1)] * len(group))
    return table.assign(group=[f"g{g}" for g in group], target_ratio=0.3 * target, qa_ok=rng.random(count)[group] < 0.5)


def test_c16_folds_are_as_given_or_alphabetical() -> None:
    assert folds_by_area(["b", "a", "b"], None) == {"a": 0, "b": 1}
    assert folds_by_area(["b", "a"], {"a": 3, "b": 1, "c": 2}) == {"a": 3, "b": 1}
    with pytest.raises(CatalogError, match=r"no fold for the areas b\. Name each of a, b"):
        folds_by_area(["a", "b"], {"a": 0})


@LAW
@given(st.integers(0, 10_000), st.integers(8, 40), st.integers(2, 8), st.booleans())
def test_c19_no_group_in_two_folds_and_every_tile_in_one(seed: int, count: int, folds: int, mixed: bool) -> None:
    tiles = grouped(seed, count, mixed)
    try:
        fold = folds_by_group(tiles, GroupFolds(folds=folds, seed=seed))
    except CatalogError:
        assume(False)
    assert set(fold) == set(range(folds))
    assert fold.groupby(tiles["group"]).nunique().max() == 1
    columns = fold_columns(fold)
    assert list(columns) == [f"split_{k}" for k in range(folds)]
    assert ((columns == "validation").sum(axis=1) == 1).all()
    assert ((columns == "training").sum(axis=1) == folds - 1).all()
    assert fold.equals(folds_by_group(tiles, GroupFolds(folds=folds, seed=seed)))


@LAW
@given(st.integers(0, 10_000), st.integers(8, 40), st.integers(2, 8), st.booleans())
def test_c19_strata_are_within_one_group_of_equal_shares(seed: int, count: int, folds: int, alone: bool) -> None:
    tiles = grouped(seed, count, mixed=False)
    tiles = tiles.drop_duplicates("group") if alone else tiles
    config = GroupFolds(folds=folds, seed=seed, strata=("target_ratio", "qa_ok"))
    stratum = stratum_of(tiles, config.strata)
    if stratum.value_counts().max() < folds:  # no stratum could be in every fold
        with pytest.raises(CatalogError, match=r"do not fill \d folds"):
            folds_by_group(tiles, config)
        return
    fold = folds_by_group(tiles, config)
    for name in set(stratum):
        here = stratum == name
        counts = np.bincount(fold[here], minlength=folds)
        largest = tiles["group"][here].value_counts().max()  # 1 where each group is one tile
        assert np.abs(counts - here.sum() / folds).max() <= largest


def test_c19_strata_are_columns_joined_and_fractions_count_as_some_or_none() -> None:
    tiles = tile_table([(0, 0, 1)] * 4).assign(target_ratio=[0, 0.1, 0.9, 0], qa_ok=[True, True, True, False])
    assert stratum_of(tiles, ("target_ratio", "qa_ok")).nunique() == 3
    assert stratum_of(tiles, ("target_ratio",)).tolist() == [
        "target_ratio=False ", "target_ratio=True ", "target_ratio=True ", "target_ratio=False ",
    ]  # fmt: skip
    assert stratum_of(tiles, ()).nunique() == 1


def test_c19_skipped_tiles_are_in_no_fold() -> None:
    tiles = grouped(0, 20, mixed=True)
    tiles["skip"] = np.arange(len(tiles)) % 3 == 0
    fold = folds_by_group(tiles, GroupFolds(folds=3))
    assert ((fold == NO_FOLD) == tiles["skip"]).all()
    assert ((fold_columns(fold) == "unused").all(axis=1) == tiles["skip"]).all()


def test_c19_too_few_groups_and_unknown_columns_are_refused() -> None:
    tiles = grouped(0, 4, mixed=True)
    with pytest.raises(
        CatalogError, match=r"4 groups \(column 'group'\) in 2 strata do not fill 5 folds\. Ask for fewer"
    ):
        folds_by_group(tiles, GroupFolds(folds=5))
    with pytest.raises(CatalogError, match=r"no column cloud\. It has: key"):
        folds_by_group(tiles, GroupFolds(strata=("cloud",)))
