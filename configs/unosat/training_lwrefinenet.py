"""The challenge pipeline's baseline: LWRefineNet on three linear bands, cross entropy, whole tiles of 512 px.

mlflow run . --env-manager local -P config_path=configs/unosat/training_lwrefinenet.py

Published: validation IoU 0.506, F1 0.83 (both classes' mean) on a city that was not trained on, test F1 0.688; with a
validation city that was trained on, 0.648 and 0.891. Class weights, sampler, batches (22 samples, two of them a step) and
epochs are those of the published run. Hours on a GPU; to try it on a CPU add
-P epochs=1 -P data.samples_per_epoch=16 -P data.limit=8 -P data.batch=4.

The other configs of the published table are variants of this one. Judged by 38SMA, which does not train; for other
areas: -P data.split.validation_areas=<area>, or -P data.split=swath.data.splits.split:ByFold -P data.split.validation_fold=2.
"""

from functools import partial

from torch.optim import SGD

from swath.challenges.unosat.channels import LINEAR_3
from swath.data.augment.random_crop import RandomResizedCrop
from swath.data.augment.transforms import OneOf, RandomFlip, RandomRotate90
from swath.data.samples.samplers import TargetPresence
from swath.data.splits.split import ByArea
from swath.nn.losses.pixel import CrossEntropy
from swath.nn.model import Classification
from swath.nn.networks.lwrefinenet import LWRefineNet
from swath.training.config import DataConfig, TrainingConfig
from swath.training.schedules import Poly

config = TrainingConfig(
    data=DataConfig(
        tiles_path="output/unosat/tiles",
        split=ByArea(validation_areas=("38SMA",)),
        crop=None,
        batch=22,
        sampler=TargetPresence(without=0.7, with_target=0.3),
        augmentation=(
            partial(RandomResizedCrop, size=480, scale=(0.7, 1.0), ratio=(0.9, 1.1)),
            partial(OneOf, transforms=(partial(RandomRotate90), partial(RandomFlip))),
        ),
    ),
    tasks={"water": Classification(loss=partial(CrossEntropy, class_weights=(0.1, 2.0)))},
    **LINEAR_3,
    model=partial(LWRefineNet),
    optimizer=partial(SGD, lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4),
    schedule=partial(Poly, power=0.9),
    accumulation=2,
    epochs=100,
    output_path="output/unosat/training",
)
