"""Threshold search: histograms equal a sweep by brute force, and scenes that trained a model choose nothing for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix, f1_score, jaccard_score

from swath.errors import CatalogError, ConfigError, RasterError
from swath.prediction.thresholds import (
    CountJob,
    ThresholdSearchConfig,
    count_scene,
    search,
    threshold_counts,
    threshold_figure,
    threshold_matrices,
    threshold_values,
)
from swath.scoring.decisions import read_decision
from tests.conftest import Script
from tests.runs import training_run
from tests.synthetic import blobs, grid, labels, write_image, write_mask, write_scenes

SHAPE = (40, 48)
CONFIG = ThresholdSearchConfig(input_path="in", labels_path="labels", output_path="out")
DEFAULT = threshold_values(CONFIG)


def guessed(truth: NDArray[np.uint8], seed: int, shift: float = 0.0) -> NDArray[np.float32]:
    """Probabilities around the truth, many of them exactly on a threshold, some missing."""
    rng = np.random.default_rng(seed)
    p = np.clip(0.35 + shift + 0.3 * (truth == 1) + rng.normal(0, 0.15, truth.shape), 0, 1)
    p = np.where(rng.random(truth.shape) < 0.5, np.round(p, 2), p).astype(np.float32)
    p[rng.random(truth.shape) < 0.1] = np.nan
    return p


def test_c94_the_default_sweep_is_30_to_70_by_1() -> None:
    assert DEFAULT.dtype == np.float32
    np.testing.assert_array_equal(DEFAULT, np.array([i / 100 for i in range(30, 71)], np.float32))


@settings(max_examples=60, deadline=None)
@given(st.floats(0, 1), st.floats(0, 1), st.floats(0.005, 0.5))
def test_c94_a_sweep_starts_at_its_start_and_ends_at_its_stop(a: float, b: float, step: float) -> None:
    low, high = sorted((a, b))
    found = threshold_values(replace(CONFIG, start=low, stop=high, step=step))
    assert found[0] == pytest.approx(low, abs=1e-6)
    assert high - step - 1e-6 < found[-1] <= high + 1e-6
    assert (np.diff(found) > 0).all()


@pytest.mark.parametrize("wrong", [{"start": 0.8}, {"step": 0.0}, {"step": -0.1}, {"stop": 1.2}, {"start": -0.1}])
def test_c94_a_sweep_without_sense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="need 0 <= start <= stop <= 1"):
        threshold_values(replace(CONFIG, **wrong))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 9999), st.sampled_from([DEFAULT, np.array([0.5], np.float32), np.array([0, 0.5, 1], np.float32)]))
def test_c94_one_pass_equals_the_sweep_by_brute_force(seed: int, thresholds: NDArray[np.float32]) -> None:
    truth = labels((9, 11), 2, seed=seed).numpy()
    p = guessed(truth, seed)
    matrices = threshold_matrices(threshold_counts(p, truth, thresholds))
    valid = truth != 255
    for matrix, t in zip(matrices, thresholds, strict=True):
        predicted = np.nan_to_num(p[valid], nan=-1) >= t
        np.testing.assert_array_equal(matrix, confusion_matrix(truth[valid] > 0, predicted, labels=[False, True]))


@pytest.mark.parametrize("score", ["iou_fg", "f1_fg"])
def test_c94_the_best_threshold_is_the_one_with_the_best_score(score: str) -> None:
    areas = {name: (blobs(SHAPE, i), guessed(blobs(SHAPE, i), i, shift=0.1 * i)) for i, name in enumerate("abc")}
    found = search({n: [threshold_counts(p, t, DEFAULT)] for n, (t, p) in areas.items()}, DEFAULT, score)
    oracle = {"iou_fg": jaccard_score, "f1_fg": f1_score}[score]

    def scored(names: str, t: float) -> float:
        truth = np.concatenate([areas[n][0].ravel() for n in names])
        p = np.concatenate([areas[n][1].ravel() for n in names])
        return float(oracle(truth, np.nan_to_num(p, nan=-1) >= np.float32(t)))

    sweep = [scored("abc", t) for t in DEFAULT]
    np.testing.assert_allclose(found.table[score], sweep, atol=1e-12)
    assert found.threshold == pytest.approx(DEFAULT[int(np.argmax(sweep))])
    metrics = found.metrics()
    assert metrics[f"threshold/{score}"] == pytest.approx(max(sweep))
    assert metrics[f"threshold/{score}_at_half"] == pytest.approx(scored("abc", 0.5))
    np.testing.assert_allclose(found.by_area["b"], [scored("b", t) for t in DEFAULT], atol=1e-12)
    # each area by the threshold of the other two
    predicted, truth = [], []
    for name, (t, p) in areas.items():
        others = "abc".replace(name, "")
        chosen = DEFAULT[int(np.argmax([scored(others, x) for x in DEFAULT]))]
        predicted.append(np.nan_to_num(p, nan=-1).ravel() >= chosen)
        truth.append(t.ravel())
    assert found.left_out == pytest.approx(float(oracle(np.concatenate(truth), np.concatenate(predicted))))
    assert found.left_out <= metrics[f"threshold/{score}"]


def test_c94_of_equal_scores_the_threshold_nearest_one_half_wins() -> None:
    truth = blobs(SHAPE, 0)
    perfect = np.where(truth, 0.9, 0.1).astype(np.float32)
    found = search({"a": [threshold_counts(perfect, truth, DEFAULT)]}, DEFAULT, "iou_fg")
    assert found.threshold == 0.5
    assert found.left_out is None
    later = np.where(truth, 0.9, 0.605).astype(np.float32)
    assert search({"a": [threshold_counts(later, truth, DEFAULT)]}, DEFAULT, "iou_fg").threshold == 0.61


def test_c94_the_report_says_when_the_range_was_too_narrow() -> None:
    truth = blobs(SHAPE, 0)
    for background, said in ((0.1, False), (0.699, True)):
        p = np.where(truth, 0.9, background).astype(np.float32)
        found = search({"a": [threshold_counts(p, truth, DEFAULT)]}, DEFAULT, "iou_fg")
        assert ("set start or stop further out" in found.report()) == said
        assert f"best threshold, {found.threshold:.3f}" in found.report()
        assert "of the others" not in found.report()


def test_c94_labels_without_foreground_choose_nothing() -> None:
    counts = threshold_counts(np.full(SHAPE, 0.4, np.float32), np.zeros(SHAPE, np.uint8), DEFAULT)
    with pytest.raises(CatalogError, match="none of these scenes has foreground"):
        search({"a": [counts]}, DEFAULT, "iou_fg")


def test_c94_the_curve_is_a_picture() -> None:
    truth = blobs(SHAPE, 0)
    found = search({"a": [threshold_counts(guessed(truth, 0), truth, DEFAULT)]}, DEFAULT, "iou_fg")
    picture = threshold_figure(found)
    assert picture.dtype == np.uint8
    assert picture.shape[2] == 3
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 10


def job(probabilities: Path, truth: Path, task: str | None = None) -> CountJob:
    return CountJob(
        key="0/x", area="a", probabilities=probabilities, labels=truth, task=task, thresholds=tuple(DEFAULT.tolist())
    )


def test_c94_a_scene_is_counted_strip_by_strip_in_the_band_of_its_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("swath.prediction.thresholds.STRIP_PIXELS", 48 * 7)
    truth, p = blobs(SHAPE, 1), guessed(blobs(SHAPE, 1), 1)
    stack = np.stack([np.full(SHAPE, 0.2), np.full(SHAPE, 0.3), np.full(SHAPE, 0.5), p])
    image = write_image(tmp_path / "p.tif", stack, grid(SHAPE), ("ice:a", "ice:b", "ice:c", "water"))
    both = write_mask(tmp_path / "t.tif", np.stack([1 - truth, truth]), grid(SHAPE), ("ice", "water"))
    np.testing.assert_array_equal(count_scene(job(image, both, "water")), threshold_counts(p, truth, DEFAULT))
    with pytest.raises(ConfigError, match=r"task=ice: .* no task of two classes of that name; it has: water"):
        count_scene(job(image, both))
    with pytest.raises(RasterError, match="holds classes"):
        count_scene(job(both, both, "water"))
    moved = write_mask(tmp_path / "moved.tif", truth, grid(SHAPE, (400_010.0, 3_700_000.0)))
    with pytest.raises(RasterError, match="not on one grid"):
        count_scene(job(image, moved, "water"))


# ------------------------------------------------------------------------------------------------------------ the step


@pytest.fixture
def folds(script: Script, tmp_path: Path) -> tuple[Path, list[Path]]:
    """Three areas; two models, each of which predicts the areas that the other one trained on, and an area for both."""
    scenes = write_scenes(tmp_path / "scenes", 3, SHAPE, tmp_path / "masks")
    folders = []
    for i in range(2):
        run_id = training_run(tmp_path / f"run{i}", train=[scenes[i]], validation=[scenes[1 - i]], seed=i)
        folders.append(tmp_path / f"predictions{i}")
        area = scenes[1 - i].parent
        given = {"run_id": run_id, "input_path": area, "output_path": folders[i], "labels_path": None, "previews": 0}
        assert script("inference", "configs/demo/inference.py", **given) == 0
    return tmp_path, folders


@pytest.mark.system
def test_c94_out_of_fold_predictions_of_several_models_choose_one_threshold(
    script: Script, last_run: Callable[[], mlflow.entities.Run], folds: tuple[Path, list[Path]],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    root, folders = folds
    output = root / "threshold"
    given = {"labels_path": root / "masks", "output_path": output, "stop": 0.6}
    both = ";".join(map(str, folders))
    assert script("threshold_search", "configs/demo/threshold_search.py", input_path=both, **given) == 0
    run = last_run()
    table = pd.read_csv(output / "thresholds.csv")
    assert list(table["threshold"]) == [i / 100 for i in range(30, 61)]
    assert run.data.metrics["threshold/iou_fg"] == pytest.approx(table["iou_fg"].max(), abs=1e-6)
    assert run.data.metrics["threshold/best"] in set(table["threshold"][table["iou_fg"] == table["iou_fg"].max()])
    assert "threshold/iou_fg_left_out" in run.data.metrics
    assert run.data.tags["swath.scored_on"] == "selection set"
    client = mlflow.MlflowClient()
    assert {"thresholds.csv", "thresholds.png"} <= {a.path for a in client.list_artifacts(run.info.run_id)}
    assert len(client.get_metric_history(run.info.run_id, "threshold/curve_iou_fg")) == 31
    said = capsys.readouterr().out
    assert "best threshold" in said
    assert said.count("These scenes selected the weights of the model") == 2

    # a model's own training scenes choose nothing for it
    assert script("inference", "configs/demo/inference.py", run_id=run_of(folders[0]), input_path=root / "scenes",
                  output_path=root / "all", labels_path=None) == 0  # fmt: skip
    assert script("threshold_search", "configs/demo/threshold_search.py", input_path=root / "all", **given) == 1
    assert "trained this model" in capsys.readouterr().err
    # and those that selected its weights only where that is allowed
    given |= {"input_path": folders[0], "allow_selection_set": False}
    assert script("threshold_search", "configs/demo/threshold_search.py", **given) == 1
    assert "selected the weights of this model" in capsys.readouterr().err


@pytest.mark.system
def test_c83_maps_decided_by_a_searched_threshold_are_not_judged_on_the_same_scenes(
    script: Script, last_run: Callable[[], mlflow.entities.Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scenes = write_scenes(tmp_path / "scenes", 3, SHAPE, tmp_path / "masks")
    run_id = training_run(tmp_path / "run", train=[scenes[0]])
    given = {"run_id": run_id, "input_path": tmp_path / "scenes", "areas": "area1,area2", "previews": 0}
    maps = {"output_path": tmp_path / "maps", "labels_path": None}
    assert script("inference", "configs/demo/inference.py", **given, **maps) == 0
    tuned = {"labels_path": tmp_path / "masks/area1", "output_path": tmp_path / "threshold"}
    one = {"input_path": tmp_path / "maps", "allow_selection_set": False}
    assert script("threshold_search", "configs/demo/threshold_search.py", **one, **tuned) == 0
    found, search_run = read_decision(str(tmp_path / "threshold"), Path), last_run()
    assert (found.threshold, found.tuned_on) == (search_run.data.metrics["threshold/best"], (scenes[1].stem,))
    assert last_run().data.tags["swath.scored_on"] == "held-out"

    # by an ensemble of one
    decided = {"input_paths": tmp_path / "maps", "score_metric": None, "output_path": tmp_path / "decided"}
    assert script("ensemble", "configs/demo/ensemble.py", **decided, threshold=tmp_path / "threshold") == 0
    judged = {"preds_path": tmp_path / "decided", "gt_path": tmp_path / "masks"}
    assert script("validate", "configs/demo/validate.py", **judged, allow_selection_set=False) == 1
    assert f"{scenes[1].stem}: the threshold of these maps was searched on them" in capsys.readouterr().err
    assert script("validate", "configs/demo/validate.py", **judged, allow_selection_set=True) == 0
    assert last_run().data.tags["swath.scored_on"] == "selection set"
    # by inference, whose scores go by the same rule; the run of the search is known as well
    again = {"output_path": tmp_path / "again", "labels_path": tmp_path / "masks"}
    searched = f"runs:/{search_run.info.run_id}"
    assert script("inference", "configs/demo/inference.py", **given, **again, threshold=searched) == 1
    assert "the threshold of these maps was searched on them" in capsys.readouterr().err
    other = given | {"areas": "area2"}
    assert script("inference", "configs/demo/inference.py", **other, **again, threshold=searched) == 0
    assert last_run().data.tags["swath.scored_on"] == "held-out"
    assert script("inference", "configs/demo/inference.py", **other, **again, threshold=tmp_path) == 1
    assert "no decision of threshold_search at" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is not JSON"),
        ("[0.5]", "should be a valid dictionary"),
        ('{"tuned_on": []}', "`threshold` is missing"),
        ('{"threshold": 0.5}', "`tuned_on` is missing"),
        ('{"threshold": "half", "tuned_on": []}', "`threshold`: input should be a valid number, got 'half'"),
        ('{"threshold": true, "tuned_on": []}', "`threshold`: input should be a valid number, got True"),
        ('{"threshold": NaN, "tuned_on": []}', "`threshold`: input should be"),
        ('{"threshold": -0.5, "tuned_on": []}', "`threshold`: input should be greater than or equal to 0, got -0.5"),
        ('{"threshold": 1e999, "tuned_on": []}', "`threshold`: input should be"),
        ('{"threshold": 0.5, "tuned_on": "scene"}', "`tuned_on`: input should be a valid list, got 'scene'"),
        ('{"threshold": 0.5, "tuned_on": [5]}', "`tuned_on.0`: input should be a valid string, got 5"),
    ],
)
def test_c129_a_damaged_decision_is_named_with_the_remedy(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "threshold.json"
    path.write_text(content)
    with pytest.raises(ConfigError) as error:
        read_decision(str(tmp_path), Path)
    for word in (str(path), said, "Start threshold_search again. Give a number"):
        assert word in str(error.value)


def run_of(folder: Path) -> str:
    import json

    return str(json.loads((folder / "inference.settings.json").read_text())["settings"]["run_id"])


def test_c101_pictures_of_the_first_scenes_are_logged_also_of_those_predicted_before(
    script: Script, last_run: Callable[[], mlflow.entities.Run], tmp_path: Path
) -> None:
    write_scenes(tmp_path / "scenes", 4, SHAPE)
    elsewhere = write_scenes(tmp_path / "elsewhere", 1, SHAPE)
    given = {
        "run_id": training_run(tmp_path / "run", train=elsewhere), "input_path": tmp_path / "scenes", "labels_path": None,
        "output_path": tmp_path / "predictions", "sliding__tta": "flips", "sliding__merge": "gmean",
    }  # fmt: skip
    for previews in (2, 3):  # the second time nothing is predicted
        assert script("inference", "configs/demo/inference.py", **given, previews=previews) == 0
        client, run = mlflow.MlflowClient(), last_run()
        assert run.data.metrics["inference/done_now"] == (4 if previews == 2 else 0)
        found = sorted(a.path for a in client.list_artifacts(run.info.run_id, "previews"))
        assert found == [f"previews/s1a_area{i}_ASC_20150102.png" for i in range(previews)]
