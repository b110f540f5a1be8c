"""Studies whose trainings are child runs: areas or events left out in turn (plan, children, table), parts of the labels.

Here together, as the process from which children start takes seconds to warm up.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import mlflow
import pandas as pd
import pytest

from swath.config import load, override
from swath.data.samples.tile_tables import read_tiles
from swath.data.splits.split import ByColumn
from swath.data.tables import SCENES, TILE_STATS, read_table, write_table
from swath.errors import CatalogError, ConfigError
from swath.prediction.config import InferenceConfig
from swath.studies.cross_validation import CrossValidationConfig, Fold, folds, label
from swath.training.config import TrainingConfig
from tests.conftest import Script

CONFIG = CrossValidationConfig(
    training_config="configs/demo/training.py", inference_config="configs/demo/inference.py", scenes_path="scenes",
    labels_path="masks", output_path="out", variants={"base": {}, "long": {"epochs": "9"}}, parameters={"seed": "3"},
)  # fmt: skip


def test_c16_every_area_is_left_out_once_per_variant() -> None:
    plan = list(folds(CONFIG, ["east", "north", "south"]))
    assert [(f.variant, f.value) for f in plan] == [
        (v, a) for v in ("base", "long") for a in ("east", "north", "south")
    ]
    parameters = plan[4].parameters(CONFIG)
    assert parameters["data.split.validation_areas"] == "north"
    assert parameters["validation.metric"] == "None"  # an area that selected the weights could not judge them
    assert (parameters["epochs"], parameters["seed"]) == ("9", "3")
    maps = plan[4].map_parameters(CONFIG, "plain", "some_run")
    assert (maps["run_id"], maps["areas"], maps["output_path"]) == ("some_run", "north", "out/long/north")
    assert label("long", "d4", replace(CONFIG, maps={"plain": {}, "d4": {}})) == "long, d4"


def test_c95_further_scenes_are_mapped_by_each_training_without_scores() -> None:
    config = replace(CONFIG, column="judged_in", test_path="tests", test_only={"side": ("test",)})
    fold = next(iter(folds(config, ["0", "1"])))
    given = fold.test_parameters(config, "plain", "some_run")
    found = applied(given | {"run_id": "some_run"}, InferenceConfig)
    assert isinstance(found, InferenceConfig)
    assert (found.input_path, found.output_path, found.labels_path) == ("tests", "out/test/base/0", None)
    assert (found.only, found.areas) == ({"side": ("test",)}, None)
    plain = applied(fold.test_parameters(replace(config, test_only=None), "plain", "x"), InferenceConfig)
    assert isinstance(plain, InferenceConfig)
    assert plain.only is None
    with pytest.raises(ConfigError, match=r"variants: test is the folder .* Give the variant another name"):
        replace(config, variants={"test": {}})
    with pytest.raises(ConfigError, match="test_only: says which scenes of test_path"):
        replace(config, test_path=None)


def test_c16_unknown_and_single_areas_are_refused() -> None:
    with pytest.raises(CatalogError, match=r"no scene of west\. There are east, north"):
        list(folds(replace(CONFIG, areas=("west",)), ["east", "north"]))
    with pytest.raises(CatalogError, match="needs at least two"):
        list(folds(CONFIG, ["east", "east"]))


def test_c16_areas_are_left_out_by_the_same_parameters_as_ever() -> None:
    """Finished trainings are found again by these."""
    assert CONFIG.title == "leave one area out"
    fold = next(iter(folds(CONFIG, ["east", "north"])))
    assert (fold.name, list(fold.parameters(CONFIG).items())) == ("base, without east", [
        ("config_path", "configs/demo/training.py"), ("data.split.validation_areas", "east"),
        ("validation.metric", "None"), ("validation.every", "1000000000"), ("name", "base, without east"), ("seed", "3"),
    ])  # fmt: skip
    assert list(fold.map_parameters(CONFIG, "plain", "some_run").items()) == [
        ("config_path", "configs/demo/inference.py"), ("run_id", "some_run"), ("areas", "east"),
        ("input_path", "scenes"), ("labels_path", "masks"), ("output_path", "out/base/east"),
        ("score_prefix", "held_out"), ("scoring.block", str(CONFIG.scoring.block)),
    ]  # fmt: skip


def applied(parameters: dict[str, str], kind: type) -> object:
    """The config that a child run makes of its parameters."""
    config = load(parameters["config_path"], kind)
    for name, text in parameters.items():
        config = config if name == "config_path" else override(config, name, text)
    return config


@pytest.mark.parametrize("date", ["20150102", "20150102T145957", "a, b", "[1]", "None"])
def test_c83_a_date_is_left_out_by_the_split_and_by_the_scenes_to_map(date: str) -> None:
    config = replace(CONFIG, column="date", variants={"base": {}})
    plan = list(folds(config, ["20160101", date]))
    assert {f.value for f in plan} == {"20160101", date}
    assert config.title == "leave one date out"
    fold = Fold("base", date, {}, "date")
    assert fold in plan
    assert fold.name == f"base, without date {date}"
    training = applied(fold.parameters(config), TrainingConfig)
    assert isinstance(training, TrainingConfig)
    assert training.data.split == ByColumn(column="date", validation=(date,))
    inference = applied(fold.map_parameters(config, "plain", "some_run"), InferenceConfig)
    assert isinstance(inference, InferenceConfig)
    assert (inference.only, inference.areas) == ({"date": (date,)}, None)


def test_c83_values_that_are_no_names_of_folders_stay_below_the_output() -> None:
    config = replace(CONFIG, column="event")
    outputs = [Fold("base", value, {}, "event").output(config, "plain") for value in ("..", "a/b", "../x", "1, spring")]
    assert outputs == ["out/base/%2E%2E", "out/base/a%2Fb", "out/base/%2E%2E%2Fx", "out/base/1%2C spring"]


def test_c83_unknown_and_single_values_of_a_column_are_refused_with_those_there_are() -> None:
    dates = replace(CONFIG, column="date")
    with pytest.raises(CatalogError, match=r"areas: no scene has date 2016\. There are 2014, 2015"):
        list(folds(replace(dates, areas=("2016",)), ["2014", "2015"]))
    with pytest.raises(
        CatalogError, match=r"leaves one date out and needs at least two\. There is 2014\. Choose another"
    ):
        list(folds(dates, ["2014", "2014"]))
    with pytest.raises(CatalogError, match=r"There is none\."):
        list(folds(dates, []))


@pytest.mark.system
def test_c83_areas_judged_by_models_that_have_not_seen_them(
    tiles: Path, tmp_path: Path, script: Script, last_run: Callable[[], mlflow.entities.Run],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    parameters = {
        "data.tiles_path": str(tiles), "data.crop": "32", "data.samples_per_epoch": "16", "epochs": "1",
        "model": "swath.nn.networks.unet:UNet", "model.filters": "4,8", "output_path": str(tmp_path / "training"),
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
    text = (tmp_path / "out" / "cross_validation.txt").read_text()
    assert "base, d4 against base, plain:" in text
    assert f"[95% bootstrap intervals over {everything['units']} units or more], in simulation" in text

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


@pytest.mark.system
def test_c83_events_of_several_areas_judged_by_models_that_have_not_seen_them(
    tiles: Path, tmp_path: Path, script: Script, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    for folder in ("scenes", "masks", "tiles"):
        shutil.copytree(tiles.parent / folder, tmp_path / folder)
    spring, autumn = "flood 1, spring", "flood 2"
    for table in (tmp_path / "scenes" / SCENES, tmp_path / "tiles" / TILE_STATS):
        rows = read_table(table, ["area", "date"], "")
        write_table(table, rows.assign(event=rows["area"].map({"east": spring, "north": spring, "south": autumn})))
    parameters = {
        "data.tiles_path": str(tmp_path / "tiles"), "data.crop": "32", "data.samples_per_epoch": "16", "epochs": "1",
        "model": "swath.nn.networks.unet:UNet", "model.filters": "4,8", "output_path": str(tmp_path / "training"),
    }  # fmt: skip
    overrides = {
        "scenes_path": tmp_path / "scenes", "labels_path": tmp_path / "masks", "output_path": tmp_path / "out",
        "parameters": json.dumps(parameters), "maps": '{"plain": {}}', "scoring.block": 32,
    }  # fmt: skip
    start = ("cross_validation", "configs/demo/cross_validation.py")
    assert script(*start, **overrides, column="evnt") == 1
    assert "column: no column 'evnt' in the table. It has: " in (error := capsys.readouterr().err)
    assert "event" in error
    assert script(*start, **overrides, column="date") == 1
    assert "leaves one date out and needs at least two. There is 20150102T145957." in capsys.readouterr().err

    assert script(*start, **overrides, column="event") == 0
    found = pd.read_csv(tmp_path / "out" / "cross_validation.csv")
    assert dict(zip(found["name"], found["of"], strict=True)) == {"all": "all", spring: "event", autumn: "event"}
    assert dict(zip(found["name"], found["scenes"], strict=True)) == {"all": 3, spring: 2, autumn: 1}
    text = (tmp_path / "out" / "cross_validation.txt").read_text()
    assert " ".join(text.splitlines()[0].split()) == "IoU, all left out flood 1, spring flood 2 F1 (Dice), all"
    mapped = {
        path.relative_to(tmp_path / "out" / "base").parts[::2] for path in (tmp_path / "out").rglob("classes/*/*")
    }
    assert mapped == {("flood 1%2C spring", "east"), ("flood 1%2C spring", "north"), ("flood 2", "south")}

    client = mlflow.MlflowClient()
    (parent, *_) = client.search_runs(
        [e.experiment_id for e in client.search_experiments()], "tags.`swath.kind` = 'cross-validation'",
        order_by=["attributes.start_time DESC"],
    )  # fmt: skip
    assert parent.info.run_name == "leave one event out"
    children = client.search_runs([parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    assert len(children) == 4
    for run in children:
        if run.data.tags.get("swath.kind") == "inference":
            assert run.data.tags["swath.scored_on"] == "held-out"
    capsys.readouterr()
    assert script(*start, **overrides, column="event") == 0
    assert capsys.readouterr().out.count("done before: ") == 4


@pytest.mark.system
def test_c104_a_second_start_does_only_what_is_missing(
    tiles: Path, tmp_path: Path, script: Script, last_run: Callable[[], mlflow.entities.Run],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    parameters = {
        "data.tiles_path": str(tiles), "data.crop": "32", "data.samples_per_epoch": "16", "epochs": "1", "model":
        "tests.synthetic:TinyNet", "data.split.validation_areas": "south", "output_path": str(tmp_path / "training"),
    }  # fmt: skip
    overrides = {"output_path": tmp_path / "out", "parameters": json.dumps(parameters), "seeds": "104"}
    assert script("label_fractions", "configs/demo/label_fractions.py", **overrides, fractions="1.0") == 0
    assert "done before" not in capsys.readouterr().out
    assert script("label_fractions", "configs/demo/label_fractions.py", **overrides, fractions="0.5,1.0") == 0
    said = capsys.readouterr().out
    assert said.count("==> ") == said.count("done before: base, 1 of the labels") == 1

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
