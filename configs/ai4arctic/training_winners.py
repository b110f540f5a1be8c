"""The winners' recipe: scenes at 200 m, three decoders on one encoder, concentration as a number; no number was published.

mlflow run . --env-manager local -P config_path=configs/ai4arctic/training_winners.py

300 epochs of 500 steps: SGD at 1e-3 in 15 cosines of 10,000 steps, 16 crops of 256 pixels, validation on whole scenes after
each epoch. Losses are weighted 1 : 3 : 3. Reduce the scenes by 5 first (guide, "The winners' recipe"); to mix
resolutions, reduce them by several factors and name all folders, as many crops are then drawn of each:
-P "data.tiles_path=output/ai4arctic/whole_200m;output/ai4arctic/whole_280m". Scenes at 200 m fit in memory: 0.1 GB each
in 24 bands; -P data.cache=mmap reads them from a fast disk instead.
"""

from dataclasses import replace
from functools import partial

from torch.optim import SGD

from swath.challenges.ai4arctic.tasks import FLOE, SIC, SOD
from swath.data.augment.random_crop import RandomCrop
from swath.data.augment.transforms import RandomFlip
from swath.data.samples.samplers import InverseSize
from swath.nn.model import Classification, Regression
from swath.nn.networks.decoders import TaskDecoders
from swath.nn.networks.unet import TransposedUp, UNet
from swath.training.schedules import CosineRestarts

from .training import config as base

config = replace(
    base,
    name="winners' recipe",
    data=replace(
        base.data,
        tiles_path="output/ai4arctic/whole_200m",
        crop=384,
        batch=16,
        samples_per_epoch=8000,
        sampler=InverseSize(by="factor"),
        augmentation=(partial(RandomCrop, size=256, zoom=(1.0, 1.5), cat_max_ratio=0.9), partial(RandomFlip)),
        cache="ram",
    ),
    tasks={
        "SIC": Regression(classes=SIC),
        "SOD": Classification(classes=SOD, weight=3.0),
        "FLOE": Classification(classes=FLOE, weight=3.0),
    },
    model=partial(TaskDecoders, network=partial(UNet, filters=(32, 32, 64, 64, 64), up=partial(TransposedUp))),
    optimizer=partial(SGD, lr=1e-3, momentum=0.9, weight_decay=0.01),
    schedule=partial(CosineRestarts, period=10_000),
    epochs=300,
)
