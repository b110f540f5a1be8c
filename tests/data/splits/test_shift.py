"""Training and test sets that differ: weights that make their shares alike, tables, samplers by column."""

from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from swath.data.samples.samplers import InverseSize, ShiftCorrection, tile_weights
from swath.data.splits.shift import shift_table, shift_weights
from swath.data.tables import SCENES, write_table
from swath.eda import figures
from swath.errors import CatalogError

kinds = st.lists(st.sampled_from("abcd"), min_size=1, max_size=12)


def scenes(**columns: object) -> pd.DataFrame:
    return pd.DataFrame(columns)


def test_c54_weights_by_hand() -> None:
    train = scenes(region=["a", "a", "a", "b"], month=[1, 2, 1, 2])
    test = scenes(region=["a", "b", "b", "b"], month=[1, 1, 1, 2])
    # a: (1/4) / (3/4), b: (3/4) / (1/4)
    np.testing.assert_allclose(shift_weights(train, test, ["region"]), np.array([1 / 3, 1 / 3, 1 / 3, 3]) / 4)
    both = np.array([1 / 3 * 3 / 2, 1 / 3 * 1 / 2, 1 / 3 * 3 / 2, 3 * 1 / 2])
    np.testing.assert_allclose(shift_weights(train, test, ["region", "month"]), both / both.sum())
    np.testing.assert_allclose(shift_weights(train, test, []), np.full(4, 0.25))


def test_c54_kinds_without_an_example_in_the_test_set_are_drawn_seldom() -> None:
    train, test = scenes(region=["a", "a", "b", "c"]), scenes(region=["a", "d"])
    # test shares a 1/2, d 1/2, and 1/12 each for b and c, of four; divided by their sum 7/6
    share = {"a": 0.5 / (7 / 6), "b": 1 / 12 / (7 / 6), "c": 1 / 12 / (7 / 6)}
    expected = np.array([share["a"] / 0.5, share["a"] / 0.5, share["b"] / 0.25, share["c"] / 0.25])
    np.testing.assert_allclose(shift_weights(train, test, ["region"]), expected / expected.sum())


@settings(max_examples=50, deadline=None)
@given(kinds, kinds)
def test_c54_weights_sum_to_one_and_give_the_shares_of_the_test(ours: list[str], theirs: list[str]) -> None:
    weights = shift_weights(scenes(k=ours), scenes(k=theirs), ["k"])
    assert weights.sum() == pytest.approx(1)
    assert (weights > 0).all()
    if set(ours) == set(theirs):
        for name in set(ours):
            assert weights[np.array(ours) == name].sum() == pytest.approx(theirs.count(name) / len(theirs))


def test_c54_unknown_values_are_a_kind_of_their_own_and_columns_have_to_be_there() -> None:
    train, test = scenes(mission=["S1A", None]), scenes(mission=[None, None, "S1A", None])
    np.testing.assert_allclose(shift_weights(train, test, ["mission"]), [0.25, 0.75])
    with pytest.raises(CatalogError, match=r"no column 'region'.*mission"):
        shift_weights(train, test, ["region"])
    with pytest.raises(CatalogError, match="2 training and 0 test scenes"):
        shift_weights(train, test[:0], ["mission"])


def tiles_of(names: list[str], **columns: list[object]) -> gpd.GeoDataFrame:
    return gpd.GeoDataFrame({"scene": names, **columns}, geometry=[shapely.box(0, 0, 1, 1)] * len(names))


def test_c54_tiles_share_the_weight_of_their_scene(tmp_path: Path) -> None:
    regions = ["a"] * 5 + ["b", "b", "b"]
    tiles = tiles_of(["s1", "s1", "s1", "s2", "s2", "s3", "s4", "s4"], region=regions)
    test = [{"key": f"t{i}", "region": r, "geometry": shapely.box(0, 0, 1, 1)} for i, r in enumerate("abbb")]
    write_table(tmp_path / SCENES, test)
    weights = tile_weights(tiles, pd.DataFrame(test), ["region"])
    by_scene = pd.Series(weights).groupby(tiles["scene"]).sum()
    np.testing.assert_allclose(by_scene, [1 / 8, 1 / 8, 3 / 8, 3 / 8])
    drawn = ShiftCorrection(test_path=str(tmp_path)).indices(tiles, 20_000, np.random.default_rng(0))
    assert stats.chisquare(np.bincount(drawn, minlength=8), weights * 20_000).pvalue > 1e-3


def test_c55_each_data_set_is_drawn_equally_often() -> None:
    factors: list[object] = [2] * 70 + [5] * 20 + [9] * 10
    tiles = tiles_of([f"s{i}" for i in range(100)], factor=factors)
    drawn = InverseSize(by="factor").indices(tiles, 30_000, np.random.default_rng(1))
    counts = pd.Series(np.array(factors)[drawn]).value_counts()
    assert stats.chisquare(counts).pvalue > 1e-3
    within = np.bincount(drawn, minlength=100)[:70]
    assert stats.chisquare(within).pvalue > 1e-3
    with pytest.raises(CatalogError, match="no column 'dataset'"):
        InverseSize(by="dataset").indices(tiles, 3, np.random.default_rng(0))


def test_c25_table_and_figure_of_the_shift(tmp_path: Path) -> None:
    train = scenes(region=["a", "a", "a", "b"], month=[10, 2, 2, 2])
    validation, test = scenes(region=["b"], month=[10]), scenes(region=["a", "b", "b", "c"], month=[2, 10, 10, 10])
    weights = shift_weights(train, test, ["region"])
    sets = {"training": train, "validation": validation, "test": test}
    table = shift_table(sets, ["region", "month"], weights)
    assert list(table["set"].unique()) == ["training", "validation", "test", "training weighted"]
    np.testing.assert_allclose(table.groupby(["field", "set"])["share"].sum(), 1)
    assert list(table[table["field"] == "month"]["value"].unique()) == ["2", "10"]  # by number
    one = table.set_index(["field", "value", "set"])
    assert one.loc[("region", "c", "training"), ["scenes", "share"]].tolist() == [0, 0]
    assert one.loc[("region", "b", "test"), ["scenes", "share"]].tolist() == [2, 0.5]
    # a and b of the test are 1 : 2, and that is what the weights make of training
    assert one.loc[("region", "b", "training weighted"), "share"] == pytest.approx(2 / 3)
    figures.shift_chart(tmp_path / "shift.png", table)
    assert (tmp_path / "shift.png").stat().st_size > 1000
