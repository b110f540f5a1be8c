"""Who trains and who judges: by area, by fold, by chance, by blocks of ground."""

from __future__ import annotations

import json
from collections.abc import Sequence

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.model_selection import train_test_split

from swath.config import build, configclass, override, resolve
from swath.data.leakage.leaks import LeakKind
from swath.data.splits.split import BlockFolds, ByArea, ByColumn, ByFold, RandomSplit, Split, divide
from swath.errors import CatalogError, ConfigError, LeakError
from tests.synthetic import tile_table

LAW = settings(max_examples=50, deadline=None)


@configclass
class Holder:
    """A config with a split in it, as a training's."""

    split: Split = ByArea()
    """Who judges."""
    allow_leaks: bool | tuple[LeakKind, ...] = False
    """What may pass."""


@pytest.mark.parametrize(
    "split",
    [
        ByArea(validation_areas=("a",)), ByFold(validation_fold=2, test_fold=None), RandomSplit(by="group", stable=True),
        BlockFolds(block=512, buffer=64.5, unit="metres"), ByColumn(column="date", validation=("20150102",)),
    ],
)  # fmt: skip
def test_c05_a_split_is_a_config_value(split: Split) -> None:
    holder = Holder(split=split)
    assert build(json.loads(json.dumps(resolve(holder)))) == holder
    name, text, value = {
        ByArea: ("validation_areas", "a,b", ("a", "b")), ByFold: ("test_fold", "3", 3), RandomSplit: ("seed", "7", 7),
        BlockFolds: ("block", "1000", 1000.0), ByColumn: ("validation", '["a, b", "1"]', ("a, b", "1")),
    }[type(split)]  # fmt: skip
    assert getattr(override(holder, f"split.{name}", text).split, name) == value


def test_c05_the_flag_is_a_config_value() -> None:
    for text, value in (("True", True), ("shared ground,same area", ("shared ground", "same area"))):
        changed = override(Holder(), "allow_leaks", text)
        assert changed.allow_leaks == value
        assert build(json.loads(json.dumps(resolve(changed)))) == changed
    with pytest.raises(ConfigError, match="allow_leaks=shared grund: expected"):
        override(Holder(), "allow_leaks", "shared grund")


# ------------------------------------------------------------------------------------------------------------ by area


@LAW
@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=12), st.sets(st.sampled_from("abcd")))
def test_c16_areas_divide_the_tiles(areas: list[str], held_out: set[str]) -> None:
    tiles = tile_table([(0, 0, 1)] * len(areas), areas=areas)
    split = ByArea(validation_areas=tuple(sorted(held_out)))
    if not held_out <= set(areas):
        with pytest.raises(CatalogError, match=r"no tiles of .*Areas in the table"):
            split.assign(tiles)
    elif held_out == set(areas):
        with pytest.raises(CatalogError, match=r"no tile is left to train on \(validation \d+, test 0, unused 0\)"):
            split.assign(tiles)
    else:
        side = split.assign(tiles)
        train, judged = tiles[side == "training"], tiles[side == "validation"]
        assert sorted([*train["key"], *judged["key"]]) == sorted(tiles["key"])
        assert set(judged["area"]) == held_out
        assert not set(train["area"]) & held_out


def test_c16_areas_named_for_training_leave_the_others_unused() -> None:
    tiles = tile_table([(0, 0, 1)] * 4, areas=list("abcd"))
    split = ByArea(validation_areas=("b",), training_areas=("a",), test_areas=("d",))
    assert split.assign(tiles).tolist() == ["training", "validation", "unused", "test"]
    assert ByArea().assign(tiles).tolist() == ["training"] * 4
    with pytest.raises(LeakError, match="b cannot both train and judge"):
        ByArea(validation_areas=("b",), training_areas=("a", "b")).assign(tiles)
    with pytest.raises(LeakError, match="b cannot both train and judge"):
        ByArea(validation_areas=("b",), test_areas=("b",)).assign(tiles)


def test_c15_skipped_and_empty_tiles_take_no_part() -> None:
    tiles = tile_table([(0, 0, 1)] * 4, areas=list("aabb"))
    tiles = tiles.assign(skip=[True, False, False, False], valid_ratio=[1.0, 1.0, 0.0, 0.5])
    assert ByArea(validation_areas=("b",)).assign(tiles).tolist() == ["unused", "training", "unused", "validation"]


# ------------------------------------------------------------------------------------------------------------ by fold


