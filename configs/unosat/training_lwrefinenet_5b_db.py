"""LWRefineNet on five channels in dB: VH, VV, their mean, product and ratio.

mlflow run . --env-manager local -P config_path=configs/unosat/training_lwrefinenet_5b_db.py

Published: validation IoU 0.532, F1 0.841. Hours on a GPU. Here nodata is no measurement and filled with the mean, not
0 dB as in the published runs, and the constants of the normalisation are theirs.
"""

from dataclasses import replace
from functools import partial

from swath.data.channels import Fill
from swath.data.normalisers import ZScore
from swath.data.sar import Decibel5

from .training_lwrefinenet_jaccard import config as base

MEAN = (-17.705, -10.333, -12.423, 213.39, 0.4748)
STD = (6.544, 6.034, 6.064, 245.4, 238.9)

config = replace(base, channels=partial(Decibel5), fill=partial(Fill), normaliser=partial(ZScore, mean=MEAN, std=STD))
