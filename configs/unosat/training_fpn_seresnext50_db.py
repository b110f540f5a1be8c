"""FPN with an SE-ResNeXt-50 on three bands in dB: the challenge team's best on the test set.

mlflow run . --env-manager local -P config_path=configs/unosat/training_fpn_seresnext50_db.py

Published: validation IoU 0.535, F1 0.843, test F1 0.743. Hours on a GPU. Nodata is no measurement here and filled
with the mean, not 0 dB; the constants of the normalisation are the published ones.
"""

from dataclasses import replace

from swath.challenges.unosat.channels import DECIBEL_3

from .training_fpn_seresnext50 import config as base

config = replace(base, **DECIBEL_3)