def test_c19_a_fold_judges_another_tests_and_tiles_in_none_are_unused() -> None:
    tiles = tile_table([(0, 0, 1)] * 5).assign(fold=[0, 1, 2, 1, -1])
    assert ByFold(validation_fold=1).assign(tiles).tolist() == [
        "training", "validation", "training", "validation", "unused",
    ]  # fmt: skip
    assert ByFold(validation_fold=1, test_fold=0).assign(tiles)[0] == "test"
    assert ByFold(validation_fold=None).assign(tiles).tolist() == ["training"] * 4 + ["unused"]
    with pytest.raises(CatalogError, match=r"no tile is in fold 3\. Folds: 0, 1, 2\."):
        ByFold(validation_fold=3).assign(tiles)
    with pytest.raises(LeakError, match="fold 1 cannot be both"):
        ByFold(validation_fold=1, test_fold=1).assign(tiles)
    with pytest.raises(CatalogError, match=r"no column 'part' in the table\. Run `generate_tiles_stats`"):
        ByFold(column="part").assign(tiles)


# ---------------------------------------------------------------------------------------------------------- by column


@LAW
@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=12), st.sets(st.sampled_from("abcde")))
def test_c16_by_column_area_is_by_area(areas: list[str], held_out: set[str]) -> None:
    tiles = tile_table([(0, 0, 1)] * len(areas), areas=areas)
    names = tuple(sorted(held_out))

    def outcome(split: Split) -> object:
        try:
            return split.assign(tiles).tolist()
        except CatalogError as error:
            return str(error).replace("Values of 'area' in the table", "Areas in the table")

    assert outcome(ByColumn(column="area", validation=names)) == outcome(ByArea(validation_areas=names))


def test_c83_values_of_a_column_judge_and_tiles_without_one_are_unused() -> None:
    tiles = tile_table([(0, 0, 1)] * 6).assign(event=["a", "b", "c", None, "", "a"], orbit=[1, 2, 3, None, 12, 1])
    sides = ["validation", "training", "test", "unused", "unused", "validation"]
    assert ByColumn(column="event", validation=("a",), test=("c",)).assign(tiles).tolist() == sides
    sides[4] = "training"
    assert ByColumn(column="orbit", validation=("1",), test=("3",)).assign(tiles).tolist() == sides
    with pytest.raises(CatalogError, match=r"no tiles of d\. Values of 'event' in the table: a, b, c\."):
        ByColumn(column="event", validation=("d",)).assign(tiles)
    with pytest.raises(LeakError, match="a cannot both train and judge"):
        ByColumn(column="event", validation=("a",), test=("a",)).assign(tiles)
    with pytest.raises(
        CatalogError, match=r"no column 'date' in the table\. It has: key, .*`generate_tiles_stats` have"
    ):
        ByColumn(column="date", validation=("a",)).assign(tiles)


def test_c83_a_date_left_out_over_the_same_ground_is_a_leak() -> None:
    tiles = tile_table([(0, 0, 9), (0, 0, 9), (50, 0, 9)], areas=["a", "a", "b"], scenes=["s", "t", "u"])
    tiles = tiles.assign(date=["2014", "2015", "2015"])
    with pytest.raises(LeakError, match="ground"):
        divide(tiles, ByColumn(column="date", validation=("2014",)))
    allowed = divide(tiles, ByColumn(column="date", validation=("2014",)), allow_leaks=True)
    assert list(allowed.validation["key"]) == ["t0"]
    apart = tiles.assign(date=["2014", "2014", "2015"])
    assert divide(apart, ByColumn(column="date", validation=("2014",))).leaks == ()


# ---------------------------------------------------------------------------------------------------------- by chance


def scenes(count: int, tiles_each: int = 1) -> gpd.GeoDataFrame:
    names = [f"scene_{i:03d}" for i in range(count) for _ in range(tiles_each)]
    return tile_table([(0, 0, 1)] * len(names), scenes=names)


def names_of(tiles: gpd.GeoDataFrame, side: pd.Series) -> dict[str, list[str]]:
    return {name: sorted(set(tiles["scene"][side == name])) for name in ("training", "validation", "test")}


def test_c17_513_scenes_are_drawn_as_scikit_learn_draws_them() -> None:
    tiles = scenes(513, tiles_each=2).sample(frac=1, random_state=0)  # the order of rows means nothing
    found = names_of(tiles, RandomSplit(fractions=(0.85, 0.1005, 0.0495), seed=42).assign(tiles))
    train, held = train_test_split(sorted(set(tiles["scene"])), test_size=0.15, random_state=42)
    judge, test = train_test_split(held, test_size=0.33, random_state=42)
    assert found == {"training": sorted(train), "validation": sorted(judge), "test": sorted(test)}
    assert [len(side) for side in found.values()] == [436, 51, 26]


