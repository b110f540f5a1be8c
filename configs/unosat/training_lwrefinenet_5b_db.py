"""LWRefineNet on five channels in dB: VH, VV, their mean, product and ratio.

mlflow run . --env-manager local -P config_path=configs/unosat/training_lwrefinenet_5b_db.py

Published: validation IoU 0.532, F1 0.841. Hours on a GPU. Here nodata is no measurement and filled with the mean, not
0 dB as in the published runs, and the constants of the normalisation are theirs.
"""

from dataclasses import replace

from swath.challenges.unosat.channels import DECIBEL_5

from .training_lwrefinenet_jaccard import config as base

config = replace(base, **DECIBEL_5)
