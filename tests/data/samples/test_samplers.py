"""Which tile is drawn when: frequencies, partition over ranks, restarts."""

from __future__ import annotations

from collections import Counter

import geopandas as gpd
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare, kstest
from sklearn.preprocessing import minmax_scale

from swath.config.ranges import check_ranges
from swath.data.samples.samplers import CounterRng, TargetPresence, TileQuality, TrainingDraws, Uniform, quality_weights
from swath.errors import CatalogError, ConfigError


def tiles(without: int, with_target: int) -> gpd.GeoDataFrame:
    ratios = [0.0] * without + [0.25] * with_target
    return gpd.GeoDataFrame({"target_ratio": ratios}, geometry=[shapely.box(0, 0, 1, 1)] * len(ratios))


@pytest.mark.parametrize(("w0", "w1"), [(0.5, 0.5), (0.7, 0.3), (0.1, 3.0), (0.0, 1.0)])
@pytest.mark.parametrize(("n0", "n1"), [(90, 10), (40, 60)])
def test_c52_target_frequency_follows_the_weights(n0: int, n1: int, w0: float, w1: float) -> None:
    policy = TargetPresence(without=w0, with_target=w1)
    drawn = policy.indices(tiles(n0, n1), 60_000, np.random.default_rng(1))
    expected = w1 * n1 / (w0 * n0 + w1 * n1)
    assert (drawn >= n0).mean() == pytest.approx(expected, abs=0.02 * max(expected, 0.25))
    counts = np.bincount(drawn[drawn >= n0] - n0, minlength=n1)
    assert counts.min() > 0.7 * counts.mean()  # each tile of a kind alike


def test_c52_draws_are_with_replacement_and_as_many_as_asked() -> None:
    drawn = TargetPresence(without=1.0, with_target=9.0).indices(tiles(20, 1), 21, np.random.default_rng(0))
    assert len(drawn) == 21
    assert np.bincount(drawn, minlength=21)[20] > 1


def test_c52_weights_that_draw_nothing_are_an_error() -> None:
    with pytest.raises(CatalogError, match=r"0.0, 1.0"):
        TargetPresence(without=0.0, with_target=1.0).indices(tiles(5, 0), 5, np.random.default_rng(0))
    with pytest.raises(CatalogError, match="no tile can be drawn"):
        TargetPresence(without=-1.0).indices(tiles(5, 5), 5, np.random.default_rng(0))


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 30), st.integers(1, 100), st.integers(0, 99))
def test_c52_uniform_draws_every_tile_equally_often(count: int, drawn: int, seed: int) -> None:
    indices = Uniform().indices(tiles(count, 0), drawn, np.random.default_rng(seed))
    assert len(indices) == drawn
    times = np.bincount(indices, minlength=count)
    assert times.max() - times.min() <= 1
    first = indices[: min(count, drawn)]
    assert len(set(first.tolist())) == len(first)


@pytest.mark.parametrize("end", [2, 7, 257])
def test_c38_the_numbers_of_draws_are_uniform_and_independent_of_their_neighbours(end: int) -> None:
    rolls = np.array([[dice.below(end), dice.below(end)] for n in range(60_000) for dice in [CounterRng(3, n, 1)]])
    table = np.histogram2d(*rolls.T, bins=[min(end, 16)] * 2, range=[[0, end]] * 2)[0]
    widths = np.histogram(np.arange(end), bins=min(end, 16), range=(0, end))[0] / end
    assert chisquare(table.ravel(), np.outer(widths, widths).ravel() * len(rolls)).pvalue > 1e-4
    assert abs(np.corrcoef(rolls[:-1, 0], rolls[1:, 0])[0, 1]) < 0.02
    shares = np.array([CounterRng(n).share() for n in range(20_000)])
    assert kstest(shares, "uniform").pvalue > 1e-4
    assert 0 <= shares.min() <= shares.max() < 1