@LAW
@given(st.integers(4, 60), st.integers(0, 100), st.booleans(), st.sampled_from([0.0, 0.2, 0.4]))
def test_c17_sides_are_disjoint_exhaustive_and_repeatable(count: int, seed: int, stable: bool, test: float) -> None:
    tiles = scenes(count, tiles_each=2)
    split = RandomSplit(fractions=(0.4, 0.6 - test, test), seed=seed, stable=stable)
    try:
        side = split.assign(tiles)
    except CatalogError:
        assert stable  # chance may leave a side of a few names empty; then it says so
        return
    assert set(side) == {"training", "validation"} | ({"test"} if test else set())
    assert side.groupby(tiles["scene"]).nunique().max() == 1
    assert side.equals(split.assign(tiles))
    if not stable:
        assert (side == "training").sum() / 2 == np.floor(0.4 * count + 1e-9)


@pytest.mark.parametrize("seed", [0, 1, 7, 42])
def test_c17_every_seed_draws_as_scikit_learn_draws_with_it(seed: int) -> None:
    tiles = scenes(60)
    found = names_of(tiles, RandomSplit(fractions=(0.5, 0.25, 0.25), seed=seed).assign(tiles))
    train, held = train_test_split(sorted(tiles["scene"]), test_size=0.5, random_state=seed)
    judge, test = train_test_split(held, test_size=0.5, random_state=seed)
    assert found == {"training": sorted(train), "validation": sorted(judge), "test": sorted(test)}


@pytest.mark.parametrize("stable", [False, True])
@pytest.mark.parametrize("fractions", [(0.5, 0.25, 0.25), (0.5, 0.5, 0.0)])
def test_c17_the_seed_decides_who_is_on_which_side(fractions: tuple[float, float, float], stable: bool) -> None:
    tiles = scenes(64)
    splits = [RandomSplit(fractions=fractions, stable=stable, seed=seed) for seed in (0, 1, 2, 3, 0)]
    drawn = [tuple(split.assign(tiles)) for split in splits]
    assert drawn[0] == drawn[4]
    assert len(set(drawn)) == 4


@LAW
@given(st.integers(0, 1000))
def test_c17_with_hashes_a_new_scene_moves_no_other(seed: int) -> None:
    tiles, split = scenes(60), RandomSplit(fractions=(0.5, 0.3, 0.2), seed=seed, stable=True)
    kept = tiles[np.random.default_rng(seed).random(60) < 0.6]
    assert split.assign(tiles).loc[kept.index].equals(split.assign(kept))


def test_c17_hashes_meet_the_shares_and_follow_the_seed() -> None:
    tiles = scenes(4000)
    first, second = (RandomSplit(fractions=(0.7, 0.2, 0.1), seed=s, stable=True).assign(tiles) for s in (0, 1))
    for name, share in (("training", 0.7), ("validation", 0.2), ("test", 0.1)):
        assert (first == name).mean() == pytest.approx(share, abs=0.03)
    assert (first == second).mean() == pytest.approx(0.7**2 + 0.2**2 + 0.1**2, abs=0.04)


def test_c17_wrong_shares_and_too_few_names_are_refused() -> None:
    for wrong in ((0.5, 0.5, 0.5), (1.5, -0.5, 0.0), (0.0, 1.0, 0.0)):
        with pytest.raises(ConfigError, match=r"fractions=.*: must be three shares .* with sum 1"):
            RandomSplit(fractions=wrong)
    with pytest.raises(CatalogError, match="1 names cannot be divided"):
        RandomSplit().assign(scenes(1))
    with pytest.raises(CatalogError, match=r"no column 'group' in the table\. It has: key"):
        RandomSplit(by="group").assign(scenes(3))
    assert (RandomSplit(fractions=(1.0, 0.0, 0.0)).assign(scenes(3)) == "training").all()


# ---------------------------------------------------------------------------------------------------------- by blocks


def placed(
    corners: Sequence[tuple[int, int]], size: int, transform: Sequence[float] = (10.0, 0, 400_000, 0, -10, 3_700_000),
    crs: str | None = "EPSG:32638", scene: str = "s",
) -> gpd.GeoDataFrame:  # fmt: skip
    """Tiles of one scene at (row, col), with the columns that cutting leaves and footprints in the scene's CRS."""
    a, b, c, d, e, f = transform
    shapes = [
        shapely.Polygon(
            [(a * x + b * y + c, d * x + e * y + f)
             for y, x in ((r, k), (r, k + size), (r + size, k + size), (r + size, k))]
        )
        for r, k in corners
    ]  # fmt: skip
    table = tile_table([(0, 0, 1)] * len(corners), scene, crs=crs).set_geometry(shapes)
    where = {"row": [r for r, _ in corners], "col": [c for _, c in corners], "height": size, "width": size}
    return table.assign(**where, scene_transform=[list(transform)] * len(corners))


