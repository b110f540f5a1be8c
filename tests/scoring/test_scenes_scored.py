"""Scores of whole scenes: counts over valid pixels, on one grid, reported with intervals and what they were judged on."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas as gpd
import mlflow
import numpy as np
import pandas as pd
import pytest
from affine import Affine

from swath.data.samples.tile_tables import read_tiles
from swath.data.tables import place, read_scenes, read_table, write_table
from swath.errors import CatalogError, LeakError, RasterError
from swath.geo.raster import describe
from swath.nn.model import Classification
from swath.scoring.baselines import best_band_threshold
from swath.scoring.bootstrap import intervals
from swath.scoring.config import ScoringConfig
from swath.scoring.counts import COLUMNS, stacked_matrices, tile_rows
from swath.scoring.evaluate import Evaluation, Unit
from swath.scoring.held_out import HeldOutCheck, require_held_out
from swath.scoring.metrics import scores
from swath.scoring.pairs import pair_predictions
from swath.scoring.report import ScoreReport, interval_text, iou_bar
from swath.scoring.scenes import SceneScore, score_scene
from swath.scoring.table import ScoreTable
from tests.conftest import Script
from tests.synthetic import blobs, grid, labels, write_image, write_mask

BANDS = ("vh", "vv")
WATER = {"water": Classification()}


def test_c78_scene_scores_leave_out_255_and_do_not_forgive_nodata(tmp_path: Path) -> None:
    place = grid((60, 50))
    truth, guess = labels((60, 50), 2, seed=1).numpy(), blobs((60, 50), seed=2)
    guess[:, :10] = 255
    paths = write_mask(tmp_path / "guess.tif", guess, place), write_mask(tmp_path / "truth.tif", truth, place)
    found = score_scene(*paths, None, WATER).matrices["water"]
    expected = np.zeros((2, 2), int)
    for y, p in zip(truth.ravel(), np.where(guess == 255, 0, guess).ravel(), strict=True):
        if y != 255:
            expected[y, p] += 1
    np.testing.assert_array_equal(found, expected)


def test_c74_best_threshold_of_a_scene_separates_what_a_threshold_can(tmp_path: Path) -> None:
    place, truth = grid((60, 50)), blobs((60, 50), seed=3)
    image = np.stack([np.where(truth, 0.001, 0.1), np.full((60, 50), 0.05)]).astype(np.float32)
    mask = write_mask(tmp_path / "truth.tif", truth, place)
    source = write_image(tmp_path / "image.tif", image, place, BANDS)
    found = score_scene(mask, mask, {"image": source}, WATER)
    iou, rule = best_band_threshold(found.histograms)
    assert iou == 1.0
    assert rule.startswith("vh <")
    assert found.matrices["water"][0, 1] == found.matrices["water"][1, 0] == 0


def test_c45_the_threshold_baseline_knows_the_bands_and_gaps_that_a_table_names(tmp_path: Path) -> None:
    place, truth = grid((60, 50)), blobs((60, 50), seed=3)
    image = np.where(truth, 0.2, 0.1).astype(np.float32)
    image[:, :10] = -32768  # lower than anything, on both sides
    mask = write_mask(tmp_path / "truth.tif", truth, place)
    source = write_image(tmp_path / "image.tif", image[None], place, ("x",))
    scene = {"image": source, "bands": ["NIR"], "nodata": -32768.0}
    found = score_scene(mask, mask, scene, WATER)
    iou, rule = best_band_threshold(found.histograms)
    assert (iou, rule[:6]) == (1.0, "NIR >=")
    assert found.histograms["NIR"].sum() == 60 * 40


def test_c74_the_best_threshold_is_searched_on_the_task_s_own_labels_wherever_they_stand(tmp_path: Path) -> None:
    place, truth = grid((60, 50)), blobs((60, 50), seed=3)
    image = np.where(truth, 0.001, 0.1).astype(np.float32)[None]
    mask = write_mask(tmp_path / "truth.tif", np.stack([blobs((60, 50), seed=4), truth]), place, ("ice", "water"))
    source = write_image(tmp_path / "image.tif", image, place, ("vh",))
    found = score_scene(mask, mask, {"image": source}, WATER)
    assert best_band_threshold(found.histograms)[0] == 1.0


def test_c60_maps_and_labels_meet_by_the_names_of_tasks(tmp_path: Path) -> None:
    place, one, two = grid((30, 30)), blobs((30, 30), seed=1), blobs((30, 30), seed=2)
    tasks = {"SIC": Classification(), "SOD": Classification()}
    guess = write_mask(tmp_path / "guess.tif", np.stack([one, two]), place, ("SIC", "SOD"))
    truth = write_mask(tmp_path / "truth.tif", np.stack([two, one]), place, ("SOD", "SIC"))
    for matrix in score_scene(guess, truth, None, tasks).matrices.values():
        assert matrix[0, 1] == matrix[1, 0] == 0
    lone = write_mask(tmp_path / "lone.tif", one, place, ("SIC",))
    with pytest.raises(RasterError, match=r"lone\.tif: no band SOD; it has SIC"):
        score_scene(guess, lone, None, tasks)
    assert score_scene(lone, lone, None, {"ice": Classification()}).matrices["ice"].trace() == 900


def test_c78_scores_on_two_grids_are_refused(tmp_path: Path) -> None:
    one = write_mask(tmp_path / "a.tif", blobs((20, 20)), grid((20, 20)))
    other = write_mask(tmp_path / "b.tif", blobs((20, 20)), grid((20, 20), origin=(400_010.0, 3_700_000.0)))
    with pytest.raises(RasterError, match="not on one grid"):
        score_scene(one, other, None, WATER)


@pytest.mark.parametrize("pixel", [4.0, 10.0, 25.0, 30.0])
def test_c76_a_map_of_other_pixels_is_scored_on_those_of_the_labels(tmp_path: Path, pixel: float) -> None:
    truth, place = labels((63, 50), 2, seed=1).numpy(), grid((63, 50))  # 10 m
    shape = (int(630 // pixel), int(500 // pixel))  # whole pixels only: the labels may go on beyond
    guess = blobs(shape, seed=2)
    paths = (
        write_mask(tmp_path / "guess.tif", guess, grid(shape, pixel=pixel)),
        write_mask(tmp_path / "truth.tif", truth, place),
    )
    expected = np.zeros((2, 2), int)
    for (row, col), y in np.ndenumerate(truth):
        at = [min(int((10 * i + 5) // pixel), n - 1) for i, n in zip((row, col), shape, strict=True)]
        if y != 255:
            expected[y, guess[*at]] += 1
    for block in (512, 20):
        found = score_scene(*paths, None, WATER, block, "labels")
        assert found.grid.shape == (63, 50)
        np.testing.assert_array_equal(found.matrices["water"], expected)


def test_c76_a_map_that_is_turned_or_elsewhere_is_refused(tmp_path: Path) -> None:
    truth = write_mask(tmp_path / "truth.tif", blobs((20, 20)), grid((20, 20)))
    places = (
        ("short", grid((5, 10), pixel=20.0)),
        ("moved", grid((10, 10), origin=(400_100.0, 3_700_000.0), pixel=20.0)),
        ("turned", replace(grid((20, 20)), transform=grid().transform @ Affine.rotation(5))),
        ("unplaced", replace(grid((20, 20)), crs=None)),
    )
    for name, there in places:
        other = write_mask(tmp_path / f"{name}.tif", blobs(there.shape), there)
        with pytest.raises(RasterError, match="do not cover the same ground"):
            score_scene(other, truth, None, WATER, on="labels")


# --------------------------------------------------------------------------------------------------------------- table


def filled(scenes: int = 3, block: int = 4, seed: int = 0, **settings: Any) -> ScoreTable:
    """A table of scenes of 3 x 4 blocks with counts drawn at random, the first block dry."""
    rng = np.random.default_rng(seed)
    table = ScoreTable(WATER, ScoringConfig(block=block, resamples=300, **settings))
    for i in range(scenes):
        blocks = rng.integers(0, 30, (3, 4, 2, 2))
        blocks[0, 0] = [[50, 0], [0, 0]]
        score = SceneScore({"water": blocks}, grid((12, 16), (400_000.0 + 9_000 * i, 3_700_000.0)), block, {})
        table.add(f"s1a_area{i}_ASC_202001{i + 1:02d}", f"area{i % 2}", score, {"provider": "CIS"})
    return table


def test_c74_the_table_logs_each_score_with_the_ends_of_its_interval() -> None:
    table = filled()
    found, rows = table.metrics("test"), table.rows
    bounds = intervals(stacked_matrices(rows.sort_values("key")), ("background", "water"), resamples=300)
    for name, (low, high) in bounds.items():
        assert (found[f"test/{name}_low"], found[f"test/{name}_high"]) == (low, high)
        assert low < found[f"test/{name}"] < high
    assert table.interval_metrics("test").items() <= found.items()
    assert found["test/tile_mean_tiles"] == 33
    assert rows["key"].is_unique
    whole = scores(table.totals()["water"], ("background", "water"))
    assert {f"test/{name}": value for name, value in whole.items()}.items() <= found.items()


def test_c74_the_report_shows_intervals_and_says_what_was_drawn() -> None:
    table = filled()
    found, text = table.metrics("test"), ScoreReport(table).text()
    shown = "{iou_fg:.3f} [{iou_fg_low:.3f}, {iou_fg_high:.3f}]".format(
        **{name.removeprefix("test/"): value for name, value in found.items()}
    )
    assert re.search(r"water, all +" + re.escape(shown), text)
    said = (
        "[95% bootstrap intervals over 36 blocks of 3 scenes], percentiles of 300 resamples; in simulation 93% of 95% "
    )
    assert f"{said}intervals over 30 units hold the truth; they speak about these scenes only\n" in text
    assert "33 of 36 counted, 3 with neither true nor predicted foreground left out" in text
    many = ScoreReport(filled(12)).text()
    assert (
        "intervals over 12 scenes], percentiles of 300 resamples; in simulation 90% of 95% intervals over 12 units"
        in many
    )
    assert "no intervals, 2 scenes are too few" in ScoreReport(filled(2, scenes_needed=2)).text()


def test_c123_intervals_over_few_units_are_marked_wherever_they_are_shown() -> None:
    few, note = (
        ScoreReport(filled(12)),
        "* over fewer than 20 units, and too narrow: the share of 95% intervals that hold the truth in",
    )
    assert re.search(r"water, all +0\.\d{3} \[0\.\d{3}, 0\.\d{3}\]\* ", few.text())
    assert f"{note} simulation is 86% over 6, 89% over 10, 91% over 16, 93% over 40 units\n" in few.text()
    (row,) = few.frame[few.frame["of"] == "all"].to_dict("records")
    assert iou_bar("all", row).note == "12 scenes*"
    whole = filled().frame().query("of == 'all'").iloc[0]
    assert whole["units"] == 36
    assert interval_text(whole, "iou_fg").endswith("] ")
    assert iou_bar("all", whole).note == "36 blocks"
    none = filled(2, scenes_needed=2)
    assert interval_text(none.frame().iloc[0], "iou_fg").endswith(" " * 16)


def test_c82_the_report_breaks_scores_down_by_the_wanted_conditions() -> None:
    text = ScoreReport(filled(conditions=("area", "date", "provider", "target_share"))).text()
    assert "water by date" in text
    assert re.search(r"2020-01-02 +0\.\d{3} \[0\.\d{3}, 0\.\d{3}\]", text)
    assert "water by provider" not in text, "one value is no breakdown"
    assert len(re.findall(r"^ +\S+ to \S+ +0\.\d", text, re.MULTILINE)) == 4
    with pytest.raises(CatalogError, match="no column season"):
        ScoreReport(filled(conditions=("season",))).text()


def test_c82_the_files_of_a_report_hold_what_it_says(tmp_path: Path) -> None:
    table = filled()
    report = ScoreReport(table)
    assert [p.name for p in report.write(tmp_path / "new")] == [
        "scores.txt", "scores.csv", "scores_by_condition.csv", "scores.parquet",
    ]  # fmt: skip
    units = read_table(tmp_path / "new/scores.parquet", COLUMNS, "inference")
    assert len(units) == 36
    assert units.crs == "EPSG:4326"
    again = ScoreTable(WATER, table.settings)
    again.extend(units)
    assert again.metrics("test") == pytest.approx(table.metrics("test"))
    frame = pd.read_csv(tmp_path / "new/scores.csv")
    assert list(frame["of"]) == ["all", "area", "area", "scene", "scene", "scene"]
    assert frame["iou_fg_low"].notna().all()
    conditions = pd.read_csv(tmp_path / "new/scores_by_condition.csv")
    assert set(conditions["condition"]) == {"area", "date", "target_share"}
    by_area = conditions[conditions["condition"] == "area"].set_index("value")
    assert by_area["iou_fg"].to_dict() == frame[frame["of"] == "area"].set_index("name")["iou_fg"].to_dict()
    assert set(report.pictures()) == {"confusion_water.png", "scores_by_condition_water.png"}


def test_c82_tiles_of_an_evaluation_make_the_same_report(tmp_path: Path) -> None:
    """Counts of tiles that are the blocks of a scene give the numbers of that scene."""
    scenes = filled()
    rows = scenes.rows
    units = {row.key: Unit({"water": np.reshape(row.matrix, (2, 2))}) for row in rows.itertuples()}
    tiles = ScoreTable(WATER, scenes.settings)
    tiles.extend(
        tile_rows(
            Evaluation({}, {}, {}, units), rows[["key", "scene", "area", "row", "col", "height", "width", "geometry"]]
        )
    )
    assert tiles.metrics("validation") == {
        name.replace("test/", "validation/"): pytest.approx(value) for name, value in scenes.metrics("test").items()
    }
    assert "over 36 tiles of 3 scenes]" in ScoreReport(tiles).text()


def test_c74_the_threshold_is_on_bands_that_all_scenes_have() -> None:
    table = filled(2)
    first = {"vh": np.array([[0, 9], [5, 0]]), "vv": np.ones((2, 2), int)}
    second = {"vh": np.array([[0, 4], [5, 0]])}
    table.histograms = None
    table.add_histograms(first)
    table.add_histograms(second)
    found = table.threshold()
    assert found is not None
    assert found[0] == 1.0
    assert found[1].startswith("vh <")
    table.histograms = None
    table.add_histograms(first)
    table.add_histograms({"hh": second["vh"]})
    assert table.threshold() is None
    assert "baseline/threshold_iou_fg" not in table.metrics("test")
    assert "best threshold" not in ScoreReport(table).text()


def test_c78_a_table_without_a_labelled_pixel_says_so() -> None:
    table = ScoreTable(WATER)
    table.add("scene", "area", SceneScore({"water": np.zeros((1, 1, 2, 2), np.int64)}, grid((8, 8)), 8, {}))
    with pytest.raises(CatalogError, match="no labelled pixel"):
        table.metrics("test")


# ------------------------------------------------------------------------------------------------------------ fairness


def test_c83_a_run_says_in_its_name_when_it_was_scored_on_the_selection_set() -> None:
    assert HeldOutCheck(False).tags("validate") == {"swath.scored_on": "held-out", "mlflow.runName": "validate"}
    assert HeldOutCheck(True).tags("validate") == {
        "swath.scored_on": "selection set", "mlflow.runName": "validate (scored on the selection set)",
    }  # fmt: skip
    assert "unchecked" in HeldOutCheck(None).tags("validate")["mlflow.runName"]


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Any]:
    """Predictions of the tiles of two scenes, their labels, and a table of the scenes."""
    rows = []
    for i, name in enumerate(("elm", "fir")):
        scene = f"s1a_{name}_ASC_2020010{i + 1}"
        rows.append({"key": scene, "area": name, "date": f"2020010{i + 1}", "image": f"{scene}.tif", "provider": "CIS"})
        for col in range(0, 160, 32):
            spot = grid((32, 32), (400_000.0 + 50_000 * i + 10 * col, 3_700_000.0))
            truth, tile = blobs((32, 32), col + i), f"s1a_{name}_{{}}_ASC_2020010{i + 1}_tiles/tile_{col}_0.tif"
            write_mask(tmp_path / "truth" / tile.format("vh"), truth, spot)
            write_mask(tmp_path / "out" / "classes" / tile.format("3b"), blobs((32, 32), col + i + 1), spot)
        rows[-1] |= place(describe(tmp_path / "truth" / tile.format("vh")))
    write_table(tmp_path / "scenes" / "scenes.parquet", rows)
    return {
        "preds_path": tmp_path / "out" / "classes",
        "gt_path": tmp_path / "truth",
        "scenes_path": tmp_path / "scenes",
        "name_parts": '["vh", "3b"]',
    }


def training_run(folder: Path, side: str, scene: int) -> str:
    """A training run that used the ground of one of the fixture's scenes on one side, and far away ground on the other."""
    ground = [grid((32, 160), (400_000.0 + 50_000 * i, 3_700_000.0)) for i in (scene, 8)]
    rows: list[dict[str, Any]] = []
    for i, (spot, what) in enumerate(
        zip(ground, (side, {"training": "validation"}.get(side, "training")), strict=True)
    ):
        path = write_mask(folder / f"ground{i}.tif", blobs((32, 160)), spot)
        rows.append({"key": f"t{i}", "scene": f"other{i}", "area": "x", "side": what, **place(describe(path))})
    write_table(folder / "tiles_used.parquet", rows)
    with mlflow.start_run() as run:
        mlflow.log_artifact(str(folder / "tiles_used.parquet"), "model")
    return str(run.info.run_id)


