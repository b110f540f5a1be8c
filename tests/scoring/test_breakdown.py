"""Scores by condition: pandas brute force as oracle, conditions that divide the units, one comparison of two runs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from swath.errors import CatalogError
from swath.nn.model import Classification
from swath.scoring.bootstrap import FEW_UNITS, intervals
from swath.scoring.breakdown import by_condition, condition_labels, summary
from swath.scoring.comparison import compare, comparison_text
from swath.scoring.config import ScoringConfig
from swath.scoring.counts import COLUMNS
from swath.scoring.metrics import scores

TASKS = {"ice": Classification(classes=("open", "young", "old")), "floe": Classification()}
LAW = settings(max_examples=25, deadline=None)
QUICK = ScoringConfig(resamples=50)


def units(count: int = 30, seed: int = 0) -> tuple[gpd.GeoDataFrame, pd.DataFrame]:
    """(rows of units of two tasks, every single pixel with the conditions of its unit)."""
    rng, rows, pixels = np.random.default_rng(seed), [], []
    for i in range(count):
        about = {
            "key": f"s{i % 7}/tile_{i}_0", "scene": f"s{i % 7}", "area": f"area{i % 3}", "unit": "tile",
            "date": f"2020{i % 5 + 1:02d}03", "provider": ["DMI", "CIS", None][i % 3], "incidence": 20.0 + rng.random(),
        }  # fmt: skip
        for task, one in TASKS.items():
            truth, guess = rng.integers(0, one.channels, (2, 40))
            matrix = sk.confusion_matrix(truth, guess, labels=range(one.channels))
            share, loss = float((truth > 0).mean()), float(rng.random())
            counts = {"pixels": 40, "target_share": share, "loss": loss, "matrix": matrix.ravel().tolist()}
            rows.append(about | {"task": task} | counts)
            pixels.append(pd.DataFrame({**about, "task": task, "t": truth, "p": guess, "loss": loss, "share": share}))
    frame = gpd.GeoDataFrame(rows, geometry=[None] * len(rows)).reindex(columns=[*COLUMNS, "provider", "incidence"])
    return frame, pd.concat(pixels)


@pytest.mark.parametrize("column", ["area", "provider", "scene"])
def test_c82_scores_by_a_column_equal_pandas_on_single_pixels(column: str) -> None:
    rows, pixels = units()
    found = by_condition(rows, [column], TASKS, QUICK).set_index(["task", "value"])
    groups = pixels.assign(**{column: pixels[column].fillna("unknown")}).groupby(["task", column])
    assert set(found.index) == set(groups.groups)
    for name, group in groups:
        row, t, p = found.loc[name], group["t"].to_numpy(), group["p"].to_numpy()
        assert row["iou_fg"] == pytest.approx(sk.jaccard_score(t > 0, p > 0))
        assert row["f1_macro_bg"] == pytest.approx(sk.f1_score(t, p, average="macro"))
        assert row["accuracy"] == pytest.approx(sk.accuracy_score(t, p))
        assert row["loss"] == pytest.approx(group["loss"].mean())
        assert row["target_share"] == pytest.approx((t > 0).mean())
        assert (row["pixels"], row["units"]) == (len(group), group["key"].nunique())
        for k, label in enumerate(TASKS[name[0]].classes):
            assert row[f"iou_{label}"] == pytest.approx(sk.jaccard_score(t, p, average=None)[k])


def test_c82_several_conditions_stand_below_each_other_and_each_divides_all_pixels() -> None:
    rows, pixels = units()
    found = by_condition(rows, ["area", "date", "target_share", "incidence"], TASKS, QUICK)
    assert list(found["condition"].unique()) == ["area", "date", "target_share", "incidence"]
    total = pixels.groupby("task").size()
    for (task, _), part in found.groupby(["task", "condition"]):
        assert part["pixels"].sum() == total[task]
    assert len(found[(found["condition"] == "incidence") & (found["task"] == "ice")]) == QUICK.bins
    assert list(found[(found["condition"] == "date") & (found["task"] == "ice")]["value"])[:2] == [
        "2020-01-03", "2020-02-03",
    ]  # fmt: skip


def test_c82_an_unknown_column_is_answered_with_the_known_ones() -> None:
    with pytest.raises(CatalogError, match=r"no column season .*There are: .*incidence"):
        by_condition(units()[0], ["area", "season"], TASKS)


@LAW
@given(st.lists(st.sampled_from([0.0, 0.25, 1.0]) | st.floats(0, 1), min_size=1, max_size=60), st.integers(1, 6))
def test_c82_quantiles_hold_every_value_in_the_bin_that_names_it(values: list[float], bins: int) -> None:
    series = pd.Series([*values, np.nan], name="target_share")
    found = condition_labels(series, bins)
    assert found.iloc[-1] == "unknown"
    assert set(found.cat.categories) == set(found)
    before = -np.inf
    for label in found.cat.categories[:-1]:
        inside = series[found == label]
        low, _, high = label.partition(" to ")
        slack = 1e-2 + 1e-6
        assert float(low) - slack <= inside.min() <= inside.max() <= float(high or low) + slack
        if high:
            assert inside.min() >= before
            before = inside.max()


def test_c82_quantiles_are_equally_full_and_a_frequent_value_stands_alone() -> None:
    rng = np.random.default_rng(0)
    plain = condition_labels(pd.Series(rng.random(400), name="x"), 4)
    assert set(plain.value_counts()) == {100}
    zeros = condition_labels(pd.Series(np.where(np.arange(400) < 200, 0.0, 0.1 + rng.random(400)), name="x"), 4)
    assert zeros.value_counts(sort=False).tolist() == pytest.approx([200, 67, 66, 67], abs=1)
    assert zeros.cat.categories[0] == "0"
    few = condition_labels(pd.Series([3, 1, 1, 2], name="month"), 4)
    assert few.tolist() == ["3", "1", "1", "2"]
    assert list(few.cat.categories) == ["1", "2", "3"]


def test_c82_dates_are_days_while_there_are_few_then_months() -> None:
    days = [f"202001{d:02d}T101010" for d in range(1, 13)]
    assert condition_labels(pd.Series(days, name="date"), 4).iloc[3] == "2020-01-04"
    many = condition_labels(pd.Series([*days, "2020-02-01", "", None], name="date"), 4)
    assert list(many.cat.categories) == ["2020-01", "2020-02", "unknown"]


def test_c82_intervals_beside_a_condition_are_those_of_its_units() -> None:
    rows, _ = units()
    mine = rows[(rows["task"] == "ice") & (rows["area"] == "area1")].sort_values("key")
    matrices = np.stack([np.reshape(m, (3, 3)) for m in mine["matrix"]])
    row = by_condition(rows, ["area"], TASKS).set_index(["task", "value"]).loc[("ice", "area1")]
    assert (row["iou_fg_low"], row["iou_fg_high"]) == intervals(matrices, TASKS["ice"].classes)["iou_fg"]
    assert row["unit"] == "tiles"
    shuffled = by_condition(rows.sample(frac=1, random_state=0), ["area"], TASKS).set_index(["task", "value"])
    pd.testing.assert_series_equal(shuffled.loc[("ice", "area1")], row)
    by_scene = summary(rows[rows["task"] == "ice"], TASKS["ice"].classes, replace(QUICK, scenes_needed=7))
    assert (by_scene["unit"], by_scene["units"]) == ("scenes", 7)


def better(rows: gpd.GeoDataFrame, by: int) -> gpd.GeoDataFrame:
    """The same units with up to `by` misses of class 1 put right in each."""
    out = []
    for row in rows.to_dict("records"):
        flat = list(row["matrix"])
        side = round(len(flat) ** 0.5)
        gain = min(by, flat[side])
        flat[side], flat[side + 1] = flat[side] - gain, flat[side + 1] + gain
        out.append({**row, "matrix": flat})
    return gpd.GeoDataFrame(out)


def test_c74_comparison_of_two_runs_tells_a_gain_from_chance() -> None:
    rows, _ = units()
    found: Any = compare(rows, better(rows, 3).sample(frac=1, random_state=1), TASKS).set_index(["task", "score"])
    for task, one in TASKS.items():
        sums = [
            np.sum([np.reshape(m, (one.channels,) * 2) for m in side[side["task"] == task]["matrix"]], axis=0)
            for side in (rows, better(rows, 3))
        ]
        before, after = (scores(s, one.classes)["iou_fg"] for s in sums)
        row = found.loc[(task, "iou_fg")]
        assert (row["a"], row["b"], row["difference"]) == pytest.approx((before, after, after - before))
        assert row["clear"]
        assert row["low"] > 0
        assert row["better"] == 1
    text = comparison_text(found.reset_index())
    assert "ice iou_fg" in text
    assert "not clear" not in text
    assert "not clear" in comparison_text(compare(rows, rows, TASKS))


def test_c123_a_comparison_over_few_units_is_marked() -> None:
    rows, _ = units()
    for count in (8, FEW_UNITS):
        some = rows[rows["key"].isin(sorted(set(rows["key"]))[:count])]
        text = comparison_text(compare(some, some, TASKS))
        assert (f"+0.000]* over {count} " in text) == (count < FEW_UNITS)
        assert (text.splitlines()[-1].startswith("* over fewer than 20 units, and too narrow")) == (count < FEW_UNITS)


def test_c74_runs_on_other_units_or_other_labels_are_not_compared() -> None:
    rows, _ = units()
    with pytest.raises(CatalogError, match=r"not scored on the same units \(1 stand on one side only: s0/tile_0_0"):
        compare(rows, rows[rows["key"] != "s0/tile_0_0"], TASKS)
    other = rows.copy()
    other["matrix"] = [list(reversed(m)) for m in rows["matrix"]]
    with pytest.raises(CatalogError, match=r"the labels of the two runs differ"):
        compare(rows, other, TASKS)