def gaps(a: gpd.GeoDataFrame, b: gpd.GeoDataFrame) -> tuple[np.ndarray, np.ndarray]:
    """(distance, shared area) of every tile of `a` and every tile of `b`, in pixels."""
    apart, shared = [], []
    for name in ("row", "col"):
        ours, theirs = a[name].to_numpy()[:, None], b[name].to_numpy()[None]
        high = np.minimum(ours + a["height"].to_numpy()[:, None], theirs + b["height"].to_numpy()[None])
        inside = high - np.maximum(ours, theirs)
        apart.append(np.maximum(0, -inside))
        shared.append(np.maximum(0, inside))
    return np.hypot(*apart), np.prod(shared, axis=0)


@LAW
@given(
    st.integers(0, 10_000), st.integers(3, 5), st.sampled_from([0, 5, 17, 40]), st.sampled_from([24, 32]),
    st.sampled_from(["pixels", "metres"]),
)  # fmt: skip
def test_c16_buffers_between_blocks_hold_by_brute_force(
    seed: int, folds: int, buffer: int, stride: int, unit: str
) -> None:
    corners = [(r, c) for r in range(0, 260, stride) for c in range(0, 200, stride)]
    drawn = np.random.default_rng(seed).random(len(corners)) < 0.7  # gaps are nodata
    tiles = placed([c for c, seen in zip(corners, drawn, strict=True) if seen], 32)
    scale = 1 if unit == "pixels" else 10
    split = BlockFolds(block=70 * scale, buffer=buffer * scale, unit=unit, folds=folds, seed=seed, test_fold=1)  # type: ignore[arg-type]
    try:
        side = split.assign(tiles)
    except CatalogError:  # the buffer leaves nothing to train on
        assume(False)
    judges, tests = tiles[side == "validation"], tiles[side == "test"]
    for first, second in ((tiles[side == "training"], judges), (tiles[side == "training"], tests), (judges, tests)):
        apart, shared = gaps(first, second)
        assert (apart >= buffer).all()
        assert (shared == 0).all()
    apart, shared = gaps(tiles[side == "unused"], tiles[side.isin(["validation", "test"])])
    assert ((apart < buffer) | (shared > 0)).any(axis=1).all()  # none is left out without a reason


@LAW
@given(st.integers(0, 10_000), st.integers(2, 6))
def test_c19_each_tile_judges_once_and_blocks_differ_by_one(seed: int, folds: int) -> None:
    drawn = np.random.default_rng(seed).random((12, 15)) < 0.6
    tiles = placed([(32 * r, 32 * c) for r, c in np.argwhere(drawn)], 32)
    sides = [
        BlockFolds(block=64, folds=folds, validation_fold=k, buffer=20, seed=seed).assign(tiles) for k in range(folds)
    ]
    judged = np.stack([side == "validation" for side in sides])
    assert (judged.sum(axis=0) == 1).all()
    north = tiles["row"].max() - tiles["row"] + 16  # blocks start at the lowest x and y
    east = tiles["col"] - tiles["col"].min() + 16
    fold, block = pd.Series(judged.argmax(axis=0), index=tiles.index), north // 64 * 100 + east // 64
    assert fold.groupby(block).nunique().max() == 1
    counts = fold.groupby(block).first().value_counts().reindex(range(folds), fill_value=0)
    assert counts.max() - counts.min() <= 1
    again = BlockFolds(block=64, folds=folds, validation_fold=0, buffer=20, seed=seed).assign(tiles)
    assert again.equals(sides[0])


def test_c16_block_folds_follow_the_seed_and_need_tiles_in_the_fold() -> None:
    tiles = placed([(32 * r, 32 * c) for r in range(12) for c in range(12)], 32)
    first, second = (BlockFolds(block=64, seed=seed).assign(tiles) for seed in (0, 1))
    assert not first.equals(second)
    with pytest.raises(CatalogError, match=r"no tile is in fold 4\. Folds: 0, 1\."):
        BlockFolds(block=64, validation_fold=4).assign(tiles[:4])
    with pytest.raises(CatalogError, match=r"no tile is left to train on"):
        BlockFolds(block=64, buffer=1000).assign(tiles)
    with pytest.raises(ConfigError, match=r"block=0.*need > 0"):
        BlockFolds(block=0)
    with pytest.raises(CatalogError, match=r"no column 'scene_transform'.*`generate_tiles`"):
        BlockFolds(block=64).assign(tiles.drop(columns="scene_transform"))


