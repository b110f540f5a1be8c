"""FPN with an SE-ResNeXt-50 on three linear bands, cross entropy. No number was published; with bands in dB there is one.

mlflow run . --env-manager local -P config_path=configs/unosat/training_fpn_seresnext50.py

Hours on a GPU.
"""

from dataclasses import replace
from functools import partial

import segmentation_models_pytorch as smp

from .training_lwrefinenet import config as base

config = replace(base, model=partial(smp.FPN, encoder_name="se_resnext50_32x4d", encoder_weights="imagenet"))
