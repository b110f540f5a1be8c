"""The winners' recipe in small, on generated scenes at 200 m: three decoders, concentration as a number.

mlflow run . --env-manager local -P config_path=configs/ai4arctic/training_demo.py

600 steps, about two minutes on one CPU core; validation/combined was 0.86 on three scenes, where a constant guess has -0.03.
"""

from dataclasses import replace
from functools import partial

from torch.optim import AdamW

from swath.data.augment.transforms import D4
from swath.data.splits.split import RandomSplit
from swath.nn.networks.unet import UNet
from swath.training.schedules import OneCycle

from .training_winners import config as winners

config = replace(
    winners,
    name="winners' recipe in small",
    data=replace(
        winners.data,
        tiles_path="output/ai4arctic/demo/whole",
        split=RandomSplit(fractions=(0.75, 0.25, 0.0), by="scene"),
        crop=96,
        batch=8,
        samples_per_epoch=320,
        min_labelled=0.25,
        augmentation=(partial(D4),),
    ),
    model=partial(winners.model, network=partial(UNet, filters=(8, 16, 32, 32))),
    optimizer=partial(AdamW, lr=4e-3, weight_decay=1e-2),
    schedule=partial(OneCycle, warm_up=0.2),
    epochs=15,
    validation=replace(winners.validation, every=3),
    output_path="output/ai4arctic/demo/training",
)