def test_c16_metres_need_a_projected_crs_and_pixels_none() -> None:
    degrees = placed([(0, 0), (0, 64), (0, 128)], 32, (1e-4, 0, 45, 0, -1e-4, 33), "EPSG:4326")
    with pytest.raises(ConfigError, match=r"unit='metres': EPSG:4326 does not count in metres"):
        BlockFolds(block=640, unit="metres", folds=2).assign(degrees)
    nowhere = placed([(0, 0), (0, 64), (0, 128)], 32, (1, 0, 0, 0, 1, 0), None)
    with pytest.raises(ConfigError, match=r"unit='metres': a scene without a CRS"):
        BlockFolds(block=64, unit="metres", folds=2).assign(nowhere)
    for tiles in (degrees, nowhere):
        assert sorted(BlockFolds(block=64, folds=3).assign(tiles)) == ["training", "training", "validation"]


def test_c16_dates_of_one_place_share_their_blocks() -> None:
    corners = [(32 * r, 32 * c) for r in range(8) for c in range(8)]
    dates = [placed(corners, 32, scene=name) for name in ("d1", "d2")]
    tiles = gpd.GeoDataFrame(pd.concat(dates, ignore_index=True))
    side = BlockFolds(block=64, buffer=10).assign(tiles)
    assert (side[:64].to_numpy() == side[64:].to_numpy()).all()
    assert divide(tiles, BlockFolds(block=64, buffer=10)).leaks == ()


# ------------------------------------------------------------------------------------------------------------- divide


def test_c16_dividing_checks_every_pair_of_sides() -> None:
    def boxes(third: float) -> gpd.GeoDataFrame:
        return tile_table([(0, 0, 10), (100, 0, 10), (third, 0, 10)], areas=["a", "b", "c"])

    split = ByArea(validation_areas=("b",), test_areas=("c",))
    found = divide(boxes(200), split)
    assert [list(part["area"]) for part in (found.training, found.validation, found.test)] == [["a"], ["b"], ["c"]]
    assert found.leaks == ()
    for shared in (5, 105):  # with training, with validation
        with pytest.raises(LeakError, match=r"1 of 1 evaluation tiles .*1 share ground"):
            divide(boxes(shared), split)
        assert divide(boxes(shared), split, allow_leaks=True).leaks == ("shared ground",)
        assert divide(boxes(shared), split, allow_leaks=("shared ground",)).leaks == ("shared ground",)
        with pytest.raises(LeakError):
            divide(boxes(shared), split, allow_leaks=("same area",))


@pytest.mark.parametrize("stable", [False, True])
def test_c17_tiles_without_a_name_take_no_part_and_are_counted(caplog: pytest.LogCaptureFixture, stable: bool) -> None:
    names = ["a", None, "b", float("nan"), "c", "", "d", 7]
    tiles = tile_table([(0, 0, 1)] * 8).assign(event=np.array(names, object))
    side = RandomSplit(by="event", fractions=(0.6, 0.4, 0.0), stable=stable).assign(tiles)
    assert side[[1, 3, 5]].tolist() == ["unused"] * 3
    assert set(side[[0, 2, 4, 6, 7]]) == {"training", "validation"}
    assert "3 of 8 tiles have no event and take no part" in caplog.text


def test_c83_by_column_says_how_many_tiles_it_leaves_out(caplog: pytest.LogCaptureFixture) -> None:
    tiles = tile_table([(0, 0, 1)] * 4).assign(event=["a", "b", None, ""])
    ByColumn(column="event", validation=("a",)).assign(tiles)
    assert "data.split: 2 of 4 tiles have no event and take no part" in caplog.text
    caplog.clear()
    ByColumn(column="event", validation=("a",)).assign(tiles[:2])
    assert not caplog.records


def test_c17_names_of_one_type_are_drawn_in_their_own_order() -> None:
    numbers = [10, 9, 2, 1, 30]
    tiles = tile_table([(0, 0, 1)] * 5).assign(group=numbers)
    side = RandomSplit(by="group", fractions=(0.6, 0.4, 0.0), seed=3).assign(tiles)
    _, judged = train_test_split(sorted(numbers), test_size=2, random_state=3)
    assert sorted(tiles["group"][side == "validation"]) == sorted(judged)
