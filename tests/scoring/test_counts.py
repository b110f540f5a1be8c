"""Rows of counts: each pixel once, the same columns for scenes and for tiles, kept in a file that maps can show."""

from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn import metrics as sk

from swath.challenges.unosat.scenes import mission_of
from swath.data.tables import read_table, write_table
from swath.errors import CatalogError
from swath.labels import IGNORE
from swath.nn.model import Classification
from swath.scoring.counts import COLUMNS, sampling_units, scene_rows, stacked_matrices, tile_rows
from swath.scoring.evaluate import Evaluation, Unit
from swath.scoring.metrics import confusion_matrices, confusion_matrix
from swath.scoring.scenes import SceneScore, score_scene
from tests.synthetic import blobs, grid, labels, write_mask

WATER = {"water": Classification()}
CHARTS = {"ice": Classification(classes=("open", "young", "old")), "floe": Classification()}


def scored(folder: Path, shape: tuple[int, int], block: int, seed: int = 0) -> tuple[SceneScore, NDArray, NDArray]:
    """(score, truth, prediction) of a scene, the truth with ignored pixels."""
    place = grid(shape)
    truth, guess = labels(shape, 2, seed=seed).numpy(), blobs(shape, seed)
    paths = write_mask(folder / "guess.tif", guess, place), write_mask(folder / "truth.tif", truth, place)
    return score_scene(*paths, None, WATER, block), truth, guess


@pytest.mark.parametrize("shape", [(60, 50), (64, 32), (17, 90)])
@pytest.mark.parametrize("block", [16, 23, 512])
def test_c82_each_block_counts_its_own_pixels(
    shape: tuple[int, int], block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("swath.scoring.scenes.STRIP_PIXELS", 7 * shape[1])  # several strips per row of blocks
    score, truth, guess = scored(tmp_path, shape, block)
    seen = np.zeros(shape, int)
    for (i, j), window in score.windows():
        part = window.slices
        seen[part] += 1
        t, p = truth[part].ravel(), guess[part].ravel()
        expected = sk.confusion_matrix(t[t != IGNORE], p[t != IGNORE], labels=[0, 1])
        np.testing.assert_array_equal(score.blocks["water"][i, j], expected)
    assert (seen == 1).all()
    valid = truth != IGNORE
    np.testing.assert_array_equal(score.matrices["water"], sk.confusion_matrix(truth[valid], guess[valid]))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 999), st.integers(1, 6), st.integers(2, 4))
def test_c82_matrices_of_groups_are_those_of_each_group(seed: int, groups: int, classes: int) -> None:
    truth = labels((40, 9), classes, seed=seed)
    guess = torch.randint(0, classes, (40, 9), generator=torch.Generator().manual_seed(seed))
    group = torch.randint(0, groups, (40, 1), generator=torch.Generator().manual_seed(seed + 1))
    found = confusion_matrices(guess, truth, classes, group, groups)
    for g in range(groups):
        mine = (group == g).expand(40, 9)
        assert torch.equal(found[g], confusion_matrix(guess[mine], truth[mine], classes))


def test_c82_rows_of_a_scene_tell_place_time_and_shares(tmp_path: Path) -> None:
    score, truth, guess = scored(tmp_path, (60, 50), 32)
    rows = scene_rows(
        "s1b_elm_ASC_20200104t145957",
        "elm",
        score,
        {"provider": "CIS", "mission": "s1b", "bands": ["vh"], "image": "x"},
    )
    assert tuple(rows.columns) == (*COLUMNS, "provider")
    assert set(rows["date"]) == {"20200104t145957".upper()}
    assert set(rows["mission"]) == {"s1b"}
    assert list(rows["key"])[:2] == [f"s1b_elm_ASC_20200104t145957/block_{c}_0" for c in (0, 32)]
    for row in rows.itertuples():
        part = np.s_[row.row : row.row + row.height, row.col : row.col + row.width]
        t, p = truth[part][truth[part] != IGNORE], guess[part][truth[part] != IGNORE]
        assert row.pixels == len(t)
        assert row.valid_share == pytest.approx(len(t) / truth[part].size)
        assert row.target_share == pytest.approx(t.mean())
        assert row.predicted_share == pytest.approx(p.mean())
        assert row.accuracy == pytest.approx(sk.accuracy_score(t, p))
        assert row.iou_fg == pytest.approx(sk.jaccard_score(t, p))
        assert row.f1_fg == pytest.approx(sk.f1_score(t, p))
    assert rows.crs == "EPSG:4326"
    outline = rows.to_crs(score.grid.crs.to_wkt()).union_all()  # type: ignore[union-attr]
    assert outline.area == pytest.approx(60 * 50 * 100, rel=1e-4)


