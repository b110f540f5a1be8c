"""Studies whose trainings are child runs: areas left out in turn (plan, children, table), and parts of the labels.

Here together, as the process from which children start takes seconds to warm up.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import mlflow
import pandas as pd
import pytest

from swath.data.samples.tile_tables import read_tiles
from swath.errors import CatalogError
from swath.studies.cross_validation import CrossValidationConfig, folds, label
from tests.conftest import Script

CONFIG = CrossValidationConfig(
    training_config="configs/demo/training.py", inference_config="configs/demo/inference.py", scenes_path="scenes",
    labels_path="masks", output_path="out", variants={"base": {}, "long": {"epochs": "9"}}, parameters={"seed": "3"},
)  # fmt: skip


def test_c16_every_area_is_left_out_once_per_variant() -> None:
    plan = list(folds(CONFIG, ["east", "north", "south"]))
    assert [(f.variant, f.area) for f in plan] == [(v, a) for v in ("base", "long") for a in ("east", "north", "south")]
    parameters = plan[4].parameters(CONFIG)
    assert parameters["data.split.validation_areas"] == "north"
    assert parameters["validation.metric"] == "None"  # an area that selected the weights could not judge them
    assert (parameters["epochs"], parameters["seed"]) == ("9", "3")
    maps = plan[4].map_parameters(CONFIG, "plain", "some_run")
    assert (maps["run_id"], maps["areas"], maps["output_path"]) == ("some_run", "north", "out/long/north")
    assert label("long", "d4", replace(CONFIG, maps={"plain": {}, "d4": {}})) == "long, d4"


def test_c16_unknown_and_single_areas_are_refused() -> None:
    with pytest.raises(CatalogError, match=r"no scene of west\. There are east, north"):
        list(folds(replace(CONFIG, areas=("west",)), ["east", "north"]))
    with pytest.raises(CatalogError, match="needs at least two"):
        list(folds(CONFIG, ["east", "east"]))


def test_c83_areas_judged_by_models_that_have_not_seen_them(
    tiles: Path, tmp_path: Path, script: Script, last_run: Callable[[], mlflow.entities.Run],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    parameters = {
        "data.tiles_path": str(tiles), "data.crop": "32", "data.samples_per_epoch": "16", "epochs": "1",
        "model": "tests.synthetic:TinyNet", "output_path": str(tmp_path / "training"),
    }  # fmt: skip
    overrides = {
        "scenes_path": tiles.parent / "scenes", "labels_path": tiles.parent / "masks", "output_path": tmp_path / "out",
        "areas": "north,south", "parameters": json.dumps(parameters), "scoring.block": 32,
    }  # fmt: skip
    assert script("cross_validation", "configs/demo/cross_validation.py", **overrides) == 0
    table = pd.read_csv(tmp_path / "out" / "cross_validation.csv")
    assert set(table["variant"]) == {"base, plain", "base, d4"}
    assert set(table["name"]) == {"all", "north", "south"}
    everything = table[(table["of"] == "all") & (table["variant"] == "base, plain")].iloc[0]
    assert everything["iou_fg_low"] <= everything["iou_fg"] <= everything["iou_fg_high"]
    assert "base, d4 against base, plain:" in (tmp_path / "out" / "cross_validation.txt").read_text()

    client = mlflow.MlflowClient()
    parents = client.search_runs(
        [e.experiment_id for e in client.search_experiments()], "tags.`swath.kind` = 'cross-validation'"
    )
    parent = parents[0]
    children = client.search_runs([parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    assert len(children) == 6
    assert {run.info.run_name for run in children} >= {"base, without north", "base, without south"}
    assert parent.data.metrics["held_out/base_ plain/iou_fg"] == pytest.approx(everything["iou_fg"], abs=1e-6)

    capsys.readouterr()
    assert script("cross_validation", "configs/demo/cross_validation.py", **overrides) == 0
    assert capsys.readouterr().out.count("done before: ") == 6


def test_c104_a_second_start_does_only_what_is_missing(
    tiles: Path, tmp_path: Path, script: Script, last_run: Callable[[], mlflow.entities.Run],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    parameters = {
        "data.tiles_path": str(tiles), "data.crop": "32", "data.samples_per_epoch": "16", "epochs": "1", "model":
        "tests.synthetic:TinyNet", "data.split.validation_areas": "south", "output_path": str(tmp_path / "training"),
    }  # fmt: skip
    overrides = {"output_path": tmp_path / "out", "parameters": json.dumps(parameters), "seeds": "0"}
    assert script("label_fractions", "configs/demo/label_fractions.py", **overrides, fractions="1.0") == 0
    assert "done before" not in capsys.readouterr().out
    assert script("label_fractions", "configs/demo/label_fractions.py", **overrides, fractions="0.5,1.0") == 0
    said = capsys.readouterr().out
    assert said.count("==> training") == said.count("done before: training, base, 1 of the labels") == 1

    frame = pd.read_csv(tmp_path / "out" / "label_fractions.csv")
    assert list(frame["fraction"]) == [0.5, 1.0]
    held = (read_tiles(tiles)["area"] == "south").sum()
    assert frame["tiles"].iloc[1] == len(read_tiles(tiles)) - held
    assert list(frame["scenes"]) == [1, 2]

    client = mlflow.MlflowClient()
    (found, *_) = client.search_runs(
        [e.experiment_id for e in client.search_experiments()], "tags.`swath.kind` = 'label-fractions'",
        order_by=["attributes.start_time DESC"],
    )  # fmt: skip
    curve = client.get_metric_history(found.info.run_id, "base/iou_fg")
    assert [(m.step, m.value) for m in sorted(curve, key=lambda m: m.step)] == [
        (50, pytest.approx(frame["score"].iloc[0], abs=1e-6)), (100, pytest.approx(frame["score"].iloc[1], abs=1e-6)),
    ]  # fmt: skip
    names = {f.path for f in client.list_artifacts(found.info.run_id)}
    assert {"label_fractions.csv", "label_fractions.txt", "label_fractions.png"} <= names
    children = client.search_runs([found.info.experiment_id], f"tags.`mlflow.parentRunId` = '{found.info.run_id}'")
    assert [run.data.params["cfg.data.subset.fraction"] for run in children] == ["0.5"]
