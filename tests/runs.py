"""Training runs in the tests' store without a training: a network of random weights, and the scenes it is said to have seen."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import mlflow
import torch

from swath import config as configs
from swath.data.tables import scene_row, write_table
from swath.nn.model import build_model
from swath.nn.preprocess.channels import Fill
from swath.nn.preprocess.normalise import ZScore
from swath.training.checkpoint import save_weights
from swath.training.config import TrainingConfig
from swath.training.model_record import DESCRIPTION, FOLDER, PARTS, TILES, WEIGHTS
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
    folder.mkdir(parents=True, exist_ok=True)
    resolved = configs.resolve(config)
    (folder / DESCRIPTION).write_text(json.dumps({name: resolved[name] for name in PARTS} | {"bands": bands}))
    save_weights(folder / WEIGHTS, model)
    sides = (("training", train), ("validation", validation))
    rows = [scene_row(path, path.parents[1]) | {"side": side} for side, paths in sides for path in paths]
    write_table(folder / TILES, [row | {"scene": row["key"]} for row in rows])
    with mlflow.start_run() as run:
        mlflow.log_artifacts(str(folder), FOLDER)
        mlflow.log_metrics(dict(metrics or {}))
    return str(run.info.run_id)
