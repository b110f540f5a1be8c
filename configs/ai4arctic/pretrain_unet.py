"""Pretrain the encoder of this folder's own U-Net (training.py) in the same way, so that it can start from the result.

mlflow run . -e pretrain --env-manager local -P config_path=configs/ai4arctic/pretrain_unet.py
mlflow run . --env-manager local -P config_path=configs/ai4arctic/training.py -P warm_start.weights=runs:/<run id that it prints>
"""

from dataclasses import replace
from functools import partial

from swath.nn.networks.masked import MaskedPyramid

from .pretrain import config as base
from .training import config as training

config = replace(
    base,
    model=training.model,
    channels=training.channels,
    method=partial(MaskedPyramid, patch=32, width=128),
    ratio=0.6,
)
