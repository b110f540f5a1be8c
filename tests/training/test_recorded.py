"""What the run of a real training holds: when each value was found, what the machine did, and a row for each tile."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import geopandas as gpd
import mlflow
import pytest

from swath.data.splits.split import ByArea
from swath.nn.model import predict_classes
from swath.nn.tta import predictor
from swath.scoring.evaluate import evaluate
from swath.training.config import ValidationConfig
from tests.conftest import Script
from tests.processes import STEPS, training_file
from tests.synthetic import rows_of
from tests.trainings import small, trained


def series(run_id: str, name: str) -> dict[int, float]:
    """Value by step of a metric in the store."""
    return {m.step: m.value for m in mlflow.MlflowClient().get_metric_history(run_id, name)}


@pytest.mark.system
@pytest.mark.parametrize("unit", ["epochs", "iterations"])
def test_c84_every_metric_of_a_training_stands_beside_its_epoch_and_its_step(
    script: Script, last_run: Callable[[], mlflow.entities.Run], tiles: Path, tmp_path: Path, unit: str
) -> None:
    file = training_file(tmp_path, tiles)
    every = 1 if unit == "epochs" else 7
    given = {
        "epochs": 2,
        "swa_from": 0.4,
        "validation.training_subset": True,
        "validation.unit": unit,
        "validation.every": every,
    }
    assert script("training", file, **given) == 0
    run = last_run()
    names = {name for name in run.data.metrics if not name.startswith(("system/", "model/"))}
    parts = {name.partition("/")[0] for name in names}
    assert parts == {"training", "validation", "training_subset", "swa", "best"}
    for name in names:
        part = name.partition("/")[0]
        iterations, epochs = (series(run.info.run_id, f"{part}/{moment}") for moment in ("iteration", "epoch"))
        assert series(run.info.run_id, name).keys() <= iterations.keys(), name
        assert epochs == {step: iteration / STEPS for step, iteration in iterations.items()}, name
    told = series(run.info.run_id, "validation/iteration")
    expected = {1: 10, 2: 20} if unit == "epochs" else {7: 7, 14: 14, 20: 20}
    assert told == expected
    assert series(run.info.run_id, "training/iteration") == {i: i for i in range(1, 2 * STEPS + 1)}
    best = run.data.metrics["best/iteration"]
    assert best in expected.values()
    assert run.data.metrics["best/epoch"] == best / STEPS


@pytest.mark.system
def test_c84_system_metrics_are_in_the_run_of_a_training(
    script: Script,
    last_run: Callable[[], mlflow.entities.Run],
    tiles: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.2")
    assert script("training", training_file(tmp_path, tiles), epochs=4) == 0
    run = last_run()
    assert run.info.status == "FINISHED"
    for name, low, high in (
        ("process_threads", 2, 1000), ("process_memory_megabytes", 50, 100_000), ("process_cpu_percentage", 0, 100_000),
        ("cpu_utilization_percentage", 0, 100), ("system_memory_usage_percentage", 0, 100),
    ):  # fmt: skip
        values = series(run.info.run_id, f"system/{name}")
        assert list(values) == list(range(len(values))), name
        assert len(values) >= 2
        assert all(low <= value <= high for value in values.values()), name
    assert max(series(run.info.run_id, "system/process_cpu_percentage").values()) > 0
    assert not [thread for thread in threading.enumerate() if thread.name == "system metrics"]


# -------------------------------------------------------------------------------------------------------- training tiles


def test_c82_training_tiles_have_rows_of_the_same_columns(tiles: Path, tmp_path: Path) -> None:
    asked = ValidationConfig(panels=0, training_scores=True)
    config = small(tiles, tmp_path, epochs=1, validation=asked)
    config = replace(config, data=replace(config.data, split=ByArea(validation_areas=("south",), test_areas=("east",))))
    training, _ = trained(config)
    tables = training.scores()
    assert list(tables) == ["validation", "test", "training"]
    frames = {side: table.rows for side, table in tables.items()}
    assert frames["training"].columns.tolist() == frames["validation"].columns.tolist()
    assert frames["training"].dtypes.equals(frames["validation"].dtypes)
    wanted = {row["key"] for row in rows_of(training.folds.train)}
    assert set(frames["training"]["key"]) == wanted
    loader = training.batches.whole_tiles(training.folds.train)
    assert loader is not None
    found = evaluate(training.judged, loader, config.tasks, training.losses)
    for row in rows_of(frames["training"]):
        unit = found.units[row["key"]]
        assert row["matrix"] == unit.matrices["water"].ravel().tolist()
        assert row["loss"] == pytest.approx(unit.mean_losses["loss_water"])
    assert set(frames["training"]["area"]) == {"north"}


@pytest.mark.system
def test_c82_the_run_has_the_training_tiles_scores_by_condition(
    script: Script, last_run: Callable[[], mlflow.entities.Run], tiles: Path, tmp_path: Path
) -> None:
    file = training_file(tmp_path, tiles)
    assert script("training", file, epochs=1, **{"validation.training_scores": True}) == 0
    run, client = last_run(), mlflow.MlflowClient()
    sides = {side: {f.path.partition("/")[2] for f in client.list_artifacts(run.info.run_id, side)}
             for side in ("training", "validation")}  # fmt: skip
    assert sides["training"] == sides["validation"]
    tables = {}
    for side in sides:
        local = client.download_artifacts(run.info.run_id, f"{side}/scores.parquet", str(tmp_path))
        tables[side] = gpd.read_parquet(local)
    assert tables["training"].columns.tolist() == tables["validation"].columns.tolist()
    assert set(tables["training"]["area"]) == {"east", "north"}
    assert not set(tables["training"]["key"]) & set(tables["validation"]["key"])
    assert "best/training/iou_fg" in run.data.metrics


# -------------------------------------------------------------------------------------------------------------- views


def test_c92_c80_a_training_is_judged_by_the_views_of_its_config(tiles: Path, tmp_path: Path) -> None:
    asked = ValidationConfig(panels=0, tta="d4", merge="gmean")
    training, _ = trained(small(tiles, tmp_path / "d4", epochs=2, validation=asked))
    loader = training.validation_loader
    assert loader is not None
    predict = predictor(training.judged, "d4", training.device, "gmean")
    both = either = 0
    for batch in loader:
        target = batch["target"]["water"]
        guess = predict_classes(predict(batch["image"]), training.config.tasks)["water"]
        valid = target != 255
        both += int(((target == 1) & (guess == 1) & valid).sum())
        either += int((((target == 1) | (guess == 1)) & valid).sum())
    assert training.best == pytest.approx(both / either)
    plain = evaluate(training.judged, loader, training.config.tasks)
    assert plain.metrics("validation", training.config.tasks)["validation/iou_fg"] != pytest.approx(both / either)
