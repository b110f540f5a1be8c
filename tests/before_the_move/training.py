"""The training behind the files in this folder, which version 0.1.0 left: `python -m tests.before_the_move.training`.

Its scenes and tiles are generated, with fixed times, so that a later version meets the very tiles that it knew.
"""

from __future__ import annotations

import os
import shutil
import sys
from functools import partial
from pathlib import Path

import torch

import swath.config.paths
from swath.data.augment.transforms import D4
from swath.data.samples.samplers import TargetPresence
from swath.data.splits.split import ByArea
from swath.data.tables import TILE_COLUMNS, TILE_STATS, TILES, read_scenes, read_table, write_table
from swath.data.tiles.cutting import cut_jobs, cut_scene
from swath.data.tiles.statistics import StatsConfig, scene_jobs, scene_statistics, summarise
from swath.geo.windows import ConstantSize
from swath.nn.losses.pixel import CrossEntropy
from swath.nn.model import Classification
from swath.nn.networks.unet import UNet
from swath.nn.preprocess.channels import Decibel
from swath.nn.preprocess.normalise import ZScore
from swath.training.config import DataConfig, TrainingConfig, ValidationConfig
from swath.training.loop import Reports
from swath.training.model_record import write_record
from swath.training.schedules import Poly
from swath.training.trainer import build_training
from tests.synthetic import write_scenes

HERE = Path(__file__).parent
KILLED_AT, STEPS, EPOCHS = 5, 4, 2
SECONDS = 1_700_000_000
"""Time of modification of every tile."""


def config() -> TrainingConfig:
    """A U-Net of two blocks, trained for eight steps; paths are relative to the project's root."""
    return TrainingConfig(
        data=DataConfig(
            tiles_path="tiles",
            split=ByArea(validation_areas=("area1",)),
            crop=32,
            batch=4,
            samples_per_epoch=4 * STEPS,
            sampler=TargetPresence(),
            augmentation=(partial(D4),),
        ),
        tasks={"water": Classification(loss=partial(CrossEntropy))},
        model=partial(UNet, filters=(4, 8)),
        channels=partial(Decibel),
        normaliser=partial(ZScore),
        optimizer=partial(torch.optim.AdamW, lr=1e-2),
        schedule=partial(Poly),
        epochs=EPOCHS,
        output_path="training",
        device="cpu",
        validation=ValidationConfig(panels=0),
        log_every=1,
        checkpoint_every=1,
    )


def make_tiles(root: Path) -> None:
    """Three scenes with masks below `root`, cut into tiles with fixed times."""
    write_scenes(root / "scenes", 3, (64, 96), root / "masks")
    scenes = read_scenes(root / "scenes")
    masks = dict(zip(scenes["key"], sorted((root / "masks").rglob("*.tif")), strict=True))
    jobs = cut_jobs(scenes, masks, root / "tiles", ConstantSize(size=48, min_overlap=8))
    rows = [row for job in jobs for row in cut_scene(job)]
    write_table(root / "tiles" / TILES, rows)
    tiles = read_table(root / "tiles" / TILES, TILE_COLUMNS, "generate_tiles")
    found = {job.key: scene_statistics(job) for job in scene_jobs(tiles, root / "tiles", 0.0)}
    settings = StatsConfig(input_path=str(root / "tiles"), min_valid_ratio=0.0)
    table, _, _ = summarise(tiles, found, root / "tiles", root / "tiles", settings)
    write_table(root / "tiles" / TILE_STATS, table)
    for path in (root / "tiles").rglob("*.tif"):
        os.utime(path, (SECONDS, SECONDS))


class Killed(BaseException):
    """Stands for a kill."""


def main(root: Path) -> None:
    """Leave a state, the weights at the end, and a model record."""
    swath.config.paths.PROJECT_ROOT = root
    make_tiles(root)

    def kill(values: object, step: int) -> None:
        if step == KILLED_AT and "training/loss" in dict(values):  # type: ignore[call-overload]
            raise Killed

    try:
        build_training(config(), Reports(metrics=kill, evaluation=lambda *_: None)).run()
    except Killed:
        shutil.copytree(root / "training", HERE / "training", dirs_exist_ok=True)
    training = build_training(config(), Reports.none())
    training.run()
    write_record(training, HERE / "model")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
