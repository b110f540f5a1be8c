"""U-Net (resnet18) on VV and VH in dB, cross entropy, moving average of the weights.

mlflow run . --env-manager local -P config_path=configs/unosat/training.py -P data.split.validation_areas=<area>

Hold out an area of your own: -P data.split.validation_areas=aoi2; without any, all areas train and the last weights are
kept. 375 steps, about three minutes on one CPU core: areas that a model has not seen are mapped worse after more
(experiments/RESULTS.md).

The dark end is clipped at -20 dB (VV) and -22 dB (VH): how dark open water is differs between areas by more than
6 dB, and a network that sees it takes the darkest rivers for something it has never seen.
"""

from functools import partial

import segmentation_models_pytorch as smp
from torch.optim import AdamW

from swath.data.augment.transforms import D4
from swath.nn.losses.pixel import CrossEntropy
from swath.nn.model import Classification
from swath.nn.preprocess.channels import Decibel
from swath.nn.preprocess.normalise import ZScore
from swath.training.config import DataConfig, TrainingConfig
from swath.training.schedules import OneCycle

config = TrainingConfig(
    data=DataConfig(
        tiles_path="output/unosat/tiles",
        crop=96,
        batch=8,
        samples_per_epoch=1000,
        seek_target=0.5,
        augmentation=(partial(D4),),
    ),
    tasks={"water": Classification(loss=partial(CrossEntropy))},
    channels=partial(Decibel, bands=("vv", "vh"), clip=((-20.0, 0.0), (-22.0, 2.0))),
    normaliser=partial(ZScore, mean=(-11.0, -6.0), std=(4.0, 6.0)),
    model=partial(smp.Unet, encoder_name="resnet18", encoder_weights=None),
    optimizer=partial(AdamW, lr=2e-3, weight_decay=1e-2),
    schedule=partial(OneCycle, warm_up=0.15, div=10.0, final_div=100.0),
    epochs=3,
    ema_decay=0.99,
    output_path="output/unosat/training",
)
