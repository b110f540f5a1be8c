"""The starter kit's U-Net of four levels on random crops of whole scenes; ten whole scenes select the weights.

mlflow run . --env-manager local -P config_path=configs/ai4arctic/training.py

What all runs of the challenge's reference team had in common: 500 steps of 8 crops of 256 pixels an epoch, each with two
labelled pixels or more, Adam at 1e-4, the sum of three cross entropies. Their Pizza Marinara, as it is here, scored
74.5 on the challenge's test set (SIC 75.2, SOD 76.4, FLOE 69.4, in percent), and the best weights were "always already
around epoch 40". A GPU is needed: an epoch is 4,000 crops of 24 bands.
"""

from functools import partial

from torch.optim import Adam

from swath.challenges.ai4arctic.tasks import AUTOICE, BEST, FLOE, SIC, SOD
from swath.data.splits.split import RandomSplit
from swath.nn.model import Classification
from swath.nn.networks.unet import UNet
from swath.training.config import DataConfig, TrainingConfig, ValidationConfig
from swath.training.schedules import Constant

config = TrainingConfig(
    data=DataConfig(
        tiles_path="output/ai4arctic/whole",
        split=RandomSplit(fractions=(0.98, 0.02, 0.0), by="scene"),  # 10 of the challenge's 493 scenes judge
        allow_leaks=("same area",),  # scenes of one region at other times judge, as in the challenge; the run says so
        crop=256,
        batch=8,
        samples_per_epoch=4000,
        min_labelled=2 / 256**2,
        validation_batch=1,  # scenes differ in size
    ),
    tasks={
        "SIC": Classification(classes=SIC),
        "SOD": Classification(classes=SOD),
        "FLOE": Classification(classes=FLOE),
    },
    model=partial(UNet, filters=(16, 32, 32, 32), bridge=True),  # the kit's levels count halvings of the image
    optimizer=partial(Adam, lr=1e-4),
    schedule=partial(Constant),
    epochs=50,
    validation=ValidationConfig(metric="validation/combined", also=BEST, scoring=AUTOICE, panels=2),
    output_path="output/ai4arctic/training",
)
