"""Nested parts of the labels, and the study that trains on each."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swath.data.splits.split import ByArea
from swath.data.splits.subset import Subset
from swath.errors import CatalogError, ConfigError
from swath.studies.label_fractions import LabelFractionResults, LabelFractionsConfig, Part, parts, pooled
from swath.training.config import DataConfig
from swath.training.sides import read_sides

CONFIG = LabelFractionsConfig(
    training_config="configs/demo/training.py", output_path="out", fractions=(1.0, 0.5), seeds=(4, 5),
    variants={"base": {}, "long": {"epochs": "9"}}, parameters={"log_every": "3"},
)  # fmt: skip


def table(scenes: list[int]) -> gpd.GeoDataFrame:
    rows = {"key": [f"t{i}" for i in range(len(scenes))], "scene": [f"s{scene}" for scene in scenes]}
    return gpd.GeoDataFrame(rows, geometry=[None] * len(scenes))


# ------------------------------------------------------------------------------------------------------- nested parts


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 12), min_size=1, max_size=40), st.lists(st.floats(0.01, 1), min_size=2, max_size=5),
    st.integers(0, 99), st.sampled_from(["scene", "key"]),
)  # fmt: skip
def test_c104_parts_lie_within_each_other_and_take_no_scene_apart(
    scenes: list[int], fractions: list[float], seed: int, by: str
) -> None:
    tiles = table(scenes)
    names = len(set(tiles[by]))
    before: set[str] = set()
    for fraction in sorted(fractions):
        taken = Subset(fraction=fraction, by=by, seed=seed).of(tiles)
        assert before <= set(taken["key"])
        assert len(set(taken[by])) == max(1, round(fraction * names))
        assert len(taken) == tiles[by].isin(set(taken[by])).sum()  # whole scenes
        assert list(taken.index) == sorted(taken.index)
        before = set(taken["key"])
    assert set(Subset(seed=seed, by=by).of(tiles)["key"]) == set(tiles["key"])


@pytest.mark.system
@settings(max_examples=40, deadline=None)
@given(st.sets(st.integers(0, 60), min_size=2, max_size=20), st.sets(st.integers(61, 99), max_size=10))
def test_c104_further_scenes_change_no_order(scenes: set[int], more: set[int]) -> None:
    def order(names: set[int]) -> list[str]:
        found: list[str] = []
        for count in range(1, len(names) + 1):
            taken = set(Subset(fraction=count / len(names)).of(table(sorted(names)))["scene"])
            found += sorted(taken - set(found))
        return found

    old = {f"s{n}" for n in scenes}
    assert [name for name in order(scenes | more) if name in old] == order(scenes)


def test_c104_other_seeds_draw_other_parts() -> None:
    tiles = table(list(range(20)))
    assert len({tuple(Subset(fraction=0.3, seed=seed).of(tiles)["key"]) for seed in range(8)}) > 5


def test_c104_a_part_is_of_the_training_side_alone(tiles: Path) -> None:
    data = DataConfig(tiles_path=str(tiles), split=ByArea(validation_areas=("south",)))
    whole = read_sides(data, 0)
    part = read_sides(replace(data, subset=Subset(fraction=0.5)), 0)
    assert set(part.validation["key"]) == set(whole.validation["key"])
    assert set(part.train["key"]) < set(whole.train["key"])
    assert set(part.train["scene"]) < set(whole.train["scene"])
    with pytest.raises(CatalogError, match=r"subset\.by=nobody: no such column"):
        read_sides(replace(data, subset=Subset(fraction=0.5, by="nobody")), 0)


@pytest.mark.parametrize("fraction", [0.0, 1.2, -1.0])
def test_c104_impossible_shares_are_refused(fraction: float) -> None:
    with pytest.raises(ConfigError, match="above 0 and up to 1"):
        Subset(fraction=fraction)
    with pytest.raises(ConfigError, match="above 0 and up to 1"):
        replace(CONFIG, fractions=(0.5, fraction))


# ----------------------------------------------------------------------------------------------------------- the study


def test_c104_plan_has_every_variant_fraction_and_seed() -> None:
    plan = list(parts(CONFIG))
    assert [(p.variant, p.fraction, p.seed) for p in plan] == [
        (v, f, s) for v in ("base", "long") for f in (0.5, 1.0) for s in (4, 5)
    ]
    parameters = plan[5].parameters(CONFIG)
    assert (parameters["data.subset.fraction"], parameters["data.subset.seed"], parameters["seed"]) == ("0.5", "5", "5")
    assert (parameters["epochs"], parameters["log_every"]) == ("9", "3")
    assert parameters["validation.metric"] == "None"  # the tiles that judge select nothing
    assert "validation.metric" not in plan[0].parameters(replace(CONFIG, side="test"))
    with pytest.raises(ConfigError, match=r"metric=iou_ice: no such score\. There are: .*iou_fg"):
        list(parts(replace(CONFIG, metric="iou_ice")))


def units(counts: list[list[int]], keys: list[str] | None = None) -> gpd.GeoDataFrame:
    """Tiles of one scene each with the confusion matrices `counts`."""
    names = keys or [f"t{i:02d}" for i in range(len(counts))]
    rows = {
        "task": "water", "unit": "tile", "key": names, "scene": names, "area": "here", "matrix": counts,
        "pixels": [sum(c) for c in counts], "loss": 0.0,
    }  # fmt: skip
    return gpd.GeoDataFrame(rows, geometry=[None] * len(counts))


def test_c104_scores_of_several_seeds_are_those_of_all_their_pixels() -> None:
    rng = np.random.default_rng(0)
    tables = [units(rng.integers(1, 50, (12, 4)).tolist()) for _ in range(3)]
    both = pooled([tables[0], tables[1].sample(frac=1, random_state=1), tables[2]])
    sums = sum(np.array(table["matrix"].tolist()) for table in tables)
    assert np.array_equal(np.array([list(m) for m in both["matrix"]]), sums)
    assert list(both["pixels"]) == list(sums.sum(1))

    results = LabelFractionResults(replace(CONFIG, seeds=(0, 1, 2)))
    used = gpd.GeoDataFrame({"side": ["training", "test"], "scene": ["a", "b"]}, geometry=[None, None])
    for seed, rows in enumerate(tables):
        results.add(Part("base", 0.5, seed), rows, used)
    (row,) = results.frame.to_dict("records")
    ious = [hit / (hit + false + missed) for _, false, missed, hit in (sum(map(np.array, t["matrix"])) for t in tables)]
    assert (row["lowest"], row["highest"]) == (pytest.approx(min(ious)), pytest.approx(max(ious)))
    _, false, missed, hit = sums.sum(0)
    assert row["score"] == pytest.approx(hit / (hit + false + missed))
    assert row["score_low"] < row["score"] < row["score_high"]
    assert (row["tiles"], row["scenes"], row["seeds"]) == (1, 1, 3)
    assert (row["units"], row["unit"]) == (12, "scenes")
    assert "[95% bootstrap intervals over 12 units or more], in simulation 90%" in results.text()
    assert f", {row['score_high']:.3f}]*" in results.text()
    assert results.picture().ndim == 3
    with pytest.raises(CatalogError, match="not judged by the same tiles"):
        pooled([tables[0], units([[1, 2, 3, 4]] * 12, [f"u{i}" for i in range(12)])])