def test_c38_numbers_of_a_draw_are_its_own_and_never_end() -> None:
    first, second = ([dice.below(1000) for _ in range(50)] for dice in (CounterRng(1, 2), CounterRng(1, 2)))
    assert first == second != [CounterRng(1, 3).below(1000) for _ in range(50)]
    assert len(set(first)) > 40  # more than the eight of one digest


def plan(**changes: object) -> TrainingDraws:
    given_: dict[str, object] = {
        "tiles": tiles(13, 6), "policy": TargetPresence(without=0.3, with_target=0.7), "seed": 5, "per_step": 12,
        "steps": 4, "epochs": 3,
    }  # fmt: skip
    return TrainingDraws(**{**given_, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("policy", [Uniform(), TargetPresence()])
@pytest.mark.parametrize("world", [1, 2, 3, 4])
def test_c56_ranks_partition_every_step(policy: Uniform | TargetPresence, world: int) -> None:
    whole = list(plan(policy=policy))
    shares = [list(plan(policy=policy, rank=rank, world=world)) for rank in range(world)]
    assert len(whole) == len(plan(policy=policy)) == 12 * 4 * 3
    each = 12 // world
    for step in range(12):
        together = [d for share in shares for d in share[step * each : (step + 1) * each]]
        assert Counter(together) == Counter(whole[step * 12 : (step + 1) * 12])
    for rank, share in enumerate(shares):
        assert len(share) == len(plan(policy=policy, rank=rank, world=world))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 12), st.sampled_from([1, 2, 3]), st.data())
