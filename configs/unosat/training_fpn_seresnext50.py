"""FPN with an SE-ResNeXt-50 on three linear bands, cross entropy + 2 Jaccard.

mlflow run . --env-manager local -P config_path=configs/unosat/training_fpn_seresnext50.py

Published: validation IoU 0.696, F1 0.909, on a city that was trained on; no corrected number, no test score. Hours on
a GPU.
"""

from dataclasses import replace
from functools import partial

import segmentation_models_pytorch as smp

from .training_lwrefinenet_jaccard import config as base

config = replace(base, model=partial(smp.FPN, encoder_name="se_resnext50_32x4d", encoder_weights="imagenet"))