CONFIG = "configs/demo/validate.py"
LastRun = Callable[[], mlflow.entities.Run]


def test_c81_c82_tiles_are_scored_as_parts_of_their_scenes(
    script: Script, last_run: LastRun, folders: dict[str, Any], tmp_path: Path
) -> None:
    assert script("validate", CONFIG, **folders, scoring__conditions="area,provider") == 0
    run = last_run()
    files = {f.path for f in mlflow.MlflowClient().list_artifacts(run.info.run_id)}
    assert {"scores.txt", "scores.csv", "scores.parquet", "scores_by_condition.csv", "confusion_water.png"} <= files
    path = mlflow.MlflowClient().download_artifacts(run.info.run_id, "scores.parquet", str(tmp_path))
    units = gpd.read_parquet(path)
    assert len(units) == 10
    assert set(units["scene"]) == {"s1a_elm_ASC_20200101", "s1a_fir_ASC_20200102"}
    assert set(units["area"]) == {"elm", "fir"}
    assert set(units["provider"]) == {"CIS"}
    metrics = run.data.metrics
    assert metrics["validation/iou_fg_low"] < metrics["validation/iou_fg"] < metrics["validation/iou_fg_high"]


@pytest.mark.system
def test_c83_ground_that_selected_the_weights_needs_a_flag_and_shows_in_the_name(
    script: Script, last_run: LastRun, folders: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert script("validate", CONFIG, **folders) == 0
    assert last_run().data.tags["swath.scored_on"] == "unchecked"
    assert "does not say which training run it is of" in capsys.readouterr().out
    selected = training_run(tmp_path, "validation", scene=1)
    (tmp_path / "out" / "inference.settings.json").write_text(json.dumps({"settings": {"run_id": selected}}))
    assert script("validate", CONFIG, **folders) == 1, "found beside the predictions"
    said = capsys.readouterr().err
    assert "selected the weights of this model" in said
    remedy = dict(re.findall(r"-P (\S+)=(\w+)", said))
    assert remedy == {"allow_selection_set": "True"}
    assert script("validate", CONFIG, **folders, **remedy) == 0
    run = last_run()
    assert run.info.run_name == "validate (scored on the selection set)"
    assert run.data.tags["swath.scored_on"] == "selection set"
    assert "the scores are flattered" in capsys.readouterr().out
    trained = training_run(tmp_path, "training", scene=1)
    assert script("validate", CONFIG, **folders, run_id=trained, allow_selection_set=True) == 1
    assert "trained this model" in capsys.readouterr().err
    fair = training_run(tmp_path, "training", scene=5)
    assert script("validate", CONFIG, **folders, run_id=fair) == 0
    assert last_run().data.tags["swath.scored_on"] == "held-out"


@pytest.mark.system
def test_c83_a_run_that_cannot_be_found_is_an_error_only_when_it_was_named(
    script: Script, last_run: LastRun, folders: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out" / "inference.settings.json").write_text(json.dumps({"settings": {"run_id": "0" * 32}}))
    assert script("validate", CONFIG, **folders) == 0
    assert last_run().info.run_name == "validate (ground unchecked)"
    assert script("validate", CONFIG, **folders, run_id="0" * 32) == 1
    assert "no such run" in capsys.readouterr().err


@pytest.mark.system
def test_c74_a_run_is_compared_with_an_earlier_one_on_the_same_ground(
    script: Script, last_run: LastRun, folders: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert script("validate", CONFIG, **folders) == 0
    first = last_run().info.run_id
    assert script("validate", CONFIG, **folders | {"preds_path": folders["gt_path"]}, compare_with=first) == 0
    said = capsys.readouterr().out
    assert re.search(
        r"water iou_fg: 0\.\d{3} -> 1\.000, difference \+0\.\d{3} \[\+0\.\d{3}, \+0\.\d{3}\]\* over 10 blocks\n", said
    )
    assert "comparison.csv" in {f.path for f in mlflow.MlflowClient().list_artifacts(last_run().info.run_id)}
    assert len(pair_predictions(folders["preds_path"], folders["gt_path"], ("vh", "3b")).found) == 10


# ---------------------------------------------------------------------------------------------- scenes that trained


def renamed(scenes: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """The same pixels under other names, in another area, at another place on earth."""
    return scenes.assign(key="renamed_" + scenes["key"], area="elsewhere", geometry=scenes.geometry.translate(9.0, 5.0))


def test_c18_c83_a_scene_that_trained_is_known_by_its_pixels_under_another_name(tiles: Path) -> None:
    used = read_tiles(tiles).assign(side="training")
    scenes = read_scenes(tiles.parent / "scenes")
    south, trained = scenes[scenes["area"] == "south"], used[used["area"] == "south"]
    assert require_held_out(south, used[used["area"] == "north"], False) == HeldOutCheck(False)
    with pytest.raises(LeakError, match=r"renamed_\w+ \(same content\): trained this model"):
        require_held_out(renamed(south), trained, False)
    with pytest.raises(LeakError, match=r"south\w+ \(same scene.*: trained this model"):
        require_held_out(south, trained, False, allow_leaks=("same content",))
    allowed = require_held_out(renamed(south), trained, False, allow_leaks=True)
    assert (allowed.selection_set, allowed.leaks) == (False, ("same content",))
    tags = allowed.tags("inference")
    assert (tags["swath.leaks"], tags["mlflow.runName"]) == ("same content", "inference (leaks allowed)")
    assert "scores are flattered" in allowed.notes[0]


def test_c83_a_copy_of_what_selected_the_weights_needs_the_flag(tiles: Path) -> None:
    used = read_tiles(tiles).assign(side="validation")
    south = renamed(read_scenes(tiles.parent / "scenes").query("area == 'south'"))
    with pytest.raises(LeakError, match="selected the weights"):
        require_held_out(south, used, False)
    assert require_held_out(south, used, True).selection_set
