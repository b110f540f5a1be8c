"""Pizza Quattro Stagioni: six levels. Published: 77.7 (SIC 83.8, SOD 77.5, FLOE 66.1), in percent on the test set.

mlflow run . --env-manager local -P config_path=configs/ai4arctic/training_quattro_stagioni.py

The best of the team's U-Nets.
"""

from dataclasses import replace
from functools import partial

from .training import config as base

config = replace(base, name="Pizza Quattro Stagioni", model=partial(base.model, filters=(16, *[32] * 5)))
