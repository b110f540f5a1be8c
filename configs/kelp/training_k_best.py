"""EfficientNet-B5, 17 indices, Dice loss, tiles drawn by quality: the second place's best recipe.

mlflow run . --env-manager local -P config_path=configs/kelp/training_k_best.py

Published for their pipeline: 0.7264 on the private test tiles for the best single model (fold 7,
threshold 0.45, 10 epochs: -P epochs=10 -P data.split.column=split_7), 0.7318 private and 0.7210
public for an ensemble of ten folds with 50 epochs. Their second ensemble had the Jaccard loss and
decoders of twice the width. Hours on a GPU: an epoch is 10,240 tiles of 24 channels.

Differences to theirs: those of training.py; weights of tiles are scaled over the training tiles
alone, and none is 0.
"""

from dataclasses import replace
from functools import partial

import segmentation_models_pytorch as smp

from swath.challenges.kelp.indices import BEST_INDICES
from swath.data.samples.samplers import TileQuality
from swath.nn.losses.overlap import Dice

from .training import config as base

QUALITY = TileQuality(
    factors={
        "has_target": 3.0,
        "target_pct": 0.2,
        "qa_ok": 0.0,
        "corrupted_pct": -1.0,
        "water_pct": 0.5,
        "dem_missing_pct": 0.25,
        "dem_zero_pct": -1.0,
    }
)

config = replace(
    base,
    data=replace(base.data, sampler=QUALITY, samples_per_epoch=10_240),
    tasks={"kelp": replace(base.tasks["kelp"], loss=partial(Dice))},
    channels=partial(base.channels, indices=BEST_INDICES),
    model=partial(
        smp.Unet,
        encoder_name="tu-efficientnet_b5",
        encoder_weights="imagenet",
        decoder_channels=(256, 128, 64, 32, 16),
    ),
    epochs=50,
)
