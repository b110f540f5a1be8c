"""Ensembles: identical members change nothing, one member is itself, and members must fit together."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import get_args

import geopandas as gpd
import mlflow
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from swath.data.tables import read_scenes
from swath.errors import CatalogError, ConfigError, LeakError, RasterError, TrackingError
from swath.geo.grid import Grid
from swath.geo.raster import describe, read_image, read_labels
from swath.labels import IGNORE
from swath.prediction.ensemble import (
    EnsembleConfig,
    EnsembleJob,
    MemberRule,
    combine_scene,
    ensemble_jobs,
    member_weights,
    score_weights,
    weighted_mean,
)
from swath.prediction.rasters import SceneOutput
from swath.scoring.lineage import Origin, check_predictions, origin_of, prediction_folders
from swath.scoring.pairs import Pairs, pair_predictions
from tests.conftest import Script
from tests.runs import training_run
from tests.synthetic import grid, times, write_image, write_mask, write_scenes

SHAPE = (30, 26)
RULES: tuple[MemberRule, ...] = get_args(MemberRule)
CONFIG = EnsembleConfig(input_paths="a;b", output_path="out")


def soft(seed: int, bands: int = 1, gap: float = 0.1) -> NDArray[np.float32]:
    """Probabilities (bands, height, width), some exactly 0.5, some missing in all bands."""
    rng = np.random.default_rng(seed)
    p = np.round(rng.random((bands, *SHAPE)), 1) if seed % 2 else rng.random((bands, *SHAPE))
    p[:, rng.random(SHAPE) < gap] = np.nan
    return p.astype(np.float32)


def job(folder: Path, members: list[Path], **settings: object) -> EnsembleJob:
    output = SceneOutput(classes=folder / "out" / "classes.tif", probabilities=folder / "out" / "probabilities.tif")
    given: dict[str, object] = {"weights": [1.0] * len(members), "rule": "mean", "threshold": None} | settings
    return EnsembleJob(key="x", members=members, output=output, **given)  # type: ignore[arg-type]


def written(folder: Path, members: list[NDArray[np.float32]], bands: tuple[str, ...] = ("water",)) -> list[Path]:
    return [write_image(folder / f"{i}.tif", m, grid(SHAPE), bands) for i, m in enumerate(members)]


# ---------------------------------------------------------------------------------------------------------------- mean


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 5), st.lists(st.floats(1e-3, 1e3), min_size=5, max_size=5), st.integers(0, 999))
def test_c95_mean_of_identical_maps_is_that_map(count: int, weights: list[float], seed: int) -> None:
    p = soft(seed)
    np.testing.assert_array_equal(weighted_mean(np.stack([p] * count), weights[:count]), p)


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 5), st.lists(st.floats(0, 10), min_size=5, max_size=5), st.integers(0, 999))
def test_c95_the_divisor_is_the_weight_of_the_members_that_see_the_pixel(
    count: int, weights: list[float], seed: int
) -> None:
    members = np.stack([soft(seed + i, gap=0.5) for i in range(count)])
    found = weighted_mean(members, weights[:count])
    for index in np.ndindex(*members.shape[1:]):
        seen = [(w, float(m[index])) for w, m in zip(weights, members, strict=False) if not np.isnan(m[index])]
        total = sum(w for w, _ in seen)
        if total == 0:
            assert np.isnan(found[index])
        else:
            assert found[index] == pytest.approx(sum(w * p for w, p in seen) / total, rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("threshold", [None, 0.3])
def test_c95_one_member_is_itself_by_every_rule(tmp_path: Path, rule: MemberRule, threshold: float | None) -> None:
    p = soft(1)
    combine_scene(job(tmp_path, written(tmp_path, [p]), rule=rule, threshold=threshold, weights=[0.7]))
    np.testing.assert_array_equal(read_image(tmp_path / "out/probabilities.tif"), p)
    expected = np.where(np.isnan(p), IGNORE, p >= np.float32(threshold or 0.5))
    np.testing.assert_array_equal(read_labels(tmp_path / "out/classes.tif"), expected)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("count", [2, 3, 4])
def test_c95_rules_count_the_members_that_see_the_pixel(
    tmp_path: Path, rule: MemberRule, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("swath.prediction.ensemble.STRIP_PIXELS", SHAPE[1] * 7)
    members = [soft(i, gap=0.3) for i in range(count)]
    weights = [1.0, 0.5, 2.0, 0.25][:count]
    combine_scene(job(tmp_path, written(tmp_path, members), rule=rule, weights=weights, threshold=0.6))
    classes, joined = read_labels(tmp_path / "out/classes.tif")[0], read_image(tmp_path / "out/probabilities.tif")[0]
    for r, c in np.ndindex(*SHAPE):
        seen = [(w, m[0, r, c]) for w, m in zip(weights, members, strict=True) if not np.isnan(m[0, r, c])]
        if not seen:
            assert (classes[r, c], np.isnan(joined[r, c])) == (IGNORE, True)
            continue
        average = np.float32(sum(w * float(p) for w, p in seen) / sum(w for w, _ in seen))
        highest = max(p for _, p in seen)
        assert joined[r, c] == pytest.approx(highest if rule == "max" else average, rel=1e-6)
        yes, n = sum(p >= np.float32(0.6) for _, p in seen), len(seen)
        expected = {
            "mean": joined[r, c] >= np.float32(0.6), "max": yes >= 1, "any": yes >= 1, "majority": yes > n / 2, "n-1": yes >= max(1, n - 1)
        }[rule]  # fmt: skip
        assert classes[r, c] == expected


def test_c95_layout_and_grid_are_those_of_the_members(tmp_path: Path) -> None:
    members = written(tmp_path, [soft(0, 4), soft(2, 4)], ("ice:a", "ice:b", "ice:c", "floe"))
    combine_scene(job(tmp_path, members, threshold=0.4))
    hard, mean = describe(tmp_path / "out/classes.tif"), describe(tmp_path / "out/probabilities.tif")
    assert (hard.bands, hard.dtype, hard.nodata) == (("ice", "floe"), "uint8", 255)
    assert (mean.bands, mean.dtype) == (("ice:a", "ice:b", "ice:c", "floe"), "float32")
    assert hard.grid.difference(describe(members[0]).grid) is mean.grid.difference(hard.grid) is None
    p, classes = read_image(mean.path), read_labels(hard.path)
    seen = ~np.isnan(p[0])
    np.testing.assert_array_equal(classes[0][seen], p[:3].argmax(0)[seen])
    np.testing.assert_array_equal(classes[1][seen], (p[3] >= np.float32(0.4))[seen])
    assert (classes[:, ~seen] == IGNORE).all()
    for rule in ("any", "max"):
        with pytest.raises(ConfigError, match=f"rule={rule}: is for two classes, ice has more"):
            combine_scene(job(tmp_path, members, rule=rule))


def test_c95_class_rasters_vote_with_0_and_1(tmp_path: Path) -> None:
    masks = [np.where(np.isnan(soft(i)[0]), IGNORE, soft(i)[0] > 0.5).astype(np.uint8) for i in range(3)]
    members = [write_mask(tmp_path / f"{i}.tif", m, grid(SHAPE)) for i, m in enumerate(masks)]
    combine_scene(job(tmp_path, members))
    stack = np.ma.masked_equal(masks, IGNORE)
    np.testing.assert_allclose(
        read_image(tmp_path / "out/probabilities.tif")[0], stack.mean(0).filled(np.nan), atol=1e-6
    )
    members.append(write_mask(tmp_path / "charts.tif", np.full(SHAPE, 3, np.uint8), grid(SHAPE)))
    with pytest.raises(RasterError, match=r"charts\.tif: values from 0 to 3: neither probabilities nor two classes"):
        combine_scene(job(tmp_path, members))


@pytest.mark.parametrize(
    ("place", "bands", "said"),
    [(grid(SHAPE, pixel=10.01), ("water",), "transform"), (grid(SHAPE), ("ice",), "bands water against ice")],
)
def test_c95_members_that_do_not_fit_are_refused(
    tmp_path: Path, place: Grid, bands: tuple[str, ...], said: str
) -> None:
    members = [*written(tmp_path, [soft(0)]), write_image(tmp_path / "other.tif", soft(1), place, bands)]
    with pytest.raises(RasterError, match=rf"0\.tif and .*other\.tif: cannot be averaged: .*{said}"):
        combine_scene(job(tmp_path, members))
    assert not (tmp_path / "out").exists()


# ------------------------------------------------------------------------------------------------------------- weights


def unasked(metric: str) -> list[float]:
    raise AssertionError(metric)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 10**6).map(lambda n: n / 10**6), min_size=2, max_size=6))
def test_c95_scores_become_weights_between_the_two_ends_in_their_order(scores: list[float]) -> None:
    weights = score_weights(scores, (0.2, 1.0))
    assert max(weights) == pytest.approx(1)
    assert all(0.2 - 1e-9 <= w <= 1 + 1e-9 for w in weights)
    if max(scores) > min(scores):
        spread = np.array(scores) - min(scores)
        np.testing.assert_allclose(weights, 0.2 + 0.8 * spread / spread.max(), atol=1e-9)
    assert score_weights(scores, None) == tuple(scores)


def test_c95_weights_are_equal_given_or_from_scores() -> None:
    assert member_weights(CONFIG, 2, unasked) == (1, 1)
    assert member_weights(replace(CONFIG, weights=(0.0, 3.0)), 2, unasked) == (0, 3)
    assert member_weights(replace(CONFIG, scores=(0.72, 0.7, 0.71)), 3, unasked) == pytest.approx((1, 0.2, 0.6))
    by_metric = replace(CONFIG, score_metric="best/x", score_range=None)
    assert member_weights(by_metric, 2, lambda metric: {"best/x": [0.4, 0.5]}[metric]) == (0.4, 0.5)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"weights": (1.0, 1.0), "scores": (1.0, 1.0)}, "weights and scores both say"),
        ({"weights": (1.0,)}, "weights: 1 values for 2 members"), ({"scores": (1.0, 0.5, 0.1)}, "scores: 3 values for 2"),
        ({"weights": (1.0, -1.0)}, "none may be below 0"), ({"weights": (0.0, 0.0)}, "one must be above"),
    ],
)  # fmt: skip
def test_c95_weights_without_sense_are_refused(wrong: dict[str, tuple[float, ...]], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        member_weights(replace(CONFIG, **wrong), 2, unasked)


# ------------------------------------------------------------------------------------------------------------- members


def members(root: Path, names: dict[str, list[str]]) -> list[Path]:
    """Outputs of inference by folder name, with a scene of random probabilities per key."""
    for i, (name, keys) in enumerate(names.items()):
        for key in keys:
            write_image(root / name / "probabilities" / "elm" / f"{key}.tif", soft(i), grid(SHAPE), ("water",))
    return [root / name / "probabilities" for name in names]


def test_c95_members_must_cover_the_same_scenes(tmp_path: Path) -> None:
    folders = members(tmp_path, {"a": ["s_1", "s_2"], "b": ["s_1", "s_2"], "c": ["s_2", "s_3", "s_4"]})
    jobs = ensemble_jobs(CONFIG, folders[:2], [1, 0], tmp_path / "out")
    assert [j.key for j in jobs] == ["s_1", "s_2"]
    assert jobs[0].members == [folders[0] / "elm" / "s_1.tif"]
    assert jobs[0].output.classes == tmp_path / "out/classes/elm/s_1.tif"
    with pytest.raises(
        CatalogError, match=r"c/probabilities lacks s_1; .*c/probabilities has s_3, s_4 besides"
    ) as error:
        ensemble_jobs(CONFIG, folders, [1, 1, 1], tmp_path / "out")
    assert f"against {folders[0]}" in str(error.value)
    (tmp_path / "empty").mkdir()
    with pytest.raises(CatalogError, match="no predictions found"):
        ensemble_jobs(CONFIG, [tmp_path / "empty", folders[0]], [1, 1], tmp_path / "out")


def test_c95_folders_are_read_from_one_text(tmp_path: Path) -> None:
    folders = members(tmp_path, {"a": ["s"], "b": ["s"]})
    text = f"{tmp_path / 'a'}; {tmp_path / 'b' / 'probabilities'};"
    assert prediction_folders(text, "probabilities", "input_paths") == folders
    assert prediction_folders(f"{tmp_path}/[ab]", "probabilities", "input_paths") == folders
    for wrong, said in ((f"{tmp_path / 'a'};{tmp_path / 'x'}", "no folder"), (";", "no folder"), (f"{tmp_path / 'z'}*", "no folder matches"),
                        (f"{tmp_path / 'a'};{folders[0]}", "named twice")):  # fmt: skip
        with pytest.raises(ConfigError, match=f"input_paths=.*{said}"):
            prediction_folders(wrong, "probabilities", "input_paths")


def settings_file(folder: Path, step: str, **given: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{step}.settings.json").write_text(json.dumps({"settings": given}))
    return folder


def test_c16_predictions_of_predictions_go_back_to_their_training_runs(tmp_path: Path) -> None:
    one, two = (settings_file(tmp_path / name, "inference", run_id=name * 3) for name in ("a", "b"))
    (one / "probabilities").mkdir()
    unknown = tmp_path / "from_elsewhere"
    unknown.mkdir()
    mixed = settings_file(tmp_path / "mixed", "ensemble", input_paths=f"{one};{two / 'probabilities'}")
    clean = settings_file(tmp_path / "clean", "postprocess", input_path=str(mixed))
    assert origin_of(one / "probabilities") == origin_of(one) == Origin(frozenset({"aaa"}), ())
    assert origin_of(clean / "classes").run_ids == {"aaa", "bbb"}
    assert origin_of(unknown) == Origin(frozenset(), (unknown,))
    with_unknown = settings_file(tmp_path / "more", "ensemble", input_paths=f"{clean};{unknown}")
    assert origin_of(with_unknown) == Origin(frozenset({"aaa", "bbb"}), (unknown,))
    settings_file(mixed, "postprocess", input_path=str(clean))  # back and forth between two folders
    assert origin_of(clean).run_ids == {"aaa", "bbb"}


def test_c83_of_several_models_the_worst_that_is_known_of_any_counts(tmp_path: Path) -> None:
    scenes = write_scenes(tmp_path / "scenes", 3, SHAPE, tmp_path / "masks")
    trained, selected, held_out = (
        pair_predictions(path.parent, tmp_path / "masks" / path.parent.name) for path in scenes
    )
    used = read_scenes(tmp_path / "scenes").sort_values("key").assign(side=["training", "validation", "other"])
    tiles = {"a": used.assign(scene=used["key"]), "b": used.assign(scene=used["key"], side="other")}

    def tiles_of(run_id: str) -> gpd.GeoDataFrame:
        if run_id not in tiles:
            raise TrackingError(f"run_id={run_id}: no such run")
        return tiles[run_id]

    def judged(*run_ids: str, pairs: Pairs = held_out, allow: bool = True) -> bool | None:
        for run_id in run_ids:
            settings_file(tmp_path / run_id, "inference", **({"run_id": run_id} if run_id else {}))
        mixed = tmp_path / f"mixed_{'_'.join(run_ids)}"
        settings_file(mixed, "ensemble", input_paths=";".join(str(tmp_path / run_id) for run_id in run_ids))
        found = check_predictions(mixed, pairs, tiles_of, allow)
        assert bool(found.notes) == (found.selection_set is not False)
        return found.selection_set

    assert judged("b") is False
    assert judged("a", "b") is False
    assert judged("a", "b", pairs=selected) is True
    assert judged("b", pairs=selected) is False
    assert judged("a", "gone", pairs=selected) is None
    assert judged("b", "") is None
    with pytest.raises(LeakError, match="trained this model"):
        judged("b", "a", pairs=trained)
    with pytest.raises(LeakError, match="selected the weights"):
        judged("a", pairs=selected, allow=False)


# ------------------------------------------------------------------------------------------------------------ the step


@pytest.mark.system
def test_c95_the_step_weighs_by_the_runs_scores_and_its_output_is_a_prediction_like_any(
    script: Script, last_run: Callable[[], mlflow.entities.Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, out = tmp_path / "members", tmp_path / "ensemble"
    names = {"a": ["s_1", "s_2"], "b": ["s_1", "s_2"], "c": ["s_1", "s_2"]}
    members(root, names)
    trained = write_scenes(tmp_path / "train", 1, SHAPE)
    for name, score in (("a", 0.8), ("b", 0.6), ("c", 0.75)):
        run_id = training_run(tmp_path / "runs" / name, train=trained, metrics={"best/validation/iou_fg": score})
        settings_file(root / name, "inference", run_id=run_id)
    paths = {"input_paths": ";".join(str(root / n) for n in names), "output_path": out}
    assert script("ensemble", "configs/demo/ensemble.py", **paths) == 0
    logged = last_run().data.metrics
    assert [logged[f"ensemble/weight_{i}"] for i in range(3)] == pytest.approx([1, 0.2, 0.8])
    stack = np.stack([soft(i) for i in range(3)])
    mean = read_image(out / "probabilities/elm/s_1.tif")
    np.testing.assert_allclose(mean, weighted_mean(stack, [1, 0.2, 0.8]), atol=1e-6)
    assert origin_of(out / "classes").run_ids == {run for n in names for run in origin_of(root / n).run_ids}
    # again: nothing is done anew, other settings are refused, and so is writing over a member
    before = times(out)
    assert script("ensemble", "configs/demo/ensemble.py", **paths) == 0
    assert times(out) == before
    assert script("ensemble", "configs/demo/ensemble.py", **paths, threshold=0.4) == 1
    assert "threshold: None before, 0.4 now" in capsys.readouterr().err
    assert script("ensemble", "configs/demo/ensemble.py", **(paths | {"output_path": root / "a"})) == 1
    assert "is read from there" in capsys.readouterr().err
    assert script("ensemble", "configs/demo/ensemble.py", **paths, score_metric="best/nothing") == 1
    assert "has none. It has: best/validation/iou_fg" in capsys.readouterr().err
    # what reads predictions reads these
    areas = {"input_path": out / "probabilities", "output_path": tmp_path / "areas"}
    assert script("all_agg_by_city", "configs/demo/all_agg_by_city.py", **areas) == 0
    np.testing.assert_allclose(read_image(tmp_path / "areas/probabilities/elm.tif"), mean, atol=1e-6)
    shapes = {
        "input_path": out / "probabilities",
        "output_path": tmp_path / "shapes",
        "scenes_path": "None",
        "min_area": 0,
    }
    assert script("to_submission", "configs/demo/to_submission.py", **shapes) == 0
    labels = write_mask(tmp_path / "labels/elm/s_1.tif", read_labels(out / "classes/elm/s_1.tif"), grid(SHAPE))
    assert script("validate", "configs/demo/validate.py", preds_path=out / "classes", gt_path=labels.parent) == 0
    assert last_run().data.metrics["validation/iou_fg"] == 1
