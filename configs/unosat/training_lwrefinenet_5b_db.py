"""LWRefineNet on five channels in dB: VH, VV, their mean, product and ratio; cross entropy.

mlflow run . --env-manager local -P config_path=configs/unosat/training_lwrefinenet_5b_db.py

Published: validation IoU 0.532, F1 0.841. Hours on a GPU. Here nodata is no measurement and filled with the mean, not
0 dB as in the published runs, and the constants of the normalisation are theirs.
"""

from dataclasses import replace
from functools import partial

from torch.optim import Adam

from swath.challenges.unosat.channels import DECIBEL_5
from swath.data.samples.samplers import TargetPresence
from swath.nn.losses.pixel import CrossEntropy
from swath.nn.model import Classification

from .training_lwrefinenet import config as base

config = replace(
    base,
    **DECIBEL_5,
    data=replace(base.data, batch=24, sampler=TargetPresence(without=0.5, with_target=0.5)),
    tasks={"water": Classification(loss=partial(CrossEntropy, class_weights=(0.75, 1.5)))},
    optimizer=partial(Adam, lr=1e-3, weight_decay=1e-4),
    epochs=50,
)
