"""U-Net with attention gates. Published: 81.2 and 78.9 in validation, 50.4 and 53.3 on the challenge's test set, in percent.

mlflow run . --env-manager local -P config_path=configs/ai4arctic/training_attention.py

Those validations looked at one crop of 1000 pixels of each scene; here whole scenes judge, as in the test.
"""

from dataclasses import replace
from functools import partial

from swath.nn.networks.unet import AttentionGate

from .training import config as base

config = replace(base, name="attention U-Net", model=partial(base.model, skip=partial(AttentionGate)))
