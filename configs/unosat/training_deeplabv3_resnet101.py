"""torchvision's DeepLabV3 with a ResNet-101 on three linear bands, cross entropy. No number was published.

mlflow run . --env-manager local -P config_path=configs/unosat/training_deeplabv3_resnet101.py

Crops, holes, sampler and rate of the challenge team's baseline. Hours on a GPU.
"""

from dataclasses import replace
from functools import partial

from torch.optim import SGD

from swath.data.augment.random_crop import RandomResizedCrop
from swath.data.augment.transforms import CoarseDropout
from swath.data.samples.samplers import TargetPresence
from swath.nn.networks.deeplab import DeepLabV3ResNet101

from .training_lwrefinenet import config as base

crop = partial(RandomResizedCrop, size=420, scale=(0.9, 1.0), ratio=(0.9, 1.1))
holes = partial(CoarseDropout, holes=4, size=32)
config = replace(
    base,
    data=replace(
        base.data,
        batch=10,
        sampler=TargetPresence(without=0.65, with_target=0.35),
        augmentation=(crop, *base.data.augmentation[1:], holes),
    ),
    model=partial(DeepLabV3ResNet101),
    optimizer=partial(SGD, lr=0.023, momentum=0.9, nesterov=True, weight_decay=5e-4),
)