def test_c52_restart_at_a_step_goes_on_with_the_same_sequence(step: int, world: int, data: st.DataObject) -> None:
    rank = data.draw(st.integers(0, world - 1))
    whole = list(plan(rank=rank, world=world))
    rest = plan(first_step=step, rank=rank, world=world)
    assert list(rest) == whole[step * 12 // world :]
    assert len(rest) == len(whole) - step * 12 // world


def test_c52_every_draw_of_a_training_has_its_own_crop_seed() -> None:
    seeds = [draw.seed for draw in plan()]
    assert len(set(seeds)) == len(seeds)


def test_c52_c56_draws_depend_on_seed_and_epoch_only() -> None:
    assert plan().epoch(2) == plan(epochs=9, first_step=3, rank=1, world=2).epoch(2)
    assert plan().epoch(0) != plan().epoch(1)
    assert plan().epoch(0) != plan(seed=6).epoch(0)
    np.random.seed(3)  # noqa: NPY002 - the global generator must have no part
    assert plan().epoch(1) == plan().epoch(1)


# ----------------------------------------------------------------------------------------------------------- quality


FACTORS = {
    "has_target": 3.0, "target_pct": 0.2, "qa_ok": 0.0, "corrupted_pct": -1.0, "water_pct": 0.5, "dem_missing_pct": 0.25,
    "dem_zero_pct": -1.0,
}  # fmt: skip
FLAGS = {
    "key": ["aa", "bb", "cc", "dd"],
    "has_target": [True, False, True, False],
    "target_pct": [2.0, 0.0, 50.0, 0.0],
    "qa_ok": [True, True, False, True],
    "corrupted_pct": [0.0, 0.0, 80.0, 0.0],
    "water_pct": [60.0, 100.0, 90.0, 100.0],
    "dem_missing_pct": [0.0, 100.0, 10.0, 0.0],
    "dem_zero_pct": [40.0, 0.0, 70.0, 100.0],
}


def flagged(**changes: object) -> gpd.GeoDataFrame:
    return gpd.GeoDataFrame(FLAGS | changes, geometry=[shapely.box(0, 0, 1, 1)] * len(FLAGS["key"]))


def test_c53_weights_of_tiles_are_those_of_the_formula_by_hand() -> None:
    """3 has + .2 (1 - target) + 0 ok - (1 - corrupted) + .5 (1 - water) + .25 (1 - missing) - (1 - zero)."""
    sums = [
        3 + 0.2 * 0.98 - 1 + 0.5 * 0.4 + 0.25 - 0.6,  # 2.046, the largest but one
        0 + 0.2 - 1 + 0 + 0 - 1,  # -1.8, the smallest
        3 + 0.2 * 0.5 - 0.2 + 0.5 * 0.1 + 0.25 * 0.9 - 0.3,  # 2.875, the largest
        0 + 0.2 - 1 + 0 + 0.25 - 0,  # -0.55
    ]
    found = quality_weights(flagged(), FACTORS, floor=0.01)
    np.testing.assert_allclose(found, [(2.046 + 1.8) / 4.675, 0.01, 1.0, 1.25 / 4.675])
    np.testing.assert_allclose(found, np.maximum(minmax_scale(sums), 0.01))


def test_c53_tiles_are_drawn_with_replacement_by_these_weights() -> None:
    drawn = TileQuality(factors=FACTORS, floor=0.1).indices(flagged(), 50_000, np.random.default_rng(0))
    weights = np.array([3.846 / 4.675, 0.1, 1.0, 1.25 / 4.675])
    counts = np.bincount(drawn, minlength=4)
    assert chisquare(counts, 50_000 * weights / weights.sum()).pvalue > 1e-4


@settings(max_examples=50, deadline=None)
@given(st.permutations(range(4)), st.floats(0.001, 1))
def test_c53_weights_belong_to_their_tile_whatever_the_order_of_the_table(order: list[int], floor: float) -> None:
    table = flagged()
    found = quality_weights(table.iloc[order], FACTORS, floor)
    np.testing.assert_array_equal(found, quality_weights(table, FACTORS, floor)[order])
    assert found.min() >= floor
    assert found.max() == 1


def test_c53_tiles_that_do_not_train_have_no_part_in_the_scale() -> None:
    """Without the best and the worst tile, the other two become the best and the worst."""
    np.testing.assert_allclose(quality_weights(flagged().iloc[[0, 3]], FACTORS, 0.25), [1, 0.25])
    few = plan(policy=TileQuality(factors=FACTORS), tiles=flagged().iloc[[0, 3]])
    assert {draw.tile for draw in few} == {0, 1}


def test_c53_other_columns_serve_and_equal_tiles_are_drawn_alike() -> None:
    table = flagged(cloud_free=[0.0, 0.5, 1.0, 0.25])
    np.testing.assert_allclose(quality_weights(table, {"cloud_free": -1.0}, 0.01), [0.01, 0.5, 1, 0.25])
    np.testing.assert_array_equal(quality_weights(table, {"qa_ok": 0.0}, 0.01), np.ones(4))


@pytest.mark.parametrize(
    ("column", "values", "said"),
    [
        ("has_targt", None, r"no such column.*has_target, target_pct, qa_ok"),
        ("target_pct", [1.0, None, 2.0, 3.0], r"1 training tiles have no value of it, the first: bb"),
        ("has_target", [True, False, True, None], r"no value of it, the first: dd"),
        ("target_pct", [1.0, 2.0, 101.0, 3.0], r"holds 101.0.*from 0 to 100"),
        ("height", [350, 350, 350, 350], r"holds 350.*from 0 to 1\."),
        ("date", ["2003", "2004", "", "x"], r"holds '2003'"),
    ],
)
def test_c53_a_column_that_says_nothing_about_quality_is_named(column: str, values: object, said: str) -> None:
    table = flagged(**({column: values} if values else {}))
    with pytest.raises(CatalogError, match=rf"data\.sampler\.factors\.{column}: .*{said}"):
        quality_weights(table, {column: 1.0}, 0.01)


def test_c53_settings_that_would_draw_no_tile_are_refused() -> None:
    for floor in (0.0, -1.0, 1.5):
        with pytest.raises(ConfigError, match=rf"sampler\.floor={floor}: has to be from 1e-06 to 1"):
            check_ranges(TileQuality(factors=FACTORS, floor=floor), "sampler")
    with pytest.raises(ConfigError, match=r"sampler\.factors=\{\}"):
        check_ranges(TileQuality(factors={}), "sampler")
    check_ranges(TileQuality(factors=FACTORS), "sampler")
