"""FPN with an SE-ResNeXt-50 on three bands in dB, cross entropy: the challenge team's best on the test set.

mlflow run . --env-manager local -P config_path=configs/unosat/training_fpn_seresnext50_db.py

Published: validation IoU 0.535, F1 0.843 (0.696 and 0.909 on a city that was trained on), test F1 0.743, all with
test-time augmentation (sliding.tta=rotations). Hours on a GPU. Nodata is no measurement here and filled with the mean,
not 0 dB; the constants of the normalisation are the published ones.
"""

from dataclasses import replace
from functools import partial

from torch.optim import Adam

from swath.challenges.unosat.channels import DECIBEL_3
from swath.data.samples.samplers import TargetPresence
from swath.nn.losses.pixel import CrossEntropy
from swath.nn.model import Classification

from .training_fpn_seresnext50 import config as base

config = replace(
    base,
    **DECIBEL_3,
    data=replace(base.data, batch=23, sampler=TargetPresence(without=0.5, with_target=0.5)),
    tasks={"water": Classification(loss=partial(CrossEntropy, class_weights=(0.5, 1.5)))},
    optimizer=partial(Adam, lr=2e-3, weight_decay=1e-4),
    epochs=50,
)
