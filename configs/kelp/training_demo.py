"""A small U-Net on generated tiles: 120 steps, a minute and a half of one core's time.

mlflow run . --env-manager local -P config_path=configs/kelp/training_demo.py

Expect validation/f1_fg, the Dice of kelp, of about 0.86 on the tiles of three coasts that it has
not seen. The best threshold of a single index, found on the training tiles, has 0.75 there (GVMI,
which is a ratio of NIR and SWIR). No number was published for generated tiles.
"""

from dataclasses import replace
from functools import partial

from torch.optim import AdamW

from swath.data.augment.transforms import D4
from swath.nn.losses.pixel import binary_cross_entropy_dice
from swath.nn.networks.unet import UNet
from swath.nn.preprocess.channels import Fill
from swath.nn.preprocess.normalise import ZScore
from swath.nn.preprocess.optical import Indices
from swath.training.schedules import OneCycle

from .training import config as base

config = replace(
    base,
    data=replace(base.data, crop=96, batch=8, samples_per_epoch=320, seek_target=0.7, augmentation=(partial(D4),)),
    tasks={"kelp": replace(base.tasks["kelp"], loss=partial(binary_cross_entropy_dice))},
    channels=partial(
        Indices,
        indices=("NDVI", "NDWI"),
        bands=("SWIR", "NIR", "R", "G", "DEM"),
        scale="reflectance",
        scaling=(2.75e-5, -0.2),
        missing=(-32768.0,),
    ),
    fill=partial(Fill),
    normaliser=partial(ZScore),
    rgb=None,
    model=partial(UNet, filters=(12, 24, 48)),
    optimizer=partial(AdamW, lr=6e-3, weight_decay=1e-2),
    schedule=partial(OneCycle, warm_up=0.2),
    epochs=3,
    precision="fp32",
    validation=replace(base.validation, every=3),
    output_path="output/kelp/demo_training",
)
