"""What the run of a real training holds: a row for each training tile, and the views that judge."""

from __future__ import annotations

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
from tests.processes import training_file
from tests.synthetic import rows_of
from tests.trainings import small, trained

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
