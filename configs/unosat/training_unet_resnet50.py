"""U-Net with a ResNet-50 on three linear bands, cross entropy + 2 Jaccard.

mlflow run . --env-manager local -P config_path=configs/unosat/training_unet_resnet50.py

Published: validation IoU 0.525, F1 0.839 (0.668 and 0.899 on a city that was trained on), test F1 0.7012 with
test-time augmentation. Hours on a GPU.
"""

from dataclasses import replace
from functools import partial

import segmentation_models_pytorch as smp

from .training_lwrefinenet_jaccard import config as base

config = replace(base, model=partial(smp.Unet, encoder_name="resnet50", encoder_weights="imagenet"))
