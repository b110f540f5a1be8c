"""LWRefineNet with cross entropy + 2 Jaccard; map with sliding.tta=rotations as the challenge team did.

mlflow run . --env-manager local -P config_path=configs/unosat/training_lwrefinenet_jaccard.py

Published: validation IoU 0.524, F1 0.838 (0.668 and 0.899 on a city that was trained on), test F1 0.7055 with
test-time augmentation. Hours on a GPU.
"""

from dataclasses import replace
from functools import partial

from torch.optim import SGD

from swath.data.augment.random_crop import RandomResizedCrop
from swath.nn.losses.overlap import SoftJaccard
from swath.nn.losses.pixel import CrossEntropy, WeightedSum
from swath.nn.model import Classification

from .training_lwrefinenet import config as base

loss = partial(
    WeightedSum,
    losses={"ce": partial(CrossEntropy, class_weights=(0.1, 2.0)), "jaccard": partial(SoftJaccard, pooled=True)},
    weights={"ce": 1.0, "jaccard": 2.0},
)
crop = partial(RandomResizedCrop, size=480, scale=(0.8, 1.0), ratio=(0.9, 1.1))
config = replace(
    base,
    data=replace(base.data, augmentation=(crop, *base.data.augmentation[1:])),
    tasks={"water": Classification(loss=loss)},
    optimizer=partial(SGD, lr=0.045, momentum=0.9, nesterov=True, weight_decay=5e-4),
)
