"""U-Net with a ResNet-50 on three linear bands, cross entropy.

mlflow run . --env-manager local -P config_path=configs/unosat/training_unet_resnet50.py

Published: validation IoU 0.525, F1 0.839 (0.668 and 0.899 on a city that was trained on), test F1 0.7012 with
test-time augmentation (sliding.tta=rotations). Hours on a GPU.
"""

from dataclasses import replace
from functools import partial

import segmentation_models_pytorch as smp

from swath.nn.losses.pixel import CrossEntropy
from swath.nn.model import Classification

from .training_lwrefinenet import config as base

config = replace(
    base,
    tasks={"water": Classification(loss=partial(CrossEntropy, class_weights=(0.5, 1.0)))},
    model=partial(smp.Unet, encoder_name="resnet50", encoder_weights="imagenet"),
    accumulation=1,
)
