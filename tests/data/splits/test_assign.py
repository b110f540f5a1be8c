"""Folds of tables of scenes: groups stay together, strata are dealt out evenly, doubtful scenes take no part."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swath.data.splits.assign import AssignFoldsConfig, reasons_to_leave_out, with_splits
from swath.data.splits.folds import GroupFolds
from swath.data.splits.split import ByColumn
from swath.errors import CatalogError, ConfigError

FOLDS = 5


def scenes_of(seed: int, groups: int = 60) -> gpd.GeoDataFrame:
    """Scenes of groups of one to six, with two flags, a test side and a doubtful flag; made up."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(groups), rng.integers(1, 7, groups))
    count = len(group)
    table = pd.DataFrame({
        "key": [f"s{i:03d}" for i in range(count)], "area": [f"g{g}" for g in group], "date": "",
        "image": "x.tif", "wet": rng.random(groups)[group] < 0.5, "bright": rng.random(count) < 0.3,
        "doubtful": rng.random(count) < 0.05, "known": np.where(rng.random(groups)[group] < 0.2, "test", "train"),
    })  # fmt: skip
    return gpd.GeoDataFrame(table, geometry=gpd.points_from_xy(range(count), range(count)))


def config_of(**changes: object) -> AssignFoldsConfig:
    fields = {
        "input_path": "a", "output_path": "b", "leave_out": ("doubtful",), "sides": "known",
        "folds": GroupFolds(folds=FOLDS, by="area", strata=("wet", "bright"), balance="groups"),
    }  # fmt: skip
    return AssignFoldsConfig(**(fields | changes))  # type: ignore[arg-type]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_c19_every_group_judges_once_and_strata_are_even(seed: int) -> None:
    table = with_splits(scenes_of(seed), config_of())
    splits = table[[f"split_{k}" for k in range(FOLDS)]]
    is_test, out = table["known"] == "test", (table["left_out"] != "")
    assert (splits[is_test] == "test").all(axis=None)
    assert splits[out].isna().all(axis=None)
    assert not (is_test & out).any()
    assert (out == (table["doubtful"] & ~is_test)).all()
    part = table[~is_test & ~out]
    judged = part[splits.columns] == "val"
    assert (judged.sum(axis=1) == 1).all()
    assert (part[splits.columns].isin(["train", "val"])).all(axis=None)
    fold = judged.to_numpy().argmax(axis=1)
    assert part["judged_in"].tolist() == [str(number) for number in fold]
    assert table["judged_in"][is_test | out].isna().all()
    owners = part.assign(fold=fold).groupby("area")
    assert (owners["fold"].nunique() == 1).all()
    commonest = owners["stratum"].agg(lambda s: sorted(s.value_counts().loc[lambda c: c == c.max()].index)[0])
    counts = pd.crosstab(commonest, owners["fold"].first())
    ideal = counts.sum(axis=1) / FOLDS
    assert (counts.sub(ideal, axis=0).abs() <= 1).all(axis=None)


def test_c19_a_training_reads_a_fold_by_its_column() -> None:
    table = with_splits(scenes_of(0), config_of())
    side = ByColumn(column="split_2", validation=("val",), test=("test",)).assign(table)
    names = {"val": "validation", "train": "training", "test": "test"}
    assert (side == table["split_2"].map(names).fillna("unused")).all()


def test_c21_reasons_are_the_first_flag_and_flags_are_flags() -> None:
    table = scenes_of(0)
    table["wet"] = [None, *table["wet"].iloc[1:]]
    reasons = reasons_to_leave_out(table, ("doubtful", "wet"))
    assert set(reasons[table["doubtful"]]) == {"doubtful"}
    assert reasons.iloc[0] in ("", "doubtful")
    with pytest.raises(CatalogError, match="no column 'dry'"):
        reasons_to_leave_out(table, ("dry",))
    with pytest.raises(CatalogError, match="column 'area' holds 'g0', no flag"):
        reasons_to_leave_out(table, ("area",))


def test_c19_too_few_groups_and_one_folder_are_refused() -> None:
    with pytest.raises(CatalogError, match="do not fill 50 folds"):
        with_splits(
            scenes_of(0, 40), config_of(folds=GroupFolds(folds=50, by="area", strata=("wet",), balance="groups"))
        )
    with pytest.raises(ConfigError, match="another folder"):
        config_of(output_path="./a")
