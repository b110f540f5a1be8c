"""FPN with an SE-ResNeXt-50 on three bands in dB: the challenge team's best on the test set.

mlflow run . --env-manager local -P config_path=configs/unosat/training_fpn_seresnext50_db.py

Published: validation IoU 0.535, F1 0.843, test F1 0.743. Hours on a GPU. Nodata is no measurement here and filled
with the mean, not 0 dB; the constants of the normalisation are the published ones.
"""

from dataclasses import replace
from functools import partial

from swath.data.channels import Fill
from swath.data.normalisers import ZScore
from swath.data.sar import Decibel3

from .training_fpn_seresnext50 import config as base

MEAN = (-17.3987, -10.0204, -12.1084)
STD = (6.2903, 5.7769, 5.7954)

config = replace(base, channels=partial(Decibel3), fill=partial(Fill), normaliser=partial(ZScore, mean=MEAN, std=STD))