def test_c82_blocks_without_a_label_have_no_row(tmp_path: Path) -> None:
    truth = blobs((40, 40))
    truth[:20, :20] = IGNORE
    paths = [write_mask(tmp_path / f"{n}.tif", a, grid((40, 40))) for n, a in (("g", blobs((40, 40))), ("t", truth))]
    rows = scene_rows("scene", "area", score_scene(*paths, None, WATER, 20))
    assert list(rows["key"]) == ["scene/block_20_0", "scene/block_0_20", "scene/block_20_20"]
    assert list(scene_rows("scene", "area", score_scene(*paths, None, WATER, 40))["key"]) == ["scene"]


def evaluation(count: int) -> tuple[Evaluation, gpd.GeoDataFrame]:
    """Counts of tiles of two scenes and the table of these tiles, whose cores are smaller than the tiles."""
    rng, units, rows = np.random.default_rng(0), {}, []
    for i in range(count):
        scene = f"s1a_area{i % 2}_ASC_2020010{i % 2 + 1}"
        key = f"{scene}/tile_{i}_0"
        matrices = {"ice": rng.integers(0, 50, (3, 3)), "floe": rng.integers(0, 50, (2, 2))}
        pixels = {task: matrix.sum() for task, matrix in matrices.items()}
        losses = {"ice": {"loss_ice": (1 + i / 100) * pixels["ice"]}, "floe": {"loss_floe": 2.0 * pixels["floe"]}}
        units[key] = Unit(matrices, losses)
        core = {"core_row": 0, "core_col": 0, "core_height": 30, "core_width": 20}
        place = {"row": 0, "col": 0, "height": 32, "width": 32} | core
        about = {
            "image": "a.tif",
            "mask": "b.tif",
            "target_ratio": 0.1 * i,
            "skip": False,
            "fold": i % 2,
            "mission": "s1a",
        }
        rows.append({"key": key, "scene": scene, "area": f"area{i % 2}"} | place | about)
    table = gpd.GeoDataFrame(rows, geometry=[shapely.box(i, 0, i + 1, 1) for i in range(count)], crs="EPSG:4326")
    return Evaluation({}, {}, {}, units), table


def test_c82_rows_of_training_and_test_have_one_schema(tmp_path: Path) -> None:
    found, table = evaluation(6)
    tiles = tile_rows(found, table.sample(frac=1, random_state=0))
    score, _, _ = scored(tmp_path, (60, 50), 32)
    scenes = scene_rows("scene", "area", score)
    assert tuple(tiles.columns)[: len(COLUMNS)] == tuple(scenes.columns)[: len(COLUMNS)] == COLUMNS
    assert set(tiles.columns) - set(COLUMNS) == {"target_ratio", "fold"}
    assert len(tiles) == 12
    row = tiles.set_index(["key", "task"]).loc[("s1a_area1_ASC_20200102/tile_3_0", "ice")]
    assert (row["area"], row["date"], row["mission"], row["unit"]) == ("area1", "20200102", "s1a", "tile")
    assert row["loss"] == pytest.approx(1.03)
    assert (row["height"], row["width"], row["fold"]) == (30, 20, 1)
    np.testing.assert_array_equal(np.reshape(row["matrix"], (3, 3)), found.units[row.name[0]].matrices["ice"])
    with pytest.raises(CatalogError, match="no tile s1a_area0_ASC_20200101/tile_0_0 in the table"):
        tile_rows(found, table[1:])


def test_c82_rows_come_back_from_their_file(tmp_path: Path) -> None:
    rows = tile_rows(*evaluation(6))
    write_table(tmp_path / "scores.parquet", rows)
    again = read_table(tmp_path / "scores.parquet", COLUMNS, "training")
    rows = rows.sort_values("key")
    for task, classes in (("ice", 3), ("floe", 2)):
        mine = [stacked_matrices(side[side["task"] == task]) for side in (rows, again)]
        assert mine[0].shape == (6, classes, classes)
        np.testing.assert_array_equal(*mine)
    assert (again.geometry.to_numpy() == rows.geometry.to_numpy()).all()
    twice = gpd.pd.concat([rows, rows])
    with pytest.raises(CatalogError, match="same key"):
        write_table(tmp_path / "twice.parquet", twice)


def test_c74_scenes_are_drawn_when_there_are_enough_else_their_parts() -> None:
    rows = tile_rows(*evaluation(6))
    rows = rows[rows["task"] == "ice"]
    what, few = sampling_units(rows, scenes_needed=3)
    assert (what, len(few)) == ("tiles", 6)
    what, scenes = sampling_units(rows, scenes_needed=2)
    assert (what, len(scenes)) == ("scenes", 2)
    for matrix, (_, part) in zip(scenes, rows.groupby("scene"), strict=True):
        np.testing.assert_array_equal(matrix, stacked_matrices(part).sum(0))


@pytest.mark.parametrize(
    ("name", "mission"),
    [
        ("s1a_elm_ASC_20200104", "s1a"), ("S2B_MSIL2A_20200104", "s2b"), ("LC08_L1TP", "lc08"), ("class1a_b", ""),
        ("20200104T1_cis_prep", ""), ("elm_S1B", "s1b"),
    ],
)  # fmt: skip
def test_c82_mission_comes_from_the_name(name: str, mission: str) -> None:
    assert mission_of(name) == mission
