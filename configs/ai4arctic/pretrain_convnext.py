"""Pretrain a ConvNeXt on the training scenes' tiles: hidden patches of 32 pixels, 60 % of them.

mlflow run . -e pretrain --env-manager local -P config_path=configs/ai4arctic/pretrain_convnext.py
"""

from dataclasses import replace
from functools import partial

import segmentation_models_pytorch as smp

from swath.nn.networks.masked import MaskedPyramid

from .pretrain import config as base

config = replace(
    base,
    model=partial(smp.Unet, encoder_name="tu-convnext_tiny", encoder_weights=None),
    method=partial(MaskedPyramid, patch=32, width=256),
    ratio=0.6,
)
