"""Training runs in the tests' store without a training: a network of random weights, and the scenes it is said to have seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import geopandas as gpd
import mlflow
import torch

from swath import config as configs
from swath.data.catalog import SCENES, read_table, scene_row, write_table
from swath.data.channels import Fill, ZScore
from swath.engine.records import FOLDER, write_record
from swath.engine.training_config import TrainingConfig
from swath.nn.heads import build_model
from tests.synthetic import PixelNet


def training_run(
    folder: Path, train: Sequence[Path], validation: Sequence[Path] = (), metrics: Mapping[str, float] | None = None,
    bands: tuple[str, ...] = ("vh", "vv", "mean"), seed: int = 0,
) -> str:  # fmt: skip
    """Id of a run whose record holds a random model of `seed` and says which scenes trained it and selected its weights."""
    torch.manual_seed(seed)
    demo = configs.load("configs/demo/training.py", TrainingConfig)
    normaliser, fill = partial(ZScore, mean=-15.0, std=6.0), partial(Fill, strategy="constant", value=-15.0)
    config = replace(demo, model=partial(PixelNet), normaliser=normaliser, fill=fill)
    model = build_model(bands, config.channels, config.fill, config.normaliser, config.model, config.tasks)
    sides = {side: _tiles(folder / side, paths) for side, paths in (("train", train), ("validation", validation))}
    training: Any = SimpleNamespace(
        config=config, batches=SimpleNamespace(train_set=SimpleNamespace(bands=bands)), judged=model, best_iteration=0,
        folds=SimpleNamespace(**sides), kept_weights=dict,
    )  # fmt: skip
    write_record(training, folder / "record")
    with mlflow.start_run() as run:
        mlflow.log_artifacts(str(folder / "record"), FOLDER)
        mlflow.log_metrics(dict(metrics or {}))
    return str(run.info.run_id)


def _tiles(folder: Path, scenes: Sequence[Path]) -> gpd.GeoDataFrame:
    """Each scene as a single tile."""
    if not scenes:
        return gpd.GeoDataFrame({"key": [], "scene": [], "area": [], "crs": []}, geometry=[], crs="EPSG:4326")
    write_table(folder / SCENES, [scene_row(path, path.parents[1]) for path in scenes])
    frame = read_table(folder / SCENES, ("key",), "the test")
    return frame.assign(scene=frame["key"])
